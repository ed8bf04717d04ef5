//! From a camera's line counter to a place on the track, and to the breaks over which nothing may be glued.
//!
//! A counter goes on by one a line, up or down. Where it stands, the camera sees the same line again, which is no line of the strip. Where it
//! turns, or jumps, a new piece begins: what the turn shows again is seen again, at the place that the counter says. A piece takes its direction from its second line, so that a wheel
//! that trembles breaks the strip once a turn. A counter that is read wrong once is two jumps.
//! Without a counter a line's number is its counter.

use std::{collections::VecDeque, ops::Range};

use crate::error::{Error, Result};

/// Millimetres from line to line or pixel to pixel, at most: a line every kilometre.
pub const MAX_PITCH_MM: f64 = 1e6;

/// Millimetres on the track where the counter is 0, at most: some way around the earth.
pub const MAX_START_MM: f64 = 1e11;

/// What lines and pixels are on the track.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pitch {
    /// Millimetres from counter to counter; none where that is not known.
    pub line_mm: Option<f64>,
    /// Millimetres from pixel to pixel across; none where that is not known.
    pub pixel_mm: Option<f64>,
    /// Millimetres on the track where the counter is 0.
    pub start_mm: f64,
}

/// Why a piece of strip begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// There was nothing before.
    Start,
    /// Lines are missing.
    Jump {
        /// The counter before.
        from: i64,
        /// The counter after.
        to: i64,
    },
    /// The counter has turned.
    Reversed {
        /// The counter before.
        at: i64,
    },
}

impl Break {
    /// Lines that were not seen.
    pub fn lost(self) -> u64 {
        match self {
            Self::Jump { from, to } => from.abs_diff(to).saturating_sub(1),
            Self::Start | Self::Reversed { .. } => 0,
        }
    }
}

/// How rows follow what was before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StretchKind {
    /// As the next lines.
    Continues,
    /// As a new piece.
    Begins(Break),
    /// Not at all: they show the line before again.
    Repeats,
}

/// Rows of a frame that follow one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// Of those that were given.
    pub rows: Range<usize>,
    /// How the first of them follows what was before.
    pub kind: StretchKind,
}

/// Lines whose counters go on by one step.
#[derive(Debug, Clone, Copy)]
struct Run {
    line: u64,
    counter: i64,
    /// 1 or -1; 0 while there is but one line.
    step: i64,
}

impl Run {
    fn at(self, line: u64) -> i64 {
        let lines = i64::try_from(line - self.line).unwrap_or(i64::MAX);
        self.counter.wrapping_add(self.step.wrapping_mul(lines))
    }
}

/// Knows the counter of every line that is not forgotten.
#[derive(Debug, Clone)]
pub struct Odometer {
    pitch: Pitch,
    lines: u64,
    runs: VecDeque<Run>,
    /// Rows without a counter that came since the last line and were not seen.
    missed: usize,
}

impl Odometer {
    /// Of a track on which nothing was seen.
    pub fn new(pitch: Pitch) -> Self {
        Self {
            pitch,
            lines: 0,
            runs: VecDeque::new(),
            missed: 0,
        }
    }

    /// Lines so far, those that were seen again left out.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Rows without a counter have gone by unseen. A counter tells so itself.
    pub fn miss(&mut self, rows: usize) {
        self.missed += rows;
    }

    /// Takes rows without a counter.
    pub fn advance(&mut self, rows: usize) -> Vec<Stretch> {
        if rows == 0 {
            return Vec::new();
        }
        let missed = std::mem::take(&mut self.missed) as i64;
        let last = self.lines.checked_sub(1);
        let kind = match last.and_then(|line| self.counter(line)) {
            Some(_) if missed == 0 => StretchKind::Continues,
            last => {
                let to = last.map_or(missed, |last| last + 1 + missed);
                self.runs.push_back(Run {
                    line: self.lines,
                    counter: to,
                    step: 1,
                });
                StretchKind::Begins(last.map_or(Break::Start, |from| Break::Jump { from, to }))
            }
        };
        self.lines += rows as u64;
        vec![Stretch {
            rows: 0..rows,
            kind,
        }]
    }

