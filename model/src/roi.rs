//! The part of the frame that is looked at, as a user writes it.

use std::ops::Range;

/// A region of interest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Roi {
    /// The whole frame.
    Whole,
    /// x, y, width and height in pixels of the frame.
    Pixels([f64; 4]),
    /// The same as parts of the frame's width and height.
    Parts([f64; 4]),
}

impl Roi {
    /// `x,y,w,h`, in parts of the frame where none of the four exceeds 1, else in pixels; nothing for the whole frame.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::Whole);
        }
        let wrong = || {
            format!(
                "roi: wanted x,y,w,h, all in pixels or all in parts of the frame from 0 to 1, with a width and a height above 0; found {text:?}"
            )
        };
        let numbers: Vec<f64> = text
            .split(',')
            .map(|number| number.trim().parse().map_err(|_| wrong()))
            .collect::<Result<_, _>>()?;
        let sides: [f64; 4] = numbers.try_into().map_err(|_| wrong())?;
        if !sides.iter().all(|side| side.is_finite() && *side >= 0.0) || sides[2] * sides[3] <= 0.0
        {
            return Err(wrong());
        }
        Ok(if sides.iter().all(|side| *side <= 1.0) {
            Self::Parts(sides)
        } else {
            Self::Pixels(sides)
        })
    }

    /// x, y, width and height of what it is of a frame of `width` x `height` pixels: cut off where it leaves the frame, its corner on a multiple of
    /// `step` (across and down), which colour at half size needs.
    ///
    /// An error if nothing of the frame is left.
    pub fn part(&self, width: u32, height: u32, step: (u32, u32)) -> Result<[u32; 4], String> {
        let [x, y, w, h] = self.sides(width, height);
        let (across, down) = (cut(x, w, width, step.0), cut(y, h, height, step.1));
        match (across, down) {
            (Some((x, w)), Some((y, h))) => Ok([x, y, w, h]),
            _ => Err(format!(
                "roi: wanted a part of the frame of {width}x{height} pixels, found {w}x{h} at {x},{y}"
            )),
        }
    }

    /// The columns that it has of a strip of `width` pixels, which has no rows to leave out; the first is a multiple of `step`.
    ///
    /// An error if none is left.
    pub fn columns(&self, width: u32, step: u32) -> Result<Range<u32>, String> {
        let [x, _, w, _] = self.sides(width, 1);
        let (x, w) = cut(x, w, width, step).ok_or_else(|| {
            format!("roi: wanted columns of a strip of {width} pixels, found {w} from {x} on")
        })?;
        Ok(x..x + w)
    }

    /// x, y, width and height in pixels.
    fn sides(&self, width: u32, height: u32) -> [f64; 4] {
        let (across, down) = (f64::from(width), f64::from(height));
        match *self {
            Self::Whole => [0.0, 0.0, across, down],
            Self::Pixels(sides) => sides,
            Self::Parts([x, y, w, h]) => [x * across, y * down, w * across, h * down],
        }
    }
}

/// Start and length of a side, from a multiple of `step` and within `size`, if anything is left of it.
fn cut(start: f64, extent: f64, size: u32, step: u32) -> Option<(u32, u32)> {
    // A cast saturates.
    let from = start.round() as u32 / step * step;
    let end = ((start + extent).round() as u32).min(size);
    (from < end).then(|| (from, end - from))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rect(text: &str, step: (u32, u32)) -> Result<[u32; 4], String> {
        Roi::parse(text)?.part(640, 480, step)
    }

    #[test]
    fn pixels_and_parts_are_told_apart() {
        assert_eq!(rect("", (2, 2)).unwrap(), [0, 0, 640, 480]);
        assert_eq!(rect("10, 20, 100, 50", (1, 1)).unwrap(), [10, 20, 100, 50]);
        assert_eq!(
            rect("0.25,0.5,0.5,0.5", (1, 1)).unwrap(),
            [160, 240, 320, 240]
        );
        assert_eq!(rect("0,0,1,1", (1, 1)).unwrap(), [0, 0, 640, 480]);
    }

    #[test]
    fn it_is_cut_to_the_frame_and_laid_on_whole_colour_samples() {
        assert_eq!(rect("600,470,100,100", (1, 1)).unwrap(), [600, 470, 40, 10]);
        assert_eq!(rect("11,7,20,20", (2, 4)).unwrap(), [10, 4, 21, 23]);
        assert_eq!(
            rect("1e300,0,1e300,5", (1, 1)).unwrap_err(),
            rect("1e300,0,1e300,5", (2, 2)).unwrap_err()
        );
    }

    #[test]
    fn what_is_no_rectangle_says_what_was_wanted() {
        for wrong in [
            "1,2,3",
            "1,2,3,4,5",
            "a,b,c,d",
            "0,0,0,5",
            "-1,0,5,5",
            "0,0,inf,1",
            "nan,0,1,1",
        ] {
            let complaint = Roi::parse(wrong).unwrap_err();
            assert!(
                complaint.contains("wanted x,y,w,h") && complaint.contains(wrong),
                "{complaint}"
            );
        }
        let outside = rect("700,0,10,10", (1, 1)).unwrap_err();
        assert!(outside.contains("640x480"), "{outside}");
    }

    #[test]
    fn a_strip_has_its_columns_whatever_its_rows() {
        let columns = |text: &str| Roi::parse(text).unwrap().columns(640, 1);
        assert_eq!(columns("").unwrap(), 0..640);
        assert_eq!(columns("0.25, 0.5, 0.5, 0.5").unwrap(), 160..480);
        assert_eq!(columns("600,9000,500,1").unwrap(), 600..640);
        let outside = columns("700,0,10,10").unwrap_err();
        assert!(outside.contains("640 pixels"), "{outside}");
    }
}
