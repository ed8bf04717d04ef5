//! What the element says of frames and events, read from its metadata and messages.

use gst::StructureRef;

/// A rectangle in pixels of the frame: x, y, width, height.
pub(super) type Rect = [u32; 4];

/// What a frame's metadata says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Seen {
    /// When the frame is shown, nanoseconds.
    pub(super) pts: u64,
    /// When the frame was shown that was measured for it.
    pub(super) measured: u64,
    pub(super) score: f64,
    pub(super) threshold: f64,
    pub(super) map_threshold: f64,
    pub(super) anomalous: bool,
    /// Why the picture is too poor to be judged, where the element says so.
    pub(super) quality: Option<String>,
    /// Width and height of the frame, in whose pixels the rectangles are.
    pub(super) size: (u32, u32),
    /// The open events, and where they are.
    pub(super) events: Vec<(u64, Option<Rect>)>,
}

impl Seen {
    /// Reads the custom meta of a frame that is shown at `pts`; none where it is not of the element.
    pub(super) fn read(structure: &StructureRef, pts: u64) -> Option<Self> {
        let age = structure.get::<u64>("age").ok()?;
        let mut events: Vec<(u64, Option<Rect>)> = structure
            .get::<gst::Array>("regions")
            .ok()?
            .iter()
            .filter_map(|value| value.get::<gst::Structure>().ok())
            .filter_map(|region| Some((region.get::<u64>("event-id").ok()?, rect(&region))))
            .collect();
        let oldest = structure.get::<u64>("event-id").ok();
        events.extend(
            oldest
                .filter(|id| events.iter().all(|(known, _)| known != id))
                .map(|id| (id, None)),
        );
        Some(Self {
            pts,
            measured: pts.saturating_sub(age),
            score: structure.get("score").ok()?,
            threshold: structure.get("threshold").ok()?,
            map_threshold: structure.get("map-threshold").ok()?,
            anomalous: structure.get("anomalous").ok()?,
            quality: structure.get::<String>("quality").ok(),
            size: (structure.get("width").ok()?, structure.get("height").ok()?),
            events,
        })
    }
}

/// What happened to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Begin,
    Peak,
    End,
}

/// What a message says of an event.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    pub(super) moment: Moment,
    pub(super) id: u64,
    pub(super) score: f64,
    /// When it happened, in the stream's nanoseconds.
    pub(super) pts: Option<u64>,
    /// When the event began.
    pub(super) since: Option<u64>,
    pub(super) region: Option<Rect>,
    pub(super) size: Option<(u32, u32)>,
}

impl Told {
    /// Reads a message's structure; none where it is of something else.
    pub(super) fn read(structure: &StructureRef) -> Option<Self> {
        if structure.name() != "acdclip" {
            return None;
        }
        let moment = match structure.get::<&str>("type").ok()? {
            "event-begin" => Moment::Begin,
            "event-peak" => Moment::Peak,
            "event-end" => Moment::End,
            _ => return None,
        };
        let region = structure.get::<gst::Structure>("region").ok();
        let side = |name| structure.get::<u32>(name).ok();
        Some(Self {
            moment,
            id: structure.get("event-id").ok()?,
            score: structure.get("score").ok()?,
            pts: structure.get("pts").ok(),
            since: structure.get("since").ok(),
            region: region.and_then(|region| rect(&region)),
            size: side("width").zip(side("height")),
        })
    }
}

fn rect(region: &StructureRef) -> Option<Rect> {
    let side = |name| region.get::<u32>(name).ok();
    Some([side("x")?, side("y")?, side("w")?, side("h")?])
}

/// A structure of numbers and texts as JSON; what is neither is left out.
pub(super) fn json(structure: &StructureRef) -> serde_json::Value {
    let fields = structure.iter().filter_map(|(name, value)| {
        let number = value
            .get::<u64>()
            .map(Into::into)
            .or_else(|_| value.get::<i64>().map(Into::into))
            .or_else(|_| value.get::<u32>().map(Into::into))
            .or_else(|_| value.get::<i32>().map(Into::into))
            .or_else(|_| value.get::<f64>().map(serde_json::Value::from))
            .or_else(|_| value.get::<bool>().map(Into::into))
            .or_else(|_| value.get::<String>().map(serde_json::Value::from));
        Some((name.to_string(), number.ok()?))
    });
    serde_json::Value::Object(fields.collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn region(id: u64) -> gst::Structure {
        gst::Structure::builder("region")
            .field("x", 1u32)
            .field("y", 2u32)
            .field("w", 3u32)
            .field("h", 4u32)
            .field("event-id", id)
            .build()
    }

    #[test]
    fn a_frame_is_read_with_the_events_that_are_open() {
        gst::init().unwrap();
        let mut structure = gst::Structure::builder("AcdClipMeta")
            .field("age", 40u64)
            .field("score", 0.7)
            .field("threshold", 0.5)
            .field("map-threshold", 0.4)
            .field("anomalous", true)
            .field("event-id", 2u64)
            .field("width", 64u32)
            .field("height", 48u32)
            .field("regions", gst::Array::new([region(5)]))
            .build();
        let seen = Seen::read(&structure, 100).unwrap();
        assert_eq!((seen.measured, seen.quality.as_deref()), (60, None));
        assert_eq!(seen.events, [(5, Some([1, 2, 3, 4])), (2, None)]);
        structure.set("quality", "blurred");
        let seen = Seen::read(&structure, 100).unwrap();
        assert_eq!(seen.quality.as_deref(), Some("blurred"));
    }

    #[test]
    fn messages_of_something_else_are_passed_over() {
        gst::init().unwrap();
        let message = |kind: &str| {
            gst::Structure::builder("acdclip")
                .field("type", kind)
                .field("event-id", 3u64)
                .field("score", 0.5)
                .field("region", region(3))
                .build()
        };
        let told = Told::read(&message("event-peak")).unwrap();
        assert_eq!((told.moment, told.id), (Moment::Peak, 3));
        assert_eq!(told.region, Some([1, 2, 3, 4]));
        assert_eq!(Told::read(&message("strip-break")), None);
    }

    #[test]
    fn a_structure_becomes_json() {
        gst::init().unwrap();
        let structure = gst::Structure::builder("stats")
            .field("frames", 3u64)
            .field("fps", 12.5)
            .field("device", "cpu")
            .build();
        let expected = serde_json::json!({"frames": 3, "fps": 12.5, "device": "cpu"});
        assert_eq!(json(&structure), expected);
    }
}