    /// Takes rows by their counters.
    pub fn take(&mut self, counters: &[i64]) -> Vec<Stretch> {
        let mut stretches: Vec<Stretch> = Vec::new();
        for (row, counter) in counters.iter().enumerate() {
            let kind = self.follow(*counter);
            let goes_on = |last: &&mut Stretch| match kind {
                StretchKind::Repeats => last.kind == kind,
                StretchKind::Continues => last.kind != StretchKind::Repeats,
                StretchKind::Begins(_) => false,
            };
            match stretches.last_mut().filter(goes_on) {
                Some(last) => last.rows.end = row + 1,
                None => stretches.push(Stretch {
                    rows: row..row + 1,
                    kind,
                }),
            }
        }
        stretches
    }

    fn follow(&mut self, counter: i64) -> StretchKind {
        let line = self.lines;
        let last = line.checked_sub(1);
        let Some((last, run)) = last.zip(self.runs.back_mut()) else {
            return self.begin(counter, Break::Start);
        };
        let from = run.at(last);
        match counter.wrapping_sub(from) {
            0 => StretchKind::Repeats,
            step @ (1 | -1) if run.step == 0 || run.step == step => {
                run.step = step;
                self.lines += 1;
                StretchKind::Continues
            }
            1 | -1 => self.begin(counter, Break::Reversed { at: from }),
            _ => self.begin(counter, Break::Jump { from, to: counter }),
        }
    }

    fn begin(&mut self, counter: i64, why: Break) -> StretchKind {
        self.runs.push_back(Run {
            line: self.lines,
            counter,
            step: 0,
        });
        self.lines += 1;
        StretchKind::Begins(why)
    }

    /// The counter of a line that was seen and is not forgotten.
    pub fn counter(&self, line: u64) -> Option<i64> {
        let after = self.runs.partition_point(|run| run.line <= line);
        let run = self.runs.get(after.checked_sub(1)?)?;
        (line < self.lines).then(|| run.at(line))
    }

    /// Millimetres on the track of a line that was seen and is not forgotten, where lines have a pitch.
    pub fn position_mm(&self, line: u64) -> Option<f64> {
        let counter = self.counter(line)? as f64;
        Some(self.pitch.start_mm + counter * self.pitch.line_mm?)
    }

    /// Forgets lines before `line`, but for the last that was seen.
    pub fn forget(&mut self, line: u64) {
        while self.runs.get(1).is_some_and(|run| run.line <= line) {
            self.runs.pop_front();
        }
    }
}

/// A counter of 32 bits that goes round, as the one nearest to `last` that it may be; without one as it is.
fn widened(last: Option<i64>, counter: u32) -> i64 {
    match last {
        Some(last) => last.wrapping_add(i64::from(counter.wrapping_sub(last as u32) as i32)),
        None => i64::from(counter),
    }
}

