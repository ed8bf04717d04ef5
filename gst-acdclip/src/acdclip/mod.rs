/**
 * SECTION:element-acdclip
 *
 * `acdclip` looks at raw video and says of every frame how abnormal it is, where, and since when, by zero-shot anomaly detection with
 * ACD-CLIP (arXiv 2508.07819). Without a `model` it uses the compact model that is compiled in.
 *
 * Each frame is scored on the streaming thread before it leaves; with `interval` n each n-th is, and those between carry the last
 * result with its age. Buffers are never dropped, reordered or retimed: QoS events go upstream and are otherwise ignored, and the
 * LATENCY query is answered with what scoring costs. Interlaced frames (`interleaved` or `mixed`) are scored on their top field.
 *
 * Raw scores mean something for one model and class alone. With a `calibration`, or one that the model brings along, score, map and regions
 * are on a scale on which half of the normal frames lie below 0.1 and 0.5 is alarm; `raw-score`, `class-score` and `map-max` stay raw.
 *
 * What was found is on each buffer (one `GstVideoRegionOfInterestMeta` of type `anomaly` a region, and one custom meta `AcdClipMeta`), on
 * the bus (element messages `acdclip` with a `type` of `frame`, `event-begin`, `event-peak` or `event-end`), in a file (one JSON line a
 * frame, `jsonl-location`) and, unless `overlay` is empty, in the picture. Where nothing is drawn the pixels' memory is passed on as it
 * came, still shared with other branches of a `tee`.
 *
 * An event that has begun also ends on the bus: at the latest with the end of the stream, a flush or a new segment. A JSON line is in
 * the file before its frame leaves; a file that cannot be written any more is warned of once, and the video goes on without it.
 *
 * ## Example pipelines
 *
 * |[
 * gst-launch-1.0 -m videotestsrc num-buffers=50 ! acdclip messages=all ! fakesink
 * ]| Scores a test picture and prints what was found in each frame.
 *
 * |[
 * gst-launch-1.0 filesrc location=rail.mp4 ! decodebin ! videoconvert ! acdclip jsonl-location=rail.jsonl ! videoconvert ! autovideosink
 * ]| Shows a file with its heatmap and writes one JSON record a frame.
 */
use gst::glib;
use gst::prelude::*;

mod imp;
mod session;

glib::wrapper! {
    pub(crate) struct AcdClip(ObjectSubclass<imp::AcdClip>) @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

/// Registers the element with `plugin`.
pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(
        Some(plugin),
        "acdclip",
        gst::Rank::NONE,
        AcdClip::static_type(),
    )
}
