//! Picture files to 8-bit RGB, as Pillow's `convert("RGB")` makes it, and maps to 16-bit grey PNG.
//!
//! Alpha is dropped, not blended; grey fills all three channels; the orientation in EXIF data is not applied, as the authors' code does
//! not apply it. Samples of 16 bits keep their high byte. (Pillow does so with colour, but cuts 16-bit grey off at 255, which turns
//! nearly every such picture white; here grey is treated as colour is.)

use std::{
    fs::File,
    io::{BufRead, BufReader, Cursor, Seek},
    path::Path,
};

use acdclip_model::Frame;
use image::{
    DynamicImage, ImageDecoder, ImageEncoder, ImageFormat, ImageReader, Limits,
    codecs::png::PngEncoder,
};

use crate::{
    jpeg,
    outcome::{Failure, Outcome},
};

/// Memory that decoding one picture may take. An 8k line scan of 40 000 lines fits.
const MAX_BYTES: u64 = 1 << 30;

/// A decoded picture, 3 bytes a pixel, no padding.
pub(crate) struct Picture {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

impl Picture {
    /// Reads the picture in `path`, whose content says its format, whatever its name. An error also where a part of it is missing.
    pub(crate) fn open(path: &Path) -> Outcome<Self> {
        let (decoded, _) = open_whole(path)?;
        Self::new(decoded).map_err(unreadable(path))
    }

    fn new(decoded: DynamicImage) -> Result<Self, String> {
        Ok(Self {
            width: decoded.width(),
            height: decoded.height(),
            pixels: rgb8(decoded)?,
        })
    }

    /// Width and height in pixels.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.width as usize, self.height as usize)
    }

    /// R, G and B of each pixel, row by row.
    pub(crate) fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Its width, height and 8-bit RGB pixels, row by row.
    pub(crate) fn into_rgb(self) -> (usize, usize, Vec<u8>) {
        (self.width as usize, self.height as usize, self.pixels)
    }

    /// The picture as the detector takes it.
    pub(crate) fn frame(&self) -> acdclip_model::Result<Frame<'_>> {
        let (width, height) = (self.width as usize, self.height as usize);
        Frame::rgb(&self.pixels, width * 3, width, height)
    }
}

/// Reads the picture in `path` as it is stored, with its format. An error also where the end of a JPEG is missing, which decoders make up.
pub(crate) fn open_whole(path: &Path) -> Outcome<(DynamicImage, Option<ImageFormat>)> {
    let (decoded, format) = open(path)?;
    if format == Some(ImageFormat::Jpeg) {
        let file = File::open(path).map_err(Failure::io(path))?;
        if !jpeg::has_end(BufReader::new(file)).map_err(Failure::io(path))? {
            return Err(unreadable(path)(
                "wanted a JPEG to its end, found it cut off; copy it again".into(),
            ));
        }
    }
    Ok((decoded, format))
}

fn open(path: &Path) -> Outcome<(DynamicImage, Option<ImageFormat>)> {
    if std::fs::metadata(path).map_err(Failure::io(path))?.len() == 0 {
        return Err(unreadable(path)(
            "wanted a picture, found an empty file".into(),
        ));
    }
    let reader = ImageReader::open(path)
        .and_then(ImageReader::with_guessed_format)
        .map_err(Failure::io(path))?;
    let format = reader.format();
    let decoded = decode(reader).map_err(unreadable(path))?;
    Ok((decoded, format))
}

fn unreadable(path: &Path) -> impl FnOnce(String) -> Failure {
    |reason| Failure::Picture {
        path: path.into(),
        reason,
    }
}

fn decode<R: BufRead + Seek>(reader: ImageReader<R>) -> Result<DynamicImage, String> {
    if reader.format().is_none() {
        return Err(
            "wanted a PNG, JPEG, BMP, TIFF, WebP or PNM picture, found none of these".into(),
        );
    }
    let mut decoder = reader.into_decoder().map_err(|e| e.to_string())?;
    let (width, height) = decoder.dimensions();
    let side = Frame::MAX_SIDE as u32;
    let mut limits = Limits::default();
    limits.max_image_width = Some(side);
    limits.max_image_height = Some(side);
    limits.max_alloc = Some(MAX_BYTES);
    let bytes = decoder.total_bytes();
    if width == 0 || height == 0 || width > side || height > side || bytes > MAX_BYTES {
        return Err(format!(
            "wanted 1x1 to {side}x{side} pixels in at most {} MiB, found {width}x{height} in {} MiB",
            MAX_BYTES >> 20,
            bytes.div_ceil(1 << 20)
        ));
    }
    decoder.set_limits(limits).map_err(|e| e.to_string())?;
    DynamicImage::from_decoder(decoder).map_err(|e| e.to_string())
}

