//! What the pipeline and the server share.

use std::sync::Arc;

use gst::prelude::*;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::{
    board::{Board, Phase, Settings},
    findings, jump,
    pictures::Pictures,
    pipeline::element,
    webrtc::Broadcast,
};
use crate::outcome::Outcome;

/// One stream, and who looks at it.
pub(super) struct Hub {
    pub(super) board: Board,
    pub(super) pictures: Pictures,
    /// The picture by WebRTC, where it is to be had.
    pub(super) broadcast: Option<Arc<Broadcast>>,
    /// Seats of those who see the picture.
    pub(super) viewers: Arc<Semaphore>,
    /// Seats of those who are told what changes.
    pub(super) readers: Arc<Semaphore>,
    seats: usize,
    acdclip: gst::Element,
    /// What the stream comes to before it is as if it were live.
    pace: gst::Element,
    /// Settings are made one after the other.
    setting: Mutex<()>,
}

/// What a viewer wants to be set.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Change {
    threshold: Option<f64>,
    map_threshold: Option<f64>,
    muted: Option<bool>,
}

impl Change {
    /// What it says with what is set already, or what is wrong with it.
    fn applied_to(self, settings: Settings) -> Result<Settings, String> {
        for (name, value) in [
            ("threshold", self.threshold),
            ("map_threshold", self.map_threshold),
        ] {
            if let Some(value) = value
                && !(0.0..=1.0).contains(&value)
            {
                return Err(format!("{name}: wanted 0 to 1, found {value}"));
            }
        }
        Ok(Settings {
            threshold: self.threshold.unwrap_or(settings.threshold),
            map_threshold: self.map_threshold.unwrap_or(settings.map_threshold),
            muted: self.muted.unwrap_or(settings.muted),
        })
    }
}

impl Hub {
    /// Of the stream of that pipeline, for so many viewers.
    pub(super) fn new(
        pipeline: &gst::Pipeline,
        broadcast: Option<Arc<Broadcast>>,
        viewers: usize,
    ) -> Outcome<Self> {
        Ok(Self {
            board: Board::default(),
            pictures: Pictures::default(),
            broadcast,
            viewers: Arc::new(Semaphore::new(viewers)),
            readers: Arc::new(Semaphore::new(viewers)),
            seats: viewers,
            acdclip: element(pipeline, "acdclip")?,
            pace: element(pipeline, "pace")?,
            setting: Mutex::default(),
        })
    }

    /// Sets what a viewer wants, on the element and on every page.
    pub(super) fn set(&self, change: Change) -> Result<Settings, String> {
        let _one = self.setting.lock();
        let settings = change.applied_to(self.board.settings())?;
        if let Some(threshold) = change.threshold {
            self.acdclip.set_property("threshold", threshold);
        }
        if let Some(threshold) = change.map_threshold {
            self.acdclip.set_property("map-threshold", threshold);
        }
        if change.muted.is_some() && self.acdclip.find_property("mute").is_some() {
            self.acdclip.set_property("mute", settings.muted);
        }
        self.board.set(settings);
        Ok(settings)
    }

    /// Whether it can go back to an event.
    pub(super) fn can_jump(&self) -> bool {
        jump::is_possible(&self.pace)
    }

    /// Goes to a little before an event; `None` where there is no such event.
    pub(super) fn jump_to_event(&self, id: u64) -> Option<Result<(), String>> {
        let begin = self.board.begin(id)?;
        if !self.board.is_seekable() {
            let found = match self.board.phase() {
                Phase::Starting | Phase::Live => "what is live or comes but once",
                Phase::Ended => "one that is over",
                Phase::Failed => "one that has failed",
            };
            return Some(Err(format!("wanted a file to go back in, found {found}")));
        }
        self.board.jump();
        Some(jump::to(&self.pace, begin))
    }

    /// There will be no pictures any more: whoever waits for one is let go.
    pub(super) fn end_pictures(&self) {
        self.pictures.end();
        if let Some(broadcast) = &self.broadcast {
            broadcast.end();
        }
    }

    /// Whether a frame has come.
    pub(super) fn has_seen_frames(&self) -> bool {
        self.stats()
            .get("frames")
            .is_ok_and(|frames: u64| frames > 0)
    }

    /// The element's figures.
    pub(super) fn stats(&self) -> gst::Structure {
        self.acdclip.property("stats")
    }

    /// The element's figures and how many see the picture.
    pub(super) fn figures(&self) -> serde_json::Value {
        let mut figures = findings::json(&self.stats());
        let seats = self.seats - self.viewers.available_permits();
        figures["viewers"] = seats.into();
        if let Some(broadcast) = &self.broadcast {
            figures["viewers-webrtc"] = broadcast.viewers().into();
            figures["webrtc-encoding"] = broadcast.is_encoding().into();
        }
        figures
    }
}
