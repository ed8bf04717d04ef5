//! What is drawn of a frame, as the element that scored it knows it and as its metadata says it.

use acdclip_model::record::Record;

use crate::{
    markers::Alert,
    patch_map::{self, PatchMap},
    rect::Rect,
};

/// No frame has as many regions.
const MAX_REGIONS: usize = 1 << 14;

/// What is drawn of a frame, in pixels of the frame that was measured.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Report {
    /// Width and height of the frame that was measured.
    pub(crate) size: (u32, u32),
    /// The frame's score.
    pub(crate) score: f32,
    /// Whether it is in alarm.
    pub(crate) anomalous: bool,
    /// The probability from which a pixel belongs to a region.
    pub(crate) map_threshold: f32,
    /// Where the map is at or above it.
    pub(crate) regions: Vec<Rect>,
    /// Those of them that belong to events.
    pub(crate) alerts: Vec<Alert>,
    /// Whether they lie on a strip, and move with it.
    pub(crate) is_strip: bool,
    /// The map, where there is one.
    pub(crate) map: Option<PatchMap>,
}

impl Report {
    /// What `record` says, and the map that its regions were found in.
    pub(crate) fn new(record: &Record, map: Option<PatchMap>) -> Self {
        Self {
            size: (record.width, record.height),
            score: record.score,
            anomalous: record.anomalous,
            map_threshold: record.map_threshold,
            regions: record.regions.iter().map(Rect::from).collect(),
            is_strip: record.regions.iter().any(|region| region.place.is_some()),
            alerts: record
                .regions
                .iter()
                .filter_map(|region| {
                    Some(Alert {
                        id: region.event_id?,
                        region: region.into(),
                    })
                })
                .collect(),
            map,
        }
    }

    /// What the custom meta says, whoever wrote it; an error says what cannot be.
    pub(crate) fn from_structure(structure: &gst::StructureRef) -> Result<Self, String> {
        let size: (u32, u32) = (field(structure, "width")?, field(structure, "height")?);
        if size.0 == 0 || size.1 == 0 {
            return Err(format!("wanted a frame of 1x1 or more, found {size:?}"));
        }
        let map = if structure.has_field(patch_map::MAP) {
            let map: gst::Structure = field(structure, patch_map::MAP)?;
            Some(PatchMap::from_structure(&map, size)?)
        } else {
            None
        };
        let regions = regions(structure)?;
        Ok(Self {
            size,
            score: probability(structure, "score")?,
            anomalous: field(structure, "anomalous")?,
            map_threshold: probability(structure, "map-threshold")?,
            is_strip: regions.iter().any(|(_, _, is_placed)| *is_placed),
            alerts: regions
                .iter()
                .filter_map(|(region, id, _)| {
                    Some(Alert {
                        id: (*id)?,
                        region: *region,
                    })
                })
                .collect(),
            regions: regions.into_iter().map(|(region, ..)| region).collect(),
            map,
        })
    }

    /// The same with the regions that the map has at another threshold, whatever their size; without a map they stay.
    pub(crate) fn at_threshold(self, threshold: f32) -> acdclip_model::Result<Self> {
        if threshold == self.map_threshold {
            return Ok(self);
        }
        let regions = match &self.map {
            None => self.regions,
            Some(map) => {
                let area = map.area();
                let found = map.decode()?.regions(threshold, 0, area.w, area.h);
                let at_area = |rect: Rect| Rect {
                    x: rect.x + area.x,
                    y: rect.y + area.y,
                    ..rect
                };
                found.iter().map(|region| at_area(region.into())).collect()
            }
        };
        Ok(Self {
            map_threshold: threshold,
            regions,
            ..self
        })
    }
}

fn field<T: for<'a> gst::glib::value::FromValue<'a>>(
    structure: &gst::StructureRef,
    name: &str,
) -> Result<T, String> {
    structure
        .value(name)
        .map_err(|e| e.to_string())?
        .get()
        .map_err(|e| format!("field {name}: {e}"))
}

fn probability(structure: &gst::StructureRef, name: &str) -> Result<f32, String> {
    let found: f64 = field(structure, name)?;
    if (0.0..=1.0).contains(&found) {
        Ok(found as f32)
    } else {
        Err(format!("wanted a {name} of 0 to 1, found {found}"))
    }
}

/// Each region, the number of its event, and whether it has a place on a strip.
fn regions(structure: &gst::StructureRef) -> Result<Vec<(Rect, Option<u64>, bool)>, String> {
    let regions: gst::Array = field(structure, "regions")?;
    if regions.len() > MAX_REGIONS {
        return Err(format!(
            "wanted at most {MAX_REGIONS} regions, found {}",
            regions.len()
        ));
    }
    let rect = |value: &gst::glib::SendValue| {
        let region: gst::Structure = value.get().map_err(|e| format!("a region: {e}"))?;
        let id = match region.has_field("event-id") {
            true => Some(field(&region, "event-id")?),
            false => None,
        };
        let rect = Rect {
            x: field(&region, "x")?,
            y: field(&region, "y")?,
            w: field(&region, "w")?,
            h: field(&region, "h")?,
        };
        Ok((rect, id, region.has_field("line")))
    };
    regions.iter().map(rect).collect()
}
