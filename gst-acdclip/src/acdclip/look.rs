//! How one frame is looked at: its region of interest and mask, the model's worker, and what for. Fixed between two changes of settings
//! or caps, and shared with the thread that scores in the background.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use acdclip_model::{
    config::Domain,
    detector::{self, Finding, Text},
    mask::Mask,
    preprocess::Resize,
};
use gst_video::VideoFrameExt;

use super::roi::Roi;
use crate::{
    batch::{Failure, Limits},
    engine::{EngineLine, Job},
    picture::Picture,
    rect::Rect,
};

/// A frame on its way to the network.
pub(super) struct Shot {
    pub(super) buffer: gst::Buffer,
    /// Number of the frame since the start.
    pub(super) frame: u64,
}

/// What a frame turned out to be, and what that took.
pub(super) struct Scored {
    pub(super) finding: Finding,
    pub(super) frame: u64,
    pub(super) pts: Option<gst::ClockTime>,
    pub(super) duration: Option<gst::ClockTime>,
    /// Width and height of the frame, pixels.
    pub(super) size: (u32, u32),
    /// The part of it that the finding is about.
    pub(super) area: Rect,
    pub(super) times: Times,
    /// Frames that the network looked at together with it.
    pub(super) batch: usize,
}

/// Where the time went.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) prepare: Duration,
    pub(super) queue: Duration,
    pub(super) network: Duration,
    pub(super) whole: Duration,
}

/// What settings say about it.
#[derive(Clone)]
pub(super) struct Manner {
    pub(super) resize: Resize,
    pub(super) domain: Option<Domain>,
    pub(super) roi: Roi,
    /// Of the whole frame.
    pub(super) mask: Option<Arc<Mask>>,
    pub(super) limits: Limits,
}

/// How frames of one size and format are looked at.
pub(super) struct Look {
    line: Arc<EngineLine>,
    text: Text,
    picture: Picture,
    manner: Manner,
    area: Rect,
    /// Of the area.
    mask: Option<Arc<Mask>>,
}

impl Look {
    /// An error if the region of interest lies outside of the picture.
    pub(super) fn new(
        line: Arc<EngineLine>,
        text: Text,
        picture: Picture,
        manner: Manner,
    ) -> Result<Self, String> {
        let (width, height) = picture.size();
        let area = manner.roi.rect(width, height, picture.crop_step())?;
        let mask = manner.mask.as_ref().map(|mask| {
            let [x, y, w, h] = [area.x, area.y, area.w, area.h].map(|side| side as usize);
            let whole = mask.stretched(width as usize, height as usize);
            whole
                .crop(x, y, w, h)
                .map(Arc::new)
                .map_err(|e| e.to_string())
        });
        Ok(Self {
            mask: mask.transpose()?,
            line,
            text,
            picture,
            manner,
            area,
        })
    }

    /// Its manner's.
    pub(super) fn limits(&self) -> Limits {
        self.manner.limits
    }

    /// Has the network look at a frame, and waits for it.
    pub(super) fn score(&self, shot: Shot) -> Result<Scored, Failure> {
        let start = Instant::now();
        let failed = |e: acdclip_model::Error| Failure::Failed(e.to_string());
        let input = self.prepare(&shot.buffer).map_err(failed)?;
        let (pts, duration) = (shot.buffer.pts(), shot.buffer.duration());
        // Upstream may want its memory back while the network works.
        drop(shot.buffer);
        let prepare = start.elapsed();
        let job = Job {
            input,
            text: self.text.clone(),
            domain: self.manner.domain,
        };
        let done = self.line.call(job, self.manner.limits)?;
        Ok(Scored {
            finding: done.answer,
            frame: shot.frame,
            pts,
            duration,
            size: self.picture.size(),
            area: self.area,
            times: Times {
                prepare,
                queue: done.queued,
                network: done.ran,
                whole: start.elapsed(),
            },
            batch: done.batch,
        })
    }

    fn prepare(&self, buffer: &gst::BufferRef) -> acdclip_model::Result<detector::Input> {
        let mapped = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &self.picture.info)
            .map_err(|e| {
                acdclip_model::Error::Frame(format!("cannot be mapped for reading: {e}"))
            })?;
        let area = self.area;
        let frame = self.picture.frame(&mapped)?.crop(
            area.x as usize,
            area.y as usize,
            area.w as usize,
            area.h as usize,
        )?;
        let par = self.picture.info.par();
        let mut settings = detector::Settings {
            resize: self.manner.resize,
            pixel_aspect: (par.numer().unsigned_abs(), par.denom().unsigned_abs()),
            domain: self.manner.domain,
            mask: self.mask.clone(),
            ..detector::Settings::default()
        };
        let interlaced = mapped
            .flags()
            .contains(gst_video::VideoFrameFlags::INTERLACED);
        let frame = if interlaced {
            // A field's pixels are twice as high as the frame's.
            settings.pixel_aspect.1 = settings.pixel_aspect.1.saturating_mul(2);
            frame.field()
        } else {
            frame
        };
        self.line.engine().detector().prepare(&frame, &settings)
    }
}
