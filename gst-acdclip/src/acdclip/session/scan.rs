//! How frames pass that are pieces of a strip. In `sync` some leave when others come; in `latest` each goes on at once, and what it turned out to be
//! is told later.

use std::time::{Duration, Instant};

use super::{Pace, Session, Trouble};
use crate::{
    acdclip::{
        beside::{Beside, Refusal},
        strip::{Departure, Keeping, Progress, Seam, StripRun, Terms},
    },
    batch::Failure,
    patch_map::PatchMap,
    profile::{self, Encoder, Settings},
    stats::{Skipped, Stage},
};

use acdclip_model::{map::Region, record::Record, stream::events::Event};

/// Frames that wait for the thread beside the stream, at least.
const WAITING: usize = 4;

/// Where the strip is looked at.
pub(super) enum Scanning {
    /// On the streaming thread.
    Here(Box<StripRun>),
    /// Beside it.
    Beside(Beside),
}

impl Scanning {
    fn pace(&self) -> Pace {
        match self {
            Self::Here(_) => Pace::Sync,
            Self::Beside(_) => Pace::Latest,
        }
    }
}

/// What came of a frame, or of a strip's end.
#[derive(Default)]
pub(in crate::acdclip) struct Passage {
    /// Frames that may leave now, in order; those that have gone on already without their pixels.
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
    /// Whether there is a strip whose frames pass another way than at `pace`.
    pub(in crate::acdclip) fn scans_otherwise(&self, pace: Pace) -> bool {
        self.strip
            .as_ref()
            .is_some_and(|strip| strip.pace() != pace)
    }

    /// Takes a frame of a strip, which leaves with its lines' own findings.
    pub(in crate::acdclip) fn scan(
        &mut self,
        buffer: &gst::Buffer,
        settings: &Settings,
    ) -> Passage {
        let (frame, mut passage) = (self.next_frame(), Passage::default());
        let looks = !self.backoff.is_waiting(Instant::now());
        if !looks {
            self.stats.skip(Skipped::Failing);
        }
        let terms = Terms::new(settings, self.subject.scales());
        let progress = match self.scanning(Pace::Sync, settings) {
            Ok(Scanning::Here(run)) => run.take(buffer.clone(), frame, looks, terms),
            other => Progress {
                departures: vec![Departure::unknown(buffer.clone())],
                failure: other.err().map(Failure::Failed),
                ..Progress::default()
            },
        };
        self.hear(progress, &mut passage);
        passage
    }

    /// Takes a frame of a strip that goes on at once: what came of frames before it.
    pub(in crate::acdclip) fn scan_beside(
        &mut self,
        buffer: &gst::Buffer,
        settings: &Settings,
    ) -> Passage {
        let (frame, mut passage) = (self.next_frame(), Passage::default());
        if let Some(Scanning::Beside(beside)) = &self.strip {
            for progress in beside.news() {
                self.hear(progress, &mut passage);
            }
        }
        let waits = self.backoff.is_waiting(Instant::now());
        let terms = Terms::new(settings, self.subject.scales());
        match self.scanning(Pace::Latest, settings) {
            Ok(Scanning::Beside(beside)) if waits => {
                beside.miss();
                self.stats.skip(Skipped::Failing);
            }
            Ok(Scanning::Beside(beside)) => match beside.offer(buffer.clone(), frame, terms) {
                Ok(()) => {}
                Err(Refusal::Full) => self.stats.skip(Skipped::Busy),
                Err(Refusal::Gone) => {
                    self.stats.skip(Skipped::Failing);
                    self.strip = None;
                }
            },
            Ok(Scanning::Here(_)) => {}
            Err(e) => self.trouble(e, &mut passage),
        }
        passage
    }

    /// What a frame of a strip that goes on at once carries: what is known of the lines that it shows, unless that is too old.
    pub(in crate::acdclip) fn carried(
        &mut self,
        buffer: &gst::BufferRef,
        settings: &Settings,
    ) -> Option<(Record, Option<PatchMap>)> {
        let frame = self.frames.saturating_sub(1);
        let (record, map) = self.settled.as_ref()?;
        let frames = frame.saturating_sub(record.frame);
        let age = match record.pts.zip(buffer.pts()) {
            Some((then, now)) => now.nseconds().abs_diff(then),
            None => {
                let duration = buffer.duration().map_or(0, gst::ClockTime::nseconds);
                duration.saturating_mul(frames)
            }
        };
        self.stats.time(Stage::Age, Duration::from_nanos(age));
        if age > profile::nanoseconds(settings.max_age) {
            return None;
        }
        let height = u64::from(record.height);
        let rows = match (settings.encoder, u64::from(settings.line_advance)) {
            (Encoder::None | Encoder::Pitch, advance @ 1..) => frames.saturating_mul(advance),
            // Without overlap no frame shows a line of one before it. With a counter only those that have been read are known.
            _ if frames > 0 => height,
            _ => 0,
        };
        let rows = rows.min(height) as u32;
        let regions = record.regions.iter();
        let regions: Vec<_> = regions
            .filter_map(|region| scrolled(region, rows))
            .collect();
        // A flaw that has left the picture is no alarm of what it shows now.
        let event_id = regions.iter().filter_map(|region| region.event_id).min();
        let record = Record {
            pts: buffer.pts().map(gst::ClockTime::nseconds),
            frame,
            age,
            anomalous: event_id.is_some(),
            event_id,
            regions,
            ..record.clone()
        };
        Some((record, map.scrolled(rows)))
    }

