//! From the map of a strip, line after line, to flaws: each is found once, however many frames it lies in.
//!
//! A flaw is a connected part of the strip whose probability is at or above the release level and that reaches the raise level somewhere.
//! Parts that are at most `gap` pixels apart, along and across, are one. Lines come in order and in any portions: what is found does not depend on where
//! they were cut. A flaw is told of when it has become one, and again when no line can add to it.

use std::collections::{BTreeMap, VecDeque};

use crate::map::{AnomalyMap, MASKED};

use super::alarm::Levels;

/// Pixels between parts of one flaw, at most: so many lines are remembered.
pub const MAX_GAP: u32 = 1024;

/// What a flaw is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// Probability that a flaw reaches, and above which its parts stay.
    pub levels: Levels,
    /// Smallest flaw, in pixels at or above the release level.
    pub min_area: u64,
    /// Pixels between parts of one flaw, at most; [`MAX_GAP`] or fewer.
    pub gap: u32,
}

/// A flaw, as far as it has been seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Flaw {
    /// Number of the flaw since the stream began, from 1, in the order in which they became flaws.
    pub id: u64,
    /// First line.
    pub first: u64,
    /// Last line.
    pub last: u64,
    /// First column.
    pub left: u32,
    /// Last column.
    pub right: u32,
    /// Largest probability.
    pub score: f32,
    /// Where that is: column and line.
    pub worst: (u32, u64),
    /// Pixels.
    pub area: u64,
}

impl Flaw {
    /// Columns.
    pub fn width(&self) -> u32 {
        self.right - self.left + 1
    }

    /// Lines.
    pub fn length(&self) -> u64 {
        self.last - self.first + 1
    }
}

/// What some lines brought about.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Change {
    /// What has become a flaw, as it was then.
    pub begun: Vec<Flaw>,
    /// What is complete, in the order in which it began. One that turned out to be a part of an older one is not told of: see `joined`.
    pub ended: Vec<Flaw>,
    /// Of two flaws that turned out to be one, the numbers of the younger and the older, which goes on.
    pub joined: Vec<(u64, u64)>,
}

impl Change {
    /// Goes on with what came after.
    pub fn append(&mut self, mut later: Self) {
        self.begun.append(&mut later.begun);
        self.ended.append(&mut later.ended);
        self.joined.append(&mut later.joined);
    }
}

/// A connected part that may still grow.
#[derive(Debug, Clone, Copy)]
struct Part {
    flaw: Flaw,
    is_flaw: bool,
}

impl Part {
    fn absorb(&mut self, other: &Self) {
        let (mine, other) = (&mut self.flaw, &other.flaw);
        mine.first = mine.first.min(other.first);
        mine.last = mine.last.max(other.last);
        mine.left = mine.left.min(other.left);
        mine.right = mine.right.max(other.right);
        if other.score > mine.score {
            (mine.score, mine.worst) = (other.score, other.worst);
        }
        mine.area += other.area;
    }
}

/// A run of pixels at or above the release level in one line: its columns, both included, and its part.
#[derive(Debug, Clone, Copy)]
struct Run {
    left: u32,
    right: u32,
    part: u64,
}

/// Finds flaws.
#[derive(Debug, Clone, Default)]
pub struct FlawTracker {
    /// The next line.
    line: u64,
    /// By a number of their own, older parts first.
    parts: BTreeMap<u64, Part>,
    numbered: u64,
    begun: u64,
    /// Runs of the lines that the next one may touch, from left to right.
    recent: VecDeque<(u64, Vec<Run>)>,
    /// Flaws that are complete, until they are forgotten.
    complete: VecDeque<Flaw>,
}

