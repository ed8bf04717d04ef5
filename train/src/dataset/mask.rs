//! Ground truth: mask files to anomalous pixels, at the size at which they are compared with a map.
//!
//! As in the authors' code, a pixel is anomalous where the mask, made grey as Pillow does it, is not 0, and a mask is brought to another
//! size by taking the nearest pixel. JPEG masks (Kvasir-SEG's, RSDDs') are the exception: compression leaves specks around every edge, so
//! there a pixel counts from the middle grey on.

use std::path::Path;

use image::{DynamicImage, ImageFormat};

use crate::{outcome::Outcome, picture};

/// Anomalous pixels of one picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mask {
    width: usize,
    height: usize,
    pixels: Vec<bool>,
}

impl Mask {
    /// Reads the mask in `path`. An error also where a part of it is missing.
    pub(crate) fn open(path: &Path) -> Outcome<Self> {
        let (decoded, format) = picture::open_whole(path)?;
        let (width, height) = (decoded.width() as usize, decoded.height() as usize);
        let pixels = match format {
            Some(ImageFormat::Jpeg) => set(&decoded, |grey| grey >= 0x8000),
            _ => set(&decoded, |grey| grey != 0),
        };
        Ok(Self {
            width,
            height,
            pixels,
        })
    }

    /// A mask of `width` x `height` pixels, row by row.
    pub(crate) fn new(width: usize, height: usize, pixels: Vec<bool>) -> Self {
        debug_assert_eq!(pixels.len(), width * height);
        Self {
            width,
            height,
            pixels,
        }
    }

    /// The part of `width` x `height` pixels whose left upper corner is at (`x`, `y`), all of which lies within.
    pub(crate) fn cropped(&self, [x, y, width, height]: [usize; 4]) -> Self {
        let rows = self.pixels.chunks_exact(self.width).skip(y).take(height);
        Self {
            width,
            height,
            pixels: rows.flat_map(|row| &row[x..x + width]).copied().collect(),
        }
    }

    /// Its pixels, row by row.
    pub(crate) fn pixels(&self) -> &[bool] {
        &self.pixels
    }

    /// Width and height.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// Whether no pixel is anomalous.
    pub(crate) fn is_empty(&self) -> bool {
        !self.pixels.contains(&true)
    }

    /// The mask at `width` x `height` pixels, row by row.
    pub(crate) fn resized(&self, width: usize, height: usize) -> Vec<bool> {
        let columns = nearest(self.width, width);
        let rows = nearest(self.height, height);
        let row = |y: usize| &self.pixels[y * self.width..(y + 1) * self.width];
        rows.into_iter()
            .flat_map(|y| columns.iter().map(move |&x| row(y)[x]))
            .collect()
    }
}

/// For each of `to` pixels the one of `from` that lies there. The position is summed up, not multiplied out, as Pillow does it: where a
/// position falls between two pixels the rounding decides.
fn nearest(from: usize, to: usize) -> Vec<usize> {
    let step = from as f64 / to as f64;
    let mut at = step * 0.5;
    (0..to)
        .map(|_| {
            let pixel = (at as usize).min(from - 1);
            at += step;
            pixel
        })
        .collect()
}

/// Which pixels are set, by their grey value in 16 bits (8-bit samples in the high byte). Alpha is ignored.
fn set(decoded: &DynamicImage, is_set: impl Fn(u16) -> bool) -> Vec<bool> {
    let high = |sample: u8| u16::from(sample) << 8;
    match decoded {
        DynamicImage::ImageLuma8(grey) => grey.iter().map(|&g| is_set(high(g))).collect(),
        DynamicImage::ImageLumaA8(grey) => grey.pixels().map(|p| is_set(high(p.0[0]))).collect(),
        DynamicImage::ImageLuma16(grey) => grey.iter().map(|&g| is_set(g)).collect(),
        DynamicImage::ImageLumaA16(grey) => grey.pixels().map(|p| is_set(p.0[0])).collect(),
        other => {
            let rgb = other.to_rgb8();
            rgb.pixels().map(|p| is_set(high(luma(p.0)))).collect()
        }
    }
}

/// Luma of ITU-R BT.601, rounded as Pillow rounds it.
fn luma([r, g, b]: [u8; 3]) -> u8 {
    let [r, g, b] = [r, g, b].map(u32::from);
    ((r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_missing_of_a_mask_is_no_defect() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mask.jpg");
        image::GrayImage::new(256, 256).save(&path).unwrap();
        assert!(Mask::open(&path).unwrap().is_empty());
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 2]).unwrap();
        let reason = Mask::open(&path).unwrap_err().to_string();
        assert!(reason.contains("cut off"), "{reason}");
    }

    #[test]
    fn the_nearest_pixel_is_pillows() {
        // Image.fromarray(arange(7)).resize((n, 1), NEAREST) of Pillow.
        assert_eq!(nearest(7, 3), [1, 3, 5]);
        assert_eq!(nearest(7, 7), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(nearest(3, 7), [0, 0, 1, 1, 1, 2, 2]);
        assert_eq!(nearest(1, 2), [0, 0]);
    }

    #[test]
    fn anything_but_black_is_anomalous_except_in_jpeg() {
        let directory = tempfile::tempdir().unwrap();
        let grey =
            image::GrayImage::from_fn(16, 8, |x, _| image::Luma([if x < 8 { 0 } else { 30 }]));
        let path = directory.path().join("m.png");
        grey.save(&path).unwrap();
        let mask = Mask::open(&path).unwrap();
        assert_eq!(mask.size(), (16, 8));
        assert_eq!(mask.resized(2, 1), [false, true]);
        let path = directory.path().join("m.jpg");
        grey.save(&path).unwrap();
        assert!(Mask::open(&path).unwrap().is_empty());
    }

    #[test]
    fn sixteen_bits_and_colours_count_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("m.png");
        let faint = image::ImageBuffer::from_pixel(1, 1, image::Luma([1_u16]));
        faint.save(&path).unwrap();
        assert!(!Mask::open(&path).unwrap().is_empty());
        // Pillow's grey of so dark a blue is 0, of so dark a green 1.
        for (colour, empty) in [([0, 0, 4], true), ([0, 1, 0], false)] {
            let pixel = image::RgbImage::from_pixel(1, 1, image::Rgb(colour));
            pixel.save(&path).unwrap();
            assert_eq!(Mask::open(&path).unwrap().is_empty(), empty, "{colour:?}");
        }
    }
}
