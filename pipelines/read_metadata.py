#!/usr/bin/env python3
"""Prints what the element `acdclip` has found on each frame, read from the frame's metadata.

    pipelines/read_metadata.py [-p PROPERTY=VALUE]... [SOURCE...]

SOURCE is what stands before `! acdclip` on a gst-launch-1.0 line, the sample clip where left out:

    pipelines/read_metadata.py -p config=pipelines/surface.toml
    pipelines/read_metadata.py videotestsrc pattern=ball num-buffers=3

A line a frame of which something is known, then a line for each region of its custom meta `AcdClipMeta` and one for each region of interest. The former are in pixels
of the frame that was measured, the latter follow the picture when an element after `acdclip` scales it.

Needs PyGObject and GStreamer's introspection data (Debian, Ubuntu: python3-gi gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0);
python3-gst-1.0 may be there or not.
"""

import argparse
import itertools
import pathlib
import signal
import sys
import warnings

try:
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstVideo", "1.0")
    from gi.repository import GLib, Gst, GstVideo
except (ImportError, ValueError) as missing:
    sys.exit(
        f"error: {missing}; install PyGObject and GStreamer's introspection data and use the system's Python: "
        "apt-get install python3-gi gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0"
    )

HERE = pathlib.Path(__file__).resolve().parent
SAMPLE = HERE / "samples" / "aluminum_pan.mp4"
BUILT = HERE.parent / "target" / "release" / "libgstacdclip.so"

# GStreamer gives an array out as GLib's ValueArray, which GLib would rather nobody used. The way without it, `get_value`, knows arrays only
# where python3-gst-1.0 is installed.
warnings.filterwarnings("ignore", message=".*ValueArray", category=DeprecationWarning)


def find_plugin():
    """An installed plugin wins; else the one that `cargo build --release` has left in this checkout is used."""
    if Gst.ElementFactory.find("acdclip"):
        return
    if not BUILT.exists():
        sys.exit("error: there is no element acdclip; build it: cargo build --release -p gst-plugin-acdclip")
    Gst.Registry.get().add_plugin(Gst.Plugin.load_file(str(BUILT)))


def frames(source, properties):
    """The buffers that come out of `source ! acdclip`, in order."""
    sink = "appsink name=frames sync=false max-buffers=4".split()
    pipeline = Gst.parse_launchv([*source, "!", "videoconvert", "!", "acdclip", *properties, "!", *sink])
    appsink = pipeline.get_by_name("frames")
    bus = pipeline.get_bus()
    pipeline.set_state(Gst.State.PLAYING)
    try:
        while True:
            sample = appsink.emit("try-pull-sample", 100 * Gst.MSECOND)
            if sample:
                yield sample.get_buffer()
            elif error := bus.pop_filtered(Gst.MessageType.ERROR):
                raise error.parse_error()[0]
            elif appsink.get_property("eos"):
                return
    finally:
        pipeline.set_state(Gst.State.NULL)


def elements(structure, name):
    """What an array in a structure holds. Each is part of the array, which is gone when the loop over them has ended: none may be kept."""
    found, array = structure.get_array(name)
    for n in range(array.n_values if found else 0):
        yield array.get_nth(n)


def fields(structure, *names):
    """`name=value` of those fields that the structure has: there is no `event-id` without an event, and no `pts` without a clock."""
    present = [(name, structure.get_value(name)) for name in names if structure.has_field(name)]
    return " ".join(f"{name}={value:.6f}" if isinstance(value, float) else f"{name}={value}" for name, value in present)


def regions_of_interest(buffer):
    """The element numbers its regions of interest from 1."""
    get = GstVideo.buffer_get_video_region_of_interest_meta_id
    metas = itertools.takewhile(bool, (get(buffer, number) for number in itertools.count(1)))
    return [meta for meta in metas if GLib.quark_to_string(meta.roi_type) == "anomaly"]


def show(buffer):
    """Prints one frame."""
    meta = buffer.get_custom_meta("AcdClipMeta")
    if meta is None:  # from a live source, before the first result
        return
    record = meta.get_structure()
    print(fields(record, "frame", "pts", "score", "anomalous", "event-id", "age"))
    for region in elements(record, "regions"):
        centroid = ",".join(f"{value:.1f}" for value in elements(region, "centroid"))
        print("  region", fields(region, "x", "y", "w", "h", "score", "area", "event-id"), f"centroid={centroid}")
    for roi in regions_of_interest(buffer):
        print(f"  roi x={roi.x} y={roi.y} w={roi.w} h={roi.h}", fields(roi.get_param("acdclip"), "score", "event-id"))


def main():
    """Reads the command line, shows every frame."""
    parser = argparse.ArgumentParser(description="Prints what the element acdclip has found on each frame.")
    parser.add_argument("-p", "--property", action="append", default=[], metavar="PROPERTY=VALUE", help="of acdclip")
    parser.add_argument("source", nargs=argparse.REMAINDER, metavar="SOURCE", help="as on a gst-launch-1.0 line; else the sample clip")
    arguments = parser.parse_args()
    # Ctrl-C, and a reader that has seen enough (`| head`), end it quietly.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    Gst.init(None)
    find_plugin()
    try:
        for buffer in frames(arguments.source or ["filesrc", f"location={SAMPLE}", "!", "decodebin"], arguments.property):
            show(buffer)
    except GLib.Error as error:
        sys.exit(f"error: {error.message}")


if __name__ == "__main__":
    main()
