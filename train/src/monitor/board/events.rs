//! The events that the page lists, each with a picture of its worst frame.
//!
//! What is seen again after a jump back in a file is the same event again, whatever number the element gives it: it is listed once. One that a
//! jump has cut short is to be recorded again.

use std::collections::{BTreeMap, btree_map::Entry};

use axum::body::Bytes;
use serde::Serialize;

use super::Versioned;
use crate::monitor::findings::{Moment, Rect, Seen, Told};

/// Events that are remembered, each with a picture.
pub(super) const EVENTS: usize = 200;
/// Events that frames show before they are told of, at most.
const UNTOLD: usize = 50;
/// Nanoseconds by which an event may begin earlier when it is seen again: what the frames before are decides, and these are others.
const EARLIER: u64 = 1_000_000_000;

/// Something abnormal.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Happening {
    id: u64,
    pub(super) begin: u64,
    /// None while it goes on.
    pub(super) end: Option<u64>,
    pub(super) peak: f64,
    peak_at: u64,
    /// Seconds of the stream at its begin.
    pub(super) stream_seconds: f64,
    pub(super) region: Option<Rect>,
    size: (u32, u32),
    /// Which of its pictures is the newest; 0 while there is none.
    picture: u64,
    /// The file that it was recorded in.
    #[serde(skip_serializing_if = "Option::is_none")]
    clip: Option<String>,
    /// Where in the stream it begins and ends, nanoseconds.
    #[serde(skip)]
    extent: (u64, u64),
    /// How often the stream had jumped when it was seen last.
    #[serde(skip)]
    jumps: u64,
    /// Whether it has been seen to its end, which no jump was.
    #[serde(skip)]
    is_whole: bool,
}

impl Happening {
    /// It goes on at that moment of the stream. What has been seen of it stays so where only its beginning is seen again.
    fn reach(&mut self, pts: u64) {
        self.extent.1 = self.extent.1.max(pts);
    }

    /// It is over in a stream that has jumped so often.
    fn close(&mut self, at: u64, jumps: u64) {
        self.end = Some(at);
        self.is_whole |= self.jumps == jumps;
    }
}

/// A message, and what is known of its times: milliseconds since 1970.
#[derive(Debug)]
pub(super) struct Heard<'a> {
    pub(super) told: &'a Told,
    pub(super) at: Option<u64>,
    pub(super) since: Option<u64>,
    pub(super) now: u64,
}

/// The events of the stream.
#[derive(Debug, Default)]
pub(super) struct Events {
    known: BTreeMap<u64, Versioned<Happening>>,
    /// What frames show before a message has told of it. Most of it is known already where the stream has gone back, under another number, so that
    /// nothing known gives way to it.
    untold: BTreeMap<u64, Versioned<Happening>>,
    pictures: BTreeMap<u64, Bytes>,
    /// Events whose worst frame is another now, and when that is shown.
    wanted: BTreeMap<u64, u64>,
    /// The element's numbers of events that are seen again, and those that they had first.
    again: BTreeMap<u64, u64>,
    jumps: u64,
}

impl Events {
    /// What has changed since a version.
    pub(super) fn since(&self, version: u64) -> Vec<Happening> {
        let events = self.known.values();
        events.filter_map(|event| event.since(version)).collect()
    }

    /// Where in the stream an event begins, nanoseconds.
    pub(super) fn begin(&self, id: u64) -> Option<u64> {
        self.known.get(&id).map(|event| event.value.extent.0)
    }

    /// The picture of an event's worst frame.
    pub(super) fn picture(&self, id: u64) -> Option<Bytes> {
        self.pictures.get(&id).cloned()
    }

    /// Events that wait for a picture of up to `pts`, and when it is shown; they wait no more.
    pub(super) fn due(&mut self, pts: u64) -> BTreeMap<u64, u64> {
        let waiting = std::mem::take(&mut self.wanted);
        let (due, later) = waiting.into_iter().partition(|(_, at)| *at <= pts);
        self.wanted = later;
        due
    }

    /// An event gets a picture of its worst frame.
    pub(super) fn illustrate(&mut self, id: u64, jpeg: Bytes, version: u64) {
        let known = self.known.get_mut(&id);
        if let Some(event) = known.or_else(|| self.untold.get_mut(&id)) {
            event.value.picture = version;
            event.version = version;
            self.pictures.insert(id, jpeg);
        }
    }

    /// An event was recorded in that file.
    pub(super) fn record(&mut self, id: u64, clip: &str, version: u64) {
        if let Some(event) = self.known.get_mut(&self.first(id)) {
            event.value.clip = Some(clip.to_owned());
            event.version = version;
        }
    }

    /// The stream goes on elsewhere: what it has shown may come again.
    pub(super) fn jump(&mut self) {
        self.jumps += 1;
        self.wanted.clear();
    }

    /// The stream has ended, and with it what was open.
    pub(super) fn end(&mut self, now: u64, version: u64) {
        let open = self.known.values_mut();
        for event in open.filter(|event| event.value.end.is_none()) {
            event.value.close(now, self.jumps);
            event.version = version;
        }
    }

