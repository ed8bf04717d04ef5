//! The element that draws: properties, negotiation, flow. What is drawn is decided in [`crate::overlay`].

use std::sync::{
    LazyLock,
    atomic::{AtomicBool, Ordering},
};

use gst::{glib, prelude::*, subclass::prelude::*};
use gst_base::{
    prelude::*,
    subclass::{base_transform::GenerateOutputSuccess, prelude::*},
};
use parking_lot::Mutex;

use crate::{
    drawing::{Drawing, Sheet},
    meta,
    overlay::{Colormap, Parts, Style},
    picture::{self, Picture},
    profile,
    report::Report,
};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "acdclipoverlay",
        gst::DebugColorFlags::empty(),
        Some("Drawing of what acdclip has found"),
    )
});

/// What the properties say.
#[derive(Debug, Clone, Copy)]
struct Settings {
    overlay: Parts,
    mute: bool,
    opacity: f64,
    colormap: Colormap,
    /// Negative for the metadata's.
    map_threshold: f64,
}

impl Default for Settings {
    fn default() -> Self {
        let scoring = profile::Settings::default();
        Self {
            overlay: scoring.overlay,
            mute: scoring.mute,
            opacity: scoring.opacity,
            colormap: scoring.colormap,
            map_threshold: scoring.map_threshold,
        }
    }
}

impl Settings {
    fn style(&self) -> Style {
        let style = Style {
            parts: self.overlay,
            opacity: self.opacity as f32,
            colormap: self.colormap,
        };
        match self.mute {
            true => style.muted(),
            false => style,
        }
    }

    /// The report as it is to be drawn.
    fn follow(&self, report: Report) -> acdclip_model::Result<Report> {
        match self.map_threshold {
            ..0.0 => Ok(report),
            threshold => report.at_threshold(threshold as f32),
        }
    }
}

/// The element. No lock is held while a buffer is drawn on or pushed.
#[derive(Default)]
pub(crate) struct AcdClipOverlay {
    settings: Mutex<Settings>,
    /// Of the caps; none before they are known.
    picture: Mutex<Option<Picture>>,
    drawing: Mutex<Drawing>,
    /// Whether damaged metadata was warned of in this stream.
    warned: AtomicBool,
}

impl AcdClipOverlay {
    fn draw(&self, buffer: &mut gst::Buffer) -> Result<(), gst::FlowError> {
        let report = match meta::read(buffer) {
            Ok(report) => report,
            Err(e) => {
                self.warn_once(&e);
                None
            }
        };
        let Some(picture) = self.picture.lock().clone() else {
            gst::element_imp_error!(
                self,
                gst::CoreError::Negotiation,
                ("A buffer came before its caps")
            );
            return Err(gst::FlowError::NotNegotiated);
        };
        let settings = *self.settings.lock();
        let time = buffer.pts().map(gst::ClockTime::nseconds);
        let sheet = Sheet {
            buffer,
            picture: &picture,
            time,
        };
        let report = report.map(|report| settings.follow(report)).transpose();
        let drawn = report.and_then(|report| {
            let mut drawing = self.drawing.lock();
            drawing.draw(sheet, settings.style(), report.as_ref())
        });
        drawn.map_err(|e| {
            gst::element_imp_error!(self, gst::StreamError::Failed, ("Drawing failed: {e}"));
            gst::FlowError::Error
        })
    }

    fn warn_once(&self, complaint: &str) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            gst::warning!(
                CAT,
                imp = self,
                "Nothing is drawn on buffers whose AcdClipMeta is damaged: {complaint}"
            );
        }
    }
}

#[glib::object_subclass]
impl ObjectSubclass for AcdClipOverlay {
    const NAME: &'static str = "AcdClipOverlayElement";
    type Type = super::AcdClipOverlay;
    type ParentType = gst_base::BaseTransform;
}

impl ObjectImpl for AcdClipOverlay {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(properties);
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let mut settings = self.settings.lock();
        let default = Settings::default();
        match pspec.name() {
            "overlay" => settings.overlay = value.get().unwrap_or(default.overlay),
            "mute" => settings.mute = value.get().unwrap_or(default.mute),
            "opacity" => settings.opacity = value.get().unwrap_or(default.opacity),
            "colormap" => settings.colormap = value.get().unwrap_or(default.colormap),
            "map-threshold" => {
                settings.map_threshold = value.get().unwrap_or(default.map_threshold);
            }
            _ => {}
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let settings = *self.settings.lock();
        match pspec.name() {
            "overlay" => settings.overlay.to_value(),
            "mute" => settings.mute.to_value(),
            "opacity" => settings.opacity.to_value(),
            "colormap" => settings.colormap.to_value(),
            "map-threshold" => settings.map_threshold.to_value(),
            _ => pspec.default_value().clone(),
        }
    }
}

