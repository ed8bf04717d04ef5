#!/usr/bin/env python3
"""Replays a strip as a line-scan camera would give it: frames of some lines at a steady rate, each with the counter of its first line.

    pipelines/line_camera.py STRIP [--lines-per-second 2000] [--frame-height 256] [--first 0] [--lose-frame N] [--loop N] [-p PROPERTY=VALUE]...

Prints what `acdclip config=pipelines/rail.toml encoder=meta PROPERTY=VALUE...` says of the strip. The counter is a GstReferenceTimestampMeta
of the caps timestamp/x-line-counter, which is how a source of your own says where its lines are.
"""
import argparse
import pathlib
import sys

try:
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstApp", "1.0")
    # Importing GstApp is what gives its elements their methods.
    from gi.repository import Gst, GstApp  # noqa: F401
except (ImportError, ValueError) as missing:
    sys.exit(
        f"error: {missing}; install PyGObject and GStreamer's introspection data and use the system's Python: "
        "apt-get install python3-gi gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0"
    )

HERE = pathlib.Path(__file__).resolve().parent
BUILT = HERE.parent / "target" / "release" / "libgstacdclip.so"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("strip", help="a picture: PNG, JPEG or PGM")
    parser.add_argument("--lines-per-second", type=float, default=2000.0)
    parser.add_argument("--frame-height", type=int, default=256)
    parser.add_argument("--first", type=int, default=0, help="counter of the first line")
    parser.add_argument("--lose-frame", type=int, help="number of a frame that the camera loses")
    parser.add_argument("--loop", type=int, default=1, help="how often the strip is replayed")
    parser.add_argument("-p", dest="properties", action="append", default=[], metavar="PROPERTY=VALUE")
    found = parser.parse_args()
    if found.lines_per_second <= 0 or found.frame_height < 1:
        parser.error("wanted a rate above 0 and frames of 1 line or more")
    return found


def read(path):
    """Width, height and rows without padding."""
    pipeline = Gst.parse_launch("filesrc name=file ! decodebin ! videoconvert ! video/x-raw,format=GRAY8 ! appsink name=sink sync=false")
    pipeline.get_by_name("file").set_property("location", path)
    pipeline.set_state(Gst.State.PLAYING)
    sample = pipeline.get_by_name("sink").emit("pull-sample")
    if sample is None:
        message = pipeline.get_bus().pop_filtered(Gst.MessageType.ERROR)
        sys.exit(f"{path}: {message.parse_error()[0].message if message else 'is no picture'}")
    caps = sample.get_caps().get_structure(0)
    width, height = caps.get_value("width"), caps.get_value("height")
    data = sample.get_buffer().extract_dup(0, sample.get_buffer().get_size())
    pipeline.set_state(Gst.State.NULL)
    stride = (width + 3) // 4 * 4
    return width, height, [data[y * stride:y * stride + width] for y in range(height)]


def frames(rows, options):
    """Frames that the camera does not lose, each with the counter of its first line."""
    height = options.frame_height
    for number in range(options.loop * len(rows) // height):
        if number != options.lose_frame:
            first = number * height
            yield options.first + first, [rows[line % len(rows)] for line in range(first, first + height)]


def main():
    options = arguments()
    Gst.init(None)
    if not Gst.ElementFactory.find("acdclip") and not (BUILT.exists() and Gst.Registry.get().scan_path(str(BUILT.parent))):
        sys.exit("error: wanted the element acdclip, found none; build it (cargo build --release -p gst-plugin-acdclip) or set GST_PLUGIN_PATH")
    width, _, rows = read(options.strip)
    rate = max(1, round(1000 * options.lines_per_second / options.frame_height))
    pipeline = Gst.parse_launch(
        f"appsrc name=camera format=time is-live=true block=true max-bytes={8 * width * options.frame_height} ! "
        f"acdclip config={HERE / 'rail.toml'} encoder=meta line-pitch-mm=0.5 {' '.join(options.properties)} ! fakesink sync=true"
    )
    camera = pipeline.get_by_name("camera")
    camera.set_property("caps", Gst.Caps.from_string(
        f"video/x-raw,format=GRAY8,width={width},height={options.frame_height},framerate={rate}/1000"))
    reference = Gst.Caps.new_empty_simple("timestamp/x-line-counter")
    pipeline.set_state(Gst.State.PLAYING)
    bus = pipeline.get_bus()
    duration = int(Gst.SECOND * options.frame_height / options.lines_per_second)
    padding = bytes((4 - width % 4) % 4)
    for number, (counter, frame) in enumerate(frames(rows, options)):
        buffer = Gst.Buffer.new_wrapped(b"".join(row + padding for row in frame))
        buffer.pts, buffer.duration = number * duration, duration
        buffer.add_reference_timestamp_meta(reference, counter, Gst.CLOCK_TIME_NONE)
        if camera.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
            break
        while tell(bus.pop_filtered(Gst.MessageType.ELEMENT | Gst.MessageType.ERROR)):
            pass
    camera.emit("end-of-stream")
    while tell(bus.timed_pop_filtered(
            Gst.CLOCK_TIME_NONE, Gst.MessageType.ELEMENT | Gst.MessageType.ERROR | Gst.MessageType.EOS)):
        pass
    pipeline.set_state(Gst.State.NULL)


def tell(message):
    """Prints a message; whether more may follow."""
    if message is None or message.type == Gst.MessageType.EOS:
        return False
    if message.type == Gst.MessageType.ERROR:
        sys.exit(message.parse_error()[0].message)
    print(message.get_structure().to_string(), flush=True)
    return True


if __name__ == "__main__":
    main()
