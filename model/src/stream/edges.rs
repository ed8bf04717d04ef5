//! Which columns of a strip are the thing that is inspected: a rail's head or a sheet, brighter than the dark border beside it.
//!
//! Lines are gathered in blocks of 64, counted from the first one. After each block:
//!
//! 1. What is usual for a column is the median over the last five blocks of its mean brightness. A mean over the lines would be drawn along by a
//!    joint of a rail, which is all dark, then all white; a median of blocks does not see it while it reaches into no more than two of them to a
//!    great part. So the edges lie about 160 lines behind a rail that drifts.
//! 2. Columns are smoothed a little, and divided by their brightness into dark and light ones where that explains most of the variance between
//!    columns (Otsu's method). A strip of which it explains little, or whose dark half is not much darker than its light one, has no edge.
//! 3. The thing is the widest run of columns that are brighter than the dark ones by a tenth of the difference. That is low, because a rail's head
//!    is round: it falls off into the dark over many columns, and flaws lie there too. Dark gaps that are narrow belong to it.
//! 4. It is made narrower by a little at each edge, so that the edge's own blur does not count, but not where it leaves the picture.
//! 5. Each edge moves towards what was found, at most by 1/32 of the width a block.
//!
//! All of this counts lines, from the first one on. So the result does not depend on the frames in which they came.
//!
//! Where the border is half as bright as the thing or brighter, as ballast in the sun, or where both sides of the picture are light, as around
//! something dark, no edge is found and everything counts. That is the safe side: what is masked is not inspected. Something dark that has a bright
//! border at one side of the picture only cannot be told from a bright thing, and would be masked itself.

use std::{collections::VecDeque, ops::Range};

/// Lines of a block. As many bytes fit a sum of 16 bits.
const BLOCK: usize = 64;

/// Blocks that are remembered.
const BLOCKS: usize = 5;

/// Fewer blocks are too little to say what is usual.
const ENOUGH: usize = 2;

/// An edge is taken from where columns are brighter than the dark ones by one part in this many of what light ones are.
const RISE: u32 = 10;

/// Parts of the width: a dark gap that is narrower belongs to the thing, and a thing that is narrower is none.
const NARROW: usize = 32;

/// Parts of the width: what the thing is made narrower by at each edge.
const MARGIN: usize = 128;

/// Parts of the width: the furthest that an edge moves a block.
const PACE: usize = 32;

/// Parts of the width: how far columns are smoothed to either side.
const BLUR: usize = 256;

/// How different dark and light columns must be.
#[derive(Debug, Clone, Copy)]
struct Clear {
    /// The part of the variance between columns that is between the two classes, at least. It is 0.64 where brightness is normally distributed,
    /// and 0.75 where it is spread evenly, as in a strip that is lit more and more from left to right.
    share: f64,
    /// Dark by light, at most.
    ratio: f64,
    /// Light less dark, of 255, at least.
    difference: u8,
}

/// Where no edge is known.
const APPEARS: Clear = Clear {
    share: 0.77,
    ratio: 0.5,
    difference: 24,
};

/// Where one is known: less, so that it does not come and go.
const STAYS: Clear = Clear {
    share: 0.7,
    ratio: 0.6,
    difference: 16,
};

/// Follows the edges of a strip, line by line.
#[derive(Debug, Clone)]
pub struct Edges {
    /// Of each column, over the lines of the block that is being gathered.
    sums: Vec<u16>,
    /// Lines in `sums`.
    lines: usize,
    /// The mean of each column, block by block.
    blocks: VecDeque<Vec<u8>>,
    span: Option<Range<usize>>,
}

impl Edges {
    /// The edges of a strip of `width` columns of which nothing has been seen.
    pub fn new(width: usize) -> Self {
        Self {
            sums: vec![0; width],
            lines: 0,
            blocks: VecDeque::with_capacity(BLOCKS),
            span: None,
        }
    }

