//! Records and events as GStreamer carries them: the custom meta, regions of interest and bus messages.
//!
//! The fields are those of [`Record`], in kebab-case. What a record does not have (`pts`, `event-id`, `quality`) is an absent field. Scores are
//! doubles, since GStreamer's tools know no better float. The custom meta also has the map, as [`patch_map`] describes it.

use acdclip_model::{
    map::Region,
    record::Record,
    stream::{
        events::{Event, EventKind},
        place::Break,
    },
};
use gst_video::VideoRegionOfInterestMeta;

use crate::{
    patch_map::{self, PatchMap},
    report::Report,
};

/// Name of the custom meta.
pub(crate) const META: &str = "AcdClipMeta";
/// Type of the regions of interest, and of nothing else.
pub(crate) const ROI_TYPE: &str = "anomaly";
/// Name of message structures and of a region's parameters.
pub(crate) const STRUCTURE: &str = "acdclip";

/// Makes the custom meta known to GStreamer, once a process. It has no tags: elements that change the picture copy it all the same, and
/// its readers scale by `width` and `height`.
pub(crate) fn register() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        if !gst::meta::CustomMeta::is_registered(META) {
            gst::meta::CustomMeta::register(META, &[]);
        }
    });
}

/// Puts `record` and the map that belongs to it on `buffer`: one custom meta, and one region of interest a region, numbered from 1: Python
/// finds them by number alone.
pub(crate) fn attach(
    buffer: &mut gst::BufferRef,
    record: &Record,
    map: Option<&PatchMap>,
) -> Result<(), gst::glib::BoolError> {
    for (region, number) in record.regions.iter().zip(1..) {
        let rect = (region.x, region.y, region.w, region.h);
        let mut roi = VideoRegionOfInterestMeta::add(buffer, ROI_TYPE, rect);
        roi.set_id(number);
        roi.add_param(region_parameters(region, record));
    }
    #[cfg(feature = "analytics")]
    crate::analytics::attach(buffer, record)?;
    let mut meta = gst::meta::CustomMeta::add(buffer, META)?;
    fill(meta.mut_structure(), record);
    if let Some(map) = map {
        meta.mut_structure().set(patch_map::MAP, map.structure());
    }
    Ok(())
}

/// What `buffer`'s custom meta says; `None` where it has none, an error where it says what cannot be.
pub(crate) fn read(buffer: &gst::BufferRef) -> Result<Option<Report>, String> {
    gst::meta::CustomMeta::from_buffer(buffer, META)
        .ok()
        .map(|meta| Report::from_structure(meta.structure()))
        .transpose()
}

/// The message about one frame.
pub(crate) fn frame_message(record: &Record) -> gst::Structure {
    let mut structure = gst::Structure::builder(STRUCTURE)
        .field("type", "frame")
        .build();
    fill(&mut structure, record);
    structure
}

/// The message about one moment of an event. Its begin has all that is known of the frame.
pub(crate) fn event_message(event: &Event, record: &Record) -> gst::Structure {
    let kind = match event.kind {
        EventKind::Begin => "event-begin",
        EventKind::Peak => "event-peak",
        EventKind::End => "event-end",
    };
    let mut structure = gst::Structure::builder(STRUCTURE)
        .field("type", kind)
        .build();
    if event.kind == EventKind::Begin {
        fill(&mut structure, record);
    }
    structure.set("event-id", event.id);
    structure.set("frame", event.at.frame);
    structure.set("score", f64::from(event.at.score));
    structure.set("frames", event.frames);
    if let Some(since) = event.since {
        structure.set("since", since);
    }
    if let Some(seen) = &event.region {
        structure.set("region", region(seen));
    }
    structure.set("model", record.model.as_str());
    if let Some(pts) = event.at.pts {
        structure.set("pts", pts);
    }
    structure
}

/// The message about a break in a strip, before `line`.
pub(crate) fn seam_message(line: u64, why: Break) -> gst::Structure {
    let builder = gst::Structure::builder(STRUCTURE)
        .field("type", "strip-break")
        .field("line", line);
    match why {
        Break::Start => builder.field("reason", "start"),
        Break::Jump { from, to } => builder
            .field("reason", "lines-lost")
            .field("from", from)
            .field("to", to)
            .field("lost", why.lost()),
        Break::Reversed { at } => builder.field("reason", "reversed").field("at", at),
    }
    .build()
}

