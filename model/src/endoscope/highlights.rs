//! Specular highlights: where light is thrown back by wet tissue as by a mirror, and what a map says there.
//!
//! Found as by Arnold, Ghosh, Ameling and Lacey, "Automatic segmentation and inpainting of specular highlights for endoscopic imaging" (EURASIP
//! Journal on Image and Video Processing, 2010), simplified to what a sketch can tell:
//!
//! 1. Bright for what the picture is: luma, or green or blue as they are to luma in the brightest twentieth of the picture. Tissue has
//!    little blue, so that a weak highlight shows there first.
//! 2. Brighter than what surrounds it, from a lower brightness on: green and blue against their medians around the cell. And whiter, which
//!    the paper does not ask for: blue has risen more than red, for a fold that is lit more keeps its colour.
//! 3. What is large is no highlight but a part of the picture that is lit too much; it is left alone.
//!
//! The paper's gradient test at the edge of a region and its inpainting are left out: nothing is painted here, and what surrounds a highlight
//! takes its place in the map.

use super::{cells::Cells, sketch::Sketch};
use crate::map::AnomalyMap;

/// Luma from which a cell is one, whatever surrounds it.
const BRIGHT: f32 = 235.0;

/// Luma from which one is that is brighter and whiter than what surrounds it.
const BRIGHTER: u8 = 130;

/// How much brighter it must be in green and in blue, and how much more blue to red.
const OUTSHINES: [f32; 3] = [1.2, 1.4, 1.2];

/// Cells of a sketch a side over which the median around a cell is told, and how many such squares to either side.
const SQUARE: usize = 8;
const AROUND: usize = 2;

/// The part of what counts that a highlight takes up, at most.
const LARGEST: f64 = 0.02;

/// The part of a patch that is highlight, from which on it is damped. With a tenth polyps of ClinicDB were lost as often as false regions.
const SHINES: f64 = 0.3;

/// The highlights of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Highlights {
    cells: Cells,
}

impl Highlights {
    /// Of what counts (`counts`: cells of the sketch, row by row) of a picture.
    pub fn find(sketch: &Sketch, counts: &[bool]) -> Self {
        let (width, height) = (sketch.width(), sketch.height());
        let bright = Bright::of(sketch, counts);
        let around = Around::of(sketch, counts);
        let is_one = |cell: usize| {
            let (colour, luma) = (sketch.colours()[cell], sketch.luma()[cell]);
            counts[cell]
                && (bright.is_reached(colour, luma)
                    || luma >= BRIGHTER && around.is_outshone(colour, cell, width))
        };
        let found = Cells::new(width, height, (0..width * height).map(is_one).collect());
        let counted = counts.iter().filter(|counts| **counts).count();
        let most = (LARGEST * counted as f64) as usize;
        let small = found.parts().into_iter().filter(|part| part.len() <= most);
        let cells = found.of_part(&small.flatten().collect::<Vec<_>>());
        Self {
            // Its own edge is blurred.
            cells: cells.dilated(1),
        }
    }

    /// Which cells of the sketch are some, row by row.
    pub fn cells(&self) -> &[bool] {
        &self.cells.set
    }

    /// Takes the map of the picture down where a highlight is: a patch that is highlight to three tenths takes the median of the patches around
    /// it and those connected with it, if that is less. What lies on something abnormal stays so, for what surrounds it is. Nothing is raised.
    pub fn damp(&self, map: &mut AnomalyMap) {
        let (columns, rows) = map.grid();
        let set = (0..columns * rows)
            .map(|patch| self.share_of(map, (patch % columns, patch / columns)) >= SHINES);
        let shining = Cells::new(columns, rows, set.collect());
        let values = map.values().to_vec();
        for part in shining.parts() {
            let mut ring: Vec<f32> = shining
                .of_part(&part)
                .dilated(1)
                .set
                .into_iter()
                .enumerate()
                .filter(|(patch, is_near)| *is_near && !shining.set[*patch])
                .map(|(patch, _)| values[patch])
                .collect();
            if ring.is_empty() {
                continue;
            }
            let middle = ring.len() / 2;
            let median = *ring.select_nth_unstable_by(middle, f32::total_cmp).1;
            let all = map.values_mut();
            part.iter()
                .for_each(|patch| all[*patch] = all[*patch].min(median));
        }
    }

