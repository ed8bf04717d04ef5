//! The anomaly map as buffers carry it: one byte a patch, and where in the frame the patches lie.
//!
//! It is a structure `map` of these fields:
//!
//! - `values`: GBytes, one byte a patch, row by row; `columns` and `rows` (uint) of them. Byte b is the log odds (b - 128) / 16 of the
//!   probability that is given out, the calibrated one where there is a calibration. Byte 0 is a patch that is masked: not looked at.
//! - `input-width`, `input-height` (uint): the network's input in pixels. The middles of the corner patches lie on its corner pixels.
//! - `placement-x`, `placement-y`, `placement-width`, `placement-height` (double): where in the input lies what was looked at.
//! - `area-x`, `area-y`, `area-w`, `area-h` (uint): what was looked at, in pixels of the measured frame.
//!
//! What is drawn is drawn from these bytes, by whichever element, so that the drawings are the same.

use acdclip_model::{
    map::{AnomalyMap, MapValues},
    preprocess::Placement,
};
use gst::glib;

use crate::rect::Rect;

/// Name of the structure, and of the field that holds it.
pub(crate) const MAP: &str = "map";
/// The byte of a patch that is masked.
const MASKED: u8 = 0;
/// The byte of even odds.
const EVEN: f32 = 128.0;
/// Bytes a unit of log odds.
const STEPS: f32 = 16.0;
/// No grid has more columns or rows, those of tiles over a long frame included.
const MAX_PATCHES: u32 = 1 << 20;
/// No network's input is wider or higher, nor the lattice over a frame of tiles, pixels.
const MAX_INPUT: u32 = 1 << 21;

/// A map of quantised log odds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PatchMap {
    values: glib::Bytes,
    /// Columns and rows.
    grid: (u32, u32),
    /// Width and height of the network's input.
    input: (u32, u32),
    placement: Placement,
    area: Rect,
}

impl PatchMap {
    /// `map`, which covers `area` of the measured frame. A patch is masked if its middle is, or if its value is no number.
    pub(crate) fn encode(map: &AnomalyMap, area: Rect) -> Self {
        let (grid, input) = (map.grid(), map.input());
        let sampler = map.over_input();
        let (mut pixels, mut scratch) = (vec![0.0; input.0], Vec::new());
        let mut bytes = Vec::with_capacity(map.values().len());
        for (row, values) in map.values().chunks_exact(grid.0).enumerate() {
            sampler.row(middle(row, grid.1, input.1), &mut scratch, &mut pixels);
            bytes.extend(values.iter().enumerate().map(|(column, value)| {
                // Masks lie over what is interpolated from the grid, not over the grid.
                if value.is_nan() || pixels[middle(column, grid.0, input.0)] == f32::NEG_INFINITY {
                    MASKED
                } else {
                    byte(map.probability(*value))
                }
            }));
        }
        let narrow = |(width, height): (usize, usize)| (width as u32, height as u32);
        Self {
            values: glib::Bytes::from_owned(bytes),
            grid: narrow(grid),
            input: narrow(input),
            placement: map.placement(),
            area,
        }
    }

    /// The map: log odds of what is given out, without a scale.
    pub(crate) fn decode(&self) -> acdclip_model::Result<AnomalyMap> {
        let size = |(width, height): (u32, u32)| (width as usize, height as usize);
        AnomalyMap::new(
            size(self.grid),
            self.values.iter().copied().map(log_odds).collect(),
            MapValues::LogitDifference,
            size(self.input),
            self.placement,
        )
    }

    /// On a frame whose rows have moved up by `rows`; none where all of it has left.
    pub(crate) fn scrolled(&self, rows: u32) -> Option<Self> {
        let left = self.area.h.checked_sub(rows.saturating_sub(self.area.y));
        let h = left.map(|left| left.min(self.area.h)).filter(|h| *h > 0)?;
        let hidden = (self.area.h - h) as f32 / self.area.h as f32;
        let placement = self.placement;
        Some(Self {
            area: Rect {
                y: self.area.y.saturating_sub(rows),
                h,
                ..self.area
            },
            placement: Placement {
                y: placement.y + placement.height * hidden,
                height: placement.height * (1.0 - hidden),
                ..placement
            },
            ..self.clone()
        })
    }