fn properties() -> Vec<glib::ParamSpec> {
    let default = Settings::default();
    vec![
        glib::ParamSpecFlags::builder::<Parts>("overlay")
            .nick("Overlay")
            .default_value(default.overlay)
            .blurb("What is drawn over the frame; 0 for nothing. The contour and boxes are those of regions, markers those of events, the heatmap shows every probability")
            .mutable_playing()
            .build(),
        glib::ParamSpecBoolean::builder("mute")
            .nick("Mute")
            .blurb("Draw no marker and no score, whatever the overlay")
            .default_value(default.mute)
            .mutable_playing()
            .build(),
        glib::ParamSpecDouble::builder("opacity")
            .nick("Opacity")
            .blurb("Opacity of the heatmap at probability 1")
            .minimum(0.0)
            .maximum(1.0)
            .default_value(default.opacity)
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("colormap", default.colormap)
            .nick("Colormap")
            .blurb("Colours of the heatmap, on a fixed scale of probability; grey video always has grey")
            .mutable_playing()
            .build(),
        glib::ParamSpecDouble::builder("map-threshold")
            .nick("Map threshold")
            .blurb("Probability from which a pixel belongs to a region, on the scale of the metadata; any negative value for the metadata's own threshold and regions")
            .minimum(-1.0)
            .maximum(1.0)
            .default_value(default.map_threshold)
            .mutable_playing()
            .build(),
    ]
}

impl GstObjectImpl for AcdClipOverlay {}

impl ElementImpl for AcdClipOverlay {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "ACD-CLIP anomaly overlay",
                "Filter/Effect/Video",
                "Draws what acdclip has found in video, from the metadata that it left",
                "The acdclip developers",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(picture::pad_templates);
        &TEMPLATES
    }
}

impl BaseTransformImpl for AcdClipOverlay {
    const MODE: gst_base::subclass::BaseTransformMode =
        gst_base::subclass::BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *self.picture.lock() = None;
        self.drawing.lock().cut();
        self.warned.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn accept_caps(&self, direction: gst::PadDirection, caps: &gst::Caps) -> bool {
        Picture::from_caps(caps)
            .inspect_err(|e| gst::warning!(CAT, imp = self, "Caps refused: {e}"))
            .is_ok()
            && self.parent_accept_caps(direction, caps)
    }

    fn set_caps(&self, incaps: &gst::Caps, _outcaps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let picture = Picture::from_caps(incaps).map_err(|e| gst::loggable_error!(CAT, "{e}"))?;
        *self.picture.lock() = Some(picture);
        Ok(())
    }

    fn propose_allocation(
        &self,
        _decide_query: Option<&gst::query::Allocation>,
        query: &mut gst::query::Allocation,
    ) -> Result<(), gst::LoggableError> {
        // Memory goes through as it is, so what downstream can take is what upstream may make.
        self.parent_propose_allocation(None, query)
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        match event.type_() {
            gst::EventType::StreamStart => self.warned.store(false, Ordering::Relaxed),
            gst::EventType::FlushStop | gst::EventType::Segment => self.drawing.lock().cut(),
            _ => {}
        }
        self.parent_sink_event(event)
    }

    fn src_event(&self, event: gst::Event) -> bool {
        match event.view() {
            // The base class would remember it and, where `qos` is set, drop late buffers.
            gst::EventView::Qos(_) => self.obj().sink_pad().push_event(event),
            _ => self.parent_src_event(event),
        }
    }

    // Instead of `transform_ip`, before which the base class would give a shared buffer a header of its own, drawn on or not.
    fn generate_output(&self) -> Result<GenerateOutputSuccess, gst::FlowError> {
        let Some(mut buffer) = self.take_queued_buffer() else {
            return Ok(GenerateOutputSuccess::NoOutput);
        };
        self.draw(&mut buffer)?;
        Ok(GenerateOutputSuccess::Buffer(buffer))
    }
}
