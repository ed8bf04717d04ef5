//! What an endoscope's picture is watched for before the network looks at it: its field of view, whether anything can be seen in it, what
//! shines, and how far it has moved since the frame before. Runs where frames are scored, on the streaming thread or beside it.

use std::sync::Arc;

use acdclip_model::{
    Frame,
    endoscope::{
        field::{Field, FieldFinder},
        graphics::StaticGraphics,
        highlights::Highlights,
        motion::MotionMeter,
        quality::{Quality, QualityGate},
        sketch::Sketch,
    },
    mask::Mask,
};
use parking_lot::Mutex;

use crate::{
    profile::{AutoMask, Settings},
    rect::Rect,
};

/// What is watched for, as settings say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Watch {
    /// The field of view, and how it moves.
    pub(super) field: bool,
    /// Whether a frame in which nothing can be seen is left unscored.
    pub(super) gate: bool,
    /// Whether the map is damped where the picture shines.
    pub(super) damp: bool,
}

impl Watch {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            field: settings.auto_mask == AutoMask::Endoscope,
            gate: settings.quality_gate,
            damp: settings.damp_highlights,
        }
    }

    /// Whether anything is.
    pub(super) fn is_any(self) -> bool {
        self.field || self.gate || self.damp
    }
}

/// A frame to be watched.
pub(super) struct Scene<'a> {
    /// The region of interest; of an interlaced frame its first field.
    pub(super) frame: Frame<'a>,
    /// Where the region of interest lies in the frame.
    pub(super) area: Rect,
    /// What of the region of interest counts, by the user.
    pub(super) mask: Option<Arc<Mask>>,
    /// Width over height of a pixel of `frame`.
    pub(super) aspect: f64,
    /// Pixels, across and down, on whose multiples a part of the frame may begin.
    pub(super) step: (u32, u32),
    /// Stream time, nanoseconds.
    pub(super) time: u64,
}

/// What a frame is by itself.
#[derive(Debug, Clone)]
pub(super) struct Sight {
    /// The part of the frame that is looked at.
    pub(super) area: Rect,
    /// What of that counts.
    pub(super) mask: Option<Arc<Mask>>,
    pub(super) quality: Quality,
    /// How far the picture has moved since the frame watched before, in pixels of the frame; none where that is not sure.
    pub(super) shift: Option<[f64; 2]>,
    pub(super) highlights: Option<Highlights>,
}

/// Watches frames one after the other. What was learnt is forgotten where frames have another size.
#[derive(Debug, Default)]
pub(super) struct Scope {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    finder: FieldFinder,
    graphics: StaticGraphics,
    gate: QualityGate,
    meter: MotionMeter,
    /// What was looked at last.
    area: Option<Rect>,
}

impl Scope {
    /// Watches the next frame.
    pub(super) fn look(&self, scene: &Scene<'_>, watch: Watch) -> acdclip_model::Result<Sight> {
        self.state.lock().look(scene, watch)
    }
}

impl State {
    fn look(&mut self, scene: &Scene<'_>, watch: Watch) -> acdclip_model::Result<Sight> {
        let mut sight = Sight {
            area: scene.area,
            mask: scene.mask.clone(),
            quality: Quality::default(),
            shift: None,
            highlights: None,
        };
        let whole = Sketch::of(&scene.frame, Sketch::SIDE);
        // What is black says nothing of the picture, whether or not it is looked at.
        let (field, counts) = self.find_field(scene, &whole)?;
        let part = part(scene, &field);
        let [x, y, w, h] = [part.x, part.y, part.w, part.h].map(|side| side as usize);
        let (width, height) = (scene.area.w as usize, scene.area.h as usize);
        let mask = counts.stretched(width, height).crop(x, y, w, h)?;
        let sketch = self.sketch_of(scene, part)?;
        let counts = cells(Some(&mask), &sketch);
        sight.quality = self.gate.push(&sketch, &counts, scene.time);
        let area = Rect {
            x: scene.area.x + part.x,
            y: scene.area.y + part.y,
            ..part
        };
        if watch.field {
            (sight.area, sight.mask) = (area, Some(Arc::new(mask)));
            sight.shift = self.measure_motion(&sketch, &counts, area, scene.time);
            sight.highlights = watch.damp.then(|| Highlights::find(&sketch, &counts));
        } else if watch.damp {
            let counts = cells(scene.mask.as_deref(), &whole);
            sight.highlights = Some(Highlights::find(&whole, &counts));
        }
        Ok(sight)
    }

