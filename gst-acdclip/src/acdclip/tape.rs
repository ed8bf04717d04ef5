//! What the network found in a stream, kept so that it can be judged again by other settings, without the network.

use std::sync::Arc;

use acdclip_model::{calibration::Scales, map::AnomalyMap, record::Record};
use gst::{prelude::*, subclass::prelude::*};
use parking_lot::Mutex;

use super::{
    judge::{Judge, Measured},
    look::{Moment, Seen},
};

/// What the network found in the frames of a stream that an element plays, in their order.
///
/// An alarm is judged from what the network found and from settings; with a tape a stream is looked at once and judged as often as there
/// are settings to compare. The judging is the element's own, so that a replay says what the element would have said. Strips
/// (`tiling=scan`) are not taped.
#[derive(Clone, Default)]
pub struct Tape(Arc<Mutex<Taped>>);

#[derive(Default)]
struct Taped {
    model: String,
    frames: Vec<Frame>,
}

#[derive(Clone)]
enum Frame {
    Seen(Seen, Option<Scales>),
    /// It was not looked at, and took over what was known.
    Passed(Passed),
}

/// A frame's number and times.
#[derive(Clone, Copy)]
struct Passed {
    frame: u64,
    pts: Option<gst::ClockTime>,
    duration: Option<gst::ClockTime>,
}

impl Passed {
    fn of(moment: &Moment) -> Self {
        Self {
            frame: moment.frame,
            pts: moment.pts,
            duration: moment.duration,
        }
    }

    fn buffer(self) -> gst::Buffer {
        let mut buffer = gst::Buffer::new();
        if let Some(times) = buffer.get_mut() {
            times.set_pts(self.pts);
            times.set_duration(self.duration);
        }
        buffer
    }
}

/// What is told of a frame.
pub struct Judged<'a> {
    /// As its buffer carries it.
    pub record: Record,
    /// The map, smoothed and calibrated, where it was computed on this very frame.
    pub map: Option<&'a AnomalyMap>,
    /// The part of the frame that was looked at: x, y, width and height in pixels.
    pub area: [u32; 4],
}

impl Tape {
    /// A tape of what `element` will find from its next start on.
    ///
    /// # Errors
    /// If `element` is no `acdclip` of this library.
    pub fn record(element: &gst::Element) -> Result<Self, String> {
        let tape = Self::default();
        own(element)?.imp().keep_tape(tape.clone());
        Ok(tape)
    }

    /// Has every taped frame judged by the properties and profile of `element`, which need not have played, and `each` told.
    ///
    /// What the network's answer depends on (model, class, region of interest, mask, calibration, interval) is as it was when the tape was made.
    ///
    /// # Errors
    /// If `element` is no `acdclip` of this library, or its profile cannot be read.
    pub fn replay(
        &self,
        element: &gst::Element,
        mut each: impl FnMut(Judged<'_>),
    ) -> Result<(), String> {
        let settings = own(element)?.imp().read_profile();
        let settings = settings.map_err(|e| e.to_string())?;
        let mut judge = Judge::default();
        let taped = self.0.lock();
        for frame in &taped.frames {
            let at = match frame {
                Frame::Seen(Seen::Scored(scored), scales) => {
                    judge.take(scored.as_ref().clone(), *scales, &settings);
                    Passed::of(&scored.moment)
                }
                Frame::Seen(Seen::Poor(moment), _) => {
                    judge.hold(moment.clone(), &settings);
                    Passed::of(moment)
                }
                Frame::Passed(passed) => {
                    judge.carry_on(passed.frame, &passed.buffer(), &settings);
                    *passed
                }
            };
            let shown = judge.shown(at.frame, &at.buffer(), &settings, &taped.model);
            let Some(shown) = shown else { continue };
            let last = judge.last();
            let (width, height) = (shown.record.width, shown.record.height);
            let is_own = matches!(frame, Frame::Seen(Seen::Scored(_), _));
            each(Judged {
                record: shown.record,
                map: last.filter(|_| is_own).map(Measured::map),
                area: last.map_or([0, 0, width, height], Measured::area),
            });
        }
        Ok(())
    }

    /// Takes what was found in a frame.
    pub(super) fn push(&self, model: &str, seen: &Seen, scales: Option<Scales>) {
        let mut taped = self.0.lock();
        if taped.model.is_empty() {
            taped.model = model.to_owned();
        }
        taped.frames.push(Frame::Seen(seen.clone(), scales));
    }

    /// Takes a frame in which nothing was looked for.
    pub(super) fn pass(&self, frame: u64, buffer: &gst::BufferRef) {
        let (pts, duration) = (buffer.pts(), buffer.duration());
        let passed = Passed {
            frame,
            pts,
            duration,
        };
        self.0.lock().frames.push(Frame::Passed(passed));
    }
}

fn own(element: &gst::Element) -> Result<&super::AcdClip, String> {
    element
        .downcast_ref()
        .ok_or_else(|| format!("wanted an element acdclip, found {}", element.name()))
}