fn fill(structure: &mut gst::StructureRef, record: &Record) {
    if let Some(pts) = record.pts {
        structure.set("pts", pts);
    }
    structure.set("frame", record.frame);
    structure.set("score", f64::from(record.score));
    structure.set("raw-score", f64::from(record.raw_score));
    structure.set("calibrated", record.calibrated);
    structure.set("class-score", f64::from(record.class_score));
    structure.set("map-max", f64::from(record.map_max));
    structure.set("threshold", f64::from(record.threshold));
    structure.set("map-threshold", f64::from(record.map_threshold));
    structure.set("anomalous", record.anomalous);
    if let Some(id) = record.event_id {
        structure.set("event-id", id);
    }
    structure.set("age", record.age);
    if let Some(quality) = &record.quality {
        structure.set("quality", quality.as_str());
    }
    structure.set("width", record.width);
    structure.set("height", record.height);
    structure.set(
        "regions",
        gst::Array::new(record.regions.iter().map(region)),
    );
    structure.set("model", record.model.as_str());
    structure.set("latency-us", record.latency_us);
}

fn region(region: &Region) -> gst::Structure {
    let mut structure = gst::Structure::builder("region")
        .field("x", region.x)
        .field("y", region.y)
        .field("w", region.w)
        .field("h", region.h)
        .field("score", f64::from(region.score))
        .field("area", region.area)
        .field("centroid", gst::Array::new(region.centroid.map(f64::from)))
        .build();
    if let Some(id) = region.event_id {
        structure.set("event-id", id);
    }
    place(&mut structure, region);
    structure
}

/// Where on the strip it is, if frames are pieces of one.
fn place(structure: &mut gst::StructureRef, region: &Region) {
    let Some(place) = region.place else { return };
    structure.set("line", place.line);
    structure.set("last-line", place.last_line);
    for (name, mm) in [
        ("position-mm", place.position_mm),
        ("length-mm", place.length_mm),
        ("width-mm", place.width_mm),
    ] {
        if let Some(mm) = mm {
            structure.set(name, mm);
        }
    }
}

