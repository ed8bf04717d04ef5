//! From a picture in any pixel format to what the network reads: RGB, resized, normalised, one plane a channel.
//!
//! The resize is Pillow's bicubic (a = -0.5, antialiased, 8 bits), which CLIP's and the official code's transforms use. Formats whose
//! samples are red, green, blue or grey already are resized as they lie in memory, and their channels are picked afterwards; of Y'CbCr
//! some rows at a time are converted and made as narrow as the input, so that no whole picture of another kind is ever in memory.

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    frame::{Frame, PixelFormat, Range},
    mask::Mask,
    yuv,
};

/// Rows of Y'CbCr that are converted at a time: few enough to stay in a cache, and enough to make up for setting up a filter.
const BAND: usize = 128;

/// How a frame meets an input of another shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// The frame fills the input, its shape is lost. What the official code does.
    #[default]
    Squash,
    /// The frame keeps its shape and lies in the input's middle; what is left over has the mean colour.
    Fit,
}

impl Resize {
    /// Its name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Squash => "squash",
            Self::Fit => "fit",
        }
    }
}

/// How a frame is shown to the network; the default squashes all of it.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// How it meets an input of another shape.
    pub resize: Resize,
    /// Width of a pixel over its height, as a fraction; matters to [`Resize::Fit`] alone, and a zero in it stands for 1:1.
    pub pixel_aspect: (u32, u32),
    /// What of the frame counts, stretched over it; none for all. What does not count has the mean colour.
    pub mask: Option<&'a Mask>,
}

impl Default for View<'_> {
    fn default() -> Self {
        Self {
            resize: Resize::default(),
            pixel_aspect: (1, 1),
            mask: None,
        }
    }
}

/// Where the frame lies in the input, in input pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placement {
    /// Left edge.
    pub x: f32,
    /// Top edge.
    pub y: f32,
    /// Width.
    pub width: f32,
    /// Height.
    pub height: f32,
}

/// Buffers that [`Preprocessor::run`] keeps from one frame to the next. Any preprocessor may use any scratch, one at a time.
#[derive(Debug, Default)]
pub struct Scratch {
    source: Vec<u8>,
    band: Vec<u8>,
    narrowed: Vec<u8>,
    resized: Vec<u8>,
    yuv: yuv::Scratch,
    resizer: Resizer,
}

/// Makes network inputs of one size and normalisation.
#[derive(Debug, Clone)]
pub struct Preprocessor {
    width: usize,
    height: usize,
    /// Per channel, what each sample value is to the network.
    normalised: Box<[[f32; 256]; 3]>,
}

/// A rectangle of whole input pixels.
#[derive(Clone, Copy)]
struct Rect {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

/// How the samples that are resized lie in memory: one picture of interleaved channels, or a picture a channel.
struct Layout {
    pixel: PixelType,
    pictures: usize,
    /// First sample of red, green and blue: bytes into a pixel, or number of the picture.
    channels: [usize; 3],
}

impl Layout {
    fn of(format: PixelFormat) -> Self {
        let interleaved = |pixel, channels| Self {
            pixel,
            pictures: 1,
            channels,
        };
        match format {
            PixelFormat::Rgb => interleaved(PixelType::U8x3, [0, 1, 2]),
            PixelFormat::Bgr => interleaved(PixelType::U8x3, [2, 1, 0]),
            PixelFormat::Rgbx => interleaved(PixelType::U8x4, [0, 1, 2]),
            PixelFormat::Bgrx => interleaved(PixelType::U8x4, [2, 1, 0]),
            PixelFormat::Xrgb => interleaved(PixelType::U8x4, [1, 2, 3]),
            PixelFormat::Xbgr => interleaved(PixelType::U8x4, [3, 2, 1]),
            PixelFormat::Gray8 | PixelFormat::Gray16 { .. } => {
                interleaved(PixelType::U8, [0, 0, 0])
            }
            PixelFormat::Nv12 | PixelFormat::I420 => Self {
                pixel: PixelType::U8,
                pictures: 3,
                channels: [0, 1, 2],
            },
        }
    }

    /// The samples of `channel`, in reading order, where a picture has `pixels` pixels.
    fn channel<'a>(
        &self,
        samples: &'a [u8],
        channel: usize,
        pixels: usize,
    ) -> impl Iterator<Item = u8> + use<'a> {
        let offset = self.channels[channel];
        let start = if self.pictures == 1 {
            offset
        } else {
            offset * pixels
        };
        samples[start..]
            .iter()
            .copied()
            .step_by(self.pixel.size())
            .take(pixels)
    }
}

