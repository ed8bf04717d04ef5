//! The line along which a map crosses a threshold, a row at a time.
//!
//! A pixel belongs to the line when a pixel near it lies on the other side of the threshold: bright inside, dark outside, so that the line
//! stands out from any background. Neither the map's own border is a crossing nor that of what was not looked at (negative infinity).

use std::ops::Range;

use acdclip_model::map::Sampler;

/// On which side of the threshold a pixel of the line lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    /// At or above it.
    Inside,
    /// Below it.
    Outside,
}

/// The map's values in the rows around the one that is being drawn, each interpolated once.
pub(super) struct Rows<'a> {
    sampler: &'a Sampler<'a>,
    width: usize,
    height: usize,
    /// Reach of the line inside and outside, pixels.
    reach: [usize; 2],
    /// Row y lies in slot y modulo the ring's length; the first of a pair is the row that is there.
    ring: Vec<(Option<usize>, Vec<f32>)>,
    scratch: Vec<f32>,
}

impl<'a> Rows<'a> {
    /// Rows of a picture of `width` x `height`, which `sampler` was made for, and lines of `thickness`, all in pixels.
    pub(super) fn new(
        sampler: &'a Sampler<'a>,
        (width, height): (usize, usize),
        thickness: usize,
    ) -> Self {
        let reach = [thickness, thickness.div_ceil(2)];
        let ring = vec![(None, vec![0.0; width]); 2 * thickness + 1];
        Self {
            sampler,
            width,
            height,
            reach,
            ring,
            scratch: Vec::new(),
        }
    }

    /// An upper bound of row `y`.
    pub(super) fn bound(&self, y: usize) -> f32 {
        self.sampler.row_bound(y)
    }

    /// The values of row `y`.
    pub(super) fn values(&mut self, y: usize) -> &[f32] {
        let slot = y % self.ring.len();
        let (held, values) = &mut self.ring[slot];
        if *held != Some(y) {
            self.sampler.row(y, &mut self.scratch, values);
            *held = Some(y);
        }
        values
    }

    /// Calls `mark` for each pixel of row `y` that the line at `threshold` covers in the columns `within`; tells whether there may have
    /// been one.
    pub(super) fn edges(
        &mut self,
        y: usize,
        threshold: f32,
        within: &[Range<usize>],
        mut mark: impl FnMut(usize, Edge),
    ) -> bool {
        let farthest = self.reach[0];
        let near = y.saturating_sub(farthest)..(y + farthest + 1).min(self.height);
        if within.is_empty() || near.clone().all(|y| self.bound(y) < threshold) {
            return false;
        }
        let (mut first, mut last) = (self.width, 0);
        for y in near {
            let inside = |value: &f32| *value >= threshold;
            let row = self.values(y);
            if let Some(x) = row.iter().position(inside) {
                first = first.min(x);
                last = last.max(row.iter().rposition(inside).unwrap_or(x));
            }
        }
        // Beyond these columns no pixel has one at or above the threshold near it.
        let (first_near, end) = (
            first.saturating_sub(farthest),
            (last + farthest + 1).min(self.width),
        );
        for columns in within {
            for x in columns.start.max(first_near)..columns.end.min(end) {
                let value = self.at(x, y);
                if !is_known(value) {
                    continue;
                }
                let inside = value >= threshold;
                let reach = self.reach[usize::from(!inside)];
                if self.crosses(x, y, reach, threshold, inside) {
                    mark(x, if inside { Edge::Inside } else { Edge::Outside });
                }
            }
        }
        first < self.width
    }

    /// Whether one of eight pixels about `reach` away lies on the other side.
    fn crosses(&self, x: usize, y: usize, reach: usize, threshold: f32, inside: bool) -> bool {
        let r = reach as isize;
        let diagonal = (r * 7 + 5) / 10;
        let (d, minus) = (diagonal, -diagonal);
        [
            (r, 0),
            (-r, 0),
            (0, r),
            (0, -r),
            (d, d),
            (d, minus),
            (minus, d),
            (minus, minus),
        ]
        .iter()
        .any(|(dx, dy)| {
            let x = x.saturating_add_signed(*dx).min(self.width - 1);
            let y = y.saturating_add_signed(*dy).min(self.height - 1);
            let value = self.at(x, y);
            is_known(value) && (value >= threshold) != inside
        })
    }

    /// A value of a row that [`Self::values`] has fetched.
    fn at(&self, x: usize, y: usize) -> f32 {
        self.ring[y % self.ring.len()].1[x]
    }
}

/// Whether a value is of something that was looked at.
fn is_known(value: f32) -> bool {
    value > f32::NEG_INFINITY
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::slice;

    use acdclip_model::{
        map::{AnomalyMap, MapValues},
        preprocess::Placement,
    };

    use super::{super::line_thickness, *};

    /// `#` inside the line, `o` outside, of a map whose left half is abnormal.
    fn picture(width: usize, height: usize, threshold: f32) -> Vec<String> {
        drawn((2, 1), &[1.0, 0.0], (width, height), threshold)
    }

    /// The same of a map of `values` on `grid`.
    fn drawn(
        grid: (usize, usize),
        values: &[f32],
        (width, height): (usize, usize),
        threshold: f32,
    ) -> Vec<String> {
        let placement = Placement {
            x: 0.0,
            y: 0.0,
            width: 10.0,
            height: 10.0,
        };
        let map = AnomalyMap::new(
            grid,
            values.to_vec(),
            MapValues::Probability,
            (10, 10),
            placement,
        )
        .unwrap();
        let sampler = map.over_frame(width, height);
        let thickness = line_thickness(width, height);
        let mut rows = Rows::new(&sampler, (width, height), thickness);
        (0..height)
            .map(|y| {
                let mut line = vec!['.'; width];
                rows.edges(y, threshold, slice::from_ref(&(0..width)), |x, edge| {
                    line[x] = if edge == Edge::Inside { '#' } else { 'o' };
                });
                line.into_iter().collect()
            })
            .collect()
    }

    #[test]
    fn the_line_is_where_the_threshold_is_crossed() {
        assert_eq!(picture(10, 2, 0.5), ["....#o....", "....#o...."]);
    }

    #[test]
    fn it_is_thicker_on_a_larger_frame() {
        let row = &picture(10, 1080, 0.5)[500];
        assert_eq!(row, "..###oo...");
    }

    #[test]
    fn without_a_crossing_there_is_no_line() {
        assert_eq!(picture(4, 1, 0.0), ["...."]);
        assert_eq!(picture(4, 1, 1.5), ["...."]);
    }

    #[test]
    fn it_ends_at_what_was_not_looked_at() {
        let gap = f32::NEG_INFINITY;
        let values = [0.0, 1.0, 1.0, 0.0, 1.0, gap, 0.0, gap, gap];
        let lines = drawn((3, 3), &values, (10, 10), 0.5);
        // What is abnormal borders on the normal from above, and on the gap to the right and below.
        assert!(
            lines[0].contains('#') && lines[0].contains('o'),
            "{lines:#?}"
        );
        assert_eq!(&lines[5][7..], "...", "{lines:#?}");
        assert_eq!(&lines[6][4..], "......", "{lines:#?}");
        assert!(
            lines[8..].iter().all(|line| line == ".........."),
            "{lines:#?}"
        );
    }
}
