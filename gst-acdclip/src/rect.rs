//! Rectangles of whole pixels, and how they follow a picture that is scaled.

use acdclip_model::map::Region;

/// A rectangle of whole pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rect {
    /// Left edge.
    pub(crate) x: u32,
    /// Top edge.
    pub(crate) y: u32,
    /// Width.
    pub(crate) w: u32,
    /// Height.
    pub(crate) h: u32,
}

impl Rect {
    /// Whether it has a pixel and ends within a picture of `size`.
    pub(crate) fn is_within(&self, size: (u32, u32)) -> bool {
        let fits = |start: u32, len: u32, size: u32| {
            len > 0 && start.checked_add(len).is_some_and(|end| end <= size)
        };
        fits(self.x, self.w, size.0) && fits(self.y, self.h, size.1)
    }

    /// Where it lies after a picture of size `from` was scaled to size `to`: each pixel that it touches, none outside the picture. `None`
    /// where nothing of it is inside.
    pub(crate) fn scaled(&self, from: (u32, u32), to: (u32, u32)) -> Option<Self> {
        let (x, w) = span(self.x, self.w, from.0, to.0)?;
        let (y, h) = span(self.y, self.h, from.1, to.1)?;
        Some(Self { x, y, w, h })
    }
}

fn span(start: u32, len: u32, from: u32, to: u32) -> Option<(u32, u32)> {
    let end = start.saturating_add(len).min(from);
    if start >= end {
        return None;
    }
    let (start, end, from, to) = (
        u64::from(start),
        u64::from(end),
        u64::from(from),
        u64::from(to),
    );
    // Neither exceeds `to`, since neither of the two before exceeds `from`.
    let (first, after) = (start * to / from, (end * to).div_ceil(from));
    (first < after).then_some((first as u32, (after - first) as u32))
}

impl From<[u32; 4]> for Rect {
    fn from([x, y, w, h]: [u32; 4]) -> Self {
        Self { x, y, w, h }
    }
}

impl From<&Region> for Rect {
    fn from(region: &Region) -> Self {
        Self {
            x: region.x,
            y: region.y,
            w: region.w,
            h: region.h,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rect(x: u32, y: u32, w: u32, h: u32) -> Rect {
        Rect { x, y, w, h }
    }

    #[test]
    fn it_follows_the_picture() {
        let frame = (640, 480);
        let scaled = |to| rect(64, 48, 10, 20).scaled(frame, to).unwrap();
        assert_eq!(scaled(frame), rect(64, 48, 10, 20));
        assert_eq!(scaled((1280, 1440)), rect(128, 144, 20, 60));
        assert_eq!(
            scaled((64, 48)),
            rect(6, 4, 2, 3),
            "a pixel in part is a pixel"
        );
        assert_eq!(scaled((1, 1)), rect(0, 0, 1, 1));
    }

    #[test]
    fn what_lies_outside_is_cut_off() {
        let cut = |rect: Rect| rect.scaled((100, 100), (50, 50));
        assert_eq!(cut(rect(90, 0, u32::MAX, 10)), Some(rect(45, 0, 5, 5)));
        assert_eq!(cut(rect(100, 0, 5, 5)), None);
        assert_eq!(cut(rect(u32::MAX, 0, u32::MAX, 5)), None);
        assert_eq!(cut(rect(5, 5, 0, 5)), None);
        assert_eq!(
            rect(0, 0, 1, 1).scaled((0, 0), (9, 9)),
            None,
            "nothing is inside of nothing"
        );
        let all = u32::MAX;
        assert_eq!(
            Rect::from([0, 0, all, all]).scaled((all, all), (all, 1)),
            Some(rect(0, 0, all, 1))
        );
    }

    #[test]
    fn it_is_within_what_it_does_not_leave() {
        assert!(rect(3, 4, 5, 6).is_within((8, 10)));
        for outside in [
            rect(3, 4, 6, 6),
            rect(3, 4, 5, 7),
            rect(3, 4, 0, 6),
            rect(u32::MAX, 0, 2, 1),
        ] {
            assert!(!outside.is_within((8, 10)), "{outside:?}");
        }
    }
}
