//! What is burnt into a picture: text, marks and other graphics that stand still while the rest moves.
//!
//! A picture is compared with one before it as soon as so much has changed between the two that it must have moved; that is a step. A cell with
//! much contrast around it that has not changed in a step speaks for graphics, one that has changed speaks three times against them. Where eight
//! more have spoken for than against them, and so after two seconds at least, a cell does not count, nor do those beside it, until fewer than
//! four have. A picture that stands still teaches nothing.

use super::{cells::Cells, sketch::Sketch};

/// By how much a cell's luma has changed that shows motion.
const CHANGED: u8 = 6;

/// The part of the cells that has changed from step to step.
const MOVED: f64 = 0.3;

/// From step to step, at least, nanoseconds.
const SHORTEST_STEP: u64 = 250_000_000;

/// From step to step, at most; a longer time is a seam.
const LONGEST_STEP: u64 = 5_000_000_000;

/// Luma's span among neighbours where there are graphics, at least.
const CONTRAST: u8 = 40;

/// By how much the luma of graphics may change, for noise and what shines through.
const STILL: u8 = 14;

/// How much more a step against graphics says than one for them.
const AGAINST: u8 = 3;

/// Steps for graphics less those against: from where a cell is some, down to where, and at most.
const APPEARS: u8 = 8;
const STAYS: u8 = 4;
const MOST: u8 = 16;

/// Learns what is burnt in, frame by frame.
#[derive(Debug, Clone, Default)]
pub struct StaticGraphics {
    before: Option<(u64, Sketch)>,
    /// Of each cell, steps for graphics less what those against say.
    evidence: Vec<u8>,
    is_graphic: Vec<bool>,
    /// The same and their neighbours.
    covered: Vec<bool>,
}

impl StaticGraphics {
    /// Takes what counts (`counts`: cells of the sketch, row by row) of the picture at `time`; says which cells are covered by graphics.
    ///
    /// What was learnt is forgotten where the sketch has another size.
    pub fn push(&mut self, sketch: &Sketch, counts: &[bool], time: u64) -> &[bool] {
        let len = sketch.luma().len();
        if self.covered.len() != len || self.is_elsewhere(sketch) {
            *self = Self {
                evidence: vec![0; len],
                is_graphic: vec![false; len],
                covered: vec![false; len],
                ..Self::default()
            };
        }
        match &self.before {
            Some((then, before)) => {
                let step = time.checked_sub(*then).filter(|step| *step <= LONGEST_STEP);
                match step {
                    None => self.before = Some((time, sketch.clone())),
                    Some(step) if step >= SHORTEST_STEP && has_moved(before, sketch, counts) => {
                        let before = before.clone();
                        self.learn(&before, sketch, counts);
                        self.before = Some((time, sketch.clone()));
                    }
                    Some(_) => {}
                }
            }
            None => self.before = Some((time, sketch.clone())),
        }
        &self.covered
    }

    fn is_elsewhere(&self, sketch: &Sketch) -> bool {
        let before = self.before.as_ref();
        before.is_some_and(|(_, before)| before.frame_size() != sketch.frame_size())
    }

    fn learn(&mut self, before: &Sketch, sketch: &Sketch, counts: &[bool]) {
        let (width, height) = (sketch.width(), sketch.height());
        let pairs = before.luma().iter().zip(sketch.luma());
        for (cell, (before, luma)) in pairs.enumerate() {
            let is_still = before.abs_diff(*luma) <= STILL;
            let speaks_for = counts[cell] && is_still && contrast(sketch, cell) >= CONTRAST;
            let evidence = &mut self.evidence[cell];
            *evidence = match speaks_for {
                true => (*evidence + 1).min(MOST),
                false => evidence.saturating_sub(AGAINST),
            };
            let least = if self.is_graphic[cell] {
                STAYS
            } else {
                APPEARS
            };
            self.is_graphic[cell] = *evidence >= least;
        }
        self.covered = Cells::new(width, height, self.is_graphic.clone())
            .dilated(1)
            .set;
    }
}

/// Whether so much has changed that the picture must have moved.
fn has_moved(before: &Sketch, sketch: &Sketch, counts: &[bool]) -> bool {
    let cells = before.luma().iter().zip(sketch.luma()).zip(counts);
    let (mut moved, mut all) = (0, 0);
    for ((before, luma), _) in cells.filter(|(_, counts)| **counts) {
        moved += usize::from(before.abs_diff(*luma) >= CHANGED);
        all += 1;
    }
    all > 0 && moved as f64 >= MOVED * all as f64
}

