//! Where in a frame the endoscope's picture is: its field of view, found in each frame and followed over time.
//!
//! 1. What is black is told by the border of the frame: a twentieth of it is at least as dark as the surround, if there is one. Where that
//!    is not dark the whole frame is picture.
//! 2. A cell is lit while it is clearly brighter than that, and for a moment after: its brightness falls with a time constant of 0.2 s. So a
//!    shadow that passes over the edge takes nothing off, and a zoom is followed within a second.
//! 3. What is thinner than five cells, as burnt-in text and noise, is taken away. Of the connected parts that are left the largest is the
//!    field; a second, smaller picture is none. Parts of a known field that a dark lumen divides stay together.
//! 4. [`Outline::fit`] gives it a shape.
//! 5. A new outline is taken up when it differs from the known one by more than 3 % of its size, and has been seen for a quarter of a second
//!    and in three frames. Until then the known one stands to the pixel. The first one is taken up at once. Frames in which hardly anything is
//!    lit say nothing.
//! 6. What within the outline has been black for seconds and is connected with the outside, as where the picture has a bite for another
//!    one, does not count, nor what lies in such a bite.
//!
//! The mask is narrower than the outline by 1 % of the smaller side, so that the edge's own blur does not look like a flaw.

use std::sync::Arc;

use super::{
    cells::Cells,
    outline::{Outline, Shape},
    sketch::Sketch,
};
use crate::mask::Mask;

/// A frame whose border is brighter everywhere has no surround.
const BRIGHTEST_BLACK: u8 = 60;

/// The part of the frame's border that is black, at least.
const BLACK_BORDER: f64 = 0.05;

/// How much brighter than black a cell is that is lit: this much at least, and at most.
const LIT: (u8, u8) = (8, 20);

/// The part of the frame that is lit, at least, in one that says something.
const FEWEST_LIT: f64 = 0.03;

/// What is up to twice as many cells wide, and one, is no part of a picture.
const THIN: usize = 2;

/// Time constants by which brightness falls, nanoseconds: for the outline, and for what within it is black.
const FALL: [f64; 2] = [0.2e9, 2e9];

/// An outline further from the known one than this part of its size is another one.
const ANOTHER: f64 = 0.03;

/// How long another one must be seen, nanoseconds and frames.
const SEEN: (u64, u32) = (250_000_000, 3);

/// What is black for less is a shadow, nanoseconds.
const BLACK_FOR: u64 = 4_000_000_000;

/// Of the outline, what is black where it is not to be heard of.
const SMALLEST_BITE: f64 = 0.015;

/// Of the smaller side, what the mask is narrower at each edge.
const MARGIN: f64 = 0.01;

/// From frame to frame, at most; a longer time is a seam.
const LONGEST_STEP: u64 = 2_000_000_000;

/// The field of view.
#[derive(Debug, Clone)]
pub struct Field {
    outline: Outline,
    mask: Arc<Mask>,
}

impl Field {
    /// What it looks like from afar.
    pub fn shape(&self) -> Shape {
        self.outline.shape()
    }

    /// Where it ends.
    pub fn outline(&self) -> &Outline {
        &self.outline
    }

    /// x, y, width and height of the pixels that it touches.
    pub fn bounds(&self) -> [u32; 4] {
        let [left, top, right, bottom] = self.outline.sides();
        let (x, y) = (left.floor() as u32, top.floor() as u32);
        let extent = |end: f64, start: u32| (end.ceil() as u32).saturating_sub(start).max(1);
        [x, y, extent(right, x), extent(bottom, y)]
    }

    /// What of the frame counts; at a grid's size, to be stretched over the frame. The same one until the field changes.
    pub fn mask(&self) -> &Arc<Mask> {
        &self.mask
    }

    /// Whether both are the same one.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.mask, &other.mask)
    }
}

/// Follows the field of view, frame by frame.
#[derive(Debug, Clone, Default)]
pub struct FieldFinder {
    /// Of each cell how bright it was, by both time constants.
    bright: [Vec<f32>; 2],
    /// Size of the grid and of the frame.
    size: Option<[(usize, usize); 2]>,
    time: Option<u64>,
    /// When the first frame that said something came.
    since: Option<u64>,
    field: Option<Field>,
    /// Black cells within the outline that do not count.
    bite: Option<Cells>,
    another: Option<Another>,
}

