//! The edge of what is lit, and the circle or the rectangle with cut corners that fits it.
//!
//! A circle is looked for first, in the outermost cells of each row and column: RANSAC over triples of them (Fischler and Bolles 1981), then
//! a least-squares circle of those that fit (Kasa 1976), so that a dark lumen that takes a piece off the edge does not bend it. Where too few
//! lie on one circle, the sides of a rectangle are where nearly all rows and columns begin and end, and each corner is cut by the line that cuts
//! off most of it, and of no row but one; no corner is cut more than what is usual for the four, for one that is dark or covered looks cut.

use std::ops::Range;

use super::cells::Cells;

/// Triples that are tried.
const TRIES: usize = 64;

/// How far from a circle an edge may lie, cells.
const NEAR: f64 = 1.0;

/// The part of the edge that must lie on a circle. Of octagons it is up to 0.38, of a circle that is dark at top and bottom 0.6.
const ON_CIRCLE: f64 = 0.5;

/// Fewer places of an edge make no circle.
const FEWEST: usize = 24;

/// The part of rows or columns that may stick out of a side.
const STICKS_OUT: f64 = 0.03;

/// How much steeper than across a corner may be cut: 45 degrees, also in a picture that has been squeezed.
const SLOPES: [f64; 5] = [0.7, 0.85, 1.0, 1.2, 1.4];

/// A cut of a corner that is a smaller part of its side is none.
const SMALLEST_CUT: f64 = 0.03;

/// The outermost cells of what is lit.
pub(super) struct Edge {
    /// Of each row: first cell and the one after the last; empty where none is lit.
    rows: Vec<Range<usize>>,
    columns: Vec<Range<usize>>,
}

impl Edge {
    pub(super) fn of(lit: &Cells) -> Option<Self> {
        let mut rows = vec![0..0; lit.height];
        let mut columns = vec![0..0; lit.width];
        for (index, _) in lit.set.iter().enumerate().filter(|(_, is_lit)| **is_lit) {
            let (x, y) = (index % lit.width, index / lit.width);
            let grow = |range: &mut Range<usize>, at: usize| {
                *range = match range.start == range.end {
                    true => at..at + 1,
                    false => range.start.min(at)..range.end.max(at + 1),
                };
            };
            grow(&mut rows[y], x);
            grow(&mut columns[x], y);
        }
        let is_any = rows.iter().any(|row| !row.is_empty());
        is_any.then_some(Self { rows, columns })
    }

    /// Places of the edge that are no sides of the frame, in cells.
    fn places(&self) -> Vec<[f64; 2]> {
        let (width, height) = (self.columns.len(), self.rows.len());
        let mut places = Vec::new();
        let ends = |range: &Range<usize>, len: usize| {
            let range = (!range.is_empty()).then_some(range.clone());
            let ends = range.map(|range| [range.start, range.end]);
            let inner = move |end: &usize| (1..len).contains(end);
            ends.into_iter().flatten().filter(inner)
        };
        for (y, row) in self.rows.iter().enumerate() {
            places.extend(ends(row, width).map(|x| [x as f64, y as f64 + 0.5]));
        }
        for (x, column) in self.columns.iter().enumerate() {
            places.extend(ends(column, height).map(|y| [x as f64 + 0.5, y as f64]));
        }
        places
    }

    /// Centre and radius of the circle that most of the edge lies on, if that is enough of it. `scale` is what a cell measures.
    pub(super) fn circle(&self, scale: [f64; 2]) -> Option<([f64; 2], f64)> {
        let places: Vec<[f64; 2]> = self
            .places()
            .into_iter()
            .map(|[x, y]| [x * scale[0], y * scale[1]])
            .collect();
        if places.len() < FEWEST {
            return None;
        }
        let near = NEAR * scale[0].max(scale[1]);
        let longest = [
            scale[0] * self.columns.len() as f64,
            scale[1] * self.rows.len() as f64,
        ];
        // Nothing bent less can be told from a straight side.
        let longest = 2.0 * longest[0].max(longest[1]);
        let is_near = |at: &[f64; 2], (centre, radius): ([f64; 2], f64)| {
            let (x, y) = (at[0] - centre[0], at[1] - centre[1]);
            ((x * x + y * y).sqrt() - radius).abs() < near
        };
        let fitting = |circle| -> Vec<[f64; 2]> {
            let near = places.iter().filter(|at| is_near(at, circle));
            near.copied().collect()
        };
        let mut dice = Dice(places.len() as u64);
        let mut best = (0, None);
        for _ in 0..TRIES {
            let triple = [0; 3].map(|_| places[dice.below(places.len())]);
            let Some(found) = circle_through(&triple).filter(|(_, radius)| *radius < longest)
            else {
                continue;
            };
            // A third of them tells which one is best.
            let some = places.iter().step_by(3);
            let count = some.filter(|at| is_near(at, found)).count();
            if count > best.0 {
                best = (count, Some(found));
            }
        }
        let circle = circle_through(&fitting(best.1?))?;
        let circle = circle_through(&fitting(circle))?;
        let share = fitting(circle).len() as f64 / places.len() as f64;
        (share >= ON_CIRCLE).then_some(circle)
    }

