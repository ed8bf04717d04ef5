//! Which columns of a strip are looked at, as a user writes a region of interest.

use std::ops::Range;

use crate::outcome::{Failure, Outcome};

/// x and w of `x,y,w,h`; a strip has no y and h.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Columns {
    x: f64,
    w: f64,
    /// In parts of the width, else in pixels.
    in_parts: bool,
}

impl Columns {
    /// `x,y,w,h`, in parts of the frame where none of the four exceeds 1, else in pixels; nothing for all columns.
    pub(super) fn parse(text: &str) -> Outcome<Option<Self>> {
        if text.trim().is_empty() {
            return Ok(None);
        }
        let wrong = || {
            Failure::Arguments(format!(
                "roi: wanted x,y,w,h, all in pixels or all in parts of the frame from 0 to 1, with a width and a height above 0; found {text:?}"
            ))
        };
        let numbers = text.split(',').map(|number| number.trim().parse::<f64>());
        let numbers = numbers
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| wrong())?;
        let are_sides = numbers.iter().all(|side| side.is_finite() && *side >= 0.0);
        match numbers[..] {
            [x, _, w, h] if are_sides && w * h > 0.0 => Ok(Some(Self {
                x,
                w,
                in_parts: numbers.iter().all(|side| *side <= 1.0),
            })),
            _ => Err(wrong()),
        }
    }

    /// What they are of lines of `width` pixels: cut off where they leave them.
    ///
    /// An error if nothing is left.
    pub(super) fn of(self, width: usize) -> Outcome<Range<usize>> {
        let unit = if self.in_parts { width as f64 } else { 1.0 };
        let (x, w) = (self.x * unit, self.w * unit);
        // A cast saturates.
        let from = x.round() as usize;
        let end = ((x + w).round() as usize).min(width);
        if from < end {
            return Ok(from..end);
        }
        Err(Failure::Arguments(format!(
            "roi: wanted columns of a strip of {width} pixels, found {w} from {x} on"
        )))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(text: &str, width: usize) -> Outcome<Range<usize>> {
        Columns::parse(text)?.unwrap().of(width)
    }

    #[test]
    fn columns_are_told_in_parts_or_in_pixels_and_cut_to_the_strip() {
        assert_eq!(Columns::parse(" ").unwrap(), None);
        assert_eq!(of("0.25, 0, 0.5, 1", 640).unwrap(), 160..480);
        assert_eq!(of("10,0,500,1", 640).unwrap(), 10..510);
        assert_eq!(of("600,0,500,1", 640).unwrap(), 600..640);
    }

    #[test]
    fn what_is_no_rectangle_says_what_was_wanted() {
        for wrong in ["1,2,3", "a,b,c,d", "0,0,0,5", "-1,0,5,5", "0,0,inf,1"] {
            let complaint = Columns::parse(wrong).unwrap_err().to_string();
            assert!(complaint.contains("wanted x,y,w,h"), "{complaint}");
        }
        let complaint = of("700,0,10,10", 640).unwrap_err().to_string();
        assert!(complaint.contains("640 pixels"), "{complaint}");
    }
}
