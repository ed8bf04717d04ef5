//! Which part of a picture counts: a black and white picture of any size, laid over the one that is looked at.
//!
//! A mask is stretched over a picture by nearest neighbour: a pixel takes the mask's pixel that its middle falls into. So a mask that is
//! stretched over a frame and then cut goes with the frame's own [`crop`](crate::Frame::crop), pixel by pixel:
//!
//! ```
//! # use acdclip_model::{Frame, mask::Mask};
//! # fn cut(frame: &Frame<'_>, mask: &Mask) -> acdclip_model::Result<()> {
//! let part = frame.crop(16, 0, 64, 32)?;
//! let mask = mask.stretched(frame.width(), frame.height()).crop(16, 0, 64, 32)?;
//! # Ok(()) }
//! ```

use std::sync::Arc;

use crate::{
    error::{Error, Result},
    frame::{Frame, check_part},
};

/// A picture of what counts and what does not.
///
/// Stretching and cutting share its pixels: they only choose columns and rows anew.
#[derive(Clone, PartialEq, Eq)]
pub struct Mask {
    /// Row by row, as they were given.
    pixels: Arc<[bool]>,
    /// Pixels of a row of `pixels`.
    stride: usize,
    /// Which column of `pixels` each column is.
    columns: Vec<u32>,
    /// Which row of `pixels` each row is.
    rows: Vec<u32>,
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mask")
            .field("width", &self.width())
            .field("height", &self.height())
            .finish_non_exhaustive()
    }
}

impl Mask {
    /// Most pixels that a mask may be made of.
    pub const MAX_PIXELS: usize = 64 << 20;

    /// The darkest luma that counts, see [`Self::from_luma`].
    pub const CUT: u8 = 128;

    /// A mask of `width` x `height` pixels, row by row: true is what counts.
    ///
    /// An error if there are not as many pixels as that, if a side is not within 1 to [`Frame::MAX_SIDE`], or if there are more than
    /// [`Self::MAX_PIXELS`].
    pub fn new(width: usize, height: usize, pixels: Vec<bool>) -> Result<Self> {
        check_size(width, height, pixels.len())?;
        Ok(Self::grid(width, height, pixels))
    }

    /// A mask from a grey picture without padding, full range: white (255) counts, black (0) does not. The cut is at [`Self::CUT`], 128:
    /// that and anything lighter counts, 127 and anything darker does not.
    ///
    /// Errors are those of [`Self::new`].
    pub fn from_luma(width: usize, height: usize, luma: &[u8]) -> Result<Self> {
        check_size(width, height, luma.len())?;
        let pixels = luma.iter().map(|luma| *luma >= Self::CUT).collect();
        Self::new(width, height, pixels)
    }

    /// A mask of a small grid's cells, of which there are as many as `width` times `height` says.
    pub(crate) fn grid(width: usize, height: usize, cells: Vec<bool>) -> Self {
        Self {
            pixels: cells.into(),
            stride: width,
            columns: (0..width as u32).collect(),
            rows: (0..height as u32).collect(),
        }
    }

    /// A mask of bands, each of so many rows and with the columns that count in all of them.
    ///
    /// An error as those of [`Self::new`], or if a band is not `width` columns wide.
    pub(crate) fn banded(width: usize, bands: &[(usize, Arc<[bool]>)]) -> Result<Self> {
        let pixels: Vec<bool> = bands
            .iter()
            .flat_map(|(_, columns)| columns.iter().copied())
            .collect();
        check_size(width, bands.len(), pixels.len())?;
        let rows = bands
            .iter()
            .zip(0..)
            .flat_map(|((height, _), band)| std::iter::repeat_n(band, *height));
        let mask = Self {
            rows: rows.collect(),
            ..Self::new(width, bands.len(), pixels)?
        };
        check_sides(width, mask.height())?;
        Ok(mask)
    }

    /// Which columns count in every row.
    pub fn columns(&self) -> Vec<bool> {
        let mut columns = vec![true; self.width()];
        for y in 0..self.height() {
            for (all, counts) in columns.iter_mut().zip(self.row(y)) {
                *all &= counts;
            }
        }
        columns
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.columns.len()
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.rows.len()
    }