/// An outline that may become the known one.
#[derive(Debug, Clone)]
struct Another {
    outline: Outline,
    since: u64,
    frames: u32,
}

impl FieldFinder {
    /// Takes the sketch of the frame at `time`, whose pixels are `aspect` times as wide as high; says where the field is by the frames so far.
    ///
    /// What was known is forgotten where the frame has another size.
    pub fn push(&mut self, sketch: &Sketch, aspect: f64, time: u64) -> Field {
        let size = [(sketch.width(), sketch.height()), sketch.frame_size()];
        if self.size != Some(size) {
            *self = Self {
                size: Some(size),
                ..Self::default()
            };
        }
        self.remember(sketch, time);
        let found = self.find(sketch, aspect);
        if let Some(outline) = found {
            let since = *self.since.get_or_insert(time);
            self.take_up(outline, sketch, time);
            if time.saturating_sub(since) >= BLACK_FOR {
                self.look_for_bites(sketch);
            }
        }
        self.field
            .clone()
            .unwrap_or_else(|| field(Outline::whole(sketch.frame_size()), sketch, None))
    }

    fn remember(&mut self, sketch: &Sketch, time: u64) {
        let step = self.time.map(|before| time.checked_sub(before));
        let step = step.flatten().filter(|step| *step <= LONGEST_STEP);
        self.time = Some(time);
        if step.is_none() {
            self.bright = Default::default();
            self.since = None;
        }
        let elapsed = step.unwrap_or(0) as f64;
        for (bright, fall) in self.bright.iter_mut().zip(FALL) {
            bright.resize(sketch.luma().len(), 0.0);
            let kept = (-elapsed / fall).exp() as f32;
            for (bright, colour) in bright.iter_mut().zip(sketch.colours()) {
                let now = f32::from(value(*colour));
                *bright = now.max(now + (*bright - now) * kept);
            }
        }
    }

    /// The outline in what is remembered; `None` where hardly anything is lit.
    fn find(&self, sketch: &Sketch, aspect: f64) -> Option<Outline> {
        let size = sketch.frame_size();
        let Some(black) = black(sketch) else {
            return Some(Outline::whole(size));
        };
        let lit = self.lit(0, sketch, black);
        let parts = lit.parts();
        let largest = parts.iter().max_by_key(|part| part.len())?;
        if (largest.len() as f64) < FEWEST_LIT * lit.set.len() as f64 {
            return None;
        }
        let known = self.field.as_ref().map(|field| field.outline);
        let confirmed = known.and_then(|known| {
            let inner = parts.iter().filter(|part| is_inside(part, &known, sketch));
            let all: Vec<usize> = inner.flatten().copied().collect();
            let found = Outline::fit(&lit.of_part(&all), size, aspect)?;
            (found.distance(&known) <= ANOTHER).then_some(found)
        });
        confirmed.or_else(|| Outline::fit(&lit.of_part(largest), size, aspect))
    }

    /// Cells that are, or were until lately, brighter than black.
    fn lit(&self, memory: usize, sketch: &Sketch, black: f32) -> Cells {
        let bright = self.bright[memory].iter();
        let set = bright.map(|bright| *bright > black).collect();
        Cells::new(sketch.width(), sketch.height(), set).opened(THIN)
    }

    fn take_up(&mut self, outline: Outline, sketch: &Sketch, time: u64) {
        let Some(known) = &self.field else {
            self.field = Some(field(outline, sketch, None));
            return;
        };
        if known.outline.distance(&outline) <= ANOTHER {
            self.another = None;
            return;
        }
        let before = self.another.take();
        let before = before.filter(|before| before.outline.distance(&outline) <= ANOTHER);
        let another = match before {
            Some(before) => Another {
                outline,
                frames: before.frames + 1,
                ..before
            },
            None => Another {
                outline,
                since: time,
                frames: 1,
            },
        };
        if another.frames >= SEEN.1 && time.saturating_sub(another.since) >= SEEN.0 {
            self.field = Some(field(outline, sketch, None));
            self.bite = None;
        } else {
            self.another = Some(another);
        }
    }

