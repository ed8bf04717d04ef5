//! Regions followed from frame to frame: which of them are the same thing as before.

use crate::map::Region;

use super::{
    alarm::is_over,
    matching::{Frame, best, fit},
    rect::Rect,
};

/// Things known at a time. A region for which there is no room has no track.
const MOST_TRACKS: usize = 64;

/// Where a thing went is believed for this long, nanoseconds.
const FORESIGHT: u64 = 1_000_000_000;

/// A shorter time says nothing of a velocity, nanoseconds.
const SHORTEST_STEP: u64 = 1_000_000;

/// Time constant of a thing's velocity, nanoseconds.
const VELOCITY_MEMORY: f64 = 200e6;

/// Follows regions over a stream.
///
/// A region goes with the track whose boxes, moved on by the track's velocity, it overlaps best, all regions and tracks taken together; a
/// small fast one may go with a track that it only comes near. What is left over and overlaps a track that has a region is a part of that
/// track: a thing that falls apart is no new thing. Where a region covers the boxes of a track without one, the two things have become one
/// and live on under the older number. Everything else is new.
///
/// Of a frame's regions the 64 with the highest scores are looked at, and 64 tracks are known at a time; other regions have no track.
#[derive(Debug, Clone, Default)]
pub struct Tracker {
    begun: u64,
    /// By number.
    tracks: Vec<Track>,
}

/// What became of a frame's regions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tracked {
    /// Each region in the order given, then the weak ones by which a track went on; with the number of its track.
    pub regions: Vec<(Region, Option<u64>)>,
    /// Tracks that became part of another, in the order in which it happened.
    pub joined: Vec<Join>,
}

/// Two tracks that became one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Join {
    /// The number that is no more.
    pub gone: u64,
    /// The older one, which lives on.
    pub into: u64,
}

impl Tracker {
    /// Takes the regions at `time`, which must not go back. A track that is not seen for longer than `hold` (0: at once) is gone.
    ///
    /// Where a track that is known has no region, `weak` is asked for the regions at a lower threshold; it may go on with one that overlaps
    /// it, and that overlaps none of `regions`.
    pub fn push(
        &mut self,
        time: u64,
        hold: u64,
        regions: Vec<Region>,
        weak: impl FnOnce() -> Vec<Region>,
    ) -> Tracked {
        let places = self.tracks.iter().map(|track| track.places(time));
        let mut frame = Frame::new(places.collect());
        let mut owners = frame.match_regions(&regions);
        let joined = self.join(&mut frame, &regions, &owners);
        self.begin(time, &mut frame, &regions, &mut owners);
        let weak = frame.match_weak(&regions, weak);
        let mut seen: Vec<(Region, Option<usize>)> = regions.into_iter().zip(owners).collect();
        seen.extend(
            weak.into_iter()
                .map(|(region, track)| (region, Some(track))),
        );
        self.renew(time, &seen);
        let regions = seen
            .into_iter()
            .map(|(region, track)| (region, track.map(|track| self.tracks[track].id)))
            .collect();
        let mut settled = frame.settled.into_iter();
        self.tracks.retain(|track| {
            let is_settled = settled.next() == Some(true);
            let is_joined = joined.iter().any(|join| join.gone == track.id);
            !is_joined && (is_settled || !is_over(track.seen, time, hold))
        });
        self.tracks.sort_unstable_by_key(|track| track.id);
        Tracked { regions, joined }
    }

    /// The whole picture has moved by so many pixels to the right and down since the regions before: so have all tracks. Their velocities are
    /// then their own, beside the camera's.
    pub fn shift(&mut self, by: [f64; 2]) {
        let boxes = self.tracks.iter_mut().flat_map(|track| &mut track.boxes);
        boxes.for_each(|part| *part = part.moved(by));
    }

    /// Whether a track is still known.
    pub fn knows(&self, id: u64) -> bool {
        self.tracks.iter().any(|track| track.id == id)
    }

    /// Forgets all tracks, at a seam of the stream. Their numbers are not used again.
    pub fn reset(&mut self) {
        self.tracks.clear();
    }

