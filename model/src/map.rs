//! The anomaly map on the patch grid, and what is read from it: pixels, maximum, regions.
//!
//! The network answers on a grid of patches (18 x 18 for a 252 px picture). That grid is the map; everything larger is interpolated from
//! it when asked for. Two coordinate systems meet here:
//!
//! - the network's input, S x S pixels. The grid's corner values belong to the input's corner pixels (`align_corners` in the authors'
//!   code), so input pixel x has grid coordinate `x * (g - 1) / (S - 1)`;
//! - the frame that was measured, whose pixels were resized into the input, pixel centres on pixel centres.

use crate::{
    calibration::Scale,
    error::{Error, Result},
    preprocess::Placement,
};

/// What a map's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapValues {
    /// Abnormal minus normal logit; probabilities are its sigmoid, taken after interpolation (official form).
    LogitDifference,
    /// Probabilities, interpolated as such (paper form).
    Probability,
}

/// The anomaly map of one frame on the patch grid.
#[derive(Debug, Clone, PartialEq)]
pub struct AnomalyMap {
    grid: (usize, usize),
    values: Vec<f32>,
    kind: MapValues,
    input: (usize, usize),
    placement: Placement,
    /// From the probabilities that the values stand for to those that are given out.
    scale: Option<Scale>,
}

/// A connected part of a frame whose probability is at or above a threshold.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Region {
    /// Left edge, frame pixels.
    pub x: u32,
    /// Top edge, frame pixels.
    pub y: u32,
    /// Width, frame pixels.
    pub w: u32,
    /// Height, frame pixels.
    pub h: u32,
    /// Largest probability inside.
    pub score: f32,
    /// Area in frame pixels.
    pub area: u64,
    /// Mean position of its pixels, frame pixels.
    pub centroid: [f32; 2],
    /// The event that it is seen in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub event_id: Option<u64>,
}

/// For each of a row's pixels: the two grid columns it lies between and how far towards the second.
#[derive(Debug, Clone)]
pub struct Axis {
    taps: Vec<(usize, f32)>,
}

impl Axis {
    /// `len` frame pixels laid over `[start, start + extent)` of an input of `input` pixels on a grid of `grid`.
    fn new(len: usize, start: f32, extent: f32, input: usize, grid: usize) -> Self {
        let last = (input - 1) as f32;
        let to_grid = if input > 1 {
            (grid - 1) as f32 / last
        } else {
            0.0
        };
        let step = extent / len as f32;
        let taps = (0..len)
            .map(|i| {
                let pixel = (start + (i as f32 + 0.5) * step - 0.5).clamp(0.0, last);
                let at = pixel * to_grid;
                let low = (at as usize).min(grid.saturating_sub(2));
                (low, at - low as f32)
            })
            .collect();
        Self { taps }
    }

    /// Lower grid index and weight of the next one, of pixel `i`. The next one is the same where the grid has one entry.
    pub fn tap(&self, i: usize) -> (usize, f32) {
        self.taps[i]
    }

    /// Pixels.
    pub fn len(&self) -> usize {
        self.taps.len()
    }

    /// Whether there are no pixels.
    pub fn is_empty(&self) -> bool {
        self.taps.is_empty()
    }
}

/// Draws a map's values at any size, a row at a time, into a buffer of the caller's.
#[derive(Debug, Clone)]
pub struct Sampler<'a> {
    map: &'a AnomalyMap,
    columns: Axis,
    rows: Axis,
}

impl Sampler<'_> {
    /// Interpolates row `y` into `out`, one value (of the map's own kind) a pixel. `scratch` is resized to a grid row.
    pub fn row(&self, y: usize, scratch: &mut Vec<f32>, out: &mut [f32]) {
        let (grid_w, grid_h) = self.map.grid;
        let (top, weight) = self.rows.tap(y);
        let bottom = (top + 1).min(grid_h - 1);
        let row = |y: usize| &self.map.values[y * grid_w..(y + 1) * grid_w];
        scratch.clear();
        scratch.extend(
            row(top)
                .iter()
                .zip(row(bottom))
                .map(|(a, b)| a + (b - a) * weight),
        );
        // One column more, so that the last pixel's right neighbour exists.
        scratch.push(scratch[grid_w - 1]);
        for (out, &(left, weight)) in out.iter_mut().zip(&self.columns.taps) {
            let (a, b) = (scratch[left], scratch[left + 1]);
            *out = a + (b - a) * weight;
        }
    }

    /// Largest value (of the map's own kind) in a row, without interpolating it.
    ///
    /// An upper bound: interpolation never exceeds its neighbours. Lets a caller skip rows in which nothing can be drawn.
    pub fn row_bound(&self, y: usize) -> f32 {
        let (grid_w, grid_h) = self.map.grid;
        let (top, _) = self.rows.tap(y);
        let bottom = (top + 1).min(grid_h - 1);
        self.map.values[top * grid_w..(top + 1) * grid_w]
            .iter()
            .chain(&self.map.values[bottom * grid_w..(bottom + 1) * grid_w])
            .copied()
            .fold(f32::NEG_INFINITY, f32::max)
    }
}