    /// No frame of the strip follows: all that wait leave.
    pub(in crate::acdclip) fn end_strip(&mut self, settings: &Settings) -> Passage {
        let terms = Terms::new(settings, self.subject.scales());
        self.leave_strip(|strip| match strip {
            Scanning::Here(mut run) => vec![run.end(terms)],
            Scanning::Beside(beside) => beside.end(terms),
        })
    }

    /// Forgets the strip. Frames that still wait are among the departures, and nothing is known of them.
    pub(in crate::acdclip) fn discard_strip(&mut self) -> Passage {
        self.leave_strip(|strip| match strip {
            Scanning::Here(mut run) => vec![run.discard()],
            Scanning::Beside(beside) => beside.discard(),
        })
    }

    fn leave_strip(&mut self, how: impl FnOnce(Scanning) -> Vec<Progress>) -> Passage {
        let mut passage = Passage::default();
        if let Some(strip) = self.strip.take() {
            for progress in how(strip) {
                self.hear(progress, &mut passage);
            }
            self.flaws_before = self.stats.events;
        }
        self.settled = None;
        passage
    }

    /// Lets an event wait with the frames of the strip that came before it; gives it back where none waits.
    pub(in crate::acdclip) fn hold_event(&mut self, event: gst::Event) -> Option<gst::Event> {
        match &mut self.strip {
            Some(Scanning::Here(run)) => run.hold_event(event),
            _ => Some(event),
        }
    }

    pub(super) fn next_frame(&mut self) -> u64 {
        let frame = self.frames;
        self.frames += 1;
        self.stats.frame(false);
        frame
    }

    /// The strip as frames pass at `pace`, or a new one.
    fn scanning(&mut self, pace: Pace, settings: &Settings) -> Result<&mut Scanning, String> {
        if self.strip.is_none() {
            let look = self.look(settings)?;
            let keeping = match pace {
                Pace::Sync => Keeping::Frames,
                Pace::Latest => Keeping::Times,
            };
            let run = StripRun::new(look, keeping, self.flaws_before, settings)
                .map_err(|e| e.to_string())?;
            self.strip = Some(match pace {
                Pace::Sync => Scanning::Here(Box::new(run)),
                Pace::Latest => {
                    let waiting = WAITING.max(self.frames_held(settings));
                    let beside = Beside::spawn(run, waiting).map_err(|e| {
                        format!("no thread could be had to look at the strip on: {e}")
                    })?;
                    Scanning::Beside(beside)
                }
            });
        }
        self.strip
            .as_mut()
            .ok_or_else(|| "there is no strip".into())
    }

    /// Counts what came of frames, and adds it to what is to be told.
    fn hear(&mut self, progress: Progress, passage: &mut Passage) {
        self.stats.strip_breaks += progress.seams.len() as u64;
        self.stats.events = self.stats.events.max(progress.flaws);
        if progress.lines > 0 {
            self.stats.strip_lines = progress.lines;
        }
        if let Some(times) = progress.seen {
            self.backoff.succeed();
            self.stats.time(Stage::Prepare, times.prepare);
            self.stats.time(Stage::Queue, times.queue);
            self.stats.time(Stage::Network, times.network);
            self.stats.time(Stage::Judge, progress.judged);
        }
        for departure in &progress.departures {
            if let Some(known) = &departure.known {
                self.stats.score(departure.cost(), progress.batch);
                self.settled = Some(known.clone());
            }
        }
        passage.seams.extend(progress.seams);
        passage.departures.extend(progress.departures);
        passage.after.extend(progress.after);
        passage.events.extend(progress.events);
        match progress.failure {
            Some(Failure::Cancelled) => passage.cancelled = true,
            Some(Failure::Failed(e)) => self.trouble(e, passage),
            None => {}
        }
    }

    fn trouble(&mut self, reason: String, passage: &mut Passage) {
        self.stats.fail();
        let now = Instant::now();
        // What fails again before it was to be tried again has been told of.
        if !self.backoff.is_waiting(now) {
            let wait = self.backoff.fail(now);
            passage.failure = Some(Trouble { reason, wait });
        }
    }
}

/// A region on a frame whose rows have moved up by `rows`; none where all of it has left. Score and area stay those of the whole.
fn scrolled(region: &Region, rows: u32) -> Option<Region> {
    let bottom = (region.y + region.h)
        .checked_sub(rows)
        .filter(|rest| *rest > 0)?;
    let y = region.y.saturating_sub(rows);
    Some(Region {
        y,
        h: bottom - y,
        centroid: [region.centroid[0], region.centroid[1] - rows as f32],
        ..*region
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_moves_up_with_the_lines_and_leaves_at_the_top() {
        let region = Region {
            x: 5,
            y: 10,
            w: 4,
            h: 20,
            score: 1.0,
            area: 80,
            centroid: [7.0, 20.0],
            event_id: None,
            place: None,
        };
        let seen = |rows| scrolled(&region, rows).map(|region| (region.y, region.h));
        assert_eq!(seen(0), Some((10, 20)));
        assert_eq!(seen(10), Some((0, 20)));
        assert_eq!(seen(25), Some((0, 5)));
        assert_eq!(seen(30), None);
    }
}
