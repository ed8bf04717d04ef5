#!/bin/sh
# Shows a video file with what is wrong in it.
#
#     pipelines/file.sh VIDEO [PROPERTY=VALUE...]
#
# Properties are those of the element (gst-inspect-1.0 acdclip), for instance config=pipelines/surface.toml or
# jsonl-location=frames.jsonl. SINK=fakesink shows nothing.
set -eu
. "$(dirname "$0")/plugin-path.sh"

video=${1:?"wanted: $0 VIDEO [PROPERTY=VALUE...]"}
shift
# shellcheck disable=SC2086 # SINK may bring properties along
exec gst-launch-1.0 filesrc location="$video" ! decodebin ! videoconvert ! \
    acdclip "$@" ! videoconvert ! ${SINK:-autovideosink}