impl FlawTracker {
    /// Takes the next lines, of which `map` is the map: `width` pixels each, and `height` of them.
    pub fn push(
        &mut self,
        map: &AnomalyMap,
        (width, height): (usize, usize),
        rules: &Rules,
    ) -> Change {
        let release = map.value(rules.levels.release.min(rules.levels.raise));
        let sampler = map.over_frame(width, height);
        let (mut row, mut scratch) = (vec![0.0; width], Vec::new());
        let mut change = Change::default();
        for y in 0..height {
            if sampler.row_bound(y) >= release {
                sampler.row(y, &mut scratch, &mut row);
                self.take_line(
                    &row,
                    release,
                    |value| map.probability(value),
                    rules,
                    &mut change,
                );
            }
            self.line += 1;
            self.end_out_of_reach(rules, &mut change);
        }
        change
    }

    /// Ends all that is open: no line touches those before the next one.
    pub fn cut(&mut self) -> Change {
        let mut change = Change::default();
        self.recent.clear();
        for part in std::mem::take(&mut self.parts).into_values() {
            self.complete(part, &mut change);
        }
        change
    }

    /// Goes on at a line without having seen those before it. What is open touches nothing after them.
    pub fn skip_to(&mut self, line: u64) {
        if line > self.line {
            self.line = line;
            self.recent.clear();
        }
    }

    /// The flaw that covers most of a rectangle, by bounding boxes: `columns` and `lines`, their ends not included.
    pub fn at(&self, columns: (u32, u32), lines: (u64, u64)) -> Option<u64> {
        let shared = |flaw: &Flaw| {
            let across = columns
                .1
                .min(flaw.right + 1)
                .saturating_sub(columns.0.max(flaw.left));
            let along = lines
                .1
                .min(flaw.last + 1)
                .saturating_sub(lines.0.max(flaw.first));
            u64::from(across) * along
        };
        let open = self.parts.values().filter(|part| part.is_flaw);
        let flaws = self.complete.iter().chain(open.map(|part| &part.flaw));
        let covering = flaws
            .map(|flaw| (shared(flaw), flaw.id))
            .filter(|(area, _)| *area > 0);
        // Of equals the oldest.
        let best = covering.max_by_key(|(area, id)| (*area, std::cmp::Reverse(*id)));
        best.map(|(_, id)| id)
    }

    /// Forgets complete flaws that lie before `line`.
    pub fn forget(&mut self, line: u64) {
        self.complete.retain(|flaw| flaw.last >= line);
    }

    /// The next line.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The first line of what may still grow.
    pub fn oldest(&self) -> Option<u64> {
        self.parts.values().map(|part| part.flaw.first).min()
    }

    /// Flaws so far.
    pub fn count(&self) -> u64 {
        self.begun
    }

    fn take_line(
        &mut self,
        row: &[f32],
        release: f32,
        probability: impl Fn(f32) -> f32,
        rules: &Rules,
        change: &mut Change,
    ) {
        let mut runs = Vec::new();
        for (left, right) in runs_from(row, release) {
            let (offset, peak) = highest(&row[left..=right]);
            let flaw = Flaw {
                id: 0,
                first: self.line,
                last: self.line,
                left: left as u32,
                right: right as u32,
                score: probability(peak),
                worst: ((left + offset) as u32, self.line),
                area: (right - left + 1) as u64,
            };
            let part = self.numbered;
            self.numbered += 1;
            self.parts.insert(
                part,
                Part {
                    flaw,
                    is_flaw: false,
                },
            );
            runs.push(Run {
                left: left as u32,
                right: right as u32,
                part,
            });
        }
        if runs.is_empty() {
            return;
        }
        self.recent.push_back((self.line, runs));
        for (run, other) in self.touching(rules.gap) {
            self.join(run, other, change);
        }
        self.raise(rules, change);
        self.drop_covered();
    }

    /// Drops runs that a newer one of the same part covers: what touches them touches that.
    fn drop_covered(&mut self) {
        let Some((line, newest)) = self.recent.pop_back() else {
            return;
        };
        let is_covered = |run: &Run| {
            let covers =
                |new: &Run| new.part == run.part && new.left <= run.left && new.right >= run.right;
            newest.iter().any(covers)
        };
        for (_, runs) in &mut self.recent {
            runs.retain(|run| !is_covered(run));
        }
        self.recent.retain(|(_, runs)| !runs.is_empty());
        self.recent.push_back((line, newest));
    }