    /// What it covers, pixels of the measured frame.
    pub(crate) fn area(&self) -> Rect {
        self.area
    }

    /// As it is carried.
    pub(crate) fn structure(&self) -> gst::Structure {
        gst::Structure::builder(MAP)
            .field("values", self.values.clone())
            .field("columns", self.grid.0)
            .field("rows", self.grid.1)
            .field("input-width", self.input.0)
            .field("input-height", self.input.1)
            .field("placement-x", f64::from(self.placement.x))
            .field("placement-y", f64::from(self.placement.y))
            .field("placement-width", f64::from(self.placement.width))
            .field("placement-height", f64::from(self.placement.height))
            .field("area-x", self.area.x)
            .field("area-y", self.area.y)
            .field("area-w", self.area.w)
            .field("area-h", self.area.h)
            .build()
    }

    /// The map of a measured frame of size `frame` that `structure` describes, whoever wrote it; an error says what cannot be.
    pub(crate) fn from_structure(
        structure: &gst::StructureRef,
        frame: (u32, u32),
    ) -> Result<Self, String> {
        let uint = |name| structure.get::<u32>(name).map_err(|e| e.to_string());
        let double = |name| structure.get::<f64>(name).map_err(|e| e.to_string());
        let map = Self {
            values: structure.get("values").map_err(|e| e.to_string())?,
            grid: (uint("columns")?, uint("rows")?),
            input: (uint("input-width")?, uint("input-height")?),
            placement: Placement {
                x: double("placement-x")? as f32,
                y: double("placement-y")? as f32,
                width: double("placement-width")? as f32,
                height: double("placement-height")? as f32,
            },
            area: Rect {
                x: uint("area-x")?,
                y: uint("area-y")?,
                w: uint("area-w")?,
                h: uint("area-h")?,
            },
        };
        map.check(frame)?;
        Ok(map)
    }

    fn check(&self, frame: (u32, u32)) -> Result<(), String> {
        let (columns, rows) = self.grid;
        let sides = |(width, height): (u32, u32), most: u32| {
            (1..=most).contains(&width) && (1..=most).contains(&height)
        };
        if !sides(self.grid, MAX_PATCHES) {
            return Err(format!(
                "wanted a map of 1x1 to {MAX_PATCHES}x{MAX_PATCHES} patches, found {columns}x{rows}"
            ));
        }
        if self.values.len() != columns as usize * rows as usize {
            return Err(format!(
                "a map of {columns}x{rows} patches needs as many bytes, found {}",
                self.values.len()
            ));
        }
        if !sides(self.input, MAX_INPUT) {
            return Err(format!(
                "wanted an input of 1x1 to {MAX_INPUT}x{MAX_INPUT} pixels, found {:?}",
                self.input
            ));
        }
        let at = &self.placement;
        if !lies_in(at.x, at.width, self.input.0) || !lies_in(at.y, at.height, self.input.1) {
            return Err(format!(
                "wanted a placement within the input of {:?} pixels, found {at:?}",
                self.input
            ));
        }
        if !self.area.is_within(frame) {
            return Err(format!(
                "wanted an area within the frame of {frame:?} pixels, found {:?}",
                self.area
            ));
        }
        Ok(())
    }
}

/// Whether `extent` pixels from `start` are some, and lie within an input of `input`, but for rounding.
fn lies_in(start: f32, extent: f32, input: u32) -> bool {
    start >= 0.0 && extent > 0.0 && start + extent <= input as f32 + 0.5
}

/// The pixel nearest to the middle of a patch, of `input` pixels on a grid of `grid`.
fn middle(patch: usize, grid: usize, input: usize) -> usize {
    match grid {
        0 | 1 => 0,
        _ => (patch * input.saturating_sub(1) + (grid - 1) / 2) / (grid - 1),
    }
}

fn byte(probability: f32) -> u8 {
    let log_odds = (probability / (1.0 - probability)).ln();
    let byte = (log_odds * STEPS + EVEN).round();
    // Of what is no number nothing is known.
    if byte.is_nan() {
        MASKED
    } else {
        byte.clamp(f32::from(MASKED + 1), 255.0) as u8
    }
}