    /// Takes the next line, one brightness a column. Columns that it has too few of are black, those that it has too many of are left out.
    pub fn push_line(&mut self, luma: &[u8]) {
        for (sum, luma) in self.sums.iter_mut().zip(luma) {
            *sum += u16::from(*luma);
        }
        self.lines += 1;
        if self.lines == BLOCK {
            self.end_block();
        }
    }

    /// The columns that count, by the lines so far; never none of them. `None` stands for all: too little has been seen, or there is no clear edge.
    pub fn span(&self) -> Option<Range<usize>> {
        self.span.clone()
    }

    fn end_block(&mut self) {
        let lines = BLOCK as u16;
        let means = self.sums.iter().map(|sum| (sum + lines / 2) / lines);
        let means = means.map(|mean| mean as u8).collect();
        self.sums.fill(0);
        self.lines = 0;
        if self.blocks.len() == BLOCKS {
            self.blocks.pop_front();
        }
        self.blocks.push_back(means);
        let found = self.find();
        // What was found in fewer blocks may have been far off: it is not followed slowly, but replaced.
        let is_settled = self.blocks.len() == BLOCKS;
        self.span = match (self.span.take(), found) {
            (Some(span), Some(found)) if is_settled => Some(self.moved(span, found)),
            (_, found) => found,
        };
    }

    /// The thing as it is seen in what is remembered.
    fn find(&self) -> Option<Range<usize>> {
        if self.blocks.len() < ENOUGH {
            return None;
        }
        let width = self.sums.len();
        let columns = blurred(&self.usual(), (width / BLUR).max(1));
        let shades = Shades::of(&columns)?;
        let clear = if self.span.is_some() { STAYS } else { APPEARS };
        if !shades.are(clear) {
            return None;
        }
        let is_risen = |luma: &u8| shades.is_risen(*luma);
        if [columns.first(), columns.last()]
            .iter()
            .all(|side| side.is_some_and(is_risen))
        {
            return None;
        }
        let run = narrowed(widest(&columns, width / NARROW, is_risen)?, width);
        (run.len() > width / NARROW).then_some(run)
    }

    /// The median of each column over the blocks.
    fn usual(&self) -> Vec<u8> {
        let known = self.blocks.len();
        let median = |column: usize| {
            let mut means = [0; BLOCKS];
            for (mean, block) in means.iter_mut().zip(&self.blocks) {
                *mean = block[column];
            }
            let means = &mut means[..known];
            means.sort_unstable();
            means[(known - 1) / 2].midpoint(means[known / 2])
        };
        (0..self.sums.len()).map(median).collect()
    }

    /// An edge's way from `span` to `found`. Both move alike, so that they do not meet.
    fn moved(&self, span: Range<usize>, found: Range<usize>) -> Range<usize> {
        let most = self.sums.len().div_ceil(PACE);
        let towards = |from: usize, to: usize| to.clamp(from.saturating_sub(most), from + most);
        towards(span.start, found.start)..towards(span.end, found.end)
    }
}

/// The mean of each column and those up to `radius` beside it, as far as there are any.
fn blurred(columns: &[u8], radius: usize) -> Vec<u8> {
    let mut sums = Vec::with_capacity(columns.len() + 1);
    sums.push(0_usize);
    let mut sum = 0;
    sums.extend(columns.iter().map(|luma| {
        sum += usize::from(*luma);
        sum
    }));
    let mean = |column: usize| {
        let (first, end) = (
            column.saturating_sub(radius),
            (column + radius + 1).min(columns.len()),
        );
        let count = end - first;
        ((sums[end] - sums[first] + count / 2) / count) as u8
    };
    (0..columns.len()).map(mean).collect()
}

/// Dark and light columns.
#[derive(Debug, Clone, Copy)]
struct Shades {
    /// The median of the dark ones.
    dark: u8,
    /// The median of the light ones.
    light: u8,
    /// The part of the variance that is between the two.
    share: f64,
}

