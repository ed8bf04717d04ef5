//! From scores to events: a run of anomalous frames begins, peaks and ends once.

/// What happened to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// Its first frame.
    Begin,
    /// Told when it has ended: the frame of its highest score.
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
    /// Frames of the event so far.
    pub frames: u64,
}

/// A frame as events see it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Presentation time in nanoseconds, where known.
    pub pts: Option<u64>,
    /// Number of the frame.
    pub frame: u64,
    /// Its score.
    pub score: f32,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    id: u64,
    peak: Moment,
    last: Moment,
    frames: u64,
}

/// Events as maximal runs of anomalous frames.
#[derive(Debug, Clone, Default)]
pub struct EventTracker {
    begun: u64,
    open: Option<Open>,
}

impl EventTracker {
    /// Takes the next frame; tells what it began or ended.
    pub fn push(&mut self, at: Moment, anomalous: bool) -> Vec<Event> {
        if !anomalous {
            return self.finish();
        }
        match &mut self.open {
            Some(open) => {
                open.frames += 1;
                open.last = at;
                if at.score > open.peak.score {
                    open.peak = at;
                }
                Vec::new()
            }
            None => {
                self.begun += 1;
                self.open = Some(Open {
                    id: self.begun,
                    peak: at,
                    last: at,
                    frames: 1,
                });
                vec![Event {
                    kind: EventKind::Begin,
                    id: self.begun,
                    at,
                    frames: 1,
                }]
            }
        }
    }

    /// Ends the open event, at the end of a stream.
    pub fn finish(&mut self) -> Vec<Event> {
        let Some(open) = self.open.take() else {
            return Vec::new();
        };
        let moment = |kind, at| Event {
            kind,
            id: open.id,
            at,
            frames: open.frames,
        };
        vec![
            moment(EventKind::Peak, open.peak),
            moment(EventKind::End, open.last),
        ]
    }

    /// Forgets the open event without ending it, after a flush.
    pub fn discard(&mut self) {
        self.open = None;
    }

    /// The event that the last frame belongs to.
    pub fn current(&self) -> Option<u64> {
        self.open.map(|open| open.id)
    }

    /// Events begun so far.
    pub fn count(&self) -> u64 {
        self.begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(scores: &[f32]) -> Vec<(EventKind, u64, u64)> {
        let mut tracker = EventTracker::default();
        let mut all = Vec::new();
        for (frame, score) in scores.iter().enumerate() {
            let at = Moment {
                pts: Some(frame as u64 * 40),
                frame: frame as u64,
                score: *score,
            };
            all.extend(tracker.push(at, *score >= 0.5));
        }
        all.extend(tracker.finish());
        all.iter().map(|e| (e.kind, e.id, e.at.frame)).collect()
    }

    #[test]
    fn a_run_begins_peaks_and_ends_once() {
        use EventKind::{Begin, End, Peak};
        assert_eq!(
            kinds(&[0.1, 0.6, 0.9, 0.7, 0.2, 0.5]),
            [
                (Begin, 1, 1),
                (Peak, 1, 2),
                (End, 1, 3),
                (Begin, 2, 5),
                (Peak, 2, 5),
                (End, 2, 5)
            ]
        );
    }

    #[test]
    fn a_normal_stream_has_no_events() {
        assert!(kinds(&[0.1, 0.49, 0.3]).is_empty());
        assert!(kinds(&[]).is_empty());
    }

    #[test]
    fn a_discarded_event_never_ends() {
        let mut tracker = EventTracker::default();
        let at = Moment {
            pts: None,
            frame: 0,
            score: 1.0,
        };
        assert_eq!(tracker.push(at, true).len(), 1);
        tracker.discard();
        assert!(tracker.finish().is_empty());
    }
}
