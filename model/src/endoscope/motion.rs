//! How far the whole picture has moved from one frame to the next: a shift, and how sure it is.
//!
//! Hierarchical block matching with one block, what counts of the picture: luma without its slow changes, as the lamp moves with the camera,
//! is laid over the one before at every shift of up to a quarter of a small picture, and the best three shifts are refined on finer ones.
//! How well two fit is their normalised cross-correlation; the place between cells is the top of a parabola through the best shift and its
//! neighbours. Turning and zooming are seen as the shift of the middle, less sure.

use super::sketch::Sketch;

/// Halvings of the sketch: the finest and the coarsest that are compared.
const FINEST: usize = 1;
const COARSEST: usize = 3;

/// Of a picture's side, how far it may move.
const REACH: usize = 4;

/// Shifts that are refined.
const CANDIDATES: usize = 3;

/// Cells to either side over which slow changes are told.
const SLOW: usize = 3;

/// Of what counts, what must lie upon one another.
const OVERLAP: f64 = 0.4;

/// From frame to frame, at most; what came before is another scene, nanoseconds.
const LONGEST_STEP: u64 = 1_000_000_000;

/// How far the picture has moved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Motion {
    /// Pixels of the sketched frame, to the right and down: what was at a place is that much further.
    pub shift: [f64; 2],
    /// How alike the two pictures are then: from 0, not at all, to 1.
    pub confidence: f64,
}

impl Motion {
    /// From where on it may be relied on.
    pub const SURE: f64 = 0.5;

    /// Whether it may be relied on.
    pub fn is_sure(&self) -> bool {
        self.confidence >= Self::SURE
    }
}

/// Measures motion from frame to frame.
#[derive(Debug, Clone, Default)]
pub struct MotionMeter {
    last: Option<Last>,
}

#[derive(Debug, Clone)]
struct Last {
    time: u64,
    luma: Vec<u8>,
    levels: Vec<Level>,
}

impl MotionMeter {
    /// Takes what counts (`counts`: cells of the sketch, row by row) of the picture at `time`. `None` where nothing comes before it: the first
    /// one, one of another size, one after more than a second or where time went back.
    pub fn push(&mut self, sketch: &Sketch, counts: &[bool], time: u64) -> Option<Motion> {
        let now = Last {
            time,
            luma: sketch.luma().to_vec(),
            levels: levels(sketch, counts),
        };
        let before = self.last.replace(now);
        let now = self.last.as_ref()?;
        let before = before.filter(|before| {
            let step = time.checked_sub(before.time);
            let is_alike = before.levels.len() == now.levels.len()
                && before
                    .levels
                    .iter()
                    .zip(&now.levels)
                    .all(|(a, b)| a.size() == b.size());
            is_alike && step.is_some_and(|step| step <= LONGEST_STEP)
        })?;
        if before.luma == now.luma {
            return Some(Motion {
                shift: [0.0; 2],
                confidence: 1.0,
            });
        }
        let (shift, confidence) = search(&before.levels, &now.levels)?;
        let (width, height) = sketch.frame_size();
        let scale = [
            width as f64 / sketch.width() as f64,
            height as f64 / sketch.height() as f64,
        ];
        let finest = (1 << FINEST) as f64;
        Some(Motion {
            shift: [0, 1].map(|axis| shift[axis] * finest * scale[axis]),
            confidence,
        })
    }

    /// Forgets the picture before, at a seam of the stream.
    pub fn reset(&mut self) {
        self.last = None;
    }
}

/// Luma without its slow changes, and which cells count: 0 where they do not.
#[derive(Debug, Clone)]
struct Level {
    width: usize,
    height: usize,
    detail: Vec<f32>,
    counts: Vec<f32>,
}

/// A picture of some fineness before its slow changes are taken off.
struct Picture {
    width: usize,
    height: usize,
    luma: Vec<f32>,
    counts: Vec<f32>,
}

/// From the finest to the coarsest.
fn levels(sketch: &Sketch, counts: &[bool]) -> Vec<Level> {
    let mut picture = Picture {
        width: sketch.width(),
        height: sketch.height(),
        luma: sketch.luma().iter().map(|luma| f32::from(*luma)).collect(),
        counts: counts
            .iter()
            .map(|counts| f32::from(u8::from(*counts)))
            .collect(),
    };
    let mut levels = Vec::new();
    for halvings in 1..=COARSEST {
        if picture.width.min(picture.height) < 2 * REACH {
            break;
        }
        picture = picture.halved();
        if halvings >= FINEST {
            levels.push(picture.level());
        }
    }
    levels
}

impl Picture {
    /// The mean of four cells each; one counts where all four do.
    fn halved(&self) -> Self {
        let (width, height) = (self.width / 2, self.height / 2);
        let four = |of: &[f32], i: usize| {
            let first = i / width * 2 * self.width + i % width * 2;
            let below = first + self.width;
            [of[first], of[first + 1], of[below], of[below + 1]]
        };
        let cells = 0..width * height;
        Self {
            width,
            height,
            luma: cells
                .clone()
                .map(|i| four(&self.luma, i).iter().sum::<f32>() / 4.0)
                .collect(),
            counts: cells
                .map(|i| four(&self.counts, i).iter().product())
                .collect(),
        }
    }