    /// Left, top, right and bottom of the rectangle, and how far each corner is cut across and down: top left, top right, bottom left, bottom
    /// right.
    pub(super) fn rectangle(&self, scale: [f64; 2]) -> ([f64; 4], [[f64; 2]; 4]) {
        let lit = |ranges: &[Range<usize>]| -> Vec<Range<usize>> {
            let lit = ranges.iter().filter(|range| !range.is_empty());
            lit.cloned().collect()
        };
        let (rows, columns) = (lit(&self.rows), lit(&self.columns));
        let starts = |ranges: &[Range<usize>]| low(ranges.iter().map(|range| range.start));
        let ends = |ranges: &[Range<usize>]| high(ranges.iter().map(|range| range.end));
        let (left, right) = (starts(&rows), ends(&rows));
        let (top, bottom) = (starts(&columns), ends(&columns));
        let cut = |is_right: bool, is_bottom: bool| {
            let rows = self.rows.iter().enumerate().skip(top).take(bottom - top);
            let lit = rows.filter(|(_, row)| !row.is_empty());
            let inwards = lit.map(|(y, row)| {
                let x = match is_right {
                    true => right.saturating_sub(row.end),
                    false => row.start.saturating_sub(left),
                };
                let y = if is_bottom { bottom - 1 - y } else { y - top };
                [x as f64 * scale[0], y as f64 * scale[1]]
            });
            steepest(&inwards.collect::<Vec<_>>())
        };
        let cuts = [
            cut(false, false),
            cut(true, false),
            cut(false, true),
            cut(true, true),
        ];
        let sides = [
            left as f64 * scale[0],
            top as f64 * scale[1],
            right as f64 * scale[0],
            bottom as f64 * scale[1],
        ];
        (
            sides,
            usual(cuts, [sides[2] - sides[0], sides[3] - sides[1]]),
        )
    }
}

/// How far a corner is cut across and down, from how far each row begins from it: by the line of a likely slope that cuts off most, and no
/// row but one.
fn steepest(rows: &[[f64; 2]]) -> [f64; 2] {
    let cut = |slope: f64| {
        let mut reach: Vec<f64> = rows.iter().map(|[x, y]| x * slope + y).collect();
        let second = 1.min(reach.len() - 1);
        let down = *reach.select_nth_unstable_by(second, f64::total_cmp).1;
        [down / slope, down]
    };
    let area = |cut: &[f64; 2]| cut[0] * cut[1];
    let cuts = SLOPES.map(cut).into_iter();
    cuts.max_by(|a, b| area(a).total_cmp(&area(b)))
        .unwrap_or_default()
}

/// Cuts of which none is much more than what is usual for the four; nothing where that is little.
fn usual(cuts: [[f64; 2]; 4], size: [f64; 2]) -> [[f64; 2]; 4] {
    let median = |axis: usize| {
        let mut of_axis = cuts.map(|cut| cut[axis]);
        of_axis.sort_unstable_by(f64::total_cmp);
        (of_axis[1] + of_axis[2]) / 2.0
    };
    let median = [median(0), median(1)];
    if (0..2).any(|axis| median[axis] < SMALLEST_CUT * size[axis]) {
        return [[0.0; 2]; 4];
    }
    cuts.map(|cut| [cut[0].min(median[0] * 1.1), cut[1].min(median[1] * 1.1)])
}

/// The value that few are below.
fn low(values: impl Iterator<Item = usize>) -> usize {
    let mut values: Vec<usize> = values.collect();
    let at = (values.len() as f64 * STICKS_OUT) as usize;
    *values.select_nth_unstable(at).1
}

/// The value that few are above.
fn high(values: impl Iterator<Item = usize>) -> usize {
    let mut values: Vec<usize> = values.collect();
    let at = values.len() - 1 - (values.len() as f64 * STICKS_OUT) as usize;
    *values.select_nth_unstable(at).1
}

/// Centre and radius of the circle with the least squared algebraic distance; `None` where the places lie on a line.
fn circle_through(places: &[[f64; 2]]) -> Option<([f64; 2], f64)> {
    let count = places.len() as f64;
    let mean = |axis: usize| places.iter().map(|at| at[axis]).sum::<f64>() / count;
    let middle = [mean(0), mean(1)];
    let (mut xx, mut xy, mut yy, mut xz, mut yz) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for at in places {
        let (x, y) = (at[0] - middle[0], at[1] - middle[1]);
        let z = x * x + y * y;
        xx += x * x;
        xy += x * y;
        yy += y * y;
        xz += x * z;
        yz += y * z;
    }
    let determinant = xx * yy - xy * xy;
    if places.len() < 3 || determinant <= 1e-9 * (xx + yy) * (xx + yy) {
        return None;
    }
    let x = (xz * yy - yz * xy) / (2.0 * determinant);
    let y = (yz * xx - xz * xy) / (2.0 * determinant);
    let radius = (x * x + y * y + (xx + yy) / count).sqrt();
    Some(([middle[0] + x, middle[1] + y], radius))
}

/// Numbers that look thrown, the same each time (Knuth's MMIX generator).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % end
    }
}