fn rgb8(decoded: DynamicImage) -> Result<Vec<u8>, String> {
    let high = |sample: &u16| (sample >> 8) as u8;
    let pixels = match decoded {
        DynamicImage::ImageRgb8(picture) => picture.into_raw(),
        DynamicImage::ImageLuma8(picture) => grey(picture.iter().copied(), 1),
        DynamicImage::ImageLumaA8(picture) => grey(picture.iter().copied(), 2),
        DynamicImage::ImageRgba8(picture) => colour(picture.iter().copied()),
        DynamicImage::ImageLuma16(picture) => grey(picture.iter().map(high), 1),
        DynamicImage::ImageLumaA16(picture) => grey(picture.iter().map(high), 2),
        DynamicImage::ImageRgb16(picture) => picture.iter().map(high).collect(),
        DynamicImage::ImageRgba16(picture) => colour(picture.iter().map(high)),
        other => {
            return Err(format!(
                "wanted 8 or 16 bits a sample, found {:?}",
                other.color()
            ));
        }
    };
    Ok(pixels)
}

/// Every `step`-th sample, three times.
fn grey(samples: impl Iterator<Item = u8>, step: usize) -> Vec<u8> {
    samples.step_by(step).flat_map(|y| [y; 3]).collect()
}

/// All but every fourth sample.
fn colour(samples: impl Iterator<Item = u8>) -> Vec<u8> {
    let not_alpha = |(i, sample)| (i % 4 != 3).then_some(sample);
    samples.enumerate().filter_map(not_alpha).collect()
}

/// A 16-bit grey PNG of `probabilities`, row by row, each as `round(p * 65535)`.
pub(crate) fn map_png(probabilities: &[f32], width: u32, height: u32) -> Result<Vec<u8>, String> {
    let samples: Vec<u8> = probabilities
        .iter()
        .flat_map(|p| ((p.clamp(0.0, 1.0) * 65_535.0).round() as u16).to_ne_bytes())
        .collect();
    let mut file = Cursor::new(Vec::new());
    PngEncoder::new(&mut file)
        .write_image(&samples, width, height, image::ExtendedColorType::L16)
        .map_err(|e| e.to_string())?;
    Ok(file.into_inner())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use image::{ImageBuffer, Luma, LumaA, Rgba};

    fn pixels_of(picture: impl Into<DynamicImage>) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        picture
            .into()
            .write_to(&mut file, image::ImageFormat::Png)
            .unwrap();
        file.set_position(0);
        let decoded = decode(ImageReader::new(file).with_guessed_format().unwrap()).unwrap();
        Picture::new(decoded).unwrap().pixels
    }

    #[test]
    fn alpha_is_dropped_not_blended() {
        let picture = ImageBuffer::from_pixel(1, 1, Rgba([10_u8, 20, 30, 0]));
        assert_eq!(pixels_of(picture), [10, 20, 30]);
        let picture = ImageBuffer::from_pixel(1, 1, LumaA([77_u8, 0]));
        assert_eq!(pixels_of(picture), [77; 3]);
    }

    #[test]
    fn sixteen_bits_keep_their_high_byte() {
        // What Pillow 13 makes of these samples of a 16-bit colour picture.
        let (samples, pillow) = (
            [0_u16, 128, 255, 256, 1000, 32_768, 65_535],
            [0, 0, 0, 1, 3, 128, 255],
        );
        for (sample, byte) in samples.into_iter().zip(pillow) {
            assert_eq!(
                pixels_of(ImageBuffer::from_pixel(1, 1, image::Rgb([sample; 3]))),
                [byte; 3]
            );
            assert_eq!(
                pixels_of(ImageBuffer::from_pixel(1, 1, Luma([sample]))),
                [byte; 3]
            );
        }
    }

    #[test]
    fn a_map_comes_back_as_it_went_in() {
        let png = map_png(&[0.0, 0.25, 0.5, 1.0, -0.1, 1.1], 3, 2).unwrap();
        let read = image::load_from_memory(&png).unwrap();
        let read = read.as_luma16().unwrap();
        assert_eq!(read.dimensions(), (3, 2));
        assert_eq!(read.as_raw()[..], [0, 16_384, 32_768, 65_535, 0, 65_535]);
    }

    #[test]
    fn a_picture_that_would_need_too_much_memory_is_refused_before_it_is_read() {
        // Only a header: PNM has no checksum to get right.
        let file = Cursor::new(b"P6 1000000 1000000 255\n".to_vec());
        let reader = ImageReader::new(file).with_guessed_format().unwrap();
        let reason = decode(reader).err().unwrap();
        assert!(reason.contains("1000000x1000000"), "{reason}");
    }
}
