//! What is known of an event while it lasts: where and when it began, was worst, and was last seen.

use crate::map::Region;

use super::events::{Event, EventKind, Moment};

/// The frames of an event so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    onset: Moment,
    /// The onset on the tracker's own clock.
    since: u64,
    frames: u64,
    first: Option<Region>,
    peak: Sight,
    last: Sight,
}

/// Something seen in a frame.
#[derive(Debug, Clone, Copy)]
struct Sight {
    at: Moment,
    region: Option<Region>,
}

impl Run {
    /// A run that starts at a moment, which is to be noted yet.
    pub(super) fn new(onset: Moment, since: u64) -> Self {
        let sight = Sight {
            at: onset,
            region: None,
        };
        Self {
            onset,
            since,
            frames: 0,
            first: None,
            peak: sight,
            last: sight,
        }
    }

    /// Takes a frame of it, and the region in which it is seen there.
    pub(super) fn note(&mut self, at: Moment, region: Option<Region>) {
        let sight = Sight { at, region };
        self.frames += 1;
        self.first = self.first.or(region);
        self.peak.yield_to(sight);
        self.last = Sight {
            at,
            region: region.or(self.last.region),
        };
    }

    /// Takes over what was seen in regions while they had no event of their own.
    pub(super) fn adopt(&mut self, regions: &Self) {
        self.first = self.first.or(regions.first);
        self.peak.yield_to(regions.peak);
        self.last.region = regions.last.region.or(self.last.region);
    }

    /// Whether it lasts for `duration` at `now`.
    pub(super) fn has_lasted(&self, duration: u64, now: u64) -> bool {
        now.saturating_sub(self.since) >= duration
    }

    /// The one that began first.
    pub(super) fn older(self, other: Self) -> Self {
        if other.since < self.since {
            other
        } else {
            self
        }
    }

    /// That it has begun, as event `id`.
    pub(super) fn begin(&self, id: u64) -> Event {
        let first = Sight {
            at: self.onset,
            region: self.first,
        };
        self.event(EventKind::Begin, id, first)
    }

    /// That it has ended: its peak and its end.
    pub(super) fn end(&self, id: u64) -> [Event; 2] {
        [
            self.event(EventKind::Peak, id, self.peak),
            self.event(EventKind::End, id, self.last),
        ]
    }

    fn event(&self, kind: EventKind, id: u64, sight: Sight) -> Event {
        Event {
            kind,
            id,
            at: sight.at,
            frames: self.frames,
            region: sight.region.map(|region| Region {
                event_id: Some(id),
                ..region
            }),
            since: self.onset.pts,
        }
    }
}

impl Sight {
    /// Becomes `other` if that is worse. A region weighs more than any score without one: it says where.
    fn yield_to(&mut self, other: Self) {
        let is_worse = match (&self.region, &other.region) {
            (Some(mine), Some(theirs)) => is_higher(theirs.score, mine.score),
            (None, None) => is_higher(other.at.score, self.at.score),
            (mine, _) => mine.is_none(),
        };
        if is_worse {
            *self = other;
        }
    }
}

/// Whether a score is above another; any is above what is no number.
fn is_higher(score: f32, other: f32) -> bool {
    score > other || (other.is_nan() && !score.is_nan())
}

/// The region with the higher score; the first where they are equal.
pub(super) fn higher(region: Region, other: Region) -> Region {
    if is_higher(other.score, region.score) {
        other
    } else {
        region
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(frame: u64, score: f32) -> Moment {
        Moment {
            time: frame * 40,
            pts: None,
            frame,
            score,
        }
    }

    fn region(score: f32) -> Region {
        Region {
            x: 0,
            y: 0,
            w: 1,
            h: 1,
            score,
            area: 1,
            centroid: [0.0; 2],
            event_id: None,
            place: None,
        }
    }

    /// The frame of the peak of a run, one frame a sight: its score, and its region's.
    fn peak(sights: &[(f32, Option<f32>)]) -> u64 {
        let mut run = Run::new(moment(0, sights[0].0), 0);
        for (frame, (score, worst)) in (0..).zip(sights) {
            run.note(moment(frame, *score), worst.map(region));
        }
        let [peak, end] = run.end(1);
        assert_eq!((end.at.frame, end.frames), (peak.frames - 1, peak.frames));
        peak.at.frame
    }

    #[test]
    fn without_regions_the_first_highest_score_is_the_peak() {
        assert_eq!(peak(&[(0.6, None), (0.8, None), (0.8, None)]), 1);
    }

    #[test]
    fn any_region_outweighs_a_score_without_one() {
        assert_eq!(peak(&[(0.9, None), (0.6, Some(0.1)), (0.99, None)]), 1);
    }

    #[test]
    fn the_worst_region_outweighs_the_others() {
        let sights = [(0.6, Some(0.5)), (0.9, Some(0.4)), (0.7, Some(0.8))];
        assert_eq!(peak(&sights), 2);
    }

    #[test]
    fn what_is_no_number_is_the_peak_only_where_there_is_nothing_else() {
        assert_eq!(peak(&[(0.6, Some(f32::NAN)), (0.6, Some(0.1))]), 1);
        assert_eq!(peak(&[(0.6, Some(0.1)), (0.6, Some(f32::NAN))]), 0);
    }

    #[test]
    fn the_end_says_where_it_was_last_seen() {
        let mut run = Run::new(moment(0, 0.9), 0);
        run.note(moment(0, 0.9), Some(region(0.7)));
        run.note(moment(1, 0.9), Some(region(0.6)));
        run.note(moment(2, 0.9), None);
        let [_, end] = run.end(7);
        assert_eq!(end.at.frame, 2);
        let last = end.region.map(|region| (region.score, region.event_id));
        assert_eq!(last, Some((0.6, Some(7))));
    }
}
