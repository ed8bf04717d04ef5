//! Which alerts are marked in the picture, and how strongly: a mark comes and goes over some frames, it does not blink.

use crate::{overlay::Marker, rect::Rect};

/// Nanoseconds from nothing to all of a mark, and back.
const FADE: f32 = 300e6;

/// Marks at a time, at most.
const MOST: usize = 64;

/// A region of an event that has begun, in pixels of the frame that is drawn on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Alert {
    /// The event's number.
    pub(crate) id: u64,
    /// Its region.
    pub(crate) region: Rect,
}

/// The marks of a stream, from frame to frame.
#[derive(Debug, Default)]
pub(crate) struct Markers {
    time: Option<u64>,
    marks: Vec<Mark>,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    id: u64,
    marker: Marker,
    is_there: bool,
}

impl Markers {
    /// The marks of the next frame, at `time` in stream time, nanoseconds; its alerts are `alerts`.
    ///
    /// Where there is no time, or it went back, what is there is seen at once and what is gone is gone.
    pub(crate) fn follow(&mut self, time: Option<u64>, alerts: &[Alert]) -> Vec<Marker> {
        let passed = match (self.time, time) {
            (Some(then), Some(now)) if now >= then => Some((now - then) as f32),
            // The first frame has nothing before it to come from.
            (None, Some(_)) if self.marks.is_empty() => Some(0.0),
            _ => None,
        };
        self.time = time;
        for mark in &mut self.marks {
            mark.is_there = false;
        }
        for alert in alerts {
            self.see(alert);
        }
        let step = passed.map_or(1.0, |passed| (passed / FADE).min(1.0));
        for Mark {
            marker, is_there, ..
        } in &mut self.marks
        {
            let towards = if *is_there { step } else { -step };
            marker.strength = (marker.strength + towards).clamp(0.0, 1.0);
        }
        self.marks
            .retain(|mark| mark.is_there || mark.marker.strength > 0.0);
        self.marks.iter().map(|mark| mark.marker).collect()
    }

    /// Forgets all marks.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn see(&mut self, alert: &Alert) {
        let Alert { id, region } = *alert;
        let has_room = self.marks.len() < MOST;
        match self.marks.iter_mut().find(|mark| mark.id == id) {
            // A further part of it in this frame.
            Some(mark) if mark.is_there => mark.marker.region = around(mark.marker.region, region),
            Some(mark) => {
                mark.marker.region = region;
                mark.is_there = true;
            }
            None if has_room => self.marks.push(Mark {
                id,
                marker: Marker {
                    region,
                    strength: 0.0,
                },
                is_there: true,
            }),
            None => (),
        }
    }
}

/// The rectangle around two.
fn around(a: Rect, b: Rect) -> Rect {
    let (x, y) = (a.x.min(b.x), a.y.min(b.y));
    let end = |start: u32, length: u32| start.saturating_add(length);
    Rect {
        x,
        y,
        w: end(a.x, a.w).max(end(b.x, b.w)) - x,
        h: end(a.y, a.h).max(end(b.y, b.h)) - y,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 25 frames a second.
    const FRAME: u64 = 40_000_000;

    fn alert(id: u64, x: u32) -> Alert {
        Alert {
            id,
            region: Rect::from([x, 10, 20, 20]),
        }
    }

    /// Strengths of the one mark over frames, in hundredths; none where there is no mark.
    fn strengths(markers: &mut Markers, frames: &[(u64, bool)]) -> Vec<Option<u32>> {
        let mut strength = |(frame, is_there): &(u64, bool)| {
            let alerts = [alert(1, 5)];
            let alerts = if *is_there { &alerts[..] } else { &[] };
            let shown = markers.follow(Some(frame * FRAME), alerts);
            shown
                .first()
                .map(|marker| (marker.strength * 100.0).round() as u32)
        };
        frames.iter().map(&mut strength).collect()
    }

    #[test]
    fn a_mark_comes_and_goes_over_three_tenths_of_a_second() {
        let mut markers = Markers::default();
        let coming: Vec<_> = (0..10).map(|frame| (frame, true)).collect();
        let seen = strengths(&mut markers, &coming);
        assert_eq!(seen[..3], [Some(0), Some(13), Some(27)]);
        assert_eq!(seen[7..], [Some(93), Some(100), Some(100)]);
        let going: Vec<_> = (10..19).map(|frame| (frame, false)).collect();
        let seen = strengths(&mut markers, &going);
        assert_eq!(seen[..2], [Some(87), Some(73)]);
        assert_eq!(seen[7..], [None, None]);
        assert!(markers.marks.is_empty());
    }

    #[test]
    fn what_is_gone_for_a_frame_does_not_blink() {
        let mut markers = Markers::default();
        strengths(&mut markers, &[(0, true), (20, true)]);
        let seen = strengths(&mut markers, &[(21, false), (22, true), (23, true)]);
        assert_eq!(seen, [Some(87), Some(100), Some(100)]);
    }

    #[test]
    fn without_a_time_or_after_a_seek_nothing_fades() {
        let mut markers = Markers::default();
        for _ in 0..2 {
            let shown = markers.follow(None, &[alert(1, 5)]);
            assert_eq!(shown.first().map(|marker| marker.strength), Some(1.0));
        }
        assert_eq!(markers.follow(None, &[]), []);
        strengths(&mut markers, &[(100, true), (120, true)]);
        assert_eq!(strengths(&mut markers, &[(3, false)]), [None]);
    }

    #[test]
    fn marks_follow_their_events_and_parts_of_one_have_one() {
        let mut markers = Markers::default();
        markers.follow(Some(0), &[alert(1, 5), alert(2, 60)]);
        let shown = markers.follow(Some(FRAME), &[alert(2, 70), alert(1, 5), alert(1, 15)]);
        let regions: Vec<_> = shown.iter().map(|marker| marker.region).collect();
        assert_eq!(
            regions,
            [Rect::from([5, 10, 30, 20]), Rect::from([70, 10, 20, 20])]
        );
        markers.clear();
        assert_eq!(markers.follow(Some(2 * FRAME), &[]), []);
    }

    #[test]
    fn there_is_an_end_to_them() {
        let alerts: Vec<_> = (0..1000).map(|id| alert(id, 5)).collect();
        assert_eq!(Markers::default().follow(Some(0), &alerts).len(), MOST);
    }
}
