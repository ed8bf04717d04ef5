//! Regions as GStreamer's analytics library carries them, for elements that know nothing of this plugin: its overlay, trackers, exporters.
//!
//! One object detection a region; where the region belongs to an event, a tracking entry with the event's number, which the detection
//! relates to. The direction of that relation is that of GStreamer's own trackers.

use acdclip_model::{map::Region, record::Record};
use gst::glib;
use gst_analytics::{AnalyticsRelationMeta, RelTypes, prelude::*};

use crate::meta::ROI_TYPE;

/// Adds `record`'s regions to the analytics of `buffer`, which an element before this one may have begun.
///
/// A frame without regions gets the meta too: GStreamer's `objectdetectionoverlay` goes on drawing the last boxes until a meta without
/// them comes.
pub(crate) fn attach(buffer: &mut gst::BufferRef, record: &Record) -> Result<(), glib::BoolError> {
    let seen = seen(buffer, record);
    // A buffer has one such meta: this is the one that is there already, if any.
    let mut meta = AnalyticsRelationMeta::add(buffer);
    for region in &record.regions {
        let detection = add_detection(&mut meta, region)?;
        if let Some(event) = region.event_id {
            let tracking = meta.add_tracking_mtd(event, seen)?.id();
            meta.set_relation(RelTypes::RELATE_TO, detection, tracking)?;
        }
    }
    Ok(())
}

/// When the regions were seen: the time of the frame that was measured. It stands for the time of their first sight too, which a record
/// does not tell; a stream without times has zero.
fn seen(buffer: &gst::BufferRef, record: &Record) -> gst::ClockTime {
    let age = gst::ClockTime::from_nseconds(record.age);
    buffer.pts().unwrap_or_default().saturating_sub(age)
}

/// The entry's number in `meta`.
fn add_detection(
    meta: &mut gst::MetaRefMut<'_, AnalyticsRelationMeta, gst::meta::Standalone>,
    region: &Region,
) -> Result<u32, glib::BoolError> {
    let [x, y, w, h] = [region.x, region.y, region.w, region.h]
        .map(|pixels| i32::try_from(pixels).unwrap_or(i32::MAX));
    let kind = glib::Quark::from_str(ROI_TYPE);
    Ok(meta.add_od_mtd(kind, x, y, w, h, region.score)?.id())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use gst_analytics::{AnalyticsODMtd, AnalyticsTrackingMtd};

    use super::*;

    fn region(x: u32, event_id: Option<u64>) -> Region {
        Region {
            x,
            y: 5,
            w: 6,
            h: 7,
            score: 0.75,
            area: 30,
            centroid: [6.5, 8.5],
            event_id,
            place: None,
        }
    }

    fn record(regions: &[Region]) -> Record {
        Record {
            regions: regions.to_vec(),
            ..Record::default()
        }
    }

    /// Type, rectangle and confidence of every detection on `buffer`.
    fn detections(buffer: &gst::BufferRef) -> Vec<(String, [i32; 4], f32)> {
        let meta = buffer.meta::<AnalyticsRelationMeta>().unwrap();
        meta.iter::<AnalyticsODMtd>()
            .map(|found| {
                let at = found.location().unwrap();
                let kind = found.obj_type().unwrap().as_str().to_string();
                (kind, [at.x, at.y, at.w, at.h], found.confidence_level())
            })
            .collect()
    }

    /// Number and times of every tracking entry that the n-th entry relates to.
    fn tracks(buffer: &gst::BufferRef, n: u32) -> Vec<(u64, gst::ClockTime, gst::ClockTime)> {
        let meta = buffer.meta::<AnalyticsRelationMeta>().unwrap();
        meta.iter_direct_related::<AnalyticsTrackingMtd>(n, RelTypes::RELATE_TO)
            .map(|track| {
                let (id, first, last, lost) = track.info();
                assert!(!lost);
                (id, first, last)
            })
            .collect()
    }

    #[test]
    fn every_region_is_a_detection_and_its_event_a_track() {
        gst::init().unwrap();
        let mut buffer = gst::Buffer::new();
        let buffer = buffer.get_mut().unwrap();
        buffer.set_pts(gst::ClockTime::from_mseconds(100));
        let record = Record {
            age: 40_000_000,
            ..record(&[region(1, Some(3)), region(20, None), region(40, Some(4))])
        };
        attach(buffer, &record).unwrap();
        let wanted = [1, 20, 40].map(|x| ("anomaly".to_owned(), [x, 5, 6, 7], 0.75));
        assert_eq!(detections(buffer), wanted);
        let measured = gst::ClockTime::from_mseconds(60);
        assert_eq!(tracks(buffer, 0), [(3, measured, measured)]);
        // The second entry is the first one's track.
        assert_eq!(tracks(buffer, 2), []);
        assert_eq!(tracks(buffer, 3), [(4, measured, measured)]);
    }

    #[test]
    fn a_frame_without_regions_says_that_there_are_none() {
        gst::init().unwrap();
        let mut buffer = gst::Buffer::new();
        let buffer = buffer.get_mut().unwrap();
        attach(buffer, &record(&[])).unwrap();
        assert_eq!(detections(buffer), []);
    }

    #[test]
    fn what_another_detector_has_found_stays() {
        gst::init().unwrap();
        let mut buffer = gst::Buffer::new();
        let buffer = buffer.get_mut().unwrap();
        AnalyticsRelationMeta::add(buffer)
            .add_od_mtd(glib::Quark::from_str("bolt"), 10, 11, 12, 13, 0.5)
            .unwrap();
        attach(buffer, &record(&[region(1, Some(3))])).unwrap();
        assert_eq!(buffer.iter_meta::<AnalyticsRelationMeta>().count(), 1);
        let wanted = [
            ("bolt".to_owned(), [10, 11, 12, 13], 0.5),
            ("anomaly".to_owned(), [1, 5, 6, 7], 0.75),
        ];
        assert_eq!(detections(buffer), wanted);
        assert_eq!(tracks(buffer, 0), []);
        assert_eq!(tracks(buffer, 1).len(), 1);
    }

    #[test]
    fn more_regions_than_the_meta_first_has_room_for_are_all_there() {
        gst::init().unwrap();
        let mut buffer = gst::Buffer::new();
        let buffer = buffer.get_mut().unwrap();
        let regions: Vec<_> = (0..300).map(|x| region(x, Some(x.into()))).collect();
        attach(buffer, &record(&regions)).unwrap();
        assert_eq!(detections(buffer).len(), 300);
        assert_eq!(tracks(buffer, 598)[0].0, 299);
    }

    #[test]
    fn numbers_beyond_the_metas_integers_and_times_before_zero_are_bounded() {
        gst::init().unwrap();
        let mut buffer = gst::Buffer::new();
        let buffer = buffer.get_mut().unwrap();
        let record = Record {
            age: 40,
            ..record(&[region(u32::MAX, Some(1))])
        };
        attach(buffer, &record).unwrap();
        assert_eq!(detections(buffer)[0].1[0], i32::MAX);
        assert_eq!(tracks(buffer, 0)[0].1, gst::ClockTime::ZERO);
    }
}
