//! From scores and regions to events: something abnormal begins, peaks and ends once.

use std::collections::BTreeMap;

use crate::map::Region;

use super::{
    alarm::{Alarm, Durations, Levels, State},
    clock::Clock,
    run::{Run, higher},
    track::{Join, Tracker},
};

/// What happened to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// Told once it has lasted long enough: its first frame.
    Begin,
    /// Told when it has ended: the frame in which it was worst.
    Peak,
    /// Its last frame.
    End,
}

/// A moment of an event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// Number of the event since the stream began, from 1.
    pub id: u64,
    /// The frame it happened at.
    pub at: Moment,
    /// Abnormal frames so far in which it was seen.
    pub frames: u64,
    /// Where it was seen first, at its peak, or last; none where it had no region.
    pub region: Option<Region>,
    /// Presentation time of its first frame in nanoseconds, where known.
    pub since: Option<u64>,
}

/// A frame as events see it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Time by which durations are measured, nanoseconds from any origin. A step back is taken as no time at all.
    pub time: u64,
    /// Presentation time in nanoseconds, where known.
    pub pts: Option<u64>,
    /// Number of the frame.
    pub frame: u64,
    /// Its score.
    pub score: f32,
}

/// What an event is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// Levels of the score.
    pub score: Levels,
    /// How long a score or a region must last to count, and may be out of sight.
    pub durations: Durations,
}

/// What is known of a frame.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Passage {
    /// Whether the alarm stands, and so at least one event is open.
    pub anomalous: bool,
    /// The oldest open event.
    pub event_id: Option<u64>,
    /// The regions in the order given, then the weak ones by which a track went on; with their open events.
    pub regions: Vec<Region>,
    /// What began or ended.
    pub events: Vec<Event>,
}

/// Events of a stream.
///
/// The score raises and clears an alarm. While it stands each thing that is seen in regions is an event of its own; where none is seen there
/// is one event without a region, which the next thing seen takes over. An alarm that is raised begins one event, a further thing another
/// once it has been in sight for the shortest duration. A thing that is gone ends its event, but the last one stays open while the alarm
/// stands; when that is cleared all end. So there is an open event exactly while the alarm stands.
///
/// Frames of an event are those in which it is seen and the score is abnormal. One in which no event is seen belongs to the oldest.
#[derive(Debug, Clone, Default)]
pub struct EventTracker {
    clock: Clock,
    alarm: Alarm,
    tracker: Tracker,
    /// What may become the alarm's first event, while it is suspected.
    suspected: Option<Run>,
    /// Tracks in sight that have no event, since the score became abnormal.
    candidates: BTreeMap<u64, Run>,
    begun: u64,
    /// By number.
    open: Vec<Open>,
}

/// An event that has begun and not ended.
#[derive(Debug, Clone, Copy)]
struct Open {
    id: u64,
    run: Run,
    track: Option<u64>,
}

/// A frame while it is worked on.
struct Frame {
    at: Moment,
    now: u64,
    /// The tracks seen in it, and where each is worst.
    seen: BTreeMap<u64, Region>,
}

impl EventTracker {
    /// The whole picture has moved by so many pixels to the right and down since the frame before, as a camera's does that turns: what is
    /// followed has moved with it.
    pub fn shift(&mut self, by: [f64; 2]) {
        self.tracker.shift(by);
    }

    /// Takes the next frame: its score, and its regions at the map's threshold.
    ///
    /// `weak` gives the regions at the map's release threshold. It is only called where something seen before is not among `regions`.
    pub fn push(
        &mut self,
        at: Moment,
        regions: Vec<Region>,
        weak: impl FnOnce() -> Vec<Region>,
        rules: &Rules,
    ) -> Passage {
        let Rules { score, durations } = *rules;
        let now = self.clock.advance(at.time);
        let state = self.alarm.push(now, at.score, score, durations);
        let tracked = self.tracker.push(now, durations.hold, regions, weak);
        let frame = Frame {
            at,
            now,
            seen: strongest(&tracked.regions),
        };
        let mut events = self.follow(&tracked.joined, &frame);
        match state {
            State::Normal => events.extend(self.end_all()),
            State::Held => (),
            State::Suspected => self.suspect(&frame),
            State::Raised => events.extend(self.proceed(&frame, durations.min_duration)),
        }
        let with_event = |(region, track)| Region {
            event_id: self.event_of(track),
            ..region
        };
        Passage {
            anomalous: state.stands(),
            event_id: self.current(),
            regions: tracked.regions.into_iter().map(with_event).collect(),
            events,
        }
    }

    /// Ends all open events and forgets what was seen, at the end of a stream or a seam in it. Numbers go on.
    pub fn finish(&mut self) -> Vec<Event> {
        self.alarm.reset();
        self.tracker.reset();
        self.clock = Clock::default();
        self.end_all()
    }

    /// The oldest open event.
    pub fn current(&self) -> Option<u64> {
        self.open.first().map(|open| open.id)
    }

    /// Events begun so far.
    pub fn count(&self) -> u64 {
        self.begun
    }

