/**
 * SECTION:element-acdclipoverlay
 *
 * `acdclipoverlay` draws what `acdclip` has found, from the metadata that it left on the buffers alone: it has no model and scores
 * nothing. So one branch of a `tee` can show heatmap, contour and boxes while another records the clean picture, both scored once.
 *
 * `acdclip overlay=0 ! acdclipoverlay` draws what `acdclip` alone would, byte for byte. Between the two the picture may be converted and
 * scaled; what is drawn is scaled with it. With a `map-threshold` of its own it draws the regions that the map has at that threshold, of
 * whatever size; else those that the metadata names.
 *
 * A buffer without an `AcdClipMeta`, or on which there is nothing to draw, is passed on as it came, its memory still shared with other
 * branches; one that is shared and drawn on is copied first. A buffer whose `AcdClipMeta` says what cannot be is passed on as it came
 * too, and the first of a stream is warned of in the log. Nothing is dropped, reordered or retimed: QoS events go upstream and are otherwise
 * ignored.
 *
 * ## Example pipelines
 *
 * |[
 * gst-launch-1.0 -e videotestsrc pattern=ball num-buffers=100 ! acdclip overlay=0 ! tee name=scored scored. ! queue ! acdclipoverlay overlay=heatmap+box ! videoconvert ! autovideosink scored. ! queue ! videoconvert ! jpegenc ! avimux ! filesink location=clean.avi
 * ]| Scores a test picture once, shows it with heatmap and boxes, and records it without.
 */
use gst::glib;
use gst::prelude::*;

mod imp;

glib::wrapper! {
    pub(crate) struct AcdClipOverlay(ObjectSubclass<imp::AcdClipOverlay>) @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

/// Registers the element with `plugin`.
pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(
        Some(plugin),
        "acdclipoverlay",
        gst::Rank::NONE,
        AcdClipOverlay::static_type(),
    )
}
