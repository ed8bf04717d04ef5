#!/bin/sh
# Shows a test picture with what the model makes of it: a quick check that everything is in place.
#
#     pipelines/test-source.sh [PROPERTY=VALUE...]
#
# FRAMES is how many, 250 where left out; SINK=fakesink shows nothing.
set -eu
. "$(dirname "$0")/plugin-path.sh"

# shellcheck disable=SC2086 # SINK may bring properties along
exec gst-launch-1.0 videotestsrc pattern=ball num-buffers="${FRAMES:-250}" ! \
    acdclip "$@" ! videoconvert ! ${SINK:-autovideosink}