    /// Joins each track without a region to the one whose region covers it.
    fn join(
        &mut self,
        frame: &mut Frame,
        regions: &[Region],
        owners: &[Option<usize>],
    ) -> Vec<Join> {
        let mut joined = Vec::new();
        for lost in frame.unsettled() {
            let covers = |region: &Region| frame.is_covered(lost, &region.into());
            let mut owned = regions.iter().zip(owners);
            let Some(owner) = owned.find_map(|(region, owner)| owner.filter(|_| covers(region)))
            else {
                continue;
            };
            let (a, b) = (self.tracks[lost].id, self.tracks[owner].id);
            let join = Join {
                gone: a.max(b),
                into: a.min(b),
            };
            self.tracks[owner].id = join.into;
            self.tracks[lost].id = join.gone;
            frame.settled[lost] = true;
            joined.push(join);
        }
        joined
    }

    /// Begins a track for each region that has none, as far as there is room.
    fn begin(
        &mut self,
        time: u64,
        frame: &mut Frame,
        regions: &[Region],
        owners: &mut [Option<usize>],
    ) {
        for region in best(regions) {
            if owners[region].is_some() || self.tracks.len() == MOST_TRACKS {
                continue;
            }
            owners[region] = Some(self.tracks.len());
            frame.settled.push(true);
            self.begun += 1;
            self.tracks.push(Track {
                id: self.begun,
                boxes: Vec::new(),
                velocity: None,
                seen: time,
            });
        }
    }

    /// Moves the tracks to where their regions are.
    fn renew(&mut self, time: u64, seen: &[(Region, Option<usize>)]) {
        for (index, track) in self.tracks.iter_mut().enumerate() {
            let own = seen.iter().filter(|(_, owner)| *owner == Some(index));
            let boxes: Vec<Rect> = own.map(|(region, _)| region.into()).collect();
            if !boxes.is_empty() {
                track.measure_velocity(time, &boxes);
                track.boxes = boxes;
                track.seen = time;
            }
        }
    }
}

/// A thing that is followed.
#[derive(Debug, Clone)]
struct Track {
    id: u64,
    /// Where its parts were when it was last seen.
    boxes: Vec<Rect>,
    /// Pixels a nanosecond, once it was seen to move or stay.
    velocity: Option<[f64; 2]>,
    seen: u64,
}

impl Track {
    /// Where its parts are thought to be.
    fn places(&self, time: u64) -> Vec<Rect> {
        let elapsed = time.saturating_sub(self.seen).min(FORESIGHT) as f64;
        let by = self.velocity.unwrap_or_default().map(|v| v * elapsed);
        self.boxes.iter().map(|part| part.moved(by)).collect()
    }

    /// Learns from the part that is found again best. One that grew or shrank much has not moved as its centre has.
    fn measure_velocity(&mut self, time: u64, found: &[Rect]) {
        let elapsed = time.saturating_sub(self.seen);
        let best = self.best_found(time, found);
        let Some((from, to)) = best.filter(|(part, found)| part.is_sized_like(found)) else {
            return;
        };
        if elapsed < SHORTEST_STEP {
            return;
        }
        let elapsed = elapsed as f64;
        let weight = -(-elapsed / VELOCITY_MEMORY).exp_m1();
        let (from, to) = (from.centre(), to.centre());
        let measured = [0, 1].map(|axis| (to[axis] - from[axis]) / elapsed);
        let old = self.velocity.unwrap_or(measured);
        self.velocity = Some([0, 1].map(|axis| old[axis] + (measured[axis] - old[axis]) * weight));
    }

    /// Where a part was and where it is found, of the two that fit best.
    fn best_found(&self, time: u64, found: &[Rect]) -> Option<(Rect, Rect)> {
        let places = self.places(time);
        let parts = self.boxes.iter().zip(&places);
        let pairs = parts.flat_map(|part| found.iter().map(move |found| (part, found)));
        let best = pairs.max_by_key(|((_, place), found)| fit(place, found));
        best.map(|((part, _), found)| (*part, *found))
    }
}

#[cfg(test)]
mod tests;
