//! Which regions of a frame go with which of the tracks known before it.

use std::cmp::Reverse;

use crate::map::Region;

use super::{assign::assign, rect::Rect};

/// Regions that are looked at: the time that an assignment takes grows with the cube of their number.
const MOST_REGIONS: usize = 64;

/// The tracks known so far, as a frame finds them.
pub(super) struct Frame {
    /// Where each track's parts are thought to be.
    places: Vec<Vec<Rect>>,
    /// Whether it is known what became of the track: it has a region, or is part of another now.
    pub(super) settled: Vec<bool>,
}

impl Frame {
    pub(super) fn new(places: Vec<Vec<Rect>>) -> Self {
        Self {
            settled: vec![false; places.len()],
            places,
        }
    }

    pub(super) fn unsettled(&self) -> Vec<usize> {
        let tracks = 0..self.settled.len();
        tracks.filter(|track| !self.settled[*track]).collect()
    }

    /// The track of each region, of those known so far.
    pub(super) fn match_regions(&mut self, regions: &[Region]) -> Vec<Option<usize>> {
        let mut owners = vec![None; regions.len()];
        let best = best(regions);
        let rects: Vec<Rect> = best.iter().map(|index| (&regions[*index]).into()).collect();
        let pairs = assign(self.places.len(), rects.len(), |track, region| {
            self.fit(track, &rects[region])
        });
        for (track, region) in pairs {
            owners[best[region]] = Some(track);
            self.settled[track] = true;
        }
        for (index, rect) in best.iter().zip(&rects) {
            if owners[*index].is_none() {
                owners[*index] = self.whole_of(rect);
            }
        }
        owners
    }

    /// The track with a region that a part is of: the one that it overlaps most.
    fn whole_of(&self, part: &Rect) -> Option<usize> {
        (0..self.places.len())
            .filter(|track| self.settled[*track] && self.is_overlapped(*track, part))
            .max_by_key(|track| (self.fit(*track, part), Reverse(*track)))
    }

    /// Regions of `weak` by which unsettled tracks go on, in the order given.
    pub(super) fn match_weak(
        &mut self,
        strong: &[Region],
        weak: impl FnOnce() -> Vec<Region>,
    ) -> Vec<(Region, usize)> {
        let lost = self.unsettled();
        if lost.is_empty() {
            return Vec::new();
        }
        let strong: Vec<Rect> = strong.iter().map(Rect::from).collect();
        let mut weak = weak();
        weak.retain(|region| {
            let rect = region.into();
            lost.iter().any(|track| self.is_overlapped(*track, &rect))
                && !strong.iter().any(|strong| strong.overlap(&rect) > 0.0)
        });
        let mut best = best(&weak);
        best.sort_unstable();
        let rects: Vec<Rect> = best.iter().map(|index| (&weak[*index]).into()).collect();
        let pairs = assign(rects.len(), lost.len(), |region, track| {
            match self.is_overlapped(lost[track], &rects[region]) {
                true => self.fit(lost[track], &rects[region]),
                false => 0,
            }
        });
        pairs
            .into_iter()
            .map(|(region, track)| {
                self.settled[lost[track]] = true;
                (weak[best[region]], lost[track])
            })
            .collect()
    }

    /// How well a region fits a track: as well as it fits the part that it fits best.
    fn fit(&self, track: usize, region: &Rect) -> i64 {
        let parts = self.places[track].iter();
        parts.map(|part| fit(part, region)).max().unwrap_or(0)
    }

    fn is_overlapped(&self, track: usize, region: &Rect) -> bool {
        let mut parts = self.places[track].iter();
        parts.any(|part| part.overlap(region) > 0.0)
    }

    /// Whether a region covers at least half of each part of a track.
    pub(super) fn is_covered(&self, track: usize, region: &Rect) -> bool {
        let mut parts = self.places[track].iter();
        parts.all(|part| {
            let overlap = part.overlap(region);
            overlap > 0.0 && overlap >= part.area() / 2.0
        })
    }
}

/// How well two boxes fit, from 0: not at all. Any that overlap fit better than all that do not.
pub(super) fn fit(a: &Rect, b: &Rect) -> i64 {
    let iou = a.iou(b);
    if iou > 0.0 {
        1000 + (iou * 1e6) as i64
    } else {
        (a.nearness(b) * 1000.0).ceil().min(999.0) as i64
    }
}

/// Indices of the regions with the highest scores, at most [`MOST_REGIONS`] of them, the highest first.
pub(super) fn best(regions: &[Region]) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..regions.len()).collect();
    indices.sort_by(|a, b| regions[*b].score.total_cmp(&regions[*a].score));
    indices.truncate(MOST_REGIONS);
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(x: u32, w: u32, score: f32) -> Region {
        Region {
            x,
            y: 0,
            w,
            h: 10,
            score,
            area: u64::from(w) * 10,
            centroid: [0.0; 2],
            event_id: None,
            place: None,
        }
    }

    fn at(x: u32, w: u32) -> Rect {
        (&region(x, w, 0.5)).into()
    }

    #[test]
    fn what_overlaps_least_fits_better_than_what_is_nearest() {
        let track = at(0, 1000);
        let (overlapping, near) = (fit(&track, &at(999, 2000)), fit(&at(0, 10), &at(10, 10)));
        assert!(overlapping > near && near > 0);
        assert_eq!(fit(&at(0, 10), &at(100, 10)), 0);
    }

    #[test]
    fn a_part_goes_with_the_track_that_it_overlaps_most() {
        let mut frame = Frame::new(vec![vec![at(0, 40)], vec![at(50, 40)]]);
        let regions = [region(0, 40, 0.9), region(50, 40, 0.9), region(35, 30, 0.5)];
        assert_eq!(frame.match_regions(&regions), [Some(0), Some(1), Some(1)]);
        assert!(frame.unsettled().is_empty());
    }

    #[test]
    fn a_part_of_a_track_without_a_region_is_nothing_known() {
        let mut frame = Frame::new(Vec::new());
        assert_eq!(frame.match_regions(&[region(0, 40, 0.9)]), [None]);
    }

    #[test]
    fn half_of_every_part_must_be_covered() {
        let frame = Frame::new(vec![vec![at(0, 20), at(40, 20)]]);
        assert!(frame.is_covered(0, &at(10, 40)));
        assert!(!frame.is_covered(0, &at(11, 60)));
        assert!(!frame.is_covered(0, &at(0, 20)));
    }

    #[test]
    fn a_weak_region_must_overlap_and_not_only_come_near() {
        let refused = |weak: Region| {
            let mut frame = Frame::new(vec![vec![at(0, 10)]]);
            frame.match_weak(&[], || vec![weak]).is_empty()
        };
        assert!(refused(region(10, 10, 0.4)));
        assert!(!refused(region(9, 10, 0.4)));
    }

    #[test]
    fn the_best_are_the_highest_scores_in_a_lasting_order() {
        let scores = [0.1, 0.9, 0.5, 0.9];
        let regions = scores.map(|score| region(0, 10, score));
        assert_eq!(best(&regions), [1, 3, 2, 0]);
        assert_eq!(best(&[region(0, 10, 0.5); 100]).len(), MOST_REGIONS);
    }
}
