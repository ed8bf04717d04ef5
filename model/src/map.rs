//! The anomaly map on the patch grid, and what is read from it: pixels, maximum, regions.
//!
//! The network answers on a grid of patches (18 x 18 for a 252 px picture). That grid is the map; everything larger is interpolated from
//! it when asked for. Two coordinate systems meet here:
//!
//! - the network's input, S x S pixels. The grid's corner values belong to the input's corner pixels (`align_corners` in the authors'
//!   code), so input pixel x has grid coordinate `x * (g - 1) / (S - 1)`;
//! - the frame that was measured, whose pixels were resized into the input, pixel centres on pixel centres.
//!
//! A mask is laid over what was interpolated, not over the grid: its edges are as sharp as its pixels, and what counts beside it keeps the
//! value that it has without a mask.

use std::sync::Arc;

use crate::{
    calibration::Scale,
    error::{Error, Result},
    mask::Mask,
    preprocess::Placement,
    record::Place,
};

/// The value of what does not count, of either kind: below every threshold, and of probability 0.
pub const MASKED: f32 = f32::NEG_INFINITY;

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
    /// What counts, over the whole frame.
    mask: Option<Arc<Mask>>,
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
    /// Where on the strip it is, where frames are pieces of one.
    #[serde(flatten)]
    pub place: Option<Place>,
}

/// For each of a row's pixels: the two grid columns it lies between and how far towards the second.
#[derive(Debug, Clone)]
pub struct Axis {
    taps: Vec<(usize, f32)>,
}

impl Axis {
    /// `len` frame pixels laid over `[start, start + extent)` of an input of `input` pixels on a grid of `grid`.
    fn new(len: usize, start: f32, extent: f32, input: usize, grid: usize) -> Self {
        let pixels = (0..len).map(|i| i as f32);
        Self::through(pixels, len, (start, extent), (input, grid))
    }

    /// The same for some positions alone, in frame pixels; one beside the frame is as the edge of the input that is nearest.
    fn through(
        positions: impl Iterator<Item = f32>,
        len: usize,
        (start, extent): (f32, f32),
        (input, grid): (usize, usize),
    ) -> Self {
        let last = (input - 1) as f32;
        let to_grid = if input > 1 {
            (grid - 1) as f32 / last
        } else {
            0.0
        };
        let step = extent / len as f32;
        let taps = positions
            .map(|position| {
                let pixel = (start + (position + 0.5) * step - 0.5).clamp(0.0, last);
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
    cover: Option<Cover>,
}

/// A mask at the size that it covers, its top left pixel on that of a sampler.
#[derive(Debug, Clone)]
struct Cover {
    mask: Mask,
    left: usize,
    top: usize,
}

impl Cover {
    /// Blanks what does not count of row `y` of a sampler.
    fn blank(&self, y: usize, row: &mut [f32]) {
        let Some(y) = y.checked_sub(self.top).filter(|y| *y < self.mask.height()) else {
            return;
        };
        for (value, counts) in row.iter_mut().skip(self.left).zip(self.mask.row(y)) {
            if !counts {
                *value = MASKED;
            }
        }
    }
}

impl Sampler<'_> {
    /// Interpolates row `y` into `out`, one value (of the map's own kind) a pixel, [`MASKED`] where that does not count. `scratch` is
    /// resized to a grid row.
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
                .map(|(a, b)| between(*a, *b, weight)),
        );
        // One column more, so that the last pixel's right neighbour exists.
        scratch.push(scratch[grid_w - 1]);
        for (out, &(left, weight)) in out.iter_mut().zip(&self.columns.taps) {
            let (a, b) = (scratch[left], scratch[left + 1]);
            *out = between(a, b, weight);
        }
        if let Some(cover) = &self.cover {
            cover.blank(y, out);
        }
    }