/// The logistic function.
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

impl AnomalyMap {
    /// A map from `values`, row by row, on a grid of (columns, rows), for a network input of `input` (width, height) pixels.
    pub fn new(
        grid: (usize, usize),
        values: Vec<f32>,
        kind: MapValues,
        input: (usize, usize),
        placement: Placement,
    ) -> Result<Self> {
        if grid.0 == 0 || grid.1 == 0 || values.len() != grid.0 * grid.1 {
            return Err(Error::Frame(format!(
                "a map on a grid of {}x{} needs as many values, found {}",
                grid.0,
                grid.1,
                values.len()
            )));
        }
        Ok(Self {
            grid,
            values,
            kind,
            input,
            placement,
            scale: None,
        })
    }

    /// The same map with its probabilities on a calibrated scale. Its values stay as they are, so interpolation does too.
    pub fn calibrated(self, scale: Scale) -> Self {
        Self {
            scale: Some(scale),
            ..self
        }
    }

    /// Columns and rows of the patch grid.
    pub fn grid(&self) -> (usize, usize) {
        self.grid
    }

    /// Values on the patch grid, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// What the values are.
    pub fn kind(&self) -> MapValues {
        self.kind
    }

    /// The probability that a value stands for.
    pub fn probability(&self, value: f32) -> f32 {
        match (self.kind, self.scale) {
            (MapValues::LogitDifference, None) => sigmoid(value),
            (MapValues::LogitDifference, Some(scale)) => scale.calibrate_logit(value),
            (MapValues::Probability, None) => value,
            (MapValues::Probability, Some(scale)) => scale.calibrate(value),
        }
    }

    /// The value that stands for a probability; infinite at 0 and 1 for logits.
    pub fn value(&self, probability: f32) -> f32 {
        match (self.kind, self.scale) {
            (MapValues::LogitDifference, None) => (probability / (1.0 - probability)).ln(),
            (MapValues::LogitDifference, Some(scale)) => scale.raw_logit(probability),
            (MapValues::Probability, None) => probability,
            (MapValues::Probability, Some(scale)) => scale.raw(probability),
        }
    }