    /// Where the field of view is, and what of the region of interest counts.
    fn find_field(
        &mut self,
        scene: &Scene<'_>,
        whole: &Sketch,
    ) -> acdclip_model::Result<(Field, Mask)> {
        let field = self.finder.push(whole, scene.aspect, scene.time);
        let inside = cells(Some(field.mask()), whole);
        let covered = self.graphics.push(whole, &inside, scene.time);
        let own = cells(scene.mask.as_deref(), whole);
        let counts = inside.iter().zip(covered).zip(own);
        let counts = counts.map(|((inside, covered), own)| *inside && !covered && own);
        let mask = Mask::new(whole.width(), whole.height(), counts.collect())?;
        Ok((field, mask))
    }

    /// Of a part of the region of interest.
    fn sketch_of(&self, scene: &Scene<'_>, part: Rect) -> acdclip_model::Result<Sketch> {
        let frame = &scene.frame;
        let rows = Rows::of(scene);
        let (top, end) = (rows.of_frame(part.y), rows.of_frame(part.y + part.h));
        let height = (end - top).clamp(1, frame.height() - top);
        let part = frame.crop(part.x as usize, top, part.w as usize, height)?;
        Ok(Sketch::of(&part, Sketch::SIDE))
    }

    fn measure_motion(
        &mut self,
        sketch: &Sketch,
        counts: &[bool],
        area: Rect,
        time: u64,
    ) -> Option<[f64; 2]> {
        if self.area.replace(area) != Some(area) {
            self.meter.reset();
        }
        let motion = self.meter.push(sketch, counts, time)?;
        let (width, height) = sketch.frame_size();
        let scale = [
            f64::from(area.w) / width as f64,
            f64::from(area.h) / height as f64,
        ];
        motion
            .is_sure()
            .then(|| [0, 1].map(|axis| motion.shift[axis] * scale[axis]))
    }
}

/// How rows of the region of interest and of what is sketched go together.
struct Rows {
    /// Rows of the frame that one row stands for: two of an interlaced frame's field.
    each: usize,
}

impl Rows {
    fn of(scene: &Scene<'_>) -> Self {
        let each = (scene.area.h as usize).div_ceil(scene.frame.height());
        Self { each }
    }

    fn of_frame(&self, row: u32) -> usize {
        (row as usize).div_ceil(self.each)
    }
}

/// The part of the region of interest that a field takes up, from where it may begin.
fn part(scene: &Scene<'_>, field: &Field) -> Rect {
    let [x, y, w, h] = field.bounds();
    let each = Rows::of(scene).each as u32;
    let (y, h) = (y * each, h * each);
    let span = |start: u32, len: u32, step: u32, size: u32| {
        let from = start / step * step;
        (from, (start + len).min(size).max(from + 1) - from)
    };
    let (x, w) = span(x, w, scene.step.0, scene.area.w);
    let (y, h) = span(y, h, scene.step.1, scene.area.h);
    Rect { x, y, w, h }
}

/// Which cells of a sketch count by a mask of the same picture.
fn cells(mask: Option<&Mask>, sketch: &Sketch) -> Vec<bool> {
    let (width, height) = (sketch.width(), sketch.height());
    match mask {
        None => vec![true; width * height],
        Some(mask) => {
            let mask = mask.stretched(width, height);
            let rows = (0..height).flat_map(|y| mask.row(y).collect::<Vec<_>>());
            rows.collect()
        }
    }
}