    /// Takes out of the field what is black within it, where that has changed much.
    fn look_for_bites(&mut self, sketch: &Sketch) {
        let Some((known, black)) = self.field.as_ref().zip(black(sketch)) else {
            return;
        };
        let outline = known.outline;
        let inside = inside(&outline, sketch, 0.0);
        let lit = self.lit(1, sketch, black);
        let parts = lit.parts();
        let inner = parts
            .iter()
            .filter(|part| is_inside(part, &outline, sketch));
        let Some(largest) = inner.max_by_key(|part| part.len()) else {
            return;
        };
        let own = lit.of_part(largest);
        let not = |cells: &Cells| {
            let set = cells.set.iter().map(|is_set| !is_set).collect();
            Cells::new(cells.width, cells.height, set)
        };
        // Rows of the frame that are outside of a picture that it cuts off do not exist: its sides are as good.
        let outside = not(&inside);
        let mut bite = not(&own).reached_from(&outside);
        bite.set
            .iter_mut()
            .zip(&inside.set)
            .for_each(|(bite, inside)| *bite &= inside);
        // An outline never fits to the cell: what is left of it is no bite.
        let bite = bite.opened(THIN);
        let least = SMALLEST_BITE * inside.count() as f64;
        let change = match &self.bite {
            Some(known) => (known.set.iter().zip(&bite.set))
                .filter(|(a, b)| a != b)
                .count(),
            None => bite.count(),
        };
        if change as f64 >= least {
            self.field = Some(field(outline, sketch, Some(&bite.dilated(1))));
            self.bite = Some(bite);
        }
    }
}

fn value(colour: [u8; 3]) -> u8 {
    colour.into_iter().max().unwrap_or(0)
}

/// The brightness above which a cell is not black, by the frame's border; `None` where that has no black.
fn black(sketch: &Sketch) -> Option<f32> {
    let (width, height) = (sketch.width(), sketch.height());
    let border = |index: &usize| {
        let (x, y) = (index % width, index / width);
        x == 0 || y == 0 || x + 1 == width || y + 1 == height
    };
    let cells = (0..width * height).filter(border);
    let mut values: Vec<u8> = cells.map(|cell| value(sketch.colours()[cell])).collect();
    values.sort_unstable();
    let darkest = values[(values.len() as f64 * BLACK_BORDER) as usize];
    if darkest > BRIGHTEST_BLACK {
        return None;
    }
    // How far the surround's own unevenness and noise goes.
    let end = values.partition_point(|value| *value <= darkest.saturating_add(LIT.1));
    let uneven = values[(end - 1) * 98 / 100].saturating_add(LIT.0 / 2);
    let lit = uneven.clamp(darkest.saturating_add(LIT.0), darkest.saturating_add(LIT.1));
    Some(f32::from(lit))
}

fn field(outline: Outline, sketch: &Sketch, bite: Option<&Cells>) -> Field {
    let [left, top, right, bottom] = outline.sides();
    let margin = MARGIN * (right - left).min(bottom - top);
    let mut inside = inside(&outline, sketch, margin);
    if let Some(bite) = bite {
        for (inside, bite) in inside.set.iter_mut().zip(&bite.set) {
            *inside &= !bite;
        }
    }
    let (width, height) = (inside.width, inside.height);
    Field {
        outline,
        mask: Arc::new(Mask::grid(width, height, inside.set)),
    }
}

/// The cells whose middle lies within an outline.
fn inside(outline: &Outline, sketch: &Sketch, margin: f64) -> Cells {
    let (width, height) = (sketch.width(), sketch.height());
    let cell = |index| outline.contains(middle(index, sketch), margin);
    let set = (0..width * height).map(cell).collect();
    Cells::new(width, height, set)
}

/// The middle of a cell, in pixels of the frame.
fn middle(cell: usize, sketch: &Sketch) -> [f64; 2] {
    let (width, height) = (sketch.width(), sketch.height());
    let size = sketch.frame_size();
    [
        ((cell % width) as f64 + 0.5) * size.0 as f64 / width as f64,
        ((cell / width) as f64 + 0.5) * size.1 as f64 / height as f64,
    ]
}

/// Whether most of a part lies within an outline, by some of its cells.
fn is_inside(part: &[usize], outline: &Outline, sketch: &Sketch) -> bool {
    let step = part.len().div_ceil(64);
    let mut votes = 0;
    for cell in part.iter().step_by(step) {
        let inside = outline.contains(middle(*cell, sketch), 0.0);
        votes += if inside { 1 } else { -1 };
    }
    votes > 0
}

#[cfg(test)]
mod tests;
