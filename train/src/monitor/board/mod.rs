//! What the page shows: the score over time, the events, the settings, the state of the stream. Each viewer asks for what has changed since.
//!
//! Times are milliseconds of this machine's clock since 1970; the stream's own are turned into them by when its frames come.

mod events;
mod scores;

use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

use self::{
    events::{Events, Happening, Heard},
    scores::{Point, Scores},
};
use super::{
    findings::{Seen, Told},
    pictures::Pictures,
    webrtc::Way,
};

/// What viewers can set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Settings {
    pub(super) threshold: f64,
    pub(super) map_threshold: f64,
    pub(super) muted: bool,
}

/// How the stream is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Phase {
    #[default]
    Starting,
    Live,
    Ended,
    Failed,
}

/// What is said of the stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Status {
    pub(super) phase: Phase,
    /// What it is called.
    pub(super) source: String,
    /// What ended it.
    pub(super) problem: Option<String>,
    /// What does not end it.
    pub(super) warning: Option<String>,
    /// How the live picture is to be had.
    pub(super) picture: Way,
    /// Whether it can go back to an event.
    pub(super) seekable: bool,
    /// Whether events are recorded.
    pub(super) records: bool,
}

/// What has changed since a version.
#[derive(Debug, Serialize)]
pub(super) struct Update {
    pub(super) version: u64,
    /// Whether it is everything.
    whole: bool,
    now: u64,
    /// When the newest frame came.
    picture_at: Option<u64>,
    points: Vec<Point>,
    events: Vec<Happening>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<Settings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<serde_json::Value>,
}

/// A part, and the version that it has changed in last.
#[derive(Debug, Default)]
struct Versioned<T> {
    version: u64,
    value: T,
}

impl<T: Clone> Versioned<T> {
    fn since(&self, version: u64) -> Option<T> {
        (self.version > version).then(|| self.value.clone())
    }
}

#[derive(Debug, Default)]
struct Contents {
    version: u64,
    /// Milliseconds of the clock at the stream's time 0.
    origin: u64,
    picture_at: Option<u64>,
    last_measured: Option<u64>,
    scores: Scores,
    events: Events,
    settings: Versioned<Settings>,
    /// Whether viewers have chosen the thresholds.
    is_set: bool,
    status: Versioned<Status>,
    stats: Versioned<serde_json::Value>,
}

/// What the page shows.
#[derive(Debug, Default)]
pub(super) struct Board {
    contents: Mutex<Contents>,
    version: watch::Sender<u64>,
}

/// Milliseconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

fn milliseconds(nanoseconds: u64) -> u64 {
    nanoseconds / 1_000_000
}

