//! The elements as an application meets them: pads, properties, messages, metadata. Scored with the built-in model, which finds
//! videotestsrc's ball abnormal and black normal; the tests say so where they build on it.
#![cfg(feature = "builtin-model")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[cfg(feature = "analytics")]
mod analytics;
mod calibration;
mod endoscope;
mod flow;
mod formats;
mod live;
mod marker;
mod metadata;
mod overlay;
mod settings;
mod strip;
mod tiny;

use gst::prelude::*;
use gst_check::Harness;

pub(crate) fn init() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        gst::init().unwrap();
        gstacdclip::plugin_register_static().unwrap();
    });
}

/// An `acdclip` with `properties` as on a gst-launch line.
pub(crate) fn element(properties: &[(&str, &str)]) -> gst::Element {
    made("acdclip", properties)
}

/// An element of a factory with `properties` as on a gst-launch line.
pub(crate) fn made(factory: &str, properties: &[(&str, &str)]) -> gst::Element {
    init();
    let element = gst::ElementFactory::make(factory).build().unwrap();
    for (name, value) in properties {
        element.set_property_from_str(name, value);
    }
    element
}

/// An element in a harness that plays, with a bus of its own.
pub(crate) struct Bench {
    pub(crate) harness: Harness,
    pub(crate) element: gst::Element,
    pub(crate) bus: gst::Bus,
}

impl Bench {
    pub(crate) fn new(properties: &[(&str, &str)], caps: &str) -> Self {
        // A harness is a live source, and most tests are about what is scored.
        let element = element(&[("mode", "sync")]);
        for (name, value) in properties {
            element.set_property_from_str(name, value);
        }
        Self::of(element, caps)
    }

    pub(crate) fn of(element: gst::Element, caps: &str) -> Self {
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
        harness.play();
        harness.set_src_caps(caps.parse().unwrap());
        Self {
            harness,
            element,
            bus,
        }
    }

    pub(crate) fn pass(&mut self, buffer: gst::Buffer) -> gst::Buffer {
        self.harness.push_and_pull(buffer).unwrap()
    }

    /// The element messages so far, as `type` and structure.
    pub(crate) fn told(&self) -> Vec<(String, gst::Structure)> {
        let mut told = Vec::new();
        while let Some(message) = self.bus.pop_filtered(&[gst::MessageType::Element]) {
            let structure = message.structure().unwrap().to_owned();
            assert_eq!(structure.name(), "acdclip");
            told.push((structure.get("type").unwrap(), structure));
        }
        told
    }

    pub(crate) fn told_types(&self) -> Vec<String> {
        self.told().into_iter().map(|(kind, _)| kind).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Whoever drops the bus last must not leave messages that hold the element.
        self.bus.set_flushing(true);
    }
}

/// Caps of a plain stream at 25 frames a second.
pub(crate) fn caps(format: &str, width: u32, height: u32) -> String {
    format!("video/x-raw,format={format},width={width},height={height},framerate=25/1")
}

/// One of videotestsrc's pictures; the n-th frame's time.
pub(crate) fn picture(pattern: &str, caps: &str, n: u64) -> gst::Buffer {
    init();
    let line = format!("videotestsrc num-buffers=1 pattern={pattern} ! capsfilter caps=\"{caps}\"");
    let mut source = Harness::new_parse(&line);
    source.play();
    let mut buffer = source.pull().unwrap();
    let time = buffer.make_mut();
    time.set_pts(gst::ClockTime::from_mseconds(40 * n));
    time.set_duration(gst::ClockTime::from_mseconds(40));
    buffer
}

pub(crate) fn bytes(buffer: &gst::Buffer) -> Vec<u8> {
    buffer.map_readable().unwrap().to_vec()
}

/// What the custom meta says.
pub(crate) fn record(buffer: &gst::Buffer) -> gst::Structure {
    let meta = gst::meta::CustomMeta::from_buffer(buffer, "AcdClipMeta").expect("no AcdClipMeta");
    meta.structure().to_owned()
}

pub(crate) fn score(buffer: &gst::Buffer) -> f64 {
    record(buffer).get("score").unwrap()
}

/// Where a buffer's first memory lies.
pub(crate) fn address(buffer: &gst::Buffer) -> *const u8 {
    buffer.peek_memory(0).map_readable().unwrap().as_ptr()
}