    fn level(&self) -> Level {
        let weighed: Vec<f32> = self
            .luma
            .iter()
            .zip(&self.counts)
            .map(|(a, b)| a * b)
            .collect();
        let (sums, counts) = (self.summed(&weighed), self.summed(&self.counts));
        let cells = self
            .luma
            .iter()
            .zip(&self.counts)
            .zip(sums.iter().zip(&counts));
        let detail =
            cells.map(|((luma, weight), (sum, count))| weight * (luma - sum / count.max(1.0)));
        Level {
            width: self.width,
            height: self.height,
            detail: detail.collect(),
            counts: self.counts.clone(),
        }
    }

    /// The sum over the cells around each.
    fn summed(&self, values: &[f32]) -> Vec<f32> {
        let mut across = vec![0.0; values.len()];
        for (row, out) in values
            .chunks_exact(self.width)
            .zip(across.chunks_exact_mut(self.width))
        {
            for (x, out) in out.iter_mut().enumerate() {
                *out = row[x.saturating_sub(SLOW)..(x + SLOW + 1).min(self.width)]
                    .iter()
                    .sum();
            }
        }
        let mut out = vec![0.0; values.len()];
        for (y, out) in out.chunks_exact_mut(self.width).enumerate() {
            let rows = y.saturating_sub(SLOW)..(y + SLOW + 1).min(self.height);
            for row in
                across[rows.start * self.width..rows.end * self.width].chunks_exact(self.width)
            {
                out.iter_mut()
                    .zip(row)
                    .for_each(|(out, value)| *out += value);
            }
        }
        out
    }
}

impl Level {
    fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// How alike this one and the one after it are, if all has moved by `shift`; `None` where too little lies upon one another.
    fn likeness(&self, after: &Self, [dx, dy]: [isize; 2]) -> Option<f64> {
        let rows = dy.unsigned_abs()..self.height;
        let len = self.width.checked_sub(dx.unsigned_abs())?;
        let (mut both, mut own, mut other, mut overlap) = (0.0_f32, 0.0_f32, 0.0_f32, 0.0_f32);
        for row in rows {
            let (from, to) = match dy >= 0 {
                true => (row - dy.unsigned_abs(), row),
                false => (row, row - dy.unsigned_abs()),
            };
            let (left, right) = ((-dx).max(0) as usize, dx.max(0) as usize);
            let at = from * self.width + left..from * self.width + left + len;
            let then = to * self.width + right..to * self.width + right + len;
            let cells = self.detail[at.clone()].iter().zip(&self.counts[at]);
            let others = after.detail[then.clone()].iter().zip(&after.counts[then]);
            for ((a, a_counts), (b, b_counts)) in cells.zip(others) {
                both += a * b;
                own += a * a * b_counts;
                other += b * b * a_counts;
                overlap += a_counts * b_counts;
            }
        }
        let counted: f32 = self.counts.iter().sum();
        if f64::from(overlap) < OVERLAP * f64::from(counted) || overlap < 1.0 {
            return None;
        }
        // Of a picture without detail nothing can be said.
        let energy = f64::from(own).sqrt() * f64::from(other).sqrt();
        Some(f64::from(both) / energy.max(f64::from(overlap) * 0.05))
    }
}

/// The best shift, in cells of the finest level, and how alike both are then.
fn search(before: &[Level], after: &[Level]) -> Option<([f64; 2], f64)> {
    let (coarse, coarse_after) = (before.last()?, after.last()?);
    let reach = |len: usize| (len / REACH) as isize;
    let (across, down) = (reach(coarse.width), reach(coarse.height));
    let shifts = (-down..=down).flat_map(|dy| (-across..=across).map(move |dx| [dx, dy]));
    let mut found: Vec<([isize; 2], f64)> = shifts
        .filter_map(|shift| Some((shift, coarse.likeness(coarse_after, shift)?)))
        .collect();
    found.sort_by(|a, b| b.1.total_cmp(&a.1));
    found.truncate(CANDIDATES);
    for (level, after) in before.iter().zip(after).rev().skip(1) {
        for (shift, likeness) in &mut found {
            let [x, y] = shift.map(|d| 2 * d);
            let near = (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| [x + dx, y + dy]));
            let near = near.filter_map(|shift| Some((shift, level.likeness(after, shift)?)));
            (*shift, *likeness) = near
                .max_by(|a, b| a.1.total_cmp(&b.1))
                .unwrap_or(([x, y], 0.0));
        }
    }
    let best = found.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
    let ([x, y], likeness) = best?;
    let at = |dx, dy| {
        before[0]
            .likeness(&after[0], [x + dx, y + dy])
            .unwrap_or(0.0)
    };
    let shift = [
        x as f64 + top(at(-1, 0), likeness, at(1, 0)),
        y as f64 + top(at(0, -1), likeness, at(0, 1)),
    ];
    Some((shift, likeness.clamp(0.0, 1.0)))
}

/// Where between -0.5 and 0.5 a parabola is highest that has those values at -1, 0 and 1.
fn top(before: f64, at: f64, after: f64) -> f64 {
    let bend = before - 2.0 * at + after;
    if bend < 0.0 {
        ((before - after) / (2.0 * bend)).clamp(-0.5, 0.5)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests;