impl Shades {
    /// Divides columns into the two classes whose means are furthest apart for their sizes. `None` where all are of one brightness.
    fn of(columns: &[u8]) -> Option<Self> {
        let mut counts = [0_usize; 256];
        for luma in columns {
            counts[usize::from(*luma)] += 1;
        }
        let weighed = counts.iter().zip(0..).map(|(count, luma)| count * luma);
        let (count, sum) = (columns.len(), weighed.sum::<usize>());
        let mean = sum as f64 / count as f64;
        let (mut below, mut below_sum) = (0, 0);
        let mut best = (0.0, 0);
        for cut in 1..counts.len() {
            below += counts[cut - 1];
            below_sum += counts[cut - 1] * (cut - 1);
            let above = count - below;
            if below == 0 || above == 0 {
                continue;
            }
            let apart = below_sum as f64 / below as f64 - (sum - below_sum) as f64 / above as f64;
            let between = apart * apart * below as f64 * above as f64 / count as f64;
            if between > best.0 {
                best = (between, cut);
            }
        }
        let (between, cut) = best;
        let (dark, light) = counts.split_at(cut);
        let spread = |(count, luma): (&usize, usize)| {
            let apart = luma as f64 - mean;
            *count as f64 * apart * apart
        };
        let whole: f64 = counts.iter().zip(0..).map(spread).sum();
        Some(Self {
            dark: median(dark)?,
            light: median(light)?.saturating_add(cut as u8),
            share: between / whole,
        })
    }

    fn are(self, clear: Clear) -> bool {
        self.share >= clear.share
            && f64::from(self.dark) <= f64::from(self.light) * clear.ratio
            && self.light - self.dark >= clear.difference
    }

    /// Whether a column is brighter than the dark ones.
    fn is_risen(self, luma: u8) -> bool {
        let [dark, light, luma] = [self.dark, self.light, luma].map(u32::from);
        luma * RISE >= dark * (RISE - 1) + light
    }
}

/// The value that half of all values reach, of how many there are of each. `None` where there are none.
fn median(counts: &[usize]) -> Option<u8> {
    let half = counts.iter().sum::<usize>().div_ceil(2);
    if half == 0 {
        return None;
    }
    let mut so_far = 0;
    let reached = counts.iter().position(|count| {
        so_far += count;
        so_far >= half
    });
    reached.map(|value| value as u8)
}

/// The widest run of columns that count, gaps of up to `gap` columns within it.
fn widest(columns: &[u8], gap: usize, counts: impl Fn(&u8) -> bool) -> Option<Range<usize>> {
    let mut widest: Option<Range<usize>> = None;
    let mut run: Option<Range<usize>> = None;
    for (column, luma) in columns.iter().enumerate() {
        if !counts(luma) {
            continue;
        }
        let start = match &run {
            Some(run) if column - run.end <= gap => run.start,
            _ => column,
        };
        let grown = start..column + 1;
        if widest
            .as_ref()
            .is_none_or(|widest| widest.len() < grown.len())
        {
            widest = Some(grown.clone());
        }
        run = Some(grown);
    }
    widest
}