    /// A sampler over the whole network input at its own size.
    pub fn over_input(&self) -> Sampler<'_> {
        let whole = Placement {
            x: 0.0,
            y: 0.0,
            width: self.input.0 as f32,
            height: self.input.1 as f32,
        };
        self.sampler(whole, self.input.0, self.input.1)
    }

    /// A sampler over the measured frame at `width` x `height` pixels.
    pub fn over_frame(&self, width: usize, height: usize) -> Sampler<'_> {
        self.sampler(self.placement, width, height)
    }

    fn sampler(&self, at: Placement, width: usize, height: usize) -> Sampler<'_> {
        Sampler {
            map: self,
            columns: Axis::new(width, at.x, at.width, self.input.0, self.grid.0),
            rows: Axis::new(height, at.y, at.height, self.input.1, self.grid.1),
        }
    }

    /// Probabilities at the network's input size, row by row: what the official code evaluates.
    pub fn upsample(&self) -> Vec<f32> {
        self.probabilities(&self.over_input())
    }

    /// Probabilities over the measured frame at `width` x `height` pixels, row by row.
    pub fn upsample_to_frame(&self, width: usize, height: usize) -> Vec<f32> {
        self.probabilities(&self.over_frame(width, height))
    }

    fn probabilities(&self, sampler: &Sampler<'_>) -> Vec<f32> {
        let (width, height) = (sampler.columns.len(), sampler.rows.len());
        let mut out = vec![0.0; width * height];
        let mut scratch = Vec::new();
        for (y, row) in out.chunks_exact_mut(width.max(1)).enumerate() {
            sampler.row(y, &mut scratch, row);
            row.iter_mut().for_each(|v| *v = self.probability(*v));
        }
        out
    }

    /// Largest probability at the network's input size, of what the frame covers.
    pub fn max(&self) -> f32 {
        let (width, height) = self.covered_input();
        let sampler = self.over_frame(width, height);
        let mut row = vec![0.0; width];
        let mut scratch = Vec::new();
        let mut best = f32::NEG_INFINITY;
        for y in 0..height {
            if sampler.row_bound(y) > best {
                sampler.row(y, &mut scratch, &mut row);
                best = row.iter().copied().fold(best, f32::max);
            }
        }
        self.probability(best)
    }

    /// Mean probability of the highest `share` of the patches whose middle the frame covers, at least one.
    pub fn top_mean(&self, share: f32) -> f32 {
        let at = &self.placement;
        let columns = covered_patches(at.x, at.width, self.input.0, self.grid.0);
        let rows = covered_patches(at.y, at.height, self.input.1, self.grid.1);
        let mut values: Vec<f32> = rows
            .flat_map(|row| &self.values[row * self.grid.0..][columns.clone()])
            .map(|value| self.probability(*value))
            .collect();
        let count = ((values.len() as f32 * share).round() as usize).clamp(1, values.len());
        values.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
        values[..count].iter().sum::<f32>() / count as f32
    }

    /// Input pixels that the frame covers, at least one each way.
    fn covered_input(&self) -> (usize, usize) {
        let side = |extent: f32| (extent.round() as usize).max(1);
        (side(self.placement.width), side(self.placement.height))
    }

    /// Connected regions (8 neighbours) at or above `threshold`, of at least `min_area` frame pixels, for a frame of `width` x `height`
    /// pixels; the largest score first.
    ///
    /// Found at the network's input size, in whose pixels the map has all its detail, and scaled to the frame.
    pub fn regions(&self, threshold: f32, min_area: u64, width: u32, height: u32) -> Vec<Region> {
        let (columns, rows) = self.covered_input();
        let labels = Labels::find(self, self.value(threshold), columns, rows);
        let scale = (width as f64 / columns as f64, height as f64 / rows as f64);
        let mut regions: Vec<Region> = labels
            .blobs
            .iter()
            .map(|blob| blob.scaled(scale, (width, height), self))
            .filter(|region| region.area >= min_area)
            .collect();
        regions.sort_by(|a, b| b.score.total_cmp(&a.score));
        regions
    }
}

/// One connected component, in pixels of the grid it was found on.
#[derive(Debug, Clone)]
struct Blob {
    left: usize,
    top: usize,
    right: usize,
    bottom: usize,
    pixels: u64,
    sum: [f64; 2],
    peak: f32,
}

impl Blob {
    fn absorb(&mut self, other: &Self) {
        self.left = self.left.min(other.left);
        self.top = self.top.min(other.top);
        self.right = self.right.max(other.right);
        self.bottom = self.bottom.max(other.bottom);
        self.pixels += other.pixels;
        self.sum[0] += other.sum[0];
        self.sum[1] += other.sum[1];
        self.peak = self.peak.max(other.peak);
    }

    fn scaled(&self, scale: (f64, f64), frame: (u32, u32), map: &AnomalyMap) -> Region {
        // At least the pixel that the region is, never outside the frame.
        let span = |from: usize, to: usize, scale: f64, size: u32| {
            let start = ((from as f64 * scale).floor() as u32).min(size - 1);
            let end = (((to + 1) as f64 * scale).ceil() as u32).clamp(start + 1, size);
            (start, end - start)
        };
        let (x, w) = span(self.left, self.right, scale.0, frame.0);
        let (y, h) = span(self.top, self.bottom, scale.1, frame.1);
        let centre = |sum: f64, scale: f64, size: u32| {
            (((sum / self.pixels as f64 + 0.5) * scale - 0.5).clamp(0.0, f64::from(size - 1)))
                as f32
        };
        Region {
            x,
            y,
            w,
            h,
            score: map.probability(self.peak),
            area: ((self.pixels as f64 * scale.0 * scale.1).round() as u64).max(1),
            centroid: [
                centre(self.sum[0], scale.0, frame.0),
                centre(self.sum[1], scale.1, frame.1),
            ],
            event_id: None,
        }
    }
}

/// Connected components by runs: each row's runs join those of the row above that touch them.
struct Labels {
    blobs: Vec<Blob>,
}

impl Labels {
    fn find(map: &AnomalyMap, threshold: f32, width: usize, height: usize) -> Self {
        let sampler = map.over_frame(width, height);
        let (mut row, mut scratch) = (vec![0.0; width], Vec::new());
        let mut forest = Forest::default();
        let mut above: Vec<(usize, usize, usize)> = Vec::new();
        for y in 0..height {
            let mut runs = Vec::new();
            if sampler.row_bound(y) >= threshold {
                sampler.row(y, &mut scratch, &mut row);
                for (start, end) in runs_at_or_above(&row, threshold) {
                    let id = forest.add(run_blob(&row, y, start, end));
                    for &(other_start, other_end, other) in &above {
                        // Touching includes diagonals: the gap between ends may be zero.
                        if other_start <= end && start <= other_end {
                            forest.join(id, other);
                        }
                    }
                    runs.push((start, end, id));
                }
            }
            above = runs;
        }
        Self {
            blobs: forest.roots(),
        }
    }
}