    /// The mask at `width` x `height` pixels, by nearest neighbour. A side of 0 stands for 1.
    pub fn stretched(&self, width: usize, height: usize) -> Self {
        let stretched = |axis: &[u32], len: usize| {
            let len = len.max(1);
            (0..len)
                .map(|i| axis[nearest(i, len, axis.len())])
                .collect()
        };
        Self {
            pixels: self.pixels.clone(),
            stride: self.stride,
            columns: stretched(&self.columns, width),
            rows: stretched(&self.rows, height),
        }
    }

    /// The part of `width` x `height` pixels whose top left pixel is (`x`, `y`).
    ///
    /// An error if it is empty or does not lie within the mask.
    pub fn crop(&self, x: usize, y: usize, width: usize, height: usize) -> Result<Self> {
        check_part((self.width(), self.height()), (x, y), (width, height))?;
        Ok(Self {
            pixels: self.pixels.clone(),
            stride: self.stride,
            columns: self.columns[x..x + width].to_vec(),
            rows: self.rows[y..y + height].to_vec(),
        })
    }

    /// Whether each pixel of row `y` counts, from left to right.
    pub fn row(&self, y: usize) -> impl Iterator<Item = bool> + '_ {
        let row = &self.pixels[self.rows[y] as usize * self.stride..][..self.stride];
        self.columns.iter().map(move |x| row[*x as usize])
    }

    /// Whether a point counts. `x` and `y` are shares of width and height; outside of 0 to 1 the nearest edge answers.
    pub fn counts_at(&self, x: f64, y: f64) -> bool {
        let index = |share: f64, len: usize| ((share * len as f64) as usize).min(len - 1);
        let column = self.columns[index(x, self.width())] as usize;
        let row = self.rows[index(y, self.height())] as usize;
        self.pixels[row * self.stride + column]
    }

    /// Whether nothing counts.
    pub fn is_empty(&self) -> bool {
        !(0..self.height()).any(|y| self.row(y).any(|counts| counts))
    }
}

/// The one of `of` equal parts that the middle of the `i`th of `len` equal parts falls into.
fn nearest(i: usize, len: usize, of: usize) -> usize {
    // In 128 bits nothing overflows, whatever size somebody wants to stretch a mask to.
    let (i, len, of) = (i as u128, len as u128, of as u128);
    ((2 * i + 1) * of / (2 * len)) as usize
}

fn check_sides(width: usize, height: usize) -> Result<()> {
    let sides = 1..=Frame::MAX_SIDE;
    if sides.contains(&width) && sides.contains(&height) {
        return Ok(());
    }
    Err(Error::Frame(format!(
        "wanted a mask from 1x1 to {m}x{m} pixels, found {width}x{height}",
        m = Frame::MAX_SIDE
    )))
}