    /// Pairs of runs that belong together, one of the newest line each; as line and place in it.
    fn touching(&self, gap: u32) -> Vec<((usize, usize), (usize, usize))> {
        let newest = self.recent.len() - 1;
        let runs = &self.recent[newest].1;
        let mut pairs = Vec::new();
        // Diagonal neighbours touch: one column further than the gap.
        let reach = gap + 1;
        for (i, pair) in runs.windows(2).enumerate() {
            if pair[1].left - pair[0].right <= reach {
                pairs.push(((newest, i), (newest, i + 1)));
            }
        }
        for (line, (_, others)) in self.recent.iter().enumerate().take(newest) {
            let mut from = 0;
            for (i, run) in runs.iter().enumerate() {
                while others
                    .get(from)
                    .is_some_and(|other| other.right + reach < run.left)
                {
                    from += 1;
                }
                let near = others[from..].iter().enumerate();
                let near =
                    near.take_while(|(_, other)| other.left <= run.right.saturating_add(reach));
                pairs.extend(near.map(|(j, _)| ((newest, i), (line, from + j))));
            }
        }
        pairs
    }

    /// Makes the parts of two runs one: the one that is a flaw longer, else the older.
    fn join(&mut self, a: (usize, usize), b: (usize, usize), change: &mut Change) {
        let part_of = |(line, run): (usize, usize)| self.recent[line].1[run].part;
        let (a, b) = (part_of(a), part_of(b));
        if a == b {
            return;
        }
        let (Some(first), Some(second)) = (self.parts.get(&a), self.parts.get(&b)) else {
            return;
        };
        let rank = |number: u64, part: &Part| (!part.is_flaw, part.flaw.id, number);
        let (kept, gone) = if rank(a, first) <= rank(b, second) {
            (a, b)
        } else {
            (b, a)
        };
        let Some(absorbed) = self.parts.remove(&gone) else {
            return;
        };
        if let Some(part) = self.parts.get_mut(&kept) {
            part.absorb(&absorbed);
            if absorbed.is_flaw {
                change.joined.push((absorbed.flaw.id, part.flaw.id));
            }
        }
        let runs = self.recent.iter_mut().flat_map(|(_, runs)| runs);
        runs.filter(|run| run.part == gone)
            .for_each(|run| run.part = kept);
    }

    /// Which parts of the newest line have become flaws.
    fn raise(&mut self, rules: &Rules, change: &mut Change) {
        let newest = self.recent.back().map_or(&[][..], |(_, runs)| runs);
        for run in newest {
            let Some(part) = self.parts.get_mut(&run.part) else {
                continue;
            };
            let reaches = part.flaw.score >= rules.levels.raise && part.flaw.area >= rules.min_area;
            if !part.is_flaw && reaches {
                self.begun += 1;
                part.flaw.id = self.begun;
                part.is_flaw = true;
                change.begun.push(part.flaw);
            }
        }
    }

    fn end_out_of_reach(&mut self, rules: &Rules, change: &mut Change) {
        let reach = u64::from(rules.gap) + 1;
        let line = self.line;
        let mut lost = false;
        while self
            .recent
            .front()
            .is_some_and(|(number, _)| number + reach < line)
        {
            self.recent.pop_front();
            lost = true;
        }
        if lost {
            let is_over = |part: &Part| part.flaw.last + reach < line;
            let over: Vec<Part> = self
                .parts
                .extract_if(.., |_, part| is_over(part))
                .map(|(_, part)| part)
                .collect();
            for part in over {
                self.complete(part, change);
            }
        }
    }

    fn complete(&mut self, part: Part, change: &mut Change) {
        if part.is_flaw {
            self.complete.push_back(part.flaw);
            change.ended.push(part.flaw);
        }
    }
}

/// First and last column of each run of values at or above `level`.
fn runs_from(row: &[f32], level: f32) -> Vec<(usize, usize)> {
    let mut runs = Vec::new();
    let mut from = None;
    for (x, value) in row.iter().chain(std::iter::once(&MASKED)).enumerate() {
        let is_inside = *value >= level && *value != MASKED;
        match (from, is_inside) {
            (None, true) => from = Some(x),
            (Some(left), false) => {
                runs.push((left, x - 1));
                from = None;
            }
            _ => {}
        }
    }
    runs
}

