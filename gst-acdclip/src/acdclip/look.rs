//! How one frame is looked at: its region of interest and mask, the model's worker, and what for. Fixed between two changes of settings
//! or caps but for what its scope has learnt, and shared with the thread that scores in the background.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    scope::{Scene, Scope, Sight, Watch},
    tiles::Viewer,
};
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
    endoscope::quality::Quality,
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

/// Between two frames, where nobody says how long that is.
pub(super) const FRAME: Duration = Duration::from_millis(40);

/// A frame on its way to the network.
pub(super) struct Shot {
    pub(super) buffer: gst::Buffer,
    /// Number of the frame since the start.
    pub(super) frame: u64,
    /// When it came.
    pub(super) came: Instant,
}

/// A frame that was looked at.
#[derive(Clone)]
pub(super) enum Seen {
    /// By the network.
    Scored(Box<Scored>),
    /// Not by the network: nothing can be seen in it.
    Poor(Moment),
}

/// Which frame was looked at, and what it is by itself.
#[derive(Clone)]
pub(super) struct Moment {
    pub(super) frame: u64,
    /// When it came.
    pub(super) came: Instant,
    pub(super) pts: Option<gst::ClockTime>,
    pub(super) duration: Option<gst::ClockTime>,
    /// Width and height of the frame, pixels.
    pub(super) size: (u32, u32),
    /// What it is good for, where that is watched.
    pub(super) quality: Option<Quality>,
    /// How far the picture has moved since the frame looked at before, pixels; none where that is not known.
    pub(super) shift: Option<[f64; 2]>,
}

/// What a frame turned out to be, and what that took.
#[derive(Clone)]
pub(super) struct Scored {
    pub(super) finding: Finding,
    pub(super) moment: Moment,
    /// The part of the frame that the finding is about.
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
    pub(super) watch: Watch,
}

/// How frames of one size and format are looked at.
pub(super) struct Look {
    viewer: Viewer,
    picture: Picture,
    manner: Manner,
    area: Rect,
    /// Of the area.
    mask: Option<Arc<Mask>>,
    /// What has been learnt of an endoscope's picture.
    scope: Arc<Scope>,
}