/// A run without the margin at its edges. A side of the picture is no edge.
fn narrowed(run: Range<usize>, width: usize) -> Range<usize> {
    let margin = width.div_ceil(MARGIN);
    let start = if run.start == 0 {
        0
    } else {
        run.start + margin
    };
    let end = if run.end == width {
        width
    } else {
        run.end.saturating_sub(margin)
    };
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WIDTH: usize = 512;

    /// Any number from 0 to 1 for a place of a strip, always the same.
    fn noise(line: usize, column: usize) -> f64 {
        let mut x = (line as u64) << 32 | column as u64;
        for _ in 0..2 {
            x = (x ^ (x >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        (x >> 40) as f64 / (1_u64 << 24) as f64
    }

    fn textured(luma: f64, line: usize, column: usize) -> u8 {
        (luma * (0.7 + 0.6 * noise(line, column))) as u8
    }

    /// A line of a rail between two columns that falls off over `blur` columns to either side of them.
    fn rail_line(
        line: usize,
        (left, right): (f64, f64),
        blur: f64,
        (dark, light): (f64, f64),
    ) -> Vec<u8> {
        let column = |x: usize| {
            let inside = (x as f64 + 0.5 - left).min(right - x as f64 - 0.5);
            let share = (0.5 + inside / (2.0 * blur)).clamp(0.0, 1.0);
            textured(dark + (light - dark) * share, line, x)
        };
        (0..WIDTH).map(column).collect()
    }

    fn rail(line: usize) -> Vec<u8> {
        rail_line(line, (100.0, 400.0), 3.0, (8.0, 90.0))
    }

    /// What is found in each line by those before it.
    fn spans(lines: usize, line: impl Fn(usize) -> Vec<u8>) -> Vec<Option<Range<usize>>> {
        let mut edges = Edges::new(line(0).len());
        let push = |y: usize| {
            edges.push_line(&line(y));
            edges.span()
        };
        (0..lines).map(push).collect()
    }

    fn last(lines: usize, line: impl Fn(usize) -> Vec<u8>) -> Option<Range<usize>> {
        spans(lines, line).pop().flatten()
    }

    /// How far the edges of a span are from where they should be, at most.
    fn error(span: &Option<Range<usize>>, (left, right): (f64, f64)) -> f64 {
        span.as_ref().map_or(f64::INFINITY, |span| {
            let errors = [span.start as f64 - left, span.end as f64 - right];
            errors[0].abs().max(errors[1].abs())
        })
    }

    #[test]
    fn edges_are_found_within_a_few_columns() {
        for (dark, light) in [(0.0, 40.0), (8.0, 90.0), (30.0, 200.0)] {
            let sharp = last(400, |y| rail_line(y, (100.0, 400.0), 0.5, (dark, light)));
            assert!(error(&sharp, (100.0, 400.0)) <= 4.0, "{sharp:?}");
            let soft = last(400, |y| rail_line(y, (100.0, 400.0), 40.0, (dark, light)));
            // The dark outer third of the slope does not count.
            assert!(error(&soft, (75.0, 425.0)) <= 10.0, "{soft:?}");
        }
    }

    #[test]
    fn nothing_outside_of_a_sharp_edge_counts() {
        let span = last(400, |y| rail_line(y, (100.0, 400.0), 0.5, (8.0, 90.0)));
        assert!(span.is_some_and(|span| span.start > 100 && span.end < 400));
    }

    #[test]
    fn a_thing_that_leaves_the_picture_counts_up_to_its_side() {
        let span = last(400, |y| rail_line(y, (-50.0, 400.0), 3.0, (8.0, 90.0)));
        assert_eq!(span.map(|span| span.start), Some(0));
        let span = last(400, |y| rail_line(y, (100.0, 600.0), 3.0, (8.0, 90.0)));
        assert_eq!(span.map(|span| span.end), Some(WIDTH));
    }

    #[test]
    fn two_blocks_of_lines_are_enough() {
        let spans = spans(128, rail);
        assert_eq!(spans[126], None);
        assert!(error(&spans[127], (100.0, 400.0)) <= 4.0);
    }

    #[test]
    fn a_narrow_dark_groove_is_part_of_the_thing() {
        let span = last(400, |y| {
            let mut line = rail(y);
            line[200..212].fill(3);
            line
        });
        assert!(error(&span, (100.0, 400.0)) <= 4.0, "{span:?}");
    }

    #[test]
    fn of_two_things_the_wider_counts() {
        let span = last(400, |y| {
            let mut line = rail_line(y, (20.0, 150.0), 3.0, (8.0, 90.0));
            line.splice(
                200..,
                rail_line(y, (250.0, 500.0), 3.0, (8.0, 90.0)).drain(200..),
            );
            line
        });
        assert!(error(&span, (250.0, 500.0)) <= 4.0, "{span:?}");
    }

    #[test]
    fn a_rail_that_drifts_is_followed() {
        for per_line in [0.05, -0.05, 1.0 / 12.0] {
            let at = |y: usize| {
                let by = y as f64 * per_line;
                (150.0 + by, 350.0 + by)
            };
            let spans = spans(1500, |y| rail_line(y, at(y), 3.0, (8.0, 90.0)));
            for (y, span) in spans.iter().enumerate().skip(320) {
                // The middle of the blocks that are remembered is 160 to 224 lines back.
                let behind = 224.0 * f64::abs(per_line) + 4.0;
                assert!(error(span, at(y)) <= behind, "{span:?} in line {y}");
            }
        }
    }

    #[test]
    fn an_edge_moves_slowly_when_the_rail_jumps() {
        let at = |y: usize| {
            if y < 1000 {
                (100.0, 300.0)
            } else {
                (200.0, 400.0)
            }
        };
        let spans = spans(2000, |y| rail_line(y, at(y), 3.0, (8.0, 90.0)));
        for pair in spans[200..].windows(2) {
            let starts =
                [&pair[0], &pair[1]].map(|span| span.as_ref().map_or(0, |span| span.start));
            assert!(starts[0].abs_diff(starts[1]) <= 16, "{pair:?}");
        }
        assert!(error(&spans[1999], at(1999)) <= 4.0);
    }

    #[test]
    fn a_joint_does_not_lose_the_rail() {
        for first in (1000..1064).step_by(9) {
            let spans = spans(1800, |y| match y.checked_sub(first) {
                Some(0..70) => vec![4; WIDTH],
                Some(70..90) => vec![250; WIDTH],
                _ => rail(y),
            });
            for (y, span) in spans.iter().enumerate().skip(320) {
                assert!(error(span, (100.0, 400.0)) <= 5.0, "{span:?} in line {y}");
            }
        }
    }

    #[test]
    fn stones_beside_the_rail_do_not_count() {
        let stone = |y: usize, x: usize| 20.0 + 40.0 * noise(y / 23, x / 19);
        let spans = spans(4000, |y| {
            let mut line = rail_line(y, (100.0, 400.0), 3.0, (0.0, 150.0));
            for (x, luma) in line.iter_mut().enumerate() {
                *luma = (*luma).max(stone(y, x) as u8);
            }
            line
        });
        for (y, span) in spans.iter().enumerate().skip(320) {
            assert!(error(span, (100.0, 400.0)) <= 24.0, "{span:?} in line {y}");
        }
    }

    #[test]
    fn a_strip_without_a_border_has_no_edges() {
        let falling_off = |x: usize| 120.0 - 60.0 * ((x as f64 - 256.0) / 256.0).powi(2);
        let rising = |x: usize| x as f64 / 3.0;
        let striped = |x: usize| 80.0 + 40.0 * noise(7, x / 16);
        let alike = |_| 100.0;
        let columns: [&dyn Fn(usize) -> f64; 4] = [&falling_off, &rising, &striped, &alike];
        for (i, luma) in columns.iter().enumerate() {
            let spans = spans(1000, |y| {
                (0..WIDTH).map(|x| textured(luma(x), y, x)).collect()
            });
            assert!(spans.iter().all(Option::is_none), "{i}");
        }
    }

    #[test]
    fn something_dark_between_bright_borders_is_not_masked() {
        let dark = |y: usize| rail_line(y, (100.0, 300.0), 3.0, (90.0, 8.0));
        assert_eq!(last(400, dark), None);
    }

    #[test]
    fn a_strip_of_one_shade_has_no_edges() {
        for luma in [0, 1, 128, 255] {
            assert_eq!(last(1000, |_| vec![luma; WIDTH]), None, "{luma}");
        }
    }

    #[test]
    fn when_the_border_ends_everything_counts_again() {
        let sheet = |y: usize, x: usize| textured(90.0, y, x);
        let line = |y: usize| {
            if y < 640 {
                rail(y)
            } else {
                (0..WIDTH).map(|x| sheet(y, x)).collect()
            }
        };
        let spans = spans(1200, line);
        assert!(spans[639].is_some());
        assert_eq!(spans[1199], None);
    }

    #[test]
    fn a_strip_of_hardly_any_width_has_no_edges() {
        for width in 0..3 {
            assert_eq!(last(400, |y| vec![(y % 256) as u8; width]), None);
        }
        assert_eq!(last(400, |_| vec![0, 200]), None);
    }

    #[test]
    fn a_thing_that_is_one_column_wide_is_none() {
        let thread = |y: usize| rail_line(y, (256.0, 257.0), 0.1, (4.0, 250.0));
        assert_eq!(last(400, thread), None);
    }

    #[test]
    fn a_line_of_another_width_does_no_harm() {
        let span = last(400, |y| match y % 64 {
            0 => vec![90; WIDTH],
            7 => Vec::new(),
            8 => vec![255; 2 * WIDTH],
            _ => rail(y),
        });
        assert!(error(&span, (100.0, 400.0)) <= 5.0, "{span:?}");
    }

    #[test]
    fn edges_change_only_after_whole_blocks_from_the_first_line_on() {
        let spans = spans(1000, |y| {
            let by = y as f64 / 10.0;
            rail_line(y, (100.0 + by, 300.0 + by), 3.0, (8.0, 90.0))
        });
        for (y, pair) in spans.windows(2).enumerate() {
            assert!(
                pair[0] == pair[1] || (y + 2) % BLOCK == 0,
                "{pair:?} in line {y}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_span_is_within_the_strip_whatever_is_seen(
            width in 0usize..80,
            scenes in prop::collection::vec((prop::collection::vec(any::<u8>(), 80), 1usize..300), 1..8),
        ) {
            let mut edges = Edges::new(width);
            for (line, lines) in scenes {
                for _ in 0..lines {
                    edges.push_line(&line);
                    if let Some(span) = edges.span() {
                        prop_assert!(span.start < span.end && span.end <= width, "{:?}", span);
                    }
                }
            }
        }

        #[test]
        fn how_the_strip_is_cut_into_pushes_does_not_matter(cuts in prop::collection::vec(0usize..700, 0..8), drift in -0.1f64..0.1) {
            let line = |y: usize| {
                let by = y as f64 * drift;
                rail_line(y, (150.0 + by, 350.0 + by), 10.0, (8.0, 90.0))
            };
            let mut cuts = cuts;
            cuts.push(700);
            cuts.sort_unstable();
            let (mut edges, mut y, mut seen) = (Edges::new(WIDTH), 0, Vec::new());
            for cut in cuts {
                // Nobody asks in between, as nobody does within a frame.
                (y..cut).for_each(|y| edges.push_line(&line(y)));
                y = cut;
                seen.push((y, edges.span()));
            }
            let whole = spans(700, line);
            for (y, span) in seen {
                prop_assert_eq!(span, y.checked_sub(1).and_then(|y| whole[y].clone()));
            }
        }

        #[test]
        fn a_mirrored_strip_has_mirrored_edges(left in 20.0f64..250.0, width in 60.0f64..230.0, blur in 0.5f64..30.0) {
            let line = |y: usize| rail_line(y, (left, left + width), blur, (8.0, 90.0));
            let span = last(320, line);
            let mirrored = last(320, |y| line(y).into_iter().rev().collect());
            prop_assert!(span.is_some());
            prop_assert_eq!(mirrored, span.map(|span| WIDTH - span.end..WIDTH - span.start));
        }
    }
}