impl Preprocessor {
    /// For inputs of `width` x `height` pixels; `mean` and `std` of red, green and blue in [0, 1].
    ///
    /// An error if a side is not within 1 to [`Frame::MAX_SIDE`].
    pub fn new(width: usize, height: usize, mean: [f32; 3], std: [f32; 3]) -> Result<Self> {
        if !(1..=Frame::MAX_SIDE).contains(&width) || !(1..=Frame::MAX_SIDE).contains(&height) {
            return Err(Error::Config(format!(
                "input size: wanted 1x1 to {m}x{m} pixels, found {width}x{height}",
                m = Frame::MAX_SIDE
            )));
        }
        let mut normalised = Box::new([[0.0; 256]; 3]);
        for ((table, mean), std) in normalised.iter_mut().zip(mean).zip(std) {
            for (value, sample) in table.iter_mut().zip(0..=u8::MAX) {
                *value = (f32::from(sample) / 255.0 - mean) / std;
            }
        }
        Ok(Self {
            width,
            height,
            normalised,
        })
    }

    /// Numbers that one input takes: 3 planes of height rows of width.
    pub fn len(&self) -> usize {
        3 * self.width * self.height
    }

    /// Never: an input has at least one pixel.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Writes the input that `frame` makes, [3, height, width], to `out`, and says where in it the frame lies.
    ///
    /// After the first frame of a size nothing is allocated but the resize filter's few coefficients, and with a mask its columns and rows.
    ///
    /// An error if `out` is not [`len`](Self::len) long.
    pub fn run(
        &self,
        frame: &Frame<'_>,
        view: View<'_>,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) -> Result<Placement> {
        if out.len() != self.len() {
            return Err(Error::Frame(format!(
                "an input of {}x{} pixels takes {} numbers, found room for {}",
                self.width,
                self.height,
                self.len(),
                out.len()
            )));
        }
        let rect = match view.resize {
            Resize::Squash => Rect {
                x: 0,
                y: 0,
                width: self.width,
                height: self.height,
            },
            Resize::Fit => self.fit(frame, view.pixel_aspect),
        };
        let layout = Layout::of(frame.format());
        match frame.format() {
            PixelFormat::Nv12 | PixelFormat::I420 => narrow_bands(frame, rect.width, scratch)?,
            _ => narrow(layout.pixel, frame, rect.width, scratch)?,
        }
        shorten(&layout, frame.height(), rect, scratch)?;
        self.normalise(&layout, &scratch.resized, rect, out);
        if let Some(mask) = view.mask {
            self.blank(mask, rect, out);
        }
        Ok(Placement {
            x: rect.x as f32,
            y: rect.y as f32,
            width: rect.width as f32,
            height: rect.height as f32,
        })
    }

    /// The largest rectangle of the frame's shape in the input's middle.
    fn fit(&self, frame: &Frame<'_>, pixel_aspect: (u32, u32)) -> Rect {
        let aspect = match pixel_aspect {
            (0, _) | (_, 0) => 1.0,
            (width, height) => f64::from(width) / f64::from(height),
        };
        let (shown_width, shown_height) = (frame.width() as f64 * aspect, frame.height() as f64);
        let scale = (self.width as f64 / shown_width).min(self.height as f64 / shown_height);
        let side = |shown: f64, limit: usize| ((shown * scale).round() as usize).clamp(1, limit);
        let (width, height) = (
            side(shown_width, self.width),
            side(shown_height, self.height),
        );
        Rect {
            x: (self.width - width) / 2,
            y: (self.height - height) / 2,
            width,
            height,
        }
    }

    fn normalise(&self, layout: &Layout, resized: &[u8], rect: Rect, out: &mut [f32]) {
        if (rect.width, rect.height) != (self.width, self.height) {
            out.fill(0.0);
        }
        let planes = out.chunks_exact_mut(self.width * self.height);
        for (channel, (plane, normalised)) in planes.zip(self.normalised.iter()).enumerate() {
            let mut samples = layout.channel(resized, channel, rect.width * rect.height);
            let rows = plane
                .chunks_exact_mut(self.width)
                .skip(rect.y)
                .take(rect.height);
            for row in rows {
                for (value, sample) in row[rect.x..rect.x + rect.width]
                    .iter_mut()
                    .zip(&mut samples)
                {
                    *value = normalised[usize::from(sample)];
                }
            }
        }
    }

    /// Gives the mean colour to what does not count of the frame in `rect`.
    fn blank(&self, mask: &Mask, rect: Rect, out: &mut [f32]) {
        let mask = mask.stretched(rect.width, rect.height);
        for plane in out.chunks_exact_mut(self.width * self.height) {
            let rows = plane.chunks_exact_mut(self.width).skip(rect.y);
            for (y, row) in rows.take(rect.height).enumerate() {
                for (value, counts) in row[rect.x..].iter_mut().zip(mask.row(y)) {
                    if !counts {
                        *value = 0.0;
                    }
                }
            }
        }
    }
}