impl Board {
    /// Wakes whoever waits for a change.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    fn change<T>(&self, with: impl FnOnce(&mut Contents) -> T) -> T {
        let mut contents = self.contents.lock();
        contents.version += 1;
        let (result, version) = (with(&mut contents), contents.version);
        drop(contents);
        self.version.send_replace(version);
        result
    }

    /// What has changed since `version`; everything since 0.
    pub(super) fn since(&self, version: u64) -> Update {
        let contents = self.contents.lock();
        Update {
            version: contents.version,
            whole: version == 0,
            now: now(),
            picture_at: contents.picture_at,
            points: contents.scores.since(version),
            events: contents.events.since(version),
            settings: contents.settings.since(version),
            status: contents.status.since(version),
            stats: contents.stats.since(version),
        }
    }

    /// What viewers have set.
    pub(super) fn settings(&self) -> Settings {
        self.contents.lock().settings.value
    }

    /// Viewers have set something; the thresholds stay so.
    pub(super) fn set(&self, settings: Settings) {
        self.change(|contents| {
            contents.is_set = true;
            contents.settings.value = settings;
            contents.settings.version = contents.version;
        });
    }

    /// Changes what is said of the stream.
    pub(super) fn tell(&self, change: impl FnOnce(&mut Status)) {
        self.change(|contents| {
            change(&mut contents.status.value);
            contents.status.version = contents.version;
        });
    }

    /// New figures of the element.
    pub(super) fn count(&self, stats: serde_json::Value) {
        self.change(|contents| {
            contents.stats.value = stats;
            contents.stats.version = contents.version;
        });
    }

    /// A frame that is shown at `pts` has come at `now`, whatever is known of it.
    pub(super) fn pass(&self, pts: u64, now: u64) {
        let mut contents = self.contents.lock();
        contents.origin = now.saturating_sub(milliseconds(pts));
        contents.picture_at = Some(now);
        // Also where somebody has gone back after the end.
        let is_first = matches!(contents.status.value.phase, Phase::Starting | Phase::Ended);
        drop(contents);
        if is_first {
            self.tell(|status| status.phase = Phase::Live);
        }
    }

    /// That is known of the frame that has come.
    pub(super) fn see(&self, seen: &Seen) {
        self.change(|contents| contents.see(seen));
    }

    /// A message has come; tells whether it is of an event that has been seen as a whole before.
    pub(super) fn hear(&self, told: &Told) -> bool {
        self.change(|contents| contents.hear(told))
    }

    /// The stream goes on elsewhere.
    pub(super) fn jump(&self) {
        self.change(|contents| contents.events.jump());
    }

    /// Whether the stream can go back to an event.
    pub(super) fn is_seekable(&self) -> bool {
        self.contents.lock().status.value.seekable
    }

    /// How the stream is.
    pub(super) fn phase(&self) -> Phase {
        self.contents.lock().status.value.phase
    }

    /// Where in the stream an event begins, nanoseconds.
    pub(super) fn begin(&self, id: u64) -> Option<u64> {
        self.contents.lock().events.begin(id)
    }

    /// The stream has ended, and with it what was open.
    pub(super) fn end_events(&self, now: u64) {
        self.change(|contents| contents.events.end(now, contents.version));
    }

    /// An event was recorded in that file.
    pub(super) fn record(&self, id: u64, clip: &str) {
        self.change(|contents| contents.events.record(id, clip, contents.version));
    }

    /// Pictures up to `pts` are there: events that wait for one take it.
    pub(super) fn illustrate(&self, pts: u64, pictures: &Pictures) {
        let due = self.contents.lock().events.due(pts);
        for (id, at) in due {
            if let Some(picture) = pictures.at(at) {
                self.change(|contents| {
                    contents
                        .events
                        .illustrate(id, picture.jpeg, contents.version);
                });
            }
        }
    }

    /// The picture of an event's worst frame.
    pub(super) fn picture(&self, id: u64) -> Option<Bytes> {
        self.contents.lock().events.picture(id)
    }
}

impl Contents {
    fn clock(&self, pts: u64) -> u64 {
        self.origin + milliseconds(pts)
    }

    fn see(&mut self, seen: &Seen) {
        let used = Settings {
            threshold: seen.threshold,
            map_threshold: seen.map_threshold,
            ..self.settings.value
        };
        if !self.is_set && used != self.settings.value {
            self.settings.value = used;
            self.settings.version = self.version;
        }
        if self.last_measured != Some(seen.measured) {
            self.last_measured = Some(seen.measured);
            let at = self.clock(seen.measured);
            self.scores.draw(seen, at, self.version);
            self.events.judge(seen, at, self.version);
        }
    }

