# Sourced by the launch scripts: where GStreamer finds the element `acdclip`.
#
# An installed plugin wins; else the one that `cargo build --release` has left in this checkout is used.

if ! gst-inspect-1.0 acdclip >/dev/null 2>&1; then
    built=$(dirname "$0")/../target/release
    if [ ! -e "$built/libgstacdclip.so" ]; then
        echo "error: there is no element acdclip; build it: cargo build --release -p gst-plugin-acdclip" >&2
        exit 1
    fi
    # A directory with nothing but the plugin in it: GStreamer looks into every library below its plugin path.
    mkdir -p "$built/gstreamer-1.0"
    ln -sf ../libgstacdclip.so "$built/gstreamer-1.0/libgstacdclip.so"
    GST_PLUGIN_PATH=$built/gstreamer-1.0${GST_PLUGIN_PATH:+:$GST_PLUGIN_PATH}
    export GST_PLUGIN_PATH
fi
