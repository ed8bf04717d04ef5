/**
 * SECTION:element-acdclip
 *
 * `acdclip` looks at raw video and says of every frame how abnormal it is, where, and since when, by zero-shot anomaly detection with
 * ACD-CLIP (arXiv 2508.07819). Without a `model` it uses the compact model that is compiled in.
 *
 * In `mode=sync` a frame leaves when it has been scored, and the LATENCY query is answered with what that costs. In `mode=latest` frames
 * pass at once, unchanged in time and order; the newest is scored beside the stream whenever the one before is done, and each that passes
 * carries the newest result with its `age`, unless that exceeds `max-age`. `mode=auto` is latest where upstream is live. Buffers are never
 * dropped, reordered or retimed: QoS events go upstream, and in latest (in sync with `skip-late`) late frames pass without being scored.
 * With `interval` n each n-th frame is scored. Interlaced frames (`interleaved` or `mixed`) are scored on their top field.
 *
 * Elements in a process that name the same model and device share it. Frames that wait for it, of all streams, are taken in turn, up to
 * `max-batch` at once. What cannot be scored ends the stream, or with `on-error=pass` the video goes on without results, and scoring is
 * tried again after a second, then two, up to a minute.
 *
 * Model, class and prompts may be set while playing: what takes long is made ready beside what is in use and taken up between two frames, or
 * refused with a warning. The action signal `reload` reads the model's file again. Only the `roi` is looked at, and of it what `mask` does
 * not blacken: the rest is neither scored, nor drawn on, nor alarmed of.
 *
 * For endoscopes, on any frames but those of `tiling=scan`: `auto-mask=endoscope` finds the field of view, a circle, octagon or rectangle on
 * black, in the region of interest and follows it. The field is cut out and scored at full resolution; what lies beside it, and text and
 * graphics that stand still within it, is neither scored nor drawn on; regions that are followed have the camera's motion taken out. With
 * `quality-gate` a frame in which nothing can be seen, because it is `underexposed`, `overexposed`, `washed`, `outside-body`, `blurred` or
 * `frozen`, in its field of view, is not scored: it carries `quality` with the reason and the result of the last good frame with its age, without regions and map
 * from `max-age` on, and a score of 0 where no frame was good. Such frames raise no alarm. One that stands is left for a second, then cleared
 * as by normal frames. With `damp-highlights` the map is taken down to what surrounds them where specular highlights are. All three look at a
 * small copy of the frame, of an interlaced one at that of its top field. `quality` is also told where frames are watched but not gated.
 *
 * Raw scores mean something for one model and class alone. With a `calibration`, or one that the model brings along, score, map and regions
 * are on a scale on which half of the normal frames lie below 0.1 and 0.5 is alarm; `raw-score`, `class-score` and `map-max` stay raw.
 *
 * A frame that is long or very large is cut into square tiles (`tiling=grid`, by itself with `auto`), which overlap, are shown to the network
 * together and make one map without seams. With `tiling=scan` frames are pieces of one strip, as a line-scan camera gives it: tiles straddle
 * the cuts, each line is looked at once, and what is found does not depend on where the strip was cut. A frame then leaves when the lines have
 * come that its last one needs, at most a tile later, which LATENCY says. In `mode=latest`, which `auto` is not for strips, frames pass at once:
 * each carries what is known by then of the lines that it shows, which are some only where frames overlap, and its own record follows in
 * the file and on the bus. What this machine cannot keep up with goes by unseen, and the strip is broken there. A flaw is one event, however many frames it lies in, and the map alone decides:
 * a part of the strip at or above the map's release threshold that reaches its threshold. Regions have their `line`, and with an `encoder`
 * their place on the track; where the counter jumps or turns nothing is glued, and a message of type `strip-break` says so. `auto-mask=strip`
 * follows the edges of the strip's bright part and leaves out what lies beside it.
 *
 * What was found is on each buffer (one `GstVideoRegionOfInterestMeta` of type `anomaly` a region, and one custom meta `AcdClipMeta`), on
 * the bus (element messages `acdclip` with a `type` of `frame`, `event-begin`, `event-peak` or `event-end`), in a file (one JSON line a
 * frame, `jsonl-location`) and, unless `overlay` is empty, in the picture. Where nothing is drawn the pixels' memory is passed on as it
 * came, still shared with other branches of a `tee`.
 *
 * An alarm stands from a score of `threshold` that lasts `min-duration` until one is below `release-threshold` for longer than `hold`; all times are
 * those of the stream. While it stands each region that is followed from frame to frame is an event of its own, and without a region there is
 * one event. Its begin is told once, then its peak and end; `since` says when it began.
 *
 * The overlay's part `marker` marks the regions of events that have begun, and no others: brackets at their corners, light with a dark edge, which
 * fade in and out over 0.3 s of the stream's time. With `mute` neither they nor the score are drawn; messages about events are posted all the
 * same, and say that they are `muted`. `stats` has the time from a frame's coming to the leaving of the first one that shows what was found in
 * it (`frame-to-pixel`): what the element adds to the way from camera to screen.
 *
 * A frame that lies outside its segment, as those are that come before the moment that a player has gone to, is not shown: it passes as it came.
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
 *
 * |[
 * gst-launch-1.0 multifilesrc location=lines-%05d.png caps=image/png,framerate=10/1 ! pngdec ! videoconvert ! video/x-raw,format=GRAY8 ! acdclip tiling=scan encoder=pitch line-pitch-mm=0.5 ! fakesink
 * ]| Looks at a strip in files of some lines each.
 *
 * |[
 * gst-launch-1.0 videotestsrc is-live=true num-buffers=50 ! video/x-raw,framerate=25/1 ! acdclip hold=500 ! videoconvert ! autovideosink
 * ]| Watches a live source, which is never held up.
 */
use gst::glib;
use gst::prelude::*;

mod backoff;
mod beside;
mod counter;
mod imp;
mod judge;
mod late;
mod latest;
mod lines;
mod look;
mod mask;
mod scope;
mod session;
mod strip;
mod subject;
mod tape;
mod tiles;

pub use tape::{Judged, Tape};

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