    /// Whether that frame, measured `at` then, is the worst so far of the events that are open in it.
    pub(super) fn judge(&mut self, seen: &Seen, at: u64, version: u64) {
        for (id, region) in &seen.events {
            let id = self.first(*id);
            let event = self.shown(id);
            event.value.reach(seen.measured);
            if event.value.end.is_none() && seen.score > event.value.peak {
                event.version = version;
                event.value.peak = seen.score;
                event.value.peak_at = at;
                event.value.region = *region;
                event.value.size = seen.size;
                self.wanted.insert(id, seen.measured);
            }
        }
    }

    /// Takes what is said of an event; tells whether it is one that has been seen as a whole before.
    pub(super) fn hear(&mut self, heard: &Heard<'_>, version: u64) -> bool {
        let Heard { told, at, now, .. } = *heard;
        if told.moment == Moment::Begin {
            return self.open(heard, version);
        }
        let id = self.first(told.id);
        let is_again = id != told.id;
        let jumps = self.jumps;
        // What is listed no more may still go on.
        let Some(event) = self.known.get_mut(&id) else {
            return false;
        };
        event.version = version;
        let value = &mut event.value;
        let was_whole = value.is_whole;
        if told.moment == Moment::End {
            value.close(at.unwrap_or(now).max(value.begin), jumps);
            value.reach(told.pts.unwrap_or_default());
        } else if !is_again || told.score > value.peak {
            value.peak = told.score;
            value.peak_at = at.unwrap_or(now);
        }
        was_whole
    }

    fn open(&mut self, heard: &Heard<'_>, version: u64) -> bool {
        let Heard {
            told,
            at,
            since,
            now,
        } = *heard;
        let begin = told.since.or(told.pts).unwrap_or_default();
        let known = self.known_at(begin);
        let id = known.unwrap_or(told.id);
        if known.is_some() {
            // Its frames may have come before it was told of.
            self.forget(told.id);
            self.again.retain(|_, first| *first != id);
            self.again.insert(told.id, id);
        }
        let jumps = self.jumps;
        let event = self.listed(id);
        event.version = version;
        let value = &mut event.value;
        value.jumps = jumps;
        value.begin = since.or(at).unwrap_or(now);
        value.end = None;
        let was_whole = value.is_whole;
        if known.is_none() {
            value.extent = (begin, told.pts.unwrap_or(begin));
            value.stream_seconds = begin as f64 / 1e9;
        }
        if told.score > value.peak {
            value.peak = told.score;
            value.peak_at = at.unwrap_or(now);
            value.region = told.region;
            value.size = told.size.unwrap_or_default();
            if let Some(pts) = told.pts {
                self.wanted.insert(id, pts);
            }
        }
        was_whole
    }

    /// The event, over and seen before the last jump, that went on at that moment of the stream.
    fn known_at(&self, pts: u64) -> Option<u64> {
        let is_that = |event: &&Happening| {
            let (begin, end) = event.extent;
            let is_over = event.end.is_some() && event.jumps < self.jumps;
            is_over && begin <= pts.saturating_add(EARLIER) && pts <= end
        };
        let events = self.known.values().map(|event| &event.value);
        let nearest = events
            .filter(is_that)
            .min_by_key(|event| event.extent.0.abs_diff(pts));
        nearest.map(|event| event.id)
    }

    /// The number that an event has had first.
    fn first(&self, id: u64) -> u64 {
        self.again.get(&id).copied().unwrap_or(id)
    }

    /// An event that a message tells of; the oldest one gives way to it where it is new.
    fn listed(&mut self, id: u64) -> &mut Versioned<Happening> {
        if !self.known.contains_key(&id)
            && self.known.len() >= EVENTS
            && let Some(oldest) = self.known.keys().next().copied()
        {
            self.forget(oldest);
        }
        let shown = self.untold.remove(&id);
        let event = self.known.entry(id);
        event.or_insert_with(|| shown.unwrap_or_else(|| numbered(id)))
    }

    /// An event that a frame shows.
    fn shown(&mut self, id: u64) -> &mut Versioned<Happening> {
        let is_new = !self.known.contains_key(&id) && !self.untold.contains_key(&id);
        if is_new
            && self.untold.len() >= UNTOLD
            && let Some(oldest) = self.untold.keys().next().copied()
        {
            self.forget(oldest);
        }
        match self.known.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(_) => self.untold.entry(id).or_insert_with(|| numbered(id)),
        }
    }

    fn forget(&mut self, id: u64) {
        self.known.remove(&id);
        self.untold.remove(&id);
        self.pictures.remove(&id);
        self.wanted.remove(&id);
        self.again.retain(|_, first| *first != id);
    }
}