fn log_odds(byte: u8) -> f32 {
    match byte {
        MASKED => f32::NEG_INFINITY,
        _ => (f32::from(byte) - EVEN) / STEPS,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use acdclip_model::calibration::Scale;
    use proptest::prelude::*;

    use super::*;

    const FRAME: (u32, u32) = (640, 480);

    fn map(grid: (usize, usize), values: Vec<f32>, kind: MapValues) -> AnomalyMap {
        let placement = Placement {
            x: 0.0,
            y: 31.5,
            width: 252.0,
            height: 189.0,
        };
        AnomalyMap::new(grid, values, kind, (252, 252), placement).unwrap()
    }

    #[test]
    fn a_scrolled_map_shows_the_rows_that_are_left_where_they_are_now() {
        let (columns, rows) = (3, 5);
        let placement = Placement {
            x: 0.0,
            y: 0.0,
            width: 3.0,
            height: 9.0,
        };
        let values = (0..columns * rows).map(|i| i as f32 / 4.0 - 2.0).collect();
        let kind = MapValues::LogitDifference;
        let map = AnomalyMap::new((columns, rows), values, kind, (3, 9), placement).unwrap();
        let whole = PatchMap::encode(&map, Rect::from([4, 10, 30, 90]));
        let seen = |map: &PatchMap| {
            let area = map.area();
            let pixels = map.decode().unwrap();
            pixels.upsample_to_frame(area.w as usize, area.h as usize)
        };
        let before = seen(&whole);
        for (by, y, hidden) in [(0, 10, 0), (10, 0, 0), (40, 0, 30), (99, 0, 89)] {
            let after = whole.scrolled(by).unwrap();
            assert_eq!(after.area(), Rect::from([4, y, 30, 90 - hidden]));
            let wanted = &before[hidden as usize * 30..];
            let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-3;
            assert!(wanted.iter().zip(&seen(&after)).all(near), "by {by}");
        }
        assert_eq!(whole.scrolled(100), None);
        assert_eq!(whole.scrolled(u32::MAX), None);
    }

    /// Through the structure, as from one element to the other.
    fn carried(map: &PatchMap) -> PatchMap {
        PatchMap::from_structure(&map.structure(), FRAME).unwrap()
    }

    fn grids() -> impl Strategy<Value = ((usize, usize), Vec<f32>)> {
        let value = prop_oneof![4 => -12.0f32..12.0, 1 => Just(f32::NEG_INFINITY)];
        (1usize..20, 1usize..20).prop_flat_map(move |(columns, rows)| {
            let values = proptest::collection::vec(value.clone(), columns * rows);
            (Just((columns, rows)), values)
        })
    }

    proptest! {
        #[test]
        fn a_probability_is_as_near_as_a_thirty_second_of_log_odds(
            (grid, values) in grids(),
            calibrated in any::<bool>(),
        ) {
            gst::init().unwrap();
            let mut before = map(grid, values, MapValues::LogitDifference);
            if calibrated {
                before = before.calibrated(Scale::new(0.3, 0.8).unwrap());
            }
            let after = carried(&PatchMap::encode(&before, Rect::from([0, 0, FRAME.0, FRAME.1]))).decode().unwrap();
            prop_assert_eq!(after.grid(), grid);
            for (old, new) in before.values().iter().zip(after.values()) {
                if *old == f32::NEG_INFINITY {
                    prop_assert_eq!(*new, f32::NEG_INFINITY);
                    continue;
                }
                let (p, q) = (before.probability(*old), after.probability(*new));
                let of_log_odds = |by: f32| after.probability(after.value(q) + by);
                let near = (of_log_odds(-1.0 / 32.0) - 1e-5)..=(of_log_odds(1.0 / 32.0) + 1e-5);
                // Beyond the range of a byte, both are as good as certain.
                let certain = new.abs() > 7.9 && (p - q).abs() < 4e-4;
                prop_assert!(near.contains(&p) || certain, "{} became {}", p, q);
            }
        }

        #[test]
        fn a_map_that_cannot_be_is_an_error_and_what_can_be_is_read(
            field in 0usize..13,
            hostile in hostile(),
        ) {
            gst::init().unwrap();
            let mut structure = whole().structure();
            let name = structure.fields().nth(field).unwrap().to_string();
            match hostile {
                Some(value) => structure.set_value(&name, value),
                None => structure.remove_field(&name),
            }
            if let Ok(map) = PatchMap::from_structure(&structure, FRAME) {
                let map = map.decode().unwrap();
                map.regions(0.5, 0, 9, 9);
                map.upsample_to_frame(9, 9);
            }
        }
    }

    /// What somebody might write where something else is wanted, or `None` for nothing.
    fn hostile() -> impl Strategy<Value = Option<gst::glib::SendValue>> {
        use gst::prelude::*;
        const NUMBERS: [f64; 7] = [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300, 251.9, 0.25];
        prop_oneof![
            any::<u32>().prop_map(|v| Some(v.to_send_value())),
            (0u32..300).prop_map(|v| Some(v.to_send_value())),
            any::<i32>().prop_map(|v| Some(v.to_send_value())),
            any::<f64>().prop_map(|v| Some(v.to_send_value())),
            proptest::sample::select(&NUMBERS[..]).prop_map(|v| Some(v.to_send_value())),
            (0usize..9).prop_map(|len| Some(glib::Bytes::from_owned(vec![7; len]).to_send_value())),
            Just(Some("map".to_send_value())),
            Just(None),
        ]
    }

    fn whole() -> PatchMap {
        let map = map((2, 3), vec![0.0; 6], MapValues::LogitDifference);
        PatchMap::encode(&map, Rect::from([0, 0, FRAME.0, FRAME.1]))
    }

    #[test]
    fn errors_say_what_was_wanted_and_what_was_found() {
        gst::init().unwrap();
        let refused = |change: &dyn Fn(&mut gst::StructureRef)| {
            let mut structure = whole().structure();
            change(&mut structure);
            PatchMap::from_structure(&structure, FRAME).unwrap_err()
        };
        let uint = |name: &'static str, value: u32| refused(&|s| s.set(name, value));
        let double = |name: &'static str, value: f64| refused(&|s| s.set(name, value));
        let said = [
            (
                uint("columns", 3),
                "3x3 patches needs as many bytes, found 6",
            ),
            (uint("rows", 0), "found 2x0"),
            (uint("columns", u32::MAX), "found 4294967295x3"),
            (uint("input-width", 0), "found (0, 252)"),
            (uint("input-height", u32::MAX), "found (252, 4294967295)"),
            (double("placement-x", f64::NAN), "NaN"),
            (double("placement-y", f64::NEG_INFINITY), "-inf"),
            (double("placement-width", 1e30), "1e30"),
            (double("placement-height", 0.0), "height: 0.0"),
            (uint("area-x", 1), "within the frame of (640, 480) pixels"),
            (uint("area-w", 0), "w: 0"),
            (uint("area-h", u32::MAX), "h: 4294967295"),
            (refused(&|s| s.set("columns", "many")), "columns"),
            (refused(&|s| s.remove_field("values")), "values"),
        ];
        for (error, part) in said {
            assert!(error.contains(part), "{error:?} does not say {part:?}");
        }
    }

    #[test]
    fn certainty_and_what_is_no_number_have_bytes_too() {
        let values = vec![0.0, 1.0, 0.5, f32::NAN];
        let map = map((4, 1), values, MapValues::Probability);
        let encoded = PatchMap::encode(&map, Rect::from([0, 0, FRAME.0, FRAME.1]));
        assert_eq!(encoded.values[..], [1, 255, 128, 0]);
    }

    #[test]
    fn a_map_lies_where_it_lay() {
        gst::init().unwrap();
        let values: Vec<f32> = (0..20).map(|i| (i * 7 % 20) as f32 / 16.0 - 0.5).collect();
        let before = map((5, 4), values, MapValues::LogitDifference);
        let area = Rect {
            x: 10,
            y: 20,
            w: 600,
            h: 400,
        };
        let after = carried(&PatchMap::encode(&before, area));
        assert_eq!(after.area(), area);
        // The values are multiples of a byte's step, so nothing is lost.
        assert_eq!(after.decode().unwrap(), before);
    }
}
