#!/bin/sh
# Builds the plugin, runs it over the sample clip and says what it found. Writes to target/demo only.
set -eu
cd "$(dirname "$0")/.."

sample=pipelines/samples/aluminum_pan.mp4
out=target/demo

echo "==> building (the first time takes some minutes)"
# In one go: built apart, the two would want candle with other features of what it depends on, and so twice.
cargo build --release --locked -p gst-plugin-acdclip -p acdclip-tests

rm -rf "$out"
mkdir -p "$out/plugins" "$out/stills"
ln -s ../../release/libgstacdclip.so "$out/plugins/libgstacdclip.so"
# A plugin path and a registry of the demo's own: what the machine has installed stays as it is.
GST_PLUGIN_PATH=$PWD/$out/plugins
GST_REGISTRY=$PWD/$out/registry.bin
export GST_PLUGIN_PATH GST_REGISTRY

echo "==> scoring every frame of $sample"
# The stills take one frame a second: what waits for them meanwhile must not be bounded, or the encoder, which looks frames ahead, would
# wait for a frame that the full queue holds up.
began=$(date +%s%N)
gst-launch-1.0 -q filesrc location="$sample" ! decodebin ! videoconvert ! \
    acdclip config=pipelines/surface.toml jsonl-location="$out/frames.jsonl" ! \
    progressreport update-freq=2 silent=false ! tee name=annotated \
    annotated. ! queue ! videoconvert ! x264enc quantizer=20 pass=quant speed-preset=veryfast ! h264parse ! mp4mux ! \
    filesink location="$out/annotated.mp4" \
    annotated. ! queue max-size-buffers=0 max-size-bytes=0 max-size-time=0 ! videorate drop-only=true ! video/x-raw,framerate=1/1 ! videoconvert ! pngenc ! \
    multifilesink async=false location="$out/stills/%03d.png"
ended=$(date +%s%N)

exec target/release/demo-report "$out" $(((ended - began) / 1000000))