/// The frame's picture in full range, without padding: the frame's own bytes where they are that already, else made in `buffer`.
fn samples<'a>(frame: &Frame<'a>, buffer: &'a mut Vec<u8>) -> &'a [u8] {
    let is_full = frame.colorimetry().range == Range::Full;
    let rows = || (0..frame.height()).map(|y| frame.row(0, y));
    match (frame.format(), frame.packed(0)) {
        (PixelFormat::Gray16 { depth }, _) => {
            buffer.clear();
            for row in rows() {
                buffer.extend(narrowed(row, depth));
            }
        }
        (_, Some(packed)) if is_full => return packed,
        _ => {
            buffer.clear();
            rows().for_each(|row| buffer.extend_from_slice(row));
        }
    }
    if !is_full {
        let full = full_range();
        for sample in buffer.iter_mut() {
            *sample = full[usize::from(*sample)];
        }
    }
    buffer
}

/// A row of [`PixelFormat::Gray16`] in 8 bits.
pub(crate) fn narrowed(row: &[u8], depth: u8) -> impl Iterator<Item = u8> + '_ {
    let pairs = row.chunks_exact(2);
    pairs.map(move |pair| PixelFormat::narrowed(u16::from_le_bytes([pair[0], pair[1]]), depth))
}

/// What each sample of a limited range is in full range.
pub(crate) fn full_range() -> [u8; 256] {
    std::array::from_fn(|sample| ((sample as f32 - 16.0) * (255.0 / 219.0)).round() as u8)
}

/// Makes a frame's picture `width` pixels wide.
///
/// Columns go before rows, in passes of their own with 8 bits in between, because that is Pillow's order; in one pass the crate would begin with
/// rows, and where a filter overshoots at an edge the two orders differ by several levels.
fn narrow(pixel: PixelType, frame: &Frame<'_>, width: usize, scratch: &mut Scratch) -> Result<()> {
    let height = frame.height();
    let Scratch {
        source,
        narrowed,
        resizer,
        ..
    } = scratch;
    narrowed.resize(width * height * pixel.size(), 0);
    resize_picture(
        pixel,
        (samples(frame, source), frame.width(), height),
        (narrowed, width, height),
        resizer,
    )
}

/// Makes a 4:2:0 frame's red, green and blue `width` pixels wide, band by band: the three parts of a band are one picture to the filter.
fn narrow_bands(frame: &Frame<'_>, width: usize, scratch: &mut Scratch) -> Result<()> {
    let height = frame.height();
    let Scratch {
        source,
        band,
        narrowed,
        yuv,
        resizer,
        ..
    } = scratch;
    narrowed.resize(3 * width * height, 0);
    for first in (0..height).step_by(BAND) {
        let rows = first..(first + BAND).min(height);
        let count = rows.len();
        yuv::to_rgb_planes(frame, rows, source, yuv);
        band.resize(3 * width * count, 0);
        resize_picture(
            PixelType::U8,
            (source, frame.width(), 3 * count),
            (band, width, 3 * count),
            resizer,
        )?;
        let pictures = narrowed.chunks_exact_mut(width * height);
        for (part, picture) in band.chunks_exact(width * count).zip(pictures) {
            picture[first * width..][..part.len()].copy_from_slice(part);
        }
    }
    Ok(())
}

/// Makes the narrowed pictures of `height` rows as high as the rectangle.
fn shorten(layout: &Layout, height: usize, rect: Rect, scratch: &mut Scratch) -> Result<()> {
    let pixel = layout.pixel.size();
    let len = rect.width * rect.height * pixel;
    scratch.resized.resize(layout.pictures * len, 0);
    let pictures = scratch.narrowed.chunks_exact(rect.width * height * pixel);
    for (from, to) in pictures.zip(scratch.resized.chunks_exact_mut(len)) {
        resize_picture(
            layout.pixel,
            (from, rect.width, height),
            (to, rect.width, rect.height),
            &mut scratch.resizer,
        )?;
    }
    Ok(())
}

/// Resizes one picture of samples, width and height into another.
fn resize_picture(
    pixel: PixelType,
    (from, from_width, from_height): (&[u8], usize, usize),
    (to, to_width, to_height): (&mut [u8], usize, usize),
    resizer: &mut Resizer,
) -> Result<()> {
    // A fourth byte is padding or alpha that the caps say to ignore.
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom))
        .use_alpha(false);
    let failed = |e: &dyn std::fmt::Display| Error::Frame(format!("cannot be resized: {e}"));
    // Sides are at most Frame::MAX_SIDE, which fits.
    let from = ImageRef::new(from_width as u32, from_height as u32, from, pixel)
        .map_err(|e| failed(&e))?;
    let mut to = Image::from_slice_u8(to_width as u32, to_height as u32, to, pixel)
        .map_err(|e| failed(&e))?;
    resizer
        .resize(&from, &mut to, &options)
        .map_err(|e| failed(&e))
}