/// The counters in the first four bytes of lines, the lowest byte first, as frame grabbers write them. `last` is that of the line before, from which
/// they are counted on.
///
/// An error if a line is shorter.
pub fn read_counters<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
    mut last: Option<i64>,
) -> Result<Vec<i64>> {
    lines
        .map(|line| {
            let bytes = line.first_chunk().ok_or_else(|| {
                Error::Frame(format!(
                    "encoder=pixels: wanted lines of 4 bytes or more, found {}; set encoder=pitch",
                    line.len()
                ))
            })?;
            let counter = widened(last, u32::from_le_bytes(*bytes));
            last = Some(counter);
            Ok(counter)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn odometer() -> Odometer {
        Odometer::new(Pitch {
            line_mm: Some(0.5),
            pixel_mm: None,
            start_mm: 100.0,
        })
    }

    fn stretch(rows: Range<usize>, kind: StretchKind) -> Stretch {
        Stretch { rows, kind }
    }

    #[test]
    fn a_counter_that_jumps_stands_and_turns() {
        use StretchKind::{Begins, Repeats};
        let counters = [7, 8, 9, 9, 9, 10, 20, 21, 20, 19, 19, 20];
        let found = odometer().take(&counters);
        let jump = Break::Jump { from: 10, to: 20 };
        let wanted = [
            stretch(0..3, Begins(Break::Start)),
            stretch(3..5, Repeats),
            stretch(5..6, StretchKind::Continues),
            stretch(6..8, Begins(jump)),
            stretch(8..10, Begins(Break::Reversed { at: 21 })),
            stretch(10..11, Repeats),
            stretch(11..12, Begins(Break::Reversed { at: 19 })),
        ];
        assert_eq!(found, wanted);
        assert_eq!(jump.lost(), 9);
    }

    #[test]
    fn lines_that_went_by_unseen_are_missing_and_those_after_them_lie_where_they_do() {
        let mut odometer = odometer();
        odometer.advance(10);
        odometer.miss(3);
        odometer.miss(2);
        let jump = Break::Jump { from: 9, to: 15 };
        assert_eq!(
            odometer.advance(4),
            [stretch(0..4, StretchKind::Begins(jump))]
        );
        assert_eq!(jump.lost(), 5);
        assert_eq!(odometer.advance(1), [stretch(0..1, StretchKind::Continues)]);
        assert_eq!(odometer.lines(), 15);
        assert_eq!(odometer.position_mm(9), Some(104.5));
        assert_eq!(odometer.position_mm(10), Some(107.5));
    }

    #[test]
    fn a_line_has_its_place_until_it_is_forgotten() {
        let mut odometer = odometer();
        odometer.take(&[7, 8, 9, 30, 29, 28]);
        assert_eq!(odometer.position_mm(2), Some(104.5));
        assert_eq!(odometer.position_mm(5), Some(114.0));
        assert_eq!(odometer.position_mm(6), None);
        odometer.forget(4);
        assert_eq!((odometer.counter(2), odometer.counter(4)), (None, Some(29)));
    }

    #[test]
    fn lines_without_a_counter_are_counted_in_flat_memory() {
        let mut odometer = odometer();
        for _ in 0..2_000_000 / 512 {
            odometer.advance(512);
        }
        let last = odometer.lines() - 1;
        assert_eq!(odometer.counter(last), Some(last as i64));
        assert_eq!(odometer.runs.len(), 1);
    }

    #[test]
    fn a_line_too_short_for_a_counter_is_an_error() {
        let counted = |line: &[u8]| read_counters([line].into_iter(), None);
        assert_eq!(counted(&[1, 2, 0, 0, 9]).unwrap(), [513]);
        let error = counted(&[1, 2, 3]).unwrap_err().to_string();
        assert!(error.contains("found 3"), "{error}");
    }

    #[test]
    fn a_counter_of_32_bits_goes_on_both_ways() {
        let top = i64::from(u32::MAX);
        assert_eq!(widened(None, u32::MAX), top);
        assert_eq!(widened(Some(top), 0), top + 1);
        assert_eq!(widened(Some(top + 1), u32::MAX), top);
        assert_eq!(widened(Some(0), u32::MAX), -1);
    }

    /// Counters that mostly go on, and values of any kind.
    fn any_counters() -> impl Strategy<Value = Vec<i64>> {
        let step = prop_oneof![
            6 => Just(1_i64),
            2 => Just(-1),
            2 => Just(0),
            1 => any::<i64>(),
        ];
        (any::<i64>(), prop::collection::vec(step, 0..40)).prop_map(|(first, steps)| {
            let mut counters = vec![first];
            for step in steps {
                let last = counters[counters.len() - 1];
                counters.push(last.wrapping_add(step));
            }
            counters
        })
    }

    proptest! {
        #[test]
        fn stretches_have_each_row_once_and_lines_their_counters(counters in any_counters()) {
            let mut odometer = odometer();
            let stretches = odometer.take(&counters);
            let mut row = 0;
            let mut kept: Vec<i64> = Vec::new();
            for stretch in &stretches {
                prop_assert_eq!(stretch.rows.start, row);
                row = stretch.rows.end;
                if stretch.kind != StretchKind::Repeats {
                    kept.extend(&counters[stretch.rows.clone()]);
                }
            }
            prop_assert_eq!(row, counters.len());
            let found: Vec<_> = (0..odometer.lines()).map(|line| odometer.counter(line).unwrap()).collect();
            prop_assert_eq!(found, kept);
        }

        #[test]
        fn breaks_are_the_same_however_lines_are_cut_into_frames(counters in any_counters(), frame in 1_usize..9) {
            let breaks = |stretches: Vec<Stretch>, from: usize| {
                let begins = |stretch: &Stretch| match stretch.kind {
                    StretchKind::Begins(why) => Some((from + stretch.rows.start, why)),
                    _ => None,
                };
                stretches.iter().filter_map(begins).collect::<Vec<_>>()
            };
            let whole = breaks(odometer().take(&counters), 0);
            let mut odometer = odometer();
            let mut found = Vec::new();
            for (number, rows) in counters.chunks(frame).enumerate() {
                found.extend(breaks(odometer.take(rows), number * frame));
            }
            prop_assert_eq!(found, whole);
        }
    }
}