fn check_size(width: usize, height: usize, found: usize) -> Result<()> {
    check_sides(width, height)?;
    // Both sides are at most MAX_SIDE, but their product need not fit 32 bits.
    let wanted = width as u64 * height as u64;
    if wanted > Mask::MAX_PIXELS as u64 {
        return Err(Error::Frame(format!(
            "wanted a mask of at most {} pixels, found {width}x{height}; a smaller one is stretched over any frame",
            Mask::MAX_PIXELS
        )));
    }
    if found as u64 != wanted {
        return Err(Error::Frame(format!(
            "a mask of {width}x{height} needs {wanted} pixels, found {found}"
        )));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `#` is what counts.
    fn drawn(rows: &[&str]) -> Mask {
        let pixels = rows.concat().bytes().map(|b| b == b'#').collect();
        Mask::new(rows[0].len(), rows.len(), pixels).unwrap()
    }

    fn rows(mask: &Mask) -> Vec<Vec<bool>> {
        (0..mask.height()).map(|y| mask.row(y).collect()).collect()
    }

    fn any_mask() -> impl Strategy<Value = Mask> {
        (1_usize..9, 1_usize..9).prop_flat_map(|(width, height)| {
            prop::collection::vec(any::<bool>(), width * height)
                .prop_map(move |pixels| Mask::new(width, height, pixels).unwrap())
        })
    }

    #[test]
    fn a_mask_twice_as_large_has_each_pixel_four_times() {
        let large = drawn(&["#.", ".."]).stretched(4, 4);
        assert_eq!(
            rows(&large),
            rows(&drawn(&["##..", "##..", "....", "...."]))
        );
    }

    #[test]
    fn a_smaller_mask_takes_the_pixels_in_the_middle() {
        assert_eq!(rows(&drawn(&[".#..#."]).stretched(2, 1)), [[true, true]]);
    }

    #[test]
    fn luma_counts_from_128_on() {
        let mask = Mask::from_luma(4, 1, &[0, 127, 128, 255]).unwrap();
        assert_eq!(rows(&mask), [[false, false, true, true]]);
    }

    #[test]
    fn a_point_outside_is_answered_by_the_nearest_edge() {
        let mask = drawn(&["#."]);
        for (x, counts) in [(-1.0, true), (0.49, true), (0.5, false), (9.0, false)] {
            assert_eq!(mask.counts_at(x, 0.5), counts, "{x}");
        }
        assert!(mask.counts_at(f64::NAN, f64::INFINITY));
    }

    #[test]
    fn a_mask_that_counts_nothing_is_empty() {
        let mask = drawn(&["#.", ".."]);
        assert!(!mask.is_empty());
        assert!(mask.crop(1, 0, 1, 2).unwrap().is_empty());
    }

    #[test]
    fn sizes_that_cannot_be_are_errors_that_say_what_was_found() {
        let side = Frame::MAX_SIDE;
        let cases = [
            (Mask::new(0, 1, vec![]), "0x1"),
            (Mask::new(1, side + 1, vec![]), "1048577"),
            (Mask::new(side, side, vec![]), "67108864"),
            (Mask::new(3, 2, vec![true; 5]), "found 5"),
            (Mask::from_luma(3, 2, &[0; 7]), "found 7"),
            (drawn(&["##"]).crop(1, 0, 2, 1), "2x1 at (1, 0)"),
            (drawn(&["##"]).crop(0, 0, 0, 1), "0x1"),
            (drawn(&["##"]).crop(usize::MAX, 0, 2, 1), "within 2x1"),
        ];
        for (found, part) in cases {
            let error = found.unwrap_err().to_string();
            assert!(error.contains(part), "{error}: no {part}");
        }
    }

    proptest! {
        #[test]
        fn a_stretched_mask_has_at_each_middle_what_the_mask_has_there(mask in any_mask(), width in 1_usize..40, height in 1_usize..40) {
            let found = mask.stretched(width, height);
            for (y, row) in rows(&found).iter().enumerate() {
                for (x, counts) in row.iter().enumerate() {
                    let (x, y) = ((x as f64 + 0.5) / width as f64, (y as f64 + 0.5) / height as f64);
                    // A middle on the line between two pixels may fall to either side in floating point.
                    let around = [-1e-9, 1e-9].map(|d| mask.counts_at(x + d, y + d));
                    prop_assert!(around.contains(counts));
                }
            }
        }

        #[test]
        fn a_part_of_a_part_is_that_part_of_the_whole(
            mask in any_mask(),
            (size, (x, y), (dx, dy)) in (4_usize..30).prop_flat_map(|size| (Just(size), (0..size / 2, 0..size / 2), (0..size / 4, 0..size / 4))),
        ) {
            let whole = mask.stretched(size, size + 3);
            let side = size / 4;
            let once = whole.crop(x + dx, y + dy, side, side).unwrap();
            let part = whole.crop(x, y, size / 2, size / 2).unwrap();
            prop_assert_eq!(&part.crop(dx, dy, side, side).unwrap(), &once);
            let wanted: Vec<Vec<bool>> = rows(&whole)[y + dy..][..side].iter().map(|row| row[x + dx..][..side].to_vec()).collect();
            prop_assert_eq!(rows(&once), wanted);
        }

        #[test]
        fn any_size_but_none_can_be_had(mask in any_mask(), width in 0_usize..3, height in 0_usize..3) {
            let found = mask.stretched(width, height);
            prop_assert_eq!((found.width(), found.height()), (width.max(1), height.max(1)));
        }
    }
}