    /// Largest value (of the map's own kind) in a row, without interpolating it.
    ///
    /// An upper bound: interpolation never exceeds its neighbours, and a mask only takes away. Lets a caller skip rows in which nothing can
    /// be drawn.
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

/// The value `weight` of the way from `a` to `b`; beside one that is infinite, as patches are that were not looked at, the nearer of both.
fn between(a: f32, b: f32, weight: f32) -> f32 {
    let value = a + (b - a) * weight;
    if value.is_finite() {
        value
    } else if weight < 0.5 {
        a
    } else {
        b
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
            mask: None,
        })
    }

    /// The same map with its probabilities on a calibrated scale. Its values stay as they are, so interpolation does too.
    pub fn calibrated(self, scale: Scale) -> Self {
        Self {
            scale: Some(scale),
            ..self
        }
    }

    /// The same map without what does not count by `mask`, which is stretched over the measured frame: it is [`MASKED`] in every sampler,
    /// and no part of maximum, highest patches and regions. The values on the patch grid stay as they are.
    pub fn masked(self, mask: Arc<Mask>) -> Self {
        Self {
            mask: Some(mask),
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

    /// The same, to be changed in place.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// What the values are.
    pub fn kind(&self) -> MapValues {
        self.kind
    }

    /// Width and height of the network's input, pixels.
    pub fn input(&self) -> (usize, usize) {
        self.input
    }

    /// Where the measured frame lies in the input.
    pub fn placement(&self) -> Placement {
        self.placement
    }

    /// The probability that a value stands for; of [`MASKED`] 0.
    pub fn probability(&self, value: f32) -> f32 {
        match (self.kind, self.scale) {
            (MapValues::LogitDifference, None) => sigmoid(value),
            (MapValues::LogitDifference, Some(scale)) => scale.calibrate_logit(value),
            (MapValues::Probability, None) => value.max(0.0),
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

    /// A sampler over the whole network input at its own size. The mask covers the frame in it, not what lies beside the frame.
    pub fn over_input(&self) -> Sampler<'_> {
        let whole = Placement {
            x: 0.0,
            y: 0.0,
            width: self.input.0 as f32,
            height: self.input.1 as f32,
        };
        let corner = |start: f32| start.round() as usize;
        Sampler {
            cover: self.mask.as_ref().map(|mask| {
                let (width, height) = self.covered_input();
                Cover {
                    mask: mask.stretched(width, height),
                    left: corner(self.placement.x),
                    top: corner(self.placement.y),
                }
            }),
            ..self.sampler(whole, self.input.0, self.input.1)
        }
    }

    /// A sampler over the measured frame at `width` x `height` pixels.
    pub fn over_frame(&self, width: usize, height: usize) -> Sampler<'_> {
        Sampler {
            cover: self.mask.as_ref().map(|mask| Cover {
                mask: mask.stretched(width, height),
                left: 0,
                top: 0,
            }),
            ..self.sampler(self.placement, width, height)
        }
    }

    /// A sampler of what is there without a mask.
    fn sampler(&self, at: Placement, width: usize, height: usize) -> Sampler<'_> {
        Sampler {
            map: self,
            columns: Axis::new(width, at.x, at.width, self.input.0, self.grid.0),
            rows: Axis::new(height, at.y, at.height, self.input.1, self.grid.1),
            cover: None,
        }
    }

    /// Values where each of `columns` meets each of `rows`, row by row. Positions are in pixels of the measured frame, which is `width` x
    /// `height`; a mask takes nothing away.
    pub(crate) fn values_at(
        &self,
        columns: impl Iterator<Item = f32>,
        rows: impl Iterator<Item = f32>,
        (width, height): (usize, usize),
    ) -> Vec<f32> {
        let at = self.placement;
        let across = (self.input.0, self.grid.0);
        let down = (self.input.1, self.grid.1);
        let sampler = Sampler {
            map: self,
            columns: Axis::through(columns, width, (at.x, at.width), across),
            rows: Axis::through(rows, height, (at.y, at.height), down),
            cover: None,
        };
        let (width, height) = (sampler.columns.len(), sampler.rows.len());
        let (mut values, mut scratch) = (vec![0.0; width * height], Vec::new());
        for (y, row) in values.chunks_exact_mut(width.max(1)).enumerate() {
            sampler.row(y, &mut scratch, row);
        }
        values
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

    /// Largest probability at the network's input size, of what the frame covers; 0 where nothing counts.
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

    /// Mean probability of the highest `share` of the patches whose middle the frame covers and no mask does, at least one. Where no middle
    /// counts the maximum stands for them, so that what lies between two middles is not lost.
    pub fn top_mean(&self, share: f32) -> f32 {
        let at = &self.placement;
        let columns = covered_patches(at.x, at.width, self.input.0, self.grid.0);
        let rows = covered_patches(at.y, at.height, self.input.1, self.grid.1);
        let mut values: Vec<f32> = rows
            .flat_map(|row| columns.clone().map(move |column| (column, row)))
            .filter(|patch| self.patch_counts(*patch))
            .map(|(column, row)| self.probability(self.values[row * self.grid.0 + column]))
            .collect();
        if values.is_empty() {
            return self.max();
        }
        let count = ((values.len() as f32 * share).round() as usize).clamp(1, values.len());
        values.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
        values[..count].iter().sum::<f32>() / count as f32
    }

    /// Whether the middle of the patch at (column, row) counts.
    fn patch_counts(&self, (column, row): (usize, usize)) -> bool {
        let share = |patch: usize, grid: usize, input: usize, start: f32, extent: f32| {
            let middle = (patch as f64 + 0.5) * input as f64 / grid as f64;
            (middle - f64::from(start)) / f64::from(extent)
        };
        let (grid, input, at) = (self.grid, self.input, &self.placement);
        self.mask.as_ref().is_none_or(|mask| {
            mask.counts_at(
                share(column, grid.0, input.0, at.x, at.width),
                share(row, grid.1, input.1, at.y, at.height),
            )
        })
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
            place: None,
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

/// Half-open runs of values at or above `threshold`, which may be that of [`MASKED`]: a logit's is, at probability 0.
fn runs_at_or_above(row: &[f32], threshold: f32) -> Vec<(usize, usize)> {
    let mut runs = Vec::new();
    let mut start = None;
    for (x, value) in row.iter().enumerate() {
        let is_inside = *value >= threshold && *value != MASKED;
        match (start, is_inside) {
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
    use proptest::prelude::*;

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
    fn a_patch_that_was_not_looked_at_hides_what_is_nearest_to_it_and_nothing_else() {
        let gap = f32::NEG_INFINITY;
        let whole = Placement {
            x: 0.0,
            y: 0.0,
            width: 9.0,
            height: 9.0,
        };
        let values = vec![gap, 2.0, gap, 2.0, 2.0, gap, gap, gap, gap];
        let kind = MapValues::LogitDifference;
        let map = AnomalyMap::new((3, 3), values, kind, (9, 9), whole).unwrap();
        let sampler = map.over_frame(9, 9);
        let (mut row, mut scratch) = (vec![0.0; 9], Vec::new());
        let rows: Vec<String> = (0..9)
            .map(|y| {
                sampler.row(y, &mut scratch, &mut row);
                row.iter()
                    .map(|value| match *value {
                        2.0 => '#',
                        f32::NEG_INFINITY => '.',
                        _ => '?',
                    })
                    .collect()
            })
            .collect();
        let (above, middle, below) = ("..####...", "######...", ".........");
        assert_eq!(
            rows,
            [
                above, above, middle, middle, middle, middle, below, below, below
            ]
        );
        assert_eq!(map.probability(gap), 0.0);
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

    /// A map of chance values, some of its frame's input border around it, on either scale; a mask; the frame's size in the input.
    fn any_masked() -> impl Strategy<Value = (AnomalyMap, Mask, (usize, usize))> {
        let sizes = (1_usize..6, 1_usize..6, 1_usize..7, 1_usize..7);
        let frame = (1_usize..24, 1_usize..24, 0_usize..4, 0_usize..4);
        (sizes, frame, any::<bool>(), any::<bool>()).prop_flat_map(
            |((columns, rows, wide, high), (width, height, x, y), is_logit, is_calibrated)| {
                let values = prop::collection::vec(-6.0_f32..6.0, columns * rows);
                let counting = prop::collection::vec(any::<bool>(), wide * high);
                (values, counting).prop_map(move |(mut values, counting)| {
                    let mut kind = MapValues::LogitDifference;
                    if !is_logit {
                        kind = MapValues::Probability;
                        values.iter_mut().for_each(|value| *value = sigmoid(*value));
                    }
                    let placement = Placement {
                        x: x as f32,
                        y: y as f32,
                        width: width as f32,
                        height: height as f32,
                    };
                    let input = (width + 2 * x, height + 2 * y);
                    let mut map =
                        AnomalyMap::new((columns, rows), values, kind, input, placement).unwrap();
                    if is_calibrated {
                        map = map.calibrated(Scale::new(0.3, 0.8).unwrap());
                    }
                    let mask = Mask::new(wide, high, counting).unwrap();
                    (map, mask, (width, height))
                })
            },
        )
    }

    /// A sampler's values, row by row.
    fn sampled(sampler: &Sampler<'_>, width: usize, height: usize) -> Vec<f32> {
        let mut values = vec![f32::NAN; width * height];
        let mut scratch = Vec::new();
        for (y, row) in values.chunks_exact_mut(width).enumerate() {
            sampler.row(y, &mut scratch, row);
        }
        values
    }

    /// The values over the frame without a mask, and then blanked where the mask's pixel under each middle does not count.
    fn blanked(map: &AnomalyMap, mask: &Mask, width: usize, height: usize) -> Vec<f32> {
        let mut values = sampled(&map.over_frame(width, height), width, height);
        let pixels: Vec<Vec<bool>> = (0..mask.height()).map(|y| mask.row(y).collect()).collect();
        for (i, value) in values.iter_mut().enumerate() {
            let under = |i: usize, len: usize, of: usize| (i as f64 + 0.5) * of as f64 / len as f64;
            let x = under(i % width, width, mask.width()) as usize;
            let y = under(i / width, height, mask.height()) as usize;
            if !pixels[y][x] {
                *value = f32::NEG_INFINITY;
            }
        }
        values
    }

    /// Box (x, y, w, h), area and largest value of each connected part at or above `threshold`, found by flooding.
    fn flooded(values: &[f32], width: usize, threshold: f32) -> Vec<([usize; 4], usize, f32)> {
        let height = values.len() / width;
        let mut open: Vec<bool> = values
            .iter()
            .map(|value| value.is_finite() && *value >= threshold)
            .collect();
        let mut parts = Vec::new();
        while let Some(seed) = open.iter().position(|is_open| *is_open) {
            open[seed] = false;
            let (mut found, mut next) = (vec![seed], 0);
            while next < found.len() {
                let (x, y) = (found[next] % width, found[next] / width);
                next += 1;
                for y in y.saturating_sub(1)..(y + 2).min(height) {
                    for x in x.saturating_sub(1)..(x + 2).min(width) {
                        if std::mem::take(&mut open[y * width + x]) {
                            found.push(y * width + x);
                        }
                    }
                }
            }
            let span = |of: &dyn Fn(usize) -> usize| {
                let places = || found.iter().map(|i| of(*i));
                let first = places().min().unwrap();
                (first, places().max().unwrap() + 1 - first)
            };
            let ((x, w), (y, h)) = (span(&|i| i % width), span(&|i| i / width));
            let peak = found
                .iter()
                .map(|i| values[*i])
                .fold(f32::NEG_INFINITY, f32::max);
            parts.push(([x, y, w, h], found.len(), peak));
        }
        parts
    }

    proptest! {
        #[test]
        fn a_masked_map_is_the_plain_one_blanked((map, mask, _) in any_masked(), width in 1_usize..40, height in 1_usize..40) {
            let wanted = blanked(&map, &mask, width, height);
            let masked = map.masked(mask.into());
            let sampler = masked.over_frame(width, height);
            prop_assert_eq!(&sampled(&sampler, width, height), &wanted);
            for (y, row) in wanted.chunks_exact(width).enumerate() {
                let bound = sampler.row_bound(y);
                prop_assert!(row.iter().all(|value| *value <= bound + 1e-5), "row {}: {:?} above {}", y, row, bound);
            }
            let probabilities = masked.upsample_to_frame(width, height);
            for (found, value) in probabilities.iter().zip(wanted) {
                let wanted = if value.is_finite() { masked.probability(value) } else { 0.0 };
                prop_assert_eq!(*found, wanted);
            }
        }

        #[test]
        fn beside_the_frame_a_masked_input_is_as_it_was((map, mask, (width, height)) in any_masked()) {
            let (x, y) = (map.placement.x as usize, map.placement.y as usize);
            let (wide, high) = map.input;
            let mut wanted = sampled(&map.over_input(), wide, high);
            let inner = blanked(&map, &mask, width, height);
            for (row, values) in wanted[y * wide..].chunks_mut(wide).zip(inner.chunks_exact(width)) {
                for (value, inner) in row[x..].iter_mut().zip(values) {
                    if !inner.is_finite() {
                        *value = f32::NEG_INFINITY;
                    }
                }
            }
            let masked = map.masked(mask.into());
            prop_assert_eq!(sampled(&masked.over_input(), wide, high), wanted);
        }

        #[test]
        fn the_maximum_and_the_regions_are_those_of_the_plain_map_blanked((map, mask, (width, height)) in any_masked(), threshold in 0.0_f32..1.0) {
            let values = blanked(&map, &mask, width, height);
            let masked = map.masked(mask.into());
            let best = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            prop_assert_eq!(masked.max(), if best.is_finite() { masked.probability(best) } else { 0.0 });
            for threshold in [0.0, threshold] {
                let mut wanted: Vec<_> = flooded(&values, width, masked.value(threshold))
                    .into_iter()
                    .map(|(place, area, peak)| (place.map(|n| n as u32), area as u64, masked.probability(peak)))
                    .collect();
                let mut found: Vec<_> = masked
                    .regions(threshold, 0, width as u32, height as u32)
                    .iter()
                    .map(|r| ([r.x, r.y, r.w, r.h], r.area, r.score))
                    .collect();
                wanted.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2)));
                found.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2)));
                prop_assert_eq!(found, wanted);
            }
        }

        #[test]
        fn a_mask_that_counts_everything_changes_nothing((map, mask, (width, height)) in any_masked(), share in 0.0_f32..1.0) {
            let all = Mask::new(mask.width(), mask.height(), vec![true; mask.width() * mask.height()]).unwrap();
            let masked = map.clone().masked(all.into());
            prop_assert_eq!(masked.max(), map.max());
            prop_assert_eq!(masked.top_mean(share), map.top_mean(share));
            prop_assert_eq!(masked.regions(0.5, 0, width as u32, height as u32), map.regions(0.5, 0, width as u32, height as u32));
            prop_assert_eq!(masked.upsample(), map.upsample());
        }

        #[test]
        fn a_map_of_which_nothing_counts_has_found_nothing((map, mask, (width, height)) in any_masked(), share in 0.0_f32..1.0, threshold in 0.0_f32..1.0) {
            let none = Mask::new(mask.width(), mask.height(), vec![false; mask.width() * mask.height()]).unwrap();
            let masked = map.masked(none.into());
            prop_assert_eq!(masked.max(), 0.0);
            prop_assert_eq!(masked.top_mean(share), 0.0);
            for threshold in [0.0, threshold] {
                prop_assert_eq!(masked.regions(threshold, 0, width as u32, height as u32), vec![]);
            }
            prop_assert!(masked.upsample_to_frame(width, height).iter().all(|p| *p == 0.0));
        }
    }

    /// Four patches in a row, 4 px wide each, the last the highest; a mask of 16 columns, `#` is what counts.
    fn four_patches(columns: &str) -> AnomalyMap {
        let whole = Placement {
            x: 0.0,
            y: 0.0,
            width: 16.0,
            height: 4.0,
        };
        let values = vec![0.2, 0.4, 0.6, 0.8];
        let kind = MapValues::Probability;
        let map = AnomalyMap::new((4, 1), values, kind, (16, 4), whole).unwrap();
        let counting = columns.bytes().map(|b| b == b'#').collect();
        map.masked(Mask::new(16, 1, counting).unwrap().into())
    }

    #[test]
    fn a_patch_whose_middle_is_masked_is_not_among_the_highest() {
        for (columns, half, highest) in [
            ("################", 0.7, 0.8),
            ("############....", 0.5, 0.6),
            ("....########....", 0.6, 0.6),
            // The last patch's middle is where column 14 begins.
            ("#############.##", 0.7, 0.8),
            ("##############.#", 0.5, 0.6),
        ] {
            let map = four_patches(columns);
            // Half of three patches is two.
            let found = (map.top_mean(0.5), map.top_mean(0.0));
            assert!((found.0 - half).abs() < 1e-6, "{columns}: {found:?}");
            assert!((found.1 - highest).abs() < 1e-6, "{columns}: {found:?}");
        }
    }

    #[test]
    fn where_no_middle_counts_the_maximum_is_the_top_mean() {
        let map = four_patches("............#...");
        assert_eq!(map.top_mean(0.5), map.max());
        assert!(map.max() > 0.6);
    }

    #[test]
    fn what_is_masked_has_probability_nought() {
        for kind in [MapValues::LogitDifference, MapValues::Probability] {
            let whole = Placement {
                x: 0.0,
                y: 0.0,
                width: 1.0,
                height: 1.0,
            };
            let map = AnomalyMap::new((1, 1), vec![0.5], kind, (1, 1), whole).unwrap();
            assert_eq!(map.probability(MASKED), 0.0, "{kind:?}");
            let scale = Scale::new(0.3, 0.8).unwrap();
            assert_eq!(
                map.calibrated(scale).probability(MASKED),
                scale.calibrate(0.0)
            );
        }
    }
}
