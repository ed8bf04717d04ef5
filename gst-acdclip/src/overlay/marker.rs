//! The mark of an alert: brackets at the corners of its region, just outside of it, light with a dark edge.
//!
//! What is abnormal is told by a shape, not by a colour, so that it is seen by everybody and on any tissue; what lies within stays as it was.
//! Its size goes with the picture's, so that it is as large on a screen in 640x480 as in 3840x2160.

use std::ops::Range;

use super::visible_size;
use crate::rect::Rect;

/// How a mark fades: so many steps from nothing to all of it.
pub(crate) const STRENGTHS: usize = 16;

/// An alert's mark, as it is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Marker {
    /// The region, in pixels of the frame.
    pub(crate) region: Rect,
    /// How much of it is there, 0 to 1.
    pub(crate) strength: f32,
}

/// What covers a pixel of a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The bracket.
    Light,
    /// Its edge.
    Dark,
}

/// A mark laid out on a frame.
#[derive(Debug, Clone)]
pub(super) struct Brackets {
    /// Two bars a corner.
    bars: [Bar; 8],
    /// Width of the dark edge.
    edge: usize,
    /// From 1 to [`STRENGTHS`].
    pub(super) strength: usize,
}

#[derive(Debug, Clone)]
struct Bar {
    columns: Range<usize>,
    rows: Range<usize>,
}

impl Brackets {
    /// Lays a mark out on a frame of `width` x `height`; `None` where nothing of it would be seen.
    pub(super) fn new(marker: &Marker, width: usize, height: usize) -> Option<Self> {
        // A cast saturates, and makes 0 of what is no number.
        let strength = ((marker.strength * STRENGTHS as f32).round() as usize).min(STRENGTHS);
        if strength == 0 {
            return None;
        }
        let thick = thickness(width, height);
        let edge = thick.div_ceil(2);
        let gap = thick + edge;
        let Rect { x, y, w, h } = marker.region;
        // In the frame, edge and all; a region at its border has the bracket within.
        let span = |start: u32, length: u32, size: usize| {
            let (start, end) = (start as usize, start as usize + length as usize);
            let from = start.saturating_sub(gap).max(edge);
            let to = (end + gap).min(size.saturating_sub(edge));
            from..to.max(from)
        };
        let (across, down) = (span(x, w, width), span(y, h, height));
        let arm = (visible_size(width, height) / 30).max(3 * thick);
        let arm = |length: usize| arm.min(length / 3).max(thick);
        let columns = ends(&across, arm(across.len()));
        let rows = ends(&down, arm(down.len()));
        let (thin_columns, thin_rows) = (ends(&across, thick), ends(&down, thick));
        let bar = |corner: usize, flat: bool| {
            let (side, end) = (corner % 2, corner / 2);
            match flat {
                true => Bar {
                    columns: columns[side].clone(),
                    rows: thin_rows[end].clone(),
                },
                false => Bar {
                    columns: thin_columns[side].clone(),
                    rows: rows[end].clone(),
                },
            }
        };
        Some(Self {
            bars: std::array::from_fn(|n| bar(n % 4, n < 4)),
            edge,
            strength,
        })
    }

    /// What covers row `y` of a frame of `width`: the edge first, which the light lies on.
    pub(super) fn row(&self, y: usize, width: usize) -> impl Iterator<Item = (Range<usize>, Part)> {
        let edge = self.edge;
        let dark = self.bars.iter().filter_map(move |bar| {
            let rows = bar.rows.start.saturating_sub(edge)..bar.rows.end + edge;
            let columns =
                bar.columns.start.saturating_sub(edge)..(bar.columns.end + edge).min(width);
            rows.contains(&y).then_some((columns, Part::Dark))
        });
        let light = self.bars.iter().filter_map(move |bar| {
            let columns = bar.columns.start.min(width)..bar.columns.end.min(width);
            bar.rows.contains(&y).then_some((columns, Part::Light))
        });
        dark.chain(light)
    }
}

/// The first and the last `length` of a span.
fn ends(span: &Range<usize>, length: usize) -> [Range<usize>; 2] {
    let length = length.min(span.len());
    [span.start..span.start + length, span.end - length..span.end]
}

/// Thickness of a bracket in pixels: two at 480 rows, four at 1080, eight at 2160.
fn thickness(width: usize, height: usize) -> usize {
    (visible_size(width, height) / 270)
        .max(2)
        .min(height / 24)
        .max(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn brackets(region: [u32; 4], width: usize, height: usize) -> Brackets {
        let marker = Marker {
            region: Rect::from(region),
            strength: 1.0,
        };
        Brackets::new(&marker, width, height).unwrap()
    }

    fn picture(brackets: &Brackets, width: usize, height: usize) -> Vec<String> {
        let row = |y: usize| {
            let mut row = vec!['.'; width];
            for (columns, part) in brackets.row(y, width) {
                let ink = match part {
                    Part::Light => '#',
                    Part::Dark => '+',
                };
                row[columns].fill(ink);
            }
            row.into_iter().collect()
        };
        (0..height).map(row).collect()
    }

    #[test]
    fn brackets_lie_at_the_corners_and_the_region_stays_free() {
        let drawn = picture(&brackets([10, 8, 20, 14], 40, 30), 40, 30);
        assert_eq!(
            drawn[7], ".......+#+++................+++#+.......",
            "{drawn:#?}"
        );
        for row in &drawn[8..22] {
            assert_eq!(&row[10..30], ".".repeat(20), "{drawn:#?}");
        }
        let mirrored: Vec<String> = drawn.iter().rev().cloned().collect();
        assert_eq!(drawn, mirrored, "above as below");
        assert!(drawn.iter().all(|row| {
            let back: String = row.chars().rev().collect();
            *row == back
        }));
    }

    #[test]
    fn they_grow_with_the_picture_and_are_as_large_on_a_screen() {
        let light = |width: u32, height: u32| {
            let region = [width / 4, height / 4, width / 2, height / 2];
            let brackets = brackets(region, width as usize, height as usize);
            let bar = &brackets.bars[0];
            (bar.columns.len(), bar.rows.len(), brackets.edge)
        };
        assert_eq!(light(640, 480), (16, 2, 1));
        assert_eq!(light(1920, 1080), (36, 4, 2));
        assert_eq!(light(3840, 2160), (72, 8, 4));
    }

    #[test]
    fn a_region_at_the_border_has_its_brackets_in_the_frame() {
        for (width, height) in [(1, 1), (2, 9), (30, 24), (64, 48), (640, 480)] {
            for region in [
                [0, 0, width, height],
                [width - 1, height - 1, 1, 1],
                [0, 0, 1, 1],
                [0, height / 2, u32::MAX / 2, 1],
            ] {
                let (width, height) = (width as usize, height as usize);
                let brackets = brackets(region, width, height);
                let rows = (0..height).flat_map(|y| brackets.row(y, width));
                let ends: Vec<_> = rows.map(|(columns, _)| columns.end).collect();
                assert!(ends.iter().all(|end| *end <= width));
                assert!(width < 30 || !ends.is_empty(), "{region:?}");
            }
        }
    }

    #[test]
    fn what_is_too_faint_is_not_there() {
        let of = |strength| {
            let region = Rect::from([4, 4, 4, 4]);
            Brackets::new(&Marker { region, strength }, 64, 48).map(|found| found.strength)
        };
        assert_eq!([of(0.0), of(0.02), of(f32::NAN), of(-1.0)], [None; 4]);
        assert_eq!([of(0.5), of(1.0), of(9.0)], [Some(8), Some(16), Some(16)]);
    }
}