/// What a region of interest says beside its rectangle. The rectangle is scaled with the picture, these are not: they are in pixels of a
/// frame of `width` x `height`.
fn region_parameters(region: &Region, record: &Record) -> gst::Structure {
    let mut parameters = gst::Structure::builder(STRUCTURE)
        .field("score", f64::from(region.score))
        .field("area", region.area)
        .field("centroid-x", f64::from(region.centroid[0]))
        .field("centroid-y", f64::from(region.centroid[1]))
        .field("width", record.width)
        .field("height", record.height)
        .build();
    if let Some(id) = region.event_id {
        parameters.set("event-id", id);
    }
    place(&mut parameters, region);
    parameters
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use acdclip_model::{
        map::{AnomalyMap, MapValues},
        preprocess::Placement,
        stream::events::Moment,
    };

    use super::*;
    use crate::rect::Rect;

    fn record() -> Record {
        Record {
            pts: Some(40_000_000),
            frame: 1,
            score: 0.75,
            raw_score: 0.75,
            anomalous: true,
            event_id: Some(3),
            width: 64,
            height: 48,
            regions: vec![Region {
                x: 4,
                y: 5,
                w: 6,
                h: 7,
                score: 0.9,
                area: 30,
                centroid: [6.5, 8.5],
                event_id: Some(3),
                place: None,
            }],
            model: "0123abcd".into(),
            ..Record::default()
        }
    }

    #[test]
    fn structures_have_every_field_of_the_json_record() {
        gst::init().unwrap();
        let record = record();
        let json = serde_json::to_value(&record).unwrap();
        let structure = frame_message(&record);
        for key in json.as_object().unwrap().keys() {
            assert!(
                structure.has_field(key.replace('_', "-").as_str()),
                "{key} is missing"
            );
        }
        let regions = structure.get::<gst::Array>("regions").unwrap();
        let region = regions[0].get::<gst::Structure>().unwrap();
        for key in json["regions"][0].as_object().unwrap().keys() {
            let field = key.replace('_', "-");
            assert!(region.has_field(field.as_str()), "{key} is missing");
        }
    }

    #[test]
    fn a_buffer_carries_its_record_and_regions() {
        gst::init().unwrap();
        register();
        let mut buffer = gst::Buffer::new();
        attach(buffer.get_mut().unwrap(), &record(), None).unwrap();
        let copy = buffer.copy();
        let meta = gst::meta::CustomMeta::from_buffer(&copy, META).unwrap();
        assert_eq!(meta.structure().get::<u64>("event-id").unwrap(), 3);
        let rois: Vec<_> = copy.iter_meta::<VideoRegionOfInterestMeta>().collect();
        assert_eq!(rois.len(), 1);
        assert_eq!(rois[0].roi_type(), ROI_TYPE);
        assert_eq!((rois[0].id(), rois[0].rect()), (1, (4, 5, 6, 7)));
        let score = rois[0]
            .param(STRUCTURE)
            .unwrap()
            .get::<f64>("score")
            .unwrap();
        assert!((score - 0.9).abs() < 1e-6);
    }

    /// A map over the whole frame of [`record`], with something abnormal in it.
    fn map() -> PatchMap {
        let placement = Placement {
            x: 0.0,
            y: 0.0,
            width: 28.0,
            height: 28.0,
        };
        let values = vec![-3.0, 2.0, -3.0, f32::NEG_INFINITY];
        let kind = MapValues::LogitDifference;
        let map = AnomalyMap::new((2, 2), values, kind, (28, 28), placement).unwrap();
        PatchMap::encode(&map, Rect::from([0, 0, 64, 48]))
    }

    #[test]
    fn what_is_attached_is_read_and_the_map_is_in_the_custom_meta_alone() {
        gst::init().unwrap();
        register();
        let mut buffer = gst::Buffer::new();
        assert_eq!(read(&buffer), Ok(None));
        let (record, map) = (record(), map());
        attach(buffer.get_mut().unwrap(), &record, Some(&map)).unwrap();
        let read = read(&buffer.copy()).unwrap().unwrap();
        assert_eq!(read, Report::new(&record, Some(map)));
        assert!(!frame_message(&record).has_field(patch_map::MAP));
    }

    #[test]
    fn what_cannot_be_is_an_error_that_names_the_field() {
        gst::init().unwrap();
        register();
        let refused = |change: &dyn Fn(&mut gst::StructureRef)| {
            let mut buffer = gst::Buffer::new();
            let writable = buffer.get_mut().unwrap();
            attach(writable, &record(), Some(&map())).unwrap();
            let mut meta = gst::meta::CustomMeta::from_mut_buffer(writable, META).unwrap();
            change(meta.mut_structure());
            read(&buffer).unwrap_err()
        };
        let said = [
            (refused(&|s| s.remove_field("score")), "score"),
            (refused(&|s| s.set("score", f64::NAN)), "score"),
            (refused(&|s| s.set("score", "high")), "score"),
            (refused(&|s| s.set("map-threshold", 1e9)), "map-threshold"),
            (refused(&|s| s.set("anomalous", 1)), "anomalous"),
            (refused(&|s| s.set("width", 0u32)), "(0, 48)"),
            (refused(&|s| s.set("height", -1)), "height"),
            (refused(&|s| s.set("map", "none")), "map"),
            (refused(&|s| s.set("width", 63u32)), "area"),
            (refused(&|s| s.set("regions", "none")), "regions"),
            (
                refused(&|s| s.set("regions", gst::Array::new([1]))),
                "region",
            ),
            (
                refused(&|s| s.set("regions", gst::Array::new(vec![0; 1 << 15]))),
                "at most",
            ),
        ];
        for (error, part) in said {
            assert!(error.contains(part), "{error:?} does not say {part:?}");
        }
    }

    #[test]
    fn at_a_threshold_of_its_own_a_report_has_the_regions_of_its_map() {
        let record = record();
        let report = Report::new(&record, Some(map()));
        let same = report.clone().at_threshold(record.map_threshold).unwrap();
        assert_eq!(same, report);
        let none = report.clone().at_threshold(0.95).unwrap();
        assert!(none.regions.is_empty());
        let wide = report.at_threshold(0.3).unwrap();
        // The abnormal patch is the top right one.
        let Rect { x, y, w, h } = wide.regions[0];
        assert_eq!((wide.regions.len(), x + w, y), (1, 64, 0));
        assert!(x > 20 && h < 40, "{:?}", wide.regions);
        let bare = Report::new(&record, None).at_threshold(0.3).unwrap();
        assert_eq!(bare.regions.len(), record.regions.len());
    }

    #[test]
    fn an_events_end_is_about_its_own_frame() {
        gst::init().unwrap();
        let event = Event {
            kind: EventKind::End,
            id: 3,
            at: Moment {
                time: 0,
                pts: None,
                frame: 9,
                score: 0.5,
            },
            frames: 8,
            region: None,
            since: None,
        };
        let structure = event_message(&event, &record());
        assert_eq!(structure.get::<&str>("type").unwrap(), "event-end");
        assert_eq!(structure.get::<u64>("frame").unwrap(), 9);
        assert!(!structure.has_field("pts") && !structure.has_field("regions"));
    }
}