/// Nothing is known of it yet but its number.
fn numbered(id: u64) -> Versioned<Happening> {
    Versioned {
        version: 0,
        value: Happening {
            id,
            ..Happening::default()
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// A message of a stream that is shown as it comes.
    fn hear(events: &mut Events, moment: Moment, id: u64, second: u64, now: u64) -> bool {
        let told = Told {
            moment,
            id,
            score: 0.6,
            pts: Some(second * SECOND),
            since: Some(second * SECOND),
            region: None,
            size: None,
        };
        let heard = Heard {
            told: &told,
            at: Some(now),
            since: Some(now),
            now,
        };
        events.hear(&heard, now)
    }

    /// A frame in which an event goes on.
    fn show(events: &mut Events, id: u64, second: u64, now: u64) {
        let seen = Seen {
            measured: second * SECOND,
            score: 0.7,
            events: vec![(id, None)],
            ..Seen::default()
        };
        events.judge(&seen, now, now);
    }

    #[test]
    fn what_is_seen_again_after_a_jump_is_listed_once() {
        let mut events = Events::default();
        assert!(!hear(&mut events, Moment::Begin, 1, 10, 100));
        hear(&mut events, Moment::End, 1, 14, 104);
        assert!(
            !hear(&mut events, Moment::Begin, 2, 14, 104),
            "the stream has not jumped"
        );
        hear(&mut events, Moment::End, 2, 16, 106);
        events.jump();
        assert!(hear(&mut events, Moment::Begin, 3, 11, 200));
        let [first, second] = &events.since(0)[..] else {
            panic!("two events")
        };
        assert_eq!((first.id, first.begin, first.end), (1, 200, None));
        assert_eq!((second.id, second.end), (2, Some(106)));
        assert_eq!(events.begin(1), Some(10 * SECOND), "where a jump goes to");
        assert!(hear(&mut events, Moment::End, 3, 14, 204));
        assert_eq!(events.since(0)[0].end, Some(204));
        assert!(
            !hear(&mut events, Moment::Begin, 4, 20, 210),
            "what is new is new"
        );
        hear(&mut events, Moment::End, 4, 21, 211);
        events.jump();
        assert!(
            hear(&mut events, Moment::Begin, 5, 9, 300),
            "a third time, and a little earlier"
        );
        let seen: Vec<_> = events.since(0).iter().map(|event| event.id).collect();
        assert_eq!(seen, [1, 2, 4]);
    }

    #[test]
    fn what_is_left_early_is_the_same_event_further_on() {
        let mut events = Events::default();
        hear(&mut events, Moment::Begin, 1, 10, 100);
        hear(&mut events, Moment::End, 1, 30, 120);
        // Somebody goes back, and again before it has got to the end.
        events.jump();
        assert!(hear(&mut events, Moment::Begin, 2, 10, 200));
        show(&mut events, 2, 11, 201);
        events.jump();
        hear(&mut events, Moment::End, 2, 12, 202);
        assert!(hear(&mut events, Moment::Begin, 3, 25, 300));
        assert_eq!(events.since(0).len(), 1);
    }

    #[test]
    fn what_is_seen_again_takes_no_place_in_a_full_list() {
        let mut events = Events::default();
        let count = EVENTS as u64;
        for id in 1..=count {
            hear(&mut events, Moment::Begin, id, 10 * id, 10 * id);
            hear(&mut events, Moment::End, id, 10 * id + 5, 10 * id + 5);
        }
        events.jump();
        for id in 1..=count {
            // A frame may come before the message.
            show(&mut events, count + id, 10 * id + 1, 10_000 + id);
            assert!(hear(
                &mut events,
                Moment::Begin,
                count + id,
                10 * id,
                10_000 + id
            ));
            hear(
                &mut events,
                Moment::End,
                count + id,
                10 * id + 5,
                10_000 + id,
            );
        }
        let seen: Vec<_> = events.since(0).iter().map(|event| event.id).collect();
        assert_eq!(seen, (1..=count).collect::<Vec<_>>());
        // What is new is listed, and with the peak that its frame had.
        let new = 2 * count + 1;
        show(&mut events, new, 5000, 20_000);
        hear(&mut events, Moment::Begin, new, 5000, 20_000);
        let last = events.since(0).pop().unwrap();
        assert_eq!((last.id, last.peak), (new, 0.7));
        assert_eq!(events.since(0).len(), EVENTS);
    }

    #[test]
    fn what_a_jump_cuts_short_is_recorded_when_it_is_seen_again() {
        let mut events = Events::default();
        hear(&mut events, Moment::Begin, 1, 25, 100);
        events.jump();
        // The element ends it where the stream is cut.
        hear(&mut events, Moment::End, 1, 30, 105);
        assert!(!hear(&mut events, Moment::Begin, 2, 25, 200));
        assert!(!hear(&mut events, Moment::End, 2, 40, 215));
        events.jump();
        assert!(hear(&mut events, Moment::Begin, 3, 25, 300), "now it is");
        events.jump();
        assert!(hear(&mut events, Moment::End, 3, 30, 305));
        assert!(hear(&mut events, Moment::Begin, 4, 35, 400));
        assert_eq!(events.since(0).len(), 1);
    }
}
