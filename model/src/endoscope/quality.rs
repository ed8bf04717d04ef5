//! Whether anything can be seen in a picture, by plain measures of what counts of its sketch.
//!
//! - Blur: the no-reference measure of Crete, Dolmiere, Ladret and Nicolas, "The blur effect: perception and estimation with a new
//!   no-reference perceptual blur metric" (SPIE 6492, 2007): how much of the difference between neighbours survives a blur by nine cells,
//!   across or down, whichever is more. 0 is sharp, 1 is blurred; the contrast of what is seen does not matter. Blur that is finer than a
//!   cell cannot be seen here, and the network, which looks as coarsely, does not see it either.
//! - Light: the 95th percentile of luma, and the part that is nearly white.
//! - Haze: the spread of luma and the colourfulness together, as splashed water and smoke take both.
//! - Colour: the part that is warm, red before blue. Tissue in white light is nearly all warm, whatever the make of the endoscope; a room, a
//!   test picture, a white or grey card is not. **Narrow-band and dyed pictures may not be warm**: with those the measure says nothing.
//! - Standstill: not one cell changes for a second. A sensor's noise alone changes many.
//!
//! All limits are in [`ENTERS`], and those by which a reason is left again, which are a little further off, in [`LEAVES`]. Of several reasons
//! the first in the order of [`Quality`] is told.

use super::sketch::Sketch;

/// Cells that are averaged for the blur.
const BLUR: usize = 9;

/// What neighbours differ by where a smooth slope goes over from one whole value to the next; it says nothing of edges.
const STEP: f32 = 1.0;

/// Fewer cells say nothing.
const FEWEST: usize = 64;

/// From frame to frame, at most; a longer time is a seam.
const LONGEST_STEP: u64 = 2_000_000_000;

/// What a picture is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Quality {
    /// Something can be seen in it.
    #[default]
    Good,
    /// Too little light.
    Underexposed,
    /// Too much light.
    Overexposed,
    /// Hardly any contrast and colour: water, smoke, lens against tissue.
    Washed,
    /// Not the colours of tissue.
    OutsideBody,
    /// No edges: motion, focus, a wet lens.
    Blurred,
    /// The same picture for a second.
    Frozen,
}

impl Quality {
    /// Every one of them.
    pub const ALL: [Self; 7] = [
        Self::Good,
        Self::Underexposed,
        Self::Overexposed,
        Self::Washed,
        Self::OutsideBody,
        Self::Blurred,
        Self::Frozen,
    ];

    /// Its name in records and settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Underexposed => "underexposed",
            Self::Overexposed => "overexposed",
            Self::Washed => "washed",
            Self::OutsideBody => "outside-body",
            Self::Blurred => "blurred",
            Self::Frozen => "frozen",
        }
    }
}

/// What is measured of one picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measures {
    /// The blur effect, 0 to 1.
    pub blur: f64,
    /// The 95th percentile of luma, 0 to 255.
    pub bright: f64,
    /// The part that is nearly white, 0 to 1.
    pub white: f64,
    /// Standard deviation of luma.
    pub spread: f64,
    /// Mean difference between the largest and the smallest of red, green and blue, by mean luma.
    pub colour: f64,
    /// The part that is warm, 0 to 1.
    pub warm: f64,
}

/// Where a reason begins or ends.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Underexposed below this brightness.
    bright: f64,
    /// Overexposed above this part of white.
    white: f64,
    /// Washed below this spread and colour.
    spread: f64,
    colour: f64,
    /// Outside the body below this part of warm.
    warm: f64,
    /// Blurred above this blur.
    blur: f64,
}

/// Where a reason begins. Set on pictures of the colon and the nose: in those of ClinicDB, Kvasir and a sinus clip blur is at most 0.51 but for
/// one of 0.63, and from 0.68 on after a Gaussian blur of 1 % of the width; brightness is at least 110, white at most 0.11, spread 23, colour
/// 0.35 and warm 0.87.
const ENTERS: Limits = Limits {
    bright: 45.0,
    white: 0.3,
    spread: 16.0,
    colour: 0.3,
    warm: 0.5,
    blur: 0.64,
};

/// Where a reason ends.
const LEAVES: Limits = Limits {
    bright: 52.0,
    white: 0.26,
    spread: 18.0,
    colour: 0.34,
    warm: 0.6,
    blur: 0.6,
};

/// Luma of a cell that is nearly white.
const WHITE: u8 = 235;

/// How long a picture that does not change is no standstill yet, nanoseconds.
const STANDSTILL: u64 = 1_000_000_000;

/// Judges pictures one after the other.
#[derive(Debug, Clone, Default)]
pub struct QualityGate {
    quality: Quality,
    still: Option<Still>,
}

/// A picture that may be standing still.
#[derive(Debug, Clone)]
struct Still {
    sketch: Sketch,
    since: u64,
    last: u64,
}