    fn hear(&mut self, told: &Told) -> bool {
        let now = now();
        // Of the first frame the message may come before the frame itself.
        if let (None, Some(pts)) = (self.picture_at, told.pts) {
            self.origin = now.saturating_sub(milliseconds(pts));
        }
        // A message may be heard after a jump, which has another origin.
        let clock = |pts: Option<u64>| pts.map(|pts| self.clock(pts).min(now));
        let heard = Heard {
            told,
            at: clock(told.pts),
            since: clock(told.since),
            now,
        };
        self.events.hear(&heard, self.version)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{
        super::{findings::Moment, pictures::Picture},
        events::EVENTS,
        *,
    };

    const MS: u64 = 1_000_000;

    fn seen(pts: u64, score: f64, events: &[u64]) -> Seen {
        Seen {
            pts,
            measured: pts,
            score,
            threshold: 0.5,
            map_threshold: 0.4,
            anomalous: score > 0.5,
            size: (64, 48),
            events: events.iter().map(|&id| (id, Some([1, 2, 3, 4]))).collect(),
            ..Seen::default()
        }
    }

    fn see(board: &Board, seen: &Seen, now: u64) {
        board.pass(seen.pts, now);
        board.see(seen);
    }

    fn told(moment: Moment, pts: u64, score: f64) -> Told {
        Told {
            moment,
            id: 1,
            score,
            pts: Some(pts),
            since: Some(0),
            region: None,
            size: None,
        }
    }

    #[test]
    fn a_viewer_gets_everything_once_and_then_what_is_new() {
        let board = Board::default();
        see(&board, &seen(0, 0.2, &[]), 10_000);
        see(&board, &seen(500 * MS, 0.3, &[]), 10_500);
        let all = board.since(0);
        assert!(all.whole && all.points.len() == 2);
        assert_eq!(all.settings.unwrap().map_threshold, 0.4);
        assert_eq!(all.status.unwrap().phase, Phase::Live);
        see(&board, &seen(1000 * MS, 0.4, &[]), 11_000);
        let new = board.since(all.version);
        assert_eq!(new.points.len(), 1);
        assert_eq!((new.points[0].at, new.points[0].score), (11_000, 0.4));
        assert!(new.settings.is_none() && new.status.is_none());
        assert!(board.since(new.version).points.is_empty());
    }

    #[test]
    fn of_scores_that_lie_close_together_the_highest_stays() {
        let board = Board::default();
        for (ms, score) in [(0, 0.2), (40, 0.9), (80, 0.3), (120, 0.1)] {
            see(&board, &seen(ms * MS, score, &[]), 5000 + ms);
        }
        let points = board.since(0).points;
        let scores: Vec<_> = points.iter().map(|point| (point.at, point.score)).collect();
        assert_eq!(scores, [(5000, 0.9), (5120, 0.1)]);
    }

    #[test]
    fn an_event_keeps_the_picture_of_its_worst_frame() {
        let (board, pictures) = (Board::default(), Pictures::default());
        for (pts, score) in [(0, 0.6), (100 * MS, 0.9), (200 * MS, 0.7)] {
            see(&board, &seen(pts, score, &[1]), 1000);
            let jpeg = Bytes::from(vec![pts.div_ceil(MS) as u8]);
            pictures.show(Picture { pts, jpeg });
            board.illustrate(pts, &pictures);
        }
        assert!(board.since(0).events.is_empty(), "nobody has told of it");
        board.hear(&told(Moment::Begin, 0, 0.6));
        assert_eq!(board.picture(1).unwrap()[0], 100);
        board.hear(&told(Moment::Peak, 100 * MS, 0.9));
        board.hear(&told(Moment::End, 200 * MS, 0.7));
        let [event] = &board.since(0).events[..] else {
            panic!("one event");
        };
        assert_eq!((event.peak, event.region), (0.9, Some([1, 2, 3, 4])));
        assert_eq!(event.end.unwrap() - event.begin, 200);
    }

    #[test]
    fn what_viewers_have_set_is_not_overwritten_by_frames() {
        let board = Board::default();
        see(&board, &seen(0, 0.2, &[]), 0);
        board.set(Settings {
            threshold: 0.9,
            map_threshold: 0.8,
            muted: true,
        });
        see(&board, &seen(MS, 0.2, &[]), 1);
        assert_eq!(board.settings().threshold, 0.9);
    }

    #[test]
    fn no_more_is_remembered_than_a_page_can_show() {
        let board = Board::default();
        for id in 1..=EVENTS as u64 + 5 {
            board.hear(&Told {
                id,
                ..told(Moment::Begin, 0, 0.6)
            });
        }
        assert_eq!(board.since(0).events.len(), EVENTS);
        for minute in 0..20 {
            see(
                &board,
                &seen(minute * 60_000 * MS, 0.1, &[]),
                minute * 60_000,
            );
        }
        assert_eq!(board.since(0).points.len(), 11);
    }
}