    /// The part of a patch that is highlight.
    fn share_of(&self, map: &AnomalyMap, (column, row): (usize, usize)) -> f64 {
        let (grid, input, at) = (map.grid(), map.input(), map.placement());
        let span =
            |patch: usize, grid: usize, input: usize, start: f32, extent: f32, cells: usize| {
                let cell = |edge: usize| {
                    let pixel = edge as f32 * input as f32 / grid as f32;
                    let cell = (pixel - start) / extent.max(1.0) * cells as f32;
                    (cell.round().max(0.0) as usize).min(cells)
                };
                cell(patch)..cell(patch + 1)
            };
        let (width, height) = (self.cells.width, self.cells.height);
        let across = span(column, grid.0, input.0, at.x, at.width, width);
        let down = span(row, grid.1, input.1, at.y, at.height, height);
        let count = across.len() * down.len();
        let lit = down.map(|y| {
            let row = &self.cells.set[y * width..][across.clone()];
            row.iter().filter(|is_set| **is_set).count()
        });
        lit.sum::<usize>() as f64 / count.max(1) as f64
    }
}

/// From where on colours are bright, for what the picture is.
struct Bright {
    green: f32,
    blue: f32,
}

impl Bright {
    fn of(sketch: &Sketch, counts: &[bool]) -> Self {
        let bright = |value: &dyn Fn(usize) -> u8| {
            let counted = (0..counts.len()).filter(|cell| counts[*cell]);
            let mut values: Vec<u8> = counted.map(value).collect();
            if values.is_empty() {
                return f32::INFINITY;
            }
            let at = (values.len() - 1) * 95 / 100;
            f32::from(*values.select_nth_unstable(at).1)
        };
        let luma = bright(&|cell| sketch.luma()[cell]).max(1.0);
        let colour = |channel: usize| bright(&|cell| sketch.colours()[cell][channel]);
        Self {
            green: (colour(1) / luma).min(1.0) * BRIGHT,
            blue: (colour(2) / luma).min(1.0) * BRIGHT,
        }
    }

    fn is_reached(&self, [_, green, blue]: [u8; 3], luma: u8) -> bool {
        f32::from(luma) > BRIGHT || f32::from(green) > self.green || f32::from(blue) > self.blue
    }
}

/// Medians of red, green and blue around the squares of a sketch.
struct Around {
    columns: usize,
    medians: Vec<[f32; 3]>,
}

impl Around {
    fn of(sketch: &Sketch, counts: &[bool]) -> Self {
        let (width, height) = (sketch.width(), sketch.height());
        let (columns, rows) = (width.div_ceil(SQUARE), height.div_ceil(SQUARE));
        let mut sums = vec![([0.0_f32; 3], 0.0_f32); columns * rows];
        for (cell, colour) in sketch
            .colours()
            .iter()
            .enumerate()
            .filter(|(cell, _)| counts[*cell])
        {
            let (sum, count) = &mut sums[cell / width / SQUARE * columns + cell % width / SQUARE];
            for (sum, channel) in sum.iter_mut().zip(colour) {
                *sum += f32::from(*channel);
            }
            *count += 1.0;
        }
        let mean = |i: usize| (sums[i].1 > 0.0).then(|| sums[i].0.map(|sum| sum / sums[i].1));
        let means: Vec<Option<[f32; 3]>> = (0..columns * rows).map(mean).collect();
        let near = |at: usize, len: usize| at.saturating_sub(AROUND)..(at + AROUND + 1).min(len);
        let median = |square: usize| {
            let (across, down) = (
                near(square % columns, columns),
                near(square / columns, rows),
            );
            [0, 1, 2].map(|channel| {
                let mut values = [f32::INFINITY; (2 * AROUND + 1).pow(2)];
                let squares = down
                    .clone()
                    .flat_map(|y| &means[y * columns..][across.clone()]);
                let mut count = 0;
                for mean in squares.flatten() {
                    values[count] = mean[channel];
                    count += 1;
                }
                let values = &mut values[..count.max(1)];
                *values.select_nth_unstable_by(count / 2, f32::total_cmp).1
            })
        };
        Self {
            columns,
            medians: (0..columns * rows).map(median).collect(),
        }
    }

    fn is_outshone(&self, colour: [u8; 3], cell: usize, width: usize) -> bool {
        let around = self.medians[cell / width / SQUARE * self.columns + cell % width / SQUARE];
        let [red, green, blue] = colour.map(f32::from);
        green > OUTSHINES[0] * around[1]
            && blue > OUTSHINES[1] * around[2]
            && blue * around[0] > OUTSHINES[2] * red * around[2]
    }
}

#[cfg(test)]
mod tests;