impl Look {
    /// An error if the region of interest lies outside of the picture.
    pub(super) fn new(
        viewer: Viewer,
        picture: Picture,
        manner: Manner,
        scope: Arc<Scope>,
    ) -> Result<Self, String> {
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
            scope,
        })
    }

    /// What frames are watched for.
    pub(super) fn watch(&self) -> Watch {
        self.manner.watch
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
    pub(super) fn score(&self, shot: Shot) -> Result<Seen, Failure> {
        let start = Instant::now();
        let failed = |e: acdclip_model::Error| Failure::Failed(e.to_string());
        let mut moment = Moment {
            frame: shot.frame,
            came: shot.came,
            pts: shot.buffer.pts(),
            duration: shot.buffer.duration(),
            size: self.picture.size(),
            quality: None,
            shift: None,
        };
        let (sight, ready) = self.prepare(&shot).map_err(failed)?;
        if let Some(sight) = &sight {
            (moment.quality, moment.shift) = (Some(sight.quality), sight.shift);
        }
        // Upstream may want its memory back while the network works.
        drop(shot.buffer);
        let prepare = start.elapsed();
        let (mut finding, times, batch) = match ready {
            None => return Ok(Seen::Poor(moment)),
            Some(Ready::Whole(input)) => self.see_whole(input)?,
            Some(Ready::Cut(strip, mask)) => self.see_tiles(*strip, mask.as_ref())?,
        };
        if let Some(highlights) = sight.as_ref().and_then(|sight| sight.highlights.as_ref()) {
            highlights.damp(&mut finding.map);
            finding = self.judged_anew(finding);
        }
        Ok(Seen::Scored(Box::new(Scored {
            finding,
            moment,
            area: sight.map_or(self.area, |sight| sight.area),
            times: Times {
                prepare: prepare + times.prepare,
                whole: start.elapsed(),
                ..times
            },
            batch,
        })))
    }

    /// What follows from a map of which something has been taken away.
    fn judged_anew(&self, finding: Finding) -> Finding {
        let detector = self.viewer.line.engine().detector();
        let anew = detector.judge(finding.map, finding.class_score, self.viewer.domain);
        Finding {
            // That of tiles is put together in another way.
            score: anew.score.min(finding.score),
            ..anew
        }
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

    fn see_tiles(
        &self,
        mut strip: Strip,
        whole: Option<&Arc<Mask>>,
    ) -> Result<(Finding, Times, usize), Failure> {
        let failed = |e: acdclip_model::Error| Failure::Failed(e.to_string());
        let (mut times, mut batch, mut score) = (Times::default(), 0, 0.0_f32);
        // An interlaced frame's field has half of its rows.
        let stretched = |mask: &Arc<Mask>| mask.stretched(strip.width(), strip.len() as usize);
        let mask = whole.map(stretched);
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
            let scores = seen.findings.iter().map(|finding| finding.score);
            score = scores.fold(score, f32::max);
            strip.take(row, &seen.findings, None, counts);
        }
        let sight = strip.sight(0..strip.len()).map_err(failed)?;
        let map = match whole {
            Some(mask) => sight.map.masked(mask.clone()),
            None => sight.map,
        };
        let finding = Finding {
            score,
            class_score: sight.class_score,
            map_max: map.max(),
            map,
        };
        Ok((finding, times, batch))
    }

    /// What the network is shown of a frame, none where nothing can be seen in it; and what is watched.
    fn prepare(&self, shot: &Shot) -> acdclip_model::Result<(Option<Sight>, Option<Ready>)> {
        self.with_frame(&shot.buffer, |whole| {
            let sight = self.watched(shot, whole)?;
            let poor = |sight: &Sight| self.manner.watch.gate && sight.quality != Quality::Good;
            if sight.as_ref().is_some_and(poor) {
                return Ok((sight, None));
            }
            let (frame, mask) = match &sight {
                None => (whole.clone(), self.mask.clone()),
                Some(sight) => {
                    let Rect { x, y, w, h } = sight.area;
                    let (x, y) = (x - self.area.x, y - self.area.y);
                    let [x, y, w, h] = [x, y, w, h].map(|side| side as usize);
                    (whole.crop(x, y, w, h)?, sight.mask.clone())
                }
            };
            let ready = self.ready(&shot.buffer, &frame, mask)?;
            Ok((sight, Some(ready)))
        })
    }

    /// What a frame is by itself, where anything is watched.
    fn watched(&self, shot: &Shot, whole: &Frame<'_>) -> acdclip_model::Result<Option<Sight>> {
        if !self.manner.watch.is_any() {
            return Ok(None);
        }
        let (frame, settings) = self.settings(&shot.buffer, whole, self.mask.clone());
        let (wide, high) = settings.pixel_aspect;
        let scene = Scene {
            frame,
            area: self.area,
            mask: self.mask.clone(),
            aspect: f64::from(wide.max(1)) / f64::from(high.max(1)),
            step: self.picture.crop_step(),
            time: self.time(shot),
        };
        self.scope.look(&scene, self.manner.watch).map(Some)
    }

    /// Stream time in nanoseconds, by the number of frames where buffers have none.
    fn time(&self, shot: &Shot) -> u64 {
        let counted = || {
            let duration = self.picture.frame_duration().unwrap_or(FRAME);
            u64::try_from(duration.as_nanos()).map_or(0, |frame| frame.saturating_mul(shot.frame))
        };
        shot.buffer
            .pts()
            .map_or_else(counted, gst::ClockTime::nseconds)
    }

    fn ready(
        &self,
        buffer: &gst::BufferRef,
        frame: &Frame<'_>,
        mask: Option<Arc<Mask>>,
    ) -> acdclip_model::Result<Ready> {
        let (frame, settings) = self.settings(buffer, frame, mask);
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
        Ok(Ready::Cut(Box::new(strip), settings.mask.clone()))
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
        mask: Option<Arc<Mask>>,
    ) -> (Frame<'a>, detector::Settings) {
        let par = self.picture.info.par();
        let mut settings = detector::Settings {
            resize: self.manner.resize,
            pixel_aspect: (par.numer().unsigned_abs(), par.denom().unsigned_abs()),
            domain: self.viewer.domain,
            mask,
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
    /// With what of it counts.
    Cut(Box<Strip>, Option<Arc<Mask>>),
}
