//! How one frame is looked at: its region of interest and mask, the model's worker, and what for. Fixed between two changes of settings
//! or caps, and shared with the thread that scores in the background.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::tiles::Viewer;
use crate::{
    batch::{Failure, Limits},
    engine::Job,
    picture::Picture,
    profile::TilingMode,
    rect::Rect,
};
use acdclip_model::{
    Frame,
    detector::{self, Finding},
    mask::Mask,
    preprocess::Resize,
    roi::Roi,
    stream::{
        mosaic::Tile,
        scan::View,
        strip::Strip,
        tiling::{Choice, Tiling},
    },
};

/// A frame on its way to the network.
pub(super) struct Shot {
    pub(super) buffer: gst::Buffer,
    /// Number of the frame since the start.
    pub(super) frame: u64,
    /// When it came.
    pub(super) came: Instant,
}

/// What a frame turned out to be, and what that took.
#[derive(Clone)]
pub(super) struct Scored {
    pub(super) finding: Finding,
    pub(super) frame: u64,
    /// When it came.
    pub(super) came: Instant,
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
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Times {
    pub(super) prepare: Duration,
    pub(super) queue: Duration,
    pub(super) network: Duration,
    pub(super) whole: Duration,
}

impl Times {
    /// With what came after it.
    pub(super) fn and(self, later: Self) -> Self {
        Self {
            prepare: self.prepare + later.prepare,
            queue: self.queue + later.queue,
            network: self.network + later.network,
            whole: self.whole + later.whole,
        }
    }
}

/// What settings say about it.
#[derive(Clone)]
pub(super) struct Manner {
    pub(super) resize: Resize,
    pub(super) roi: Roi,
    /// Of the whole frame.
    pub(super) mask: Option<Arc<Mask>>,
    pub(super) tiling: TilingMode,
    pub(super) tiles: Choice,
}

/// How frames of one size and format are looked at.
pub(super) struct Look {
    viewer: Viewer,
    picture: Picture,
    manner: Manner,
    area: Rect,
    /// Of the area.
    mask: Option<Arc<Mask>>,
}

impl Look {
    /// An error if the region of interest lies outside of the picture.
    pub(super) fn new(viewer: Viewer, picture: Picture, manner: Manner) -> Result<Self, String> {
        let (width, height) = picture.size();
        let area = area(manner.roi, manner.tiling, &picture)?;
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
            viewer,
            picture,
            manner,
            area,
        })
    }

    /// How many frames the network takes at once.
    pub(super) fn limits(&self) -> Limits {
        self.viewer.limits
    }

    /// How tiles are shown to the network.
    pub(super) fn viewer(&self) -> &Viewer {
        &self.viewer
    }

    /// What the caps say.
    pub(super) fn picture(&self) -> &Picture {
        &self.picture
    }

    /// The part of the frame that is looked at.
    pub(super) fn area(&self) -> Rect {
        self.area
    }

    /// Which columns of the area count, in every row of it; none for all of them.
    pub(super) fn columns(&self) -> Option<Arc<[bool]>> {
        self.mask.as_ref().map(|mask| mask.columns().into())
    }

    /// Has the network look at a frame, and waits for it.
    pub(super) fn score(&self, shot: Shot) -> Result<Scored, Failure> {
        let start = Instant::now();
        let failed = |e: acdclip_model::Error| Failure::Failed(e.to_string());
        let (pts, duration) = (shot.buffer.pts(), shot.buffer.duration());
        let ready = self.prepare(&shot.buffer).map_err(failed)?;
        // Upstream may want its memory back while the network works.
        drop(shot.buffer);
        let prepare = start.elapsed();
        let (finding, times, batch) = match ready {
            Ready::Whole(input) => self.see_whole(input)?,
            Ready::Cut(strip) => self.see_tiles(*strip)?,
        };
        Ok(Scored {
            finding,
            frame: shot.frame,
            came: shot.came,
            pts,
            duration,
            size: self.picture.size(),
            area: self.area,
            times: Times {
                prepare: prepare + times.prepare,
                whole: start.elapsed(),
                ..times
            },
            batch,
        })
    }

    fn see_whole(&self, input: detector::Input) -> Result<(Finding, Times, usize), Failure> {
        let viewer = &self.viewer;
        let job = Job {
            input,
            text: viewer.text.clone(),
            domain: viewer.domain,
        };
        let done = viewer.line.call(job, viewer.limits)?;
        let times = Times {
            queue: done.queued,
            network: done.ran,
            ..Times::default()
        };
        Ok((done.answer, times, done.batch))
    }

    fn see_tiles(&self, mut strip: Strip) -> Result<(Finding, Times, usize), Failure> {
        let failed = |e: acdclip_model::Error| Failure::Failed(e.to_string());
        let (mut times, mut batch) = (Times::default(), 0);
        // An interlaced frame's field has half of its rows.
        let stretched = |mask: &Arc<Mask>| mask.stretched(strip.width(), strip.len() as usize);
        let mask = self.mask.as_ref().map(stretched);
        while let Some(row) = strip.due() {
            let counts = |tile: Tile| {
                let part =
                    |mask: &Mask| mask.crop(tile.x, tile.top as usize, tile.width, tile.height);
                mask.as_ref()
                    .is_none_or(|mask| part(mask).is_ok_and(|part| !part.is_empty()))
            };
            let tiles = strip.tiles(row).into_iter().filter(|tile| counts(*tile));
            let views = tiles.map(|tile| {
                let mask = mask.as_ref().map(|mask| {
                    let part = mask.crop(tile.x, tile.top as usize, tile.width, tile.height);
                    part.map(Arc::new)
                });
                Ok(View {
                    frame: strip.frame(tile)?,
                    mask: mask.transpose()?,
                    blanks: true,
                })
            });
            let views: acdclip_model::Result<Vec<_>> = views.collect();
            let seen = self.viewer.see(&views.map_err(failed)?)?;
            (times, batch) = (times.and(seen.times), batch.max(seen.batch));
            strip.take(row, &seen.findings, None, counts);
        }
        let sight = strip.sight(0..strip.len()).map_err(failed)?;
        let map = match &self.mask {
            Some(mask) => sight.map.masked(mask.clone()),
            None => sight.map,
        };
        let finding = Finding {
            score: sight.score,
            class_score: sight.class_score,
            map_max: map.max(),
            map,
        };
        Ok((finding, times, batch))
    }

    fn prepare(&self, buffer: &gst::BufferRef) -> acdclip_model::Result<Ready> {
        self.with_frame(buffer, |frame| {
            let (frame, settings) = self.settings(buffer, frame);
            let (frame, settings) = (&frame, &settings);
            let detector = self.viewer.line.engine().detector();
            let size = (frame.width(), frame.height());
            let tiling = Tiling::from(self.manner.tiling);
            if !tiling.cuts(size, detector.config().input_size) {
                return Ok(Ready::Whole(detector.prepare(frame, settings)?));
            }
            let tiles = self.viewer.tiles(self.manner.tiles, size.0.min(size.1))?;
            let mut strip = self.viewer.strip(frame, tiles);
            strip.push(frame, 0..frame.height())?;
            strip.end();
            Ok(Ready::Cut(Box::new(strip)))
        })
    }

    /// Runs `f` on the part of a buffer's frame that is looked at.
    pub(super) fn with_frame<T>(
        &self,
        buffer: &gst::BufferRef,
        f: impl FnOnce(&Frame<'_>) -> acdclip_model::Result<T>,
    ) -> acdclip_model::Result<T> {
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
        f(&frame)
    }

    /// What of a frame is looked at whole, of an interlaced one its top field, and how.
    fn settings<'a>(
        &self,
        buffer: &gst::BufferRef,
        frame: &Frame<'a>,
    ) -> (Frame<'a>, detector::Settings) {
        let par = self.picture.info.par();
        let mut settings = detector::Settings {
            resize: self.manner.resize,
            pixel_aspect: (par.numer().unsigned_abs(), par.denom().unsigned_abs()),
            domain: self.viewer.domain,
            mask: self.mask.clone(),
            ..detector::Settings::default()
        };
        if !self.picture.is_interlaced(buffer) {
            return (frame.clone(), settings);
        }
        // A field's pixels are twice as high as the frame's.
        settings.pixel_aspect.1 = settings.pixel_aspect.1.saturating_mul(2);
        (frame.field(), settings)
    }
}

/// What a region of interest is of frames like `picture`.
pub(super) fn area(roi: Roi, tiling: TilingMode, picture: &Picture) -> Result<Rect, String> {
    let ((width, height), step) = (picture.size(), picture.crop_step());
    match tiling {
        TilingMode::Scan => roi.columns(width, step.0).map(|columns| Rect {
            x: columns.start,
            y: 0,
            w: columns.end - columns.start,
            h: height,
        }),
        _ => roi.part(width, height, step).map(Rect::from),
    }
}

/// A frame, ready for the network.
enum Ready {
    Whole(detector::Input),
    Cut(Box<Strip>),
}