/// Where the largest value is first, and what it is.
fn highest(values: &[f32]) -> (usize, f32) {
    let mut best = (0, MASKED);
    for (i, value) in values.iter().enumerate() {
        if *value > best.1 {
            best = (i, *value);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::{map::MapValues, preprocess::Placement};

    const RULES: Rules = Rules {
        levels: Levels {
            raise: 0.5,
            release: 0.3,
        },
        min_area: 0,
        gap: 0,
    };

    /// Digits are tenths of probability, a dot is none.
    fn map(rows: &[&str]) -> (AnomalyMap, (usize, usize)) {
        let size = (rows[0].len(), rows.len());
        let text = rows.concat();
        let values = text.bytes().map(|byte| match byte {
            b'.' => 0.0,
            digit => f32::from(digit - b'0') / 10.0,
        });
        let placement = Placement {
            x: 0.0,
            y: 0.0,
            width: size.0 as f32,
            height: size.1 as f32,
        };
        let map = AnomalyMap::new(
            size,
            values.collect(),
            MapValues::Probability,
            size,
            placement,
        );
        (map.unwrap(), size)
    }

    /// What is found in lines that come in portions of `portion`.
    fn find(rows: &[&str], portion: usize, rules: &Rules) -> (Vec<Flaw>, Vec<Flaw>) {
        let mut tracker = FlawTracker::default();
        let (mut begun, mut ended) = (Vec::new(), Vec::new());
        for rows in rows.chunks(portion) {
            let (map, size) = map(rows);
            let change = tracker.push(&map, size, rules);
            begun.extend(change.begun);
            ended.extend(change.ended);
        }
        ended.extend(tracker.cut().ended);
        (begun, ended)
    }

    fn boxes(flaws: &[Flaw]) -> Vec<(u64, u32, u64, u32, u64)> {
        let edges = |flaw: &Flaw| (flaw.id, flaw.left, flaw.first, flaw.right, flaw.last);
        flaws.iter().map(edges).collect()
    }

    #[test]
    fn a_flaw_across_cuts_is_one_with_one_box() {
        let rows = [
            "......", ".66...", ".67...", "..9...", "..6...", "......", "......",
        ];
        for portion in 1..=7 {
            let (begun, ended) = find(&rows, portion, &RULES);
            assert_eq!(boxes(&ended), [(1, 1, 1, 2, 4)]);
            assert_eq!((ended[0].worst, ended[0].area), ((2, 3), 6));
            assert!((ended[0].score - 0.9).abs() < 1e-6);
            assert_eq!((begun.len(), begun[0].first, begun[0].last), (1, 1, 1));
        }
    }

    #[test]
    fn two_arms_that_meet_are_the_older_one() {
        let (begun, ended) = find(&["6...", "6..7", "6666", "...."], 1, &RULES);
        assert_eq!(begun.len(), 2);
        assert_eq!(boxes(&ended), [(1, 0, 0, 3, 2)]);
        let mut tracker = FlawTracker::default();
        let (map, size) = map(&["6...", "6..7", "6666"]);
        assert_eq!(tracker.push(&map, size, &RULES).joined, [(2, 1)]);
    }

    #[test]
    fn what_is_weak_belongs_to_a_flaw_but_is_none() {
        let rows = ["3.....", "36...4", "..4..4", "......"];
        assert_eq!(boxes(&find(&rows, 4, &RULES).1), [(1, 0, 0, 2, 2)]);
    }

    #[test]
    fn what_is_small_is_none() {
        let rules = Rules {
            min_area: 3,
            ..RULES
        };
        let rows = ["66....", "....66", "....6.", "......"];
        assert_eq!(boxes(&find(&rows, 2, &rules).1), [(1, 4, 1, 5, 2)]);
    }

    #[test]
    fn parts_that_are_near_are_one() {
        let rows = [
            "6..6..", "......", "......", "6.....", "......", "......", "......", "6.....",
        ];
        let count = |gap| find(&rows, 8, &Rules { gap, ..RULES }).1.len();
        assert_eq!([0, 1, 2, 3].map(count), [4, 4, 2, 1]);
    }

    #[test]
    fn a_cut_ends_what_is_open() {
        let mut tracker = FlawTracker::default();
        let (map, size) = map(&["66"]);
        assert!(tracker.push(&map, size, &RULES).ended.is_empty());
        assert_eq!(boxes(&tracker.cut().ended), [(1, 0, 0, 1, 0)]);
        tracker.push(&map, size, &RULES);
        assert_eq!(boxes(&tracker.cut().ended), [(2, 0, 1, 1, 1)]);
        assert_eq!(tracker.at((0, 1), (0, 1)), Some(1));
        assert_eq!(tracker.at((0, 1), (0, 2)), Some(1));
        tracker.forget(1);
        assert_eq!(tracker.at((0, 1), (0, 2)), Some(2));
        assert_eq!(tracker.at((2, 3), (0, 2)), None);
    }

    /// By flooding, pixel by pixel.
    #[allow(clippy::needless_range_loop)]
    fn flooded(rows: &[Vec<u8>], rules: &Rules) -> Vec<(u32, u64, u32, u64, u64)> {
        let (height, width) = (rows.len(), rows[0].len());
        let inside = |y: usize, x: usize| f32::from(rows[y][x]) / 10.0 >= rules.levels.release;
        let mut seen = vec![vec![false; width]; height];
        let mut found = Vec::new();
        let reach = rules.gap as usize + 1;
        for y in 0..height {
            for x in 0..width {
                if seen[y][x] || !inside(y, x) {
                    continue;
                }
                let mut stack = vec![(y, x)];
                let mut parts = Vec::new();
                seen[y][x] = true;
                while let Some((y, x)) = stack.pop() {
                    parts.push((y, x));
                    for near_y in y.saturating_sub(reach)..(y + reach + 1).min(height) {
                        for near_x in x.saturating_sub(reach)..(x + reach + 1).min(width) {
                            if !seen[near_y][near_x] && inside(near_y, near_x) {
                                seen[near_y][near_x] = true;
                                stack.push((near_y, near_x));
                            }
                        }
                    }
                }
                let peak = parts.iter().map(|(y, x)| rows[*y][*x]).max().unwrap();
                if f32::from(peak) / 10.0 >= rules.levels.raise {
                    let (ys, xs): (Vec<_>, Vec<_>) = parts.iter().copied().unzip();
                    found.push((
                        *xs.iter().min().unwrap() as u32,
                        *ys.iter().min().unwrap() as u64,
                        *xs.iter().max().unwrap() as u32,
                        *ys.iter().max().unwrap() as u64,
                        parts.len() as u64,
                    ));
                }
            }
        }
        found.sort_unstable();
        found
    }

    proptest! {
        #[test]
        fn flaws_are_what_flooding_finds_however_the_lines_come(
            rows in (1_usize..9, 1_usize..14).prop_flat_map(|(width, height)| {
                let pixel = prop_oneof![4 => Just(0_u8), 1 => 1_u8..10];
                prop::collection::vec(prop::collection::vec(pixel, width), height)
            }),
            portion in 1_usize..14,
            gap in 0_u32..3,
        ) {
            let text: Vec<String> = rows
                .iter()
                .map(|row| row.iter().map(|pixel| char::from(b'0' + pixel)).collect())
                .collect();
            let text: Vec<&str> = text.iter().map(String::as_str).collect();
            let rules = Rules { gap, ..RULES };
            let (_, ended) = find(&text, portion, &rules);
            let mut found: Vec<_> = ended
                .iter()
                .map(|flaw| (flaw.left, flaw.first, flaw.right, flaw.last, flaw.area))
                .collect();
            found.sort_unstable();
            prop_assert_eq!(found, flooded(&rows, &rules));
        }
    }
}