    fn event_of(&self, track: Option<u64>) -> Option<u64> {
        let mut open = self.open.iter();
        let owner = open.find(|open| track.is_some() && open.track == track)?;
        Some(owner.id)
    }

    fn end_all(&mut self) -> Vec<Event> {
        self.suspected = None;
        self.candidates.clear();
        self.end(|_| true)
    }

    fn end(&mut self, is_over: impl Fn(&Open) -> bool) -> Vec<Event> {
        let over = self.open.extract_if(.., |open| is_over(open));
        over.flat_map(|open| open.run.end(open.id)).collect()
    }

    /// What became of the tracks: the events that have ended with them.
    fn follow(&mut self, joined: &[Join], frame: &Frame) -> Vec<Event> {
        let mut events = Vec::new();
        for join in joined {
            events.extend(self.join(*join));
        }
        events.extend(self.end_gone());
        self.candidates
            .retain(|track, _| frame.seen.contains_key(track));
        events
    }

    /// Of two events whose things have become one the older goes on.
    fn join(&mut self, join: Join) -> Vec<Event> {
        let Join { gone, into } = join;
        let candidates = [gone, into].map(|track| self.candidates.remove(&track));
        let is_either = |open: &Open| open.track == Some(gone) || open.track == Some(into);
        let Some(older) = self.open.iter_mut().find(|open| is_either(open)) else {
            let oldest = candidates.into_iter().flatten().reduce(Run::older);
            self.candidates.extend(oldest.map(|run| (into, run)));
            return Vec::new();
        };
        older.track = Some(into);
        let id = older.id;
        self.end(|open| is_either(open) && open.id != id)
    }

    /// Ends the events whose tracks are gone, all but the last.
    fn end_gone(&mut self) -> Vec<Event> {
        for open in &mut self.open {
            open.track = open.track.filter(|track| self.tracker.knows(*track));
        }
        let is_any_known = self.open.iter().any(|open| open.track.is_some());
        let last = self.current().filter(|_| !is_any_known);
        self.end(|open| open.track.is_none() && Some(open.id) != last)
    }

    /// Notes an abnormal frame of which no event may come.
    fn suspect(&mut self, frame: &Frame) {
        let run = self
            .suspected
            .get_or_insert_with(|| Run::new(frame.at, frame.now));
        run.note(frame.at, None);
        self.add_candidates(frame);
        self.note_candidates(frame);
    }

    /// Notes an abnormal frame of a standing alarm; the events that begin with it.
    fn proceed(&mut self, frame: &Frame, min_duration: u64) -> Vec<Event> {
        let begun = self.begun;
        if self.open.is_empty() {
            let run = self.suspected.take();
            self.open(run.unwrap_or_else(|| Run::new(frame.at, frame.now)), None);
        }
        self.add_candidates(frame);
        self.adopt();
        self.promote(frame, min_duration);
        self.note_events(frame);
        self.note_candidates(frame);
        let new = self.open.iter().filter(|open| open.id > begun);
        new.map(|open| open.run.begin(open.id)).collect()
    }

    fn open(&mut self, run: Run, track: Option<u64>) {
        self.begun += 1;
        let id = self.begun;
        self.open.push(Open { id, run, track });
    }

    fn add_candidates(&mut self, frame: &Frame) {
        for track in frame.seen.keys() {
            if self.event_of(Some(*track)).is_none() {
                let run = self.candidates.entry(*track);
                run.or_insert_with(|| Run::new(frame.at, frame.now));
            }
        }
    }

    /// Gives the event without a track, if there is one, to the oldest thing in sight that has no event.
    fn adopt(&mut self) {
        let Some(orphan) = self.open.iter_mut().find(|open| open.track.is_none()) else {
            return;
        };
        if let Some((track, run)) = self.candidates.pop_first() {
            orphan.track = Some(track);
            orphan.run.adopt(&run);
        }
    }

    /// Makes events of those that have been in sight for long enough.
    fn promote(&mut self, frame: &Frame, min_duration: u64) {
        let lasting = self
            .candidates
            .extract_if(.., |_, run| run.has_lasted(min_duration, frame.now));
        for (track, run) in lasting.collect::<Vec<_>>() {
            self.open(run, Some(track));
        }
    }

    fn note_events(&mut self, frame: &Frame) {
        let mut is_noted = false;
        for open in &mut self.open {
            let region = open.track.and_then(|track| frame.seen.get(&track));
            if region.is_some() {
                open.run.note(frame.at, region.copied());
                is_noted = true;
            }
        }
        if let Some(oldest) = self.open.first_mut().filter(|_| !is_noted) {
            oldest.run.note(frame.at, None);
        }
    }

    fn note_candidates(&mut self, frame: &Frame) {
        for (track, run) in &mut self.candidates {
            run.note(frame.at, frame.seen.get(track).copied());
        }
    }
}

/// Each track's region with the highest score.
fn strongest(regions: &[(Region, Option<u64>)]) -> BTreeMap<u64, Region> {
    let mut all = BTreeMap::new();
    for (region, track) in regions {
        if let Some(track) = track {
            let best = all.entry(*track).or_insert(*region);
            *best = higher(*best, *region);
        }
    }
    all
}

#[cfg(test)]
mod tests;
