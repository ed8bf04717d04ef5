#!/bin/sh
# Shows a webcam's picture with what is wrong in it.
#
#     pipelines/webcam.sh [DEVICE [PROPERTY=VALUE...]]
#
# DEVICE is /dev/video0 where left out. Frames pass at once and show the newest result. With mode=sync, as in a profile, each waits for its own
# score, and on a machine slower than the camera the queue lets the older of two waiting frames go: the picture stays live.
set -eu
. "$(dirname "$0")/plugin-path.sh"

device=${1:-/dev/video0}
[ $# -eq 0 ] || shift
# shellcheck disable=SC2086 # SINK may bring properties along
exec gst-launch-1.0 v4l2src device="$device" ! decodebin ! videoconvert ! \
    queue leaky=downstream max-size-buffers=1 max-size-bytes=0 max-size-time=0 ! \
    acdclip "$@" ! videoconvert ! ${SINK:-autovideosink}