/// Half-open runs of values at or above `threshold`.
fn runs_at_or_above(row: &[f32], threshold: f32) -> Vec<(usize, usize)> {
    let mut runs = Vec::new();
    let mut start = None;
    for (x, value) in row.iter().enumerate() {
        match (start, *value >= threshold) {
            (None, true) => start = Some(x),
            (Some(from), false) => {
                runs.push((from, x));
                start = None;
            }
            _ => {}
        }
    }
    runs.extend(start.map(|from| (from, row.len())));
    runs
}

fn run_blob(row: &[f32], y: usize, start: usize, end: usize) -> Blob {
    let pixels = (end - start) as u64;
    Blob {
        left: start,
        top: y,
        right: end - 1,
        bottom: y,
        pixels,
        sum: [
            (start + end - 1) as f64 / 2.0 * pixels as f64,
            y as f64 * pixels as f64,
        ],
        peak: row[start..end]
            .iter()
            .copied()
            .fold(f32::NEG_INFINITY, f32::max),
    }
}

/// Union-find over blobs.
#[derive(Default)]
struct Forest {
    parents: Vec<usize>,
    blobs: Vec<Blob>,
}

impl Forest {
    fn add(&mut self, blob: Blob) -> usize {
        self.parents.push(self.parents.len());
        self.blobs.push(blob);
        self.parents.len() - 1
    }

    fn root(&mut self, mut id: usize) -> usize {
        while self.parents[id] != id {
            self.parents[id] = self.parents[self.parents[id]];
            id = self.parents[id];
        }
        id
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        if a != b {
            let absorbed = self.blobs[a].clone();
            self.blobs[b].absorb(&absorbed);
            self.parents[a] = b;
        }
    }

    fn roots(self) -> Vec<Blob> {
        let Self { parents, blobs } = self;
        blobs
            .into_iter()
            .enumerate()
            .filter(|(id, _)| parents[*id] == *id)
            .map(|(_, blob)| blob)
            .collect()
    }
}

