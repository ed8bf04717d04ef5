#!/bin/sh
# Shows an RTSP camera's picture with what is wrong in it.
#
#     pipelines/rtsp.sh rtsp://USER:PASSWORD@HOST/PATH [PROPERTY=VALUE...]
#
# LATENCY is the jitter buffer in milliseconds, 200 where left out. Frames pass at once and show the newest result. With mode=sync, as in a
# profile, each waits for its own score, and on a machine slower than the camera the queue lets the older of two waiting frames go: the picture
# stays live.
set -eu
. "$(dirname "$0")/plugin-path.sh"

url=${1:?"wanted: $0 URL [PROPERTY=VALUE...]"}
shift
# shellcheck disable=SC2086 # SINK may bring properties along
exec gst-launch-1.0 rtspsrc location="$url" latency="${LATENCY:-200}" ! \
    application/x-rtp,media=video ! decodebin ! videoconvert ! \
    queue leaky=downstream max-size-buffers=1 max-size-bytes=0 max-size-time=0 ! \
    acdclip "$@" ! videoconvert ! ${SINK:-autovideosink}