/// Luma's span in a cell and its eight neighbours.
fn contrast(sketch: &Sketch, cell: usize) -> u8 {
    let (width, height) = (sketch.width(), sketch.height());
    let (x, y) = (cell % width, cell / width);
    let rows = y.saturating_sub(1)..(y + 2).min(height);
    let columns = x.saturating_sub(1)..(x + 2).min(width);
    let near = rows.flat_map(|y| &sketch.luma()[y * width..][columns.clone()]);
    let (low, high) = near.fold((u8::MAX, 0), |(low, high), luma| {
        (low.min(*luma), high.max(*luma))
    });
    high - low
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::endoscope::scene::{Scene, circle};

    const FRAME: u64 = 40_000_000;

    fn inside() -> impl Fn(f64, f64) -> bool + Clone {
        circle(160.0, 120.0, 110.0)
    }

    fn scene(shift: f64, has_text: bool) -> Scene {
        let scene = Scene::black(320, 240).tissue([shift, 0.3 * shift], inside());
        if has_text {
            scene.text(80.0, 60.0, 90.0, 3)
        } else {
            scene
        }
    }

    /// What is covered after so many frames, of which each is made by its number.
    fn learnt(
        graphics: &mut StaticGraphics,
        frames: std::ops::Range<u64>,
        make: impl Fn(u64) -> Scene,
    ) -> Vec<bool> {
        let mut covered = Vec::new();
        for n in frames {
            let sketch = make(n).sketch();
            let counts: Vec<bool> = (0..sketch.luma().len())
                .map(|i| {
                    // As a field's mask is: without the edge.
                    circle(160.0, 120.0, 106.0)((i % 256) as f64 * 1.25, (i / 256) as f64 * 1.25)
                })
                .collect();
            covered = graphics.push(&sketch, &counts, n * FRAME).to_vec();
        }
        covered
    }

    /// Covered parts of where the text is and of all the rest.
    fn parts(covered: &[bool]) -> (f64, f64) {
        let part = |is_text: bool| {
            let cells: Vec<bool> = (0..covered.len())
                .filter(|i| {
                    let (x, y) = ((i % 256) as f64 * 1.25, (i / 256) as f64 * 1.25);
                    // Lines of 6 pixels of every 9.6, and what lies around them.
                    let text = (76.0..174.0).contains(&x) && (56.0..92.0).contains(&y);
                    text == is_text
                })
                .map(|i| covered[i])
                .collect();
            cells.iter().filter(|covered| **covered).count() as f64 / cells.len() as f64
        };
        (part(true), part(false))
    }

    #[test]
    fn text_on_moving_tissue_is_covered_within_seconds_and_nothing_else() {
        let mut graphics = StaticGraphics::default();
        let moving = |n: u64| scene(0.01 * n as f64, true);
        let early = learnt(&mut graphics, 0..25, moving);
        assert_eq!(parts(&early), (0.0, 0.0));
        let (text, rest) = parts(&learnt(&mut graphics, 25..110, moving));
        assert!(text > 0.6 && rest < 0.01, "{text} {rest}");
    }

    #[test]
    fn what_goes_away_is_forgotten() {
        let mut graphics = StaticGraphics::default();
        learnt(&mut graphics, 0..110, |n| scene(0.01 * n as f64, true));
        let (text, rest) = parts(&learnt(&mut graphics, 110..180, |n| {
            scene(0.01 * n as f64, false)
        }));
        assert!(text < 0.01 && rest < 0.01, "{text} {rest}");
    }

    #[test]
    fn a_picture_that_stands_still_teaches_nothing() {
        let mut graphics = StaticGraphics::default();
        let still = learnt(&mut graphics, 0..110, |_| scene(0.0, true));
        assert_eq!(parts(&still), (0.0, 0.0));
        learnt(&mut graphics, 110..220, |n| scene(0.01 * n as f64, true));
        let stopped = learnt(&mut graphics, 220..300, |_| scene(3.0, true));
        assert!(parts(&stopped).0 > 0.6);
    }

    #[test]
    fn another_size_is_another_stream() {
        let mut graphics = StaticGraphics::default();
        learnt(&mut graphics, 0..110, |n| scene(0.01 * n as f64, true));
        let larger = Scene::black(640, 480).sketch();
        let counts = vec![true; larger.luma().len()];
        let covered = graphics.push(&larger, &counts, 110 * FRAME);
        assert!(covered.iter().all(|covered| !covered));
        let small = Scene::black(3, 1).sketch();
        assert_eq!(graphics.push(&small, &[true; 3], 0), [false; 3]);
    }
}