/// The patches of a grid of `grid` over `input` pixels whose middles lie within `extent` pixels from `start`; the nearest where none does.
fn covered_patches(start: f32, extent: f32, input: usize, grid: usize) -> std::ops::Range<usize> {
    let patches = grid as f32 / input.max(1) as f32;
    let first = (start * patches - 0.5).ceil().clamp(0.0, (grid - 1) as f32) as usize;
    let last = ((start + extent) * patches - 0.5).floor();
    first..(last.clamp(first as f32, (grid - 1) as f32) as usize + 1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A probability map whose grid is its input, so that pixels are what is written down.
    fn drawn(rows: &[&str]) -> AnomalyMap {
        let (height, width) = (rows.len(), rows[0].len());
        let values = rows
            .iter()
            .flat_map(|row| row.bytes().map(|b| if b == b'#' { 0.9 } else { 0.1 }))
            .collect();
        let whole = Placement {
            x: 0.0,
            y: 0.0,
            width: width as f32,
            height: height as f32,
        };
        AnomalyMap::new(
            (width, height),
            values,
            MapValues::Probability,
            (width, height),
            whole,
        )
        .unwrap()
    }

    #[test]
    fn regions_join_over_diagonals_and_around_holes() {
        let map = drawn(&[
            "##....#", //
            "#.#...#", "###....", ".......", "...#...",
        ]);
        let regions = map.regions(0.5, 0, 7, 5);
        let boxes: Vec<_> = regions
            .iter()
            .map(|r| (r.x, r.y, r.w, r.h, r.area))
            .collect();
        assert_eq!(boxes.len(), 3, "{boxes:?}");
        assert!(boxes.contains(&(0, 0, 3, 3, 7)));
        assert!(boxes.contains(&(6, 0, 1, 2, 2)));
        assert!(boxes.contains(&(3, 4, 1, 1, 1)));
    }

    #[test]
    fn regions_are_in_frame_pixels() {
        let map = drawn(&["....", ".##.", "....", "...."]);
        let regions = map.regions(0.5, 0, 400, 200);
        let r = regions[0];
        assert_eq!((r.x, r.y, r.w, r.h, r.area), (100, 50, 200, 50, 10_000));
        assert_eq!(r.centroid, [199.5, 74.5]);
        assert!(map.regions(0.5, 10_001, 400, 200).is_empty());
    }

    #[test]
    fn a_region_ends_at_its_threshold() {
        let map = drawn(&["..", ".."]);
        assert!(map.regions(0.5, 0, 2, 2).is_empty());
        assert_eq!(map.regions(0.05, 0, 2, 2).len(), 1);
        assert!(map.regions(1.0, 0, 2, 2).is_empty());
    }

    #[test]
    fn a_calibrated_map_has_its_regions_where_the_raw_one_has_them_at_its_threshold() {
        let whole = Placement {
            x: 0.0,
            y: 0.0,
            width: 40.0,
            height: 30.0,
        };
        let logits: Vec<f32> = (0..12).map(|i| (i * 7 % 12) as f32 / 2.0 - 3.0).collect();
        for kind in [MapValues::LogitDifference, MapValues::Probability] {
            let values = match kind {
                MapValues::LogitDifference => logits.clone(),
                MapValues::Probability => logits.iter().copied().map(sigmoid).collect(),
            };
            let raw = AnomalyMap::new((4, 3), values, kind, (40, 30), whole).unwrap();
            let scale = Scale::new(0.3, 0.8).unwrap();
            let calibrated = raw.clone().calibrated(scale);
            let (before, after) = (
                raw.regions(0.8, 0, 80, 60),
                calibrated.regions(0.5, 0, 80, 60),
            );
            assert!(before.len() > 1, "{kind:?}");
            let boxes = |regions: &[Region]| -> Vec<_> {
                regions.iter().map(|r| (r.x, r.y, r.w, r.h)).collect()
            };
            assert_eq!(boxes(&before), boxes(&after), "{kind:?}");
            for (before, after) in before.iter().zip(&after) {
                assert!((scale.calibrate(before.score) - after.score).abs() < 1e-5);
            }
            assert!((scale.calibrate(raw.max()) - calibrated.max()).abs() < 1e-5);
        }
    }

    #[test]
    fn one_pixel_and_one_patch_are_enough() {
        let map = drawn(&["#"]);
        let r = map.regions(0.5, 0, 1, 1)[0];
        assert_eq!((r.x, r.y, r.w, r.h, r.area), (0, 0, 1, 1, 1));
        assert!((map.max() - 0.9).abs() < 1e-6);
        assert_eq!(map.upsample_to_frame(3, 2).len(), 6);
    }

    #[test]
    fn the_maximum_is_that_of_the_upsampled_map() {
        // A 3 x 3 grid on a 4 px input: no pixel falls on the middle of the grid.
        let values = vec![0.0, 0.0, 0.0, 0.0, 8.0, 0.0, 0.0, 0.0, 0.0];
        let whole = Placement {
            x: 0.0,
            y: 0.0,
            width: 4.0,
            height: 4.0,
        };
        let kind = MapValues::LogitDifference;
        let map = AnomalyMap::new((3, 3), values, kind, (4, 4), whole).unwrap();
        let largest = map.upsample().into_iter().fold(0.0, f32::max);
        assert_eq!(map.max(), largest);
        assert!(largest < sigmoid(8.0));
    }

    #[test]
    fn the_top_mean_is_of_the_highest_patches() {
        let values: Vec<f32> = (0..100).map(|i| i as f32 / 100.0).collect();
        let whole = Placement {
            x: 0.0,
            y: 0.0,
            width: 140.0,
            height: 140.0,
        };
        let kind = MapValues::Probability;
        let map = AnomalyMap::new((10, 10), values, kind, (140, 140), whole).unwrap();
        let near = |share: f32, expected: f32| {
            let found = map.top_mean(share);
            assert!((found - expected).abs() < 1e-5, "{share}: {found}");
        };
        near(0.1, 0.945);
        near(1.0, 0.495);
        near(1e-9, 0.99);
    }

    #[test]
    fn what_lies_outside_a_fitted_frame_is_not_seen() {
        // The left half of the input is padding, and hot.
        let placement = Placement {
            x: 2.0,
            y: 0.0,
            width: 2.0,
            height: 4.0,
        };
        let values = [0.9, 0.9, 0.1, 0.1].repeat(4);
        let kind = MapValues::Probability;
        let map = AnomalyMap::new((4, 4), values, kind, (4, 4), placement).unwrap();
        assert!(map.max() < 0.11);
        assert!(map.top_mean(0.1) < 0.11);
        assert!(map.regions(0.5, 0, 20, 40).is_empty());
    }
}
