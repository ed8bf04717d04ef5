//! The GStreamer plugin `acdclip` (libgstacdclip.so): which elements it has.
//!
//! The model itself, maps, regions and events are `acdclip-model`'s; here are the element that feeds it video, the metadata that
//! carries its findings, the overlay that draws them and the element that draws them elsewhere.

mod acdclip;
mod acdclipoverlay;
#[cfg(feature = "analytics")]
mod analytics;
mod batch;
mod drawing;
mod engine;
mod latency;
mod markers;
mod meta;
mod overlay;
mod patch_map;
mod picture;
mod profile;
mod rect;
mod report;
mod stats;

pub use acdclip::{Judged, Tape};

fn plugin_init(plugin: &gst::Plugin) -> Result<(), gst::glib::BoolError> {
    meta::register();
    acdclip::register(plugin)?;
    acdclipoverlay::register(plugin)
}

/// Registers the plugin inside a process that links it, instead of letting GStreamer find it as a file.
///
/// # Errors
/// If GStreamer is not initialised, or refuses the element.
pub fn plugin_register_static() -> Result<(), gst::glib::BoolError> {
    description::plugin_register_static()
}

// What the macro makes has no documentation.
#[allow(missing_docs, unreachable_pub)]
mod description {
    use super::plugin_init;

    // GStreamer refuses a licence string that it does not know; of the two that this project is under, every version knows MIT's.
    gst::plugin_define!(
        acdclip,
        env!("CARGO_PKG_DESCRIPTION"),
        plugin_init,
        concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
        "MIT/X11",
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_REPOSITORY"),
        env!("BUILD_REL_DATE")
    );
}
