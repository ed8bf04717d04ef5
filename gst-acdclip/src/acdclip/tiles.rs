//! Has the network look at tiles: those of one row together, as many at once as the limits say.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use acdclip_model::{
    config::Domain,
    detector::{self, Finding, Text},
    preprocess::Resize,
    stream::{
        scan::View,
        strip::{self, Strip},
        tiling::{Choice, Tiles},
    },
};

use crate::{
    batch::{Failure, Limits},
    engine::{EngineLine, Job},
};

use super::look::Times;

/// Shows tiles to the network.
#[derive(Clone)]
pub(super) struct Viewer {
    pub(super) line: Arc<EngineLine>,
    pub(super) text: Text,
    pub(super) domain: Option<Domain>,
    /// Of whole frames.
    pub(super) limits: Limits,
    /// Of tiles.
    pub(super) tile_limits: Limits,
}

/// What tiles turned out to be, and what that took.
pub(super) struct Seen {
    /// From left to right.
    pub(super) findings: Vec<Finding>,
    pub(super) times: Times,
    /// Tiles that the network looked at together, at most.
    pub(super) batch: usize,
}

impl Viewer {
    /// The tiles for frames whose shorter side, or a strip whose width, is `side`.
    pub(super) fn tiles(&self, choice: Choice, side: usize) -> acdclip_model::Result<Tiles> {
        let config = self.line.engine().detector().config();
        choice.tiles(side, config.input_size)
    }

    /// An unbroken strip of lines like those of `frame`.
    pub(super) fn strip(&self, frame: &acdclip_model::Frame<'_>, tiles: Tiles) -> Strip {
        let detector = self.line.engine().detector();
        Strip::new(frame, tiles, detector.patches(), detector.map_values())
    }

    /// Lines that may come between a line and that by which it has settled.
    pub(super) fn lattice_delay(&self, tiles: Tiles) -> usize {
        let patches = self.line.engine().detector().patches();
        strip::longest_delay(tiles, patches)
    }

    /// Looks at tiles, and waits for all of them.
    pub(super) fn see(&self, views: &[View<'_>]) -> Result<Seen, Failure> {
        let start = Instant::now();
        let jobs: acdclip_model::Result<Vec<_>> = views.iter().map(|view| self.job(view)).collect();
        let jobs = jobs.map_err(|e| Failure::Failed(e.to_string()))?;
        let prepare = start.elapsed();
        let done = self.line.call_all(jobs, self.tile_limits)?;
        let longest = |time: fn(&crate::batch::Done<Finding>) -> Duration| {
            done.iter().map(time).max().unwrap_or_default()
        };
        Ok(Seen {
            times: Times {
                prepare,
                queue: longest(|done| done.queued),
                network: longest(|done| done.ran),
                whole: start.elapsed(),
            },
            batch: done.iter().map(|done| done.batch).max().unwrap_or(0),
            findings: done.into_iter().map(|done| done.answer).collect(),
        })
    }

    fn job(&self, view: &View<'_>) -> acdclip_model::Result<Job> {
        let frame = &view.frame;
        let settings = detector::Settings {
            // Of what is shorter than a tile the shape counts; all else is square.
            resize: Resize::Fit,
            mask: view.mask.clone(),
            blanks: view.blanks,
            ..detector::Settings::default()
        };
        Ok(Job {
            input: self.line.engine().detector().prepare(frame, &settings)?,
            text: self.text.clone(),
            domain: self.domain,
        })
    }
}
