//! Boxes of regions, and how far one is the same as another.

use crate::map::Region;

/// A box in frame pixels; it may lie outside the frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rect {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl From<&Region> for Rect {
    fn from(region: &Region) -> Self {
        let (left, top) = (f64::from(region.x), f64::from(region.y));
        Self {
            left,
            top,
            right: left + f64::from(region.w),
            bottom: top + f64::from(region.h),
        }
    }
}

impl Rect {
    pub(super) fn area(&self) -> f64 {
        (self.right - self.left) * (self.bottom - self.top)
    }

    pub(super) fn centre(&self) -> [f64; 2] {
        [
            (self.left + self.right) / 2.0,
            (self.top + self.bottom) / 2.0,
        ]
    }

    pub(super) fn moved(&self, by: [f64; 2]) -> Self {
        Self {
            left: self.left + by[0],
            top: self.top + by[1],
            right: self.right + by[0],
            bottom: self.bottom + by[1],
        }
    }

    /// Area that both cover.
    pub(super) fn overlap(&self, other: &Self) -> f64 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        width.max(0.0) * height.max(0.0)
    }

    /// Intersection over union, 0 to 1.
    pub(super) fn iou(&self, other: &Self) -> f64 {
        let overlap = self.overlap(other);
        if overlap > 0.0 {
            overlap / (self.area() + other.area() - overlap)
        } else {
            0.0
        }
    }

    /// 1 where the centres meet, 0 where the circles around the boxes do not.
    pub(super) fn nearness(&self, other: &Self) -> f64 {
        let (a, b) = (self.centre(), other.centre());
        let reach = (self.diagonal() + other.diagonal()) / 2.0;
        let distance = (a[0] - b[0]).hypot(a[1] - b[1]);
        if distance < reach {
            1.0 - distance / reach
        } else {
            0.0
        }
    }

    /// Whether neither is more than twice as large as the other.
    pub(super) fn is_sized_like(&self, other: &Self) -> bool {
        let (a, b) = (self.area(), other.area());
        a <= 2.0 * b && b <= 2.0 * a
    }

    fn diagonal(&self) -> f64 {
        (self.right - self.left).hypot(self.bottom - self.top)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rect(left: f64, top: f64, right: f64, bottom: f64) -> Rect {
        Rect {
            left,
            top,
            right,
            bottom,
        }
    }

    #[test]
    fn half_covered_boxes_share_a_third() {
        let (a, b) = (rect(0.0, 0.0, 4.0, 2.0), rect(2.0, 0.0, 6.0, 2.0));
        assert_eq!(a.iou(&b), 1.0 / 3.0);
        assert_eq!(a.iou(&a), 1.0);
    }

    #[test]
    fn boxes_that_only_touch_do_not_overlap() {
        let (a, b) = (rect(0.0, 0.0, 4.0, 2.0), rect(4.0, 2.0, 6.0, 3.0));
        assert_eq!(a.iou(&b), 0.0);
        let empty = rect(1.0, 1.0, 1.0, 1.0);
        assert_eq!((a.iou(&empty), empty.iou(&empty)), (0.0, 0.0));
    }

    #[test]
    fn boxes_are_near_where_the_circles_around_them_meet() {
        let (large, small) = (rect(0.0, 0.0, 6.0, 8.0), rect(7.0, 4.0, 7.0, 4.0));
        assert!((large.nearness(&small) - 0.2).abs() < 1e-12);
        assert_eq!(large.nearness(&small.moved([1.0, 0.0])), 0.0);
        let square = rect(0.0, 0.0, 5.0, 5.0);
        assert!(square.nearness(&square.moved([7.0, 0.0])) > 0.0);
        assert_eq!(square.nearness(&square.moved([7.1, 0.0])), 0.0);
        assert_eq!(small.nearness(&small), 0.0);
    }
}
