//! How frames pass that are pieces of a strip: some leave when others come.

use std::time::Instant;

use super::{Session, Trouble};
use crate::{
    acdclip::strip::{Departure, Seam, StripRun},
    batch::Failure,
    profile::Settings,
    stats::{Skipped, Stage},
};

use acdclip_model::stream::events::Event;

/// What came of a frame, or of a strip's end.
#[derive(Default)]
pub(in crate::acdclip) struct Passage {
    /// Frames that may leave now, in order.
    pub(in crate::acdclip) departures: Vec<Departure>,
    /// What follows the last of them.
    pub(in crate::acdclip) after: Vec<gst::Event>,
    /// Where the strip was broken.
    pub(in crate::acdclip) seams: Vec<Seam>,
    /// Events that no frame brought about.
    pub(in crate::acdclip) events: Vec<Event>,
    /// Why lines could not be looked at. Frames that waited are among the departures, and nothing is known of them.
    pub(in crate::acdclip) failure: Option<Trouble>,
    /// Whether the wait for the network was ended from outside.
    pub(in crate::acdclip) cancelled: bool,
}

impl Session {
    /// Takes a frame of a strip.
    pub(in crate::acdclip) fn scan(
        &mut self,
        buffer: &gst::Buffer,
        settings: &Settings,
    ) -> Passage {
        let frame = self.frames;
        self.frames += 1;
        self.stats.frame(false);
        let mut passage = Passage::default();
        let pushed = self
            .strip_run(settings)
            .and_then(|run| run.push(buffer.clone(), frame).map_err(|e| e.to_string()));
        match pushed {
            Ok(seams) => {
                self.stats.strip_breaks += seams.len() as u64;
                passage.seams = seams;
            }
            Err(e) => {
                self.fail_strip(e, &mut passage);
                passage.departures.push(Departure {
                    before: std::mem::take(&mut passage.after),
                    ..Departure::unknown(buffer.clone())
                });
                return passage;
            }
        }
        if self.backoff.is_waiting(Instant::now()) {
            self.stats.skip(Skipped::Failing);
            self.give_up_strip(&mut passage);
        } else {
            self.proceed(settings, &mut passage);
        }
        passage
    }

    /// No frame of the strip follows: all that wait leave.
    pub(in crate::acdclip) fn end_strip(&mut self, settings: &Settings) -> Passage {
        let mut passage = Passage::default();
        if let Some(run) = &mut self.strip {
            run.end();
            self.proceed(settings, &mut passage);
        }
        self.discard_strip(&mut passage);
        passage
    }

    /// Forgets the strip. Frames that still wait are among the departures, and nothing is known of them.
    pub(in crate::acdclip) fn discard_strip(&mut self, passage: &mut Passage) {
        if let Some(mut run) = self.strip.take() {
            passage.departures.extend(run.give_up());
            passage
                .events
                .extend(run.finish(self.frames.saturating_sub(1)));
            passage.after.extend(run.take_after());
            self.flaws_before = run.flaw_count();
        }
    }

    /// Lets an event wait with the frames of the strip that came before it; gives it back where none waits.
    pub(in crate::acdclip) fn hold_event(&mut self, event: gst::Event) -> Option<gst::Event> {
        match &mut self.strip {
            Some(run) => run.hold_event(event),
            None => Some(event),
        }
    }

    fn strip_run(&mut self, settings: &Settings) -> Result<&mut StripRun, String> {
        if self.strip.is_none() {
            let look = self.look(settings)?;
            let run =
                StripRun::new(look, self.flaws_before, settings).map_err(|e| e.to_string())?;
            self.strip = Some(run);
        }
        self.strip
            .as_mut()
            .ok_or_else(|| "there is no strip".into())
    }

    /// Has the network look at what is due, and lets those frames leave whose lines have settled.
    fn proceed(&mut self, settings: &Settings, passage: &mut Passage) {
        let scales = self.subject.scales();
        let Some(run) = &mut self.strip else { return };
        match run.see() {
            Ok(Some(times)) => {
                self.backoff.succeed();
                self.stats.time(Stage::Prepare, times.prepare);
                self.stats.time(Stage::Queue, times.queue);
                self.stats.time(Stage::Network, times.network);
            }
            Ok(None) => {}
            Err(Failure::Cancelled) => passage.cancelled = true,
            Err(Failure::Failed(e)) => return self.fail_strip(e, passage),
        }
        let begun = Instant::now();
        while let Some(departure) = run.leave(scales, settings) {
            match departure {
                Ok(departure) => {
                    self.stats.score(departure.cost(), run.batch());
                    passage.departures.push(departure);
                }
                Err(e) => return self.fail_strip(e.to_string(), passage),
            }
        }
        self.stats.time(Stage::Judge, begun.elapsed());
        self.stats.events = run.flaw_count();
        self.stats.strip_lines = run.line_count();
    }

    fn fail_strip(&mut self, reason: String, passage: &mut Passage) {
        self.stats.fail();
        self.give_up_strip(passage);
        let now = Instant::now();
        // What fails again before it was to be tried again has been told of.
        if !self.backoff.is_waiting(now) {
            let wait = self.backoff.fail(now);
            passage.failure = Some(Trouble { reason, wait });
        }
    }

    /// Lets all that wait leave unseen, and the strip go on after them.
    fn give_up_strip(&mut self, passage: &mut Passage) {
        if let Some(run) = &mut self.strip {
            passage.departures.extend(run.give_up());
            passage.after.extend(run.take_after());
            passage
                .events
                .extend(run.finish(self.frames.saturating_sub(1)));
        }
    }
}