impl QualityGate {
    /// Judges what counts (`counts`: cells of the sketch, row by row) of the picture at `time`.
    pub fn push(&mut self, sketch: &Sketch, counts: &[bool], time: u64) -> Quality {
        let is_still = self.is_still(sketch, time);
        let reason = Measures::of(sketch, counts).and_then(|m| m.reason(self.quality));
        let frozen = is_still.then_some(Quality::Frozen);
        self.quality = reason.or(frozen).unwrap_or_default();
        self.quality
    }

    /// Forgets what was seen, at a seam of the stream.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    fn is_still(&mut self, sketch: &Sketch, time: u64) -> bool {
        if let Some(still) = &mut self.still {
            let step = time.checked_sub(still.last);
            if step.is_some_and(|step| step <= LONGEST_STEP) && still.sketch == *sketch {
                still.last = time;
                return time - still.since >= STANDSTILL;
            }
        }
        self.still = Some(Still {
            sketch: sketch.clone(),
            since: time,
            last: time,
        });
        false
    }
}

impl Measures {
    /// Of what counts; `None` where hardly anything does.
    pub fn of(sketch: &Sketch, counts: &[bool]) -> Option<Self> {
        let cells = sketch.colours().iter().zip(sketch.luma()).zip(counts);
        let (mut histogram, mut colour, mut warm) = ([0_usize; 256], 0_usize, 0_usize);
        for ((rgb, luma), _) in cells.filter(|(_, counts)| **counts) {
            let [red, green, blue] = rgb.map(usize::from);
            histogram[usize::from(*luma)] += 1;
            colour += red.max(green).max(blue) - red.min(green).min(blue);
            warm += usize::from(10 * red > 11 * blue + 20 && 20 * red >= 19 * green);
        }
        let count: usize = histogram.iter().sum();
        if count < FEWEST {
            return None;
        }
        let mean = |power: i32| {
            let sum = histogram.iter().enumerate();
            let sum = sum.map(|(luma, n)| (luma as f64).powi(power) * *n as f64);
            sum.sum::<f64>() / count as f64
        };
        let part = |n: usize| n as f64 / count as f64;
        let mut below = 0;
        let bright = histogram.iter().position(|n| {
            below += n;
            100 * below >= 95 * count
        });
        Some(Self {
            blur: blur(sketch, counts),
            bright: bright.unwrap_or(0) as f64,
            white: part(histogram[usize::from(WHITE)..].iter().sum()),
            spread: (mean(2) - mean(1).powi(2)).max(0.0).sqrt(),
            colour: part(colour) / mean(1).max(1.0),
            warm: part(warm),
        })
    }

    /// The first reason that holds after a picture that was `before`.
    fn reason(&self, before: Quality) -> Option<Quality> {
        let limits = |quality| if quality == before { LEAVES } else { ENTERS };
        let mut all = Quality::ALL.into_iter();
        all.find(|quality| self.holds(*quality, limits(*quality)))
    }

    fn holds(&self, quality: Quality, limits: Limits) -> bool {
        match quality {
            Quality::Underexposed => self.bright < limits.bright,
            Quality::Overexposed => self.white > limits.white,
            Quality::Washed => self.spread < limits.spread && self.colour < limits.colour,
            Quality::OutsideBody => self.warm < limits.warm,
            Quality::Blurred => self.blur > limits.blur,
            Quality::Good | Quality::Frozen => false,
        }
    }
}

/// The blur effect, of cells that count as their neighbour does.
fn blur(sketch: &Sketch, counts: &[bool]) -> f64 {
    let (width, height) = (sketch.width(), sketch.height());
    let luma = sketch.luma();
    let across = (0..height).map(|y| (y * width, 1, width));
    let down = (0..width).map(|x| (x, width, height));
    let effect = |lines: &mut dyn Iterator<Item = (usize, usize, usize)>| {
        let (mut sharp, mut lost) = (0.0, 0.0);
        let (mut line, mut smooth) = (Vec::new(), Vec::new());
        for (first, step, len) in lines {
            let cells = (0..len).map(|i| first + i * step);
            line.clear();
            line.extend(cells.clone().map(|cell| f32::from(luma[cell])));
            smoothed(&line, &mut smooth);
            let cells: Vec<usize> = cells.collect();
            for (i, pair) in cells.windows(2).enumerate() {
                if counts[pair[0]] && counts[pair[1]] {
                    let own = ((line[i + 1] - line[i]).abs() - STEP).max(0.0);
                    let after = (smooth[i + 1] - smooth[i]).abs();
                    sharp += f64::from(own);
                    lost += f64::from((own - after).max(0.0));
                }
            }
        }
        // Where nothing differs nothing is sharp.
        if sharp > 0.0 { 1.0 - lost / sharp } else { 1.0 }
    };
    effect(&mut across.into_iter()).max(effect(&mut down.into_iter()))
}

/// The mean of each value and those around it, the ends repeated.
fn smoothed(line: &[f32], out: &mut Vec<f32>) {
    let half = BLUR / 2;
    let at = |i: usize| line[i.saturating_sub(half).min(line.len() - 1)];
    out.clear();
    let mut sum: f32 = (0..BLUR).map(at).sum();
    for i in 0..line.len() {
        out.push(sum / BLUR as f32);
        sum += at(i + BLUR) - at(i);
    }
}

#[cfg(test)]
mod tests;
