//! A picture in somebody else's memory: format, planes, strides, colorimetry. Borrowed, bounds-checked once, never copied here.

use crate::error::{Error, Result};

/// How a pixel lies in memory. Alpha and padding bytes are ignored, so `Rgbx` also stands for RGBA, and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PixelFormat {
    /// 3 bytes: R, G, B.
    Rgb,
    /// 3 bytes: B, G, R.
    Bgr,
    /// 4 bytes: R, G, B, ignored.
    Rgbx,
    /// 4 bytes: B, G, R, ignored.
    Bgrx,
    /// 4 bytes: ignored, R, G, B.
    Xrgb,
    /// 4 bytes: ignored, B, G, R.
    Xbgr,
    /// 1 byte: luma.
    Gray8,
    /// 2 bytes, the lower one first: luma in the lowest `depth` bits, 8 to 16, as cameras of 10 or 12 bits give it. It is looked at in 8 bits.
    Gray16 {
        /// Bits that are used.
        depth: u8,
    },
    /// Luma plane, then a plane of interleaved U and V at half size both ways.
    Nv12,
    /// Luma, U and V planes, the latter two at half size both ways.
    I420,
}

/// The matrix that takes R'G'B' to Y'CbCr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Matrix {
    /// ITU-R BT.601 (SD video, JPEG).
    #[default]
    Bt601,
    /// ITU-R BT.709 (HD video).
    Bt709,
    /// ITU-R BT.2020, non-constant luminance (UHD video).
    Bt2020,
    /// SMPTE 240M (early HD video).
    Smpte240m,
    /// FCC 73.682 (NTSC of 1953).
    Fcc,
}

impl Matrix {
    /// Shares of red and blue in luma, Kr and Kb (ITU-T H.273, table 4).
    pub fn kr_kb(self) -> (f64, f64) {
        match self {
            Self::Bt601 => (0.299, 0.114),
            Self::Bt709 => (0.2126, 0.0722),
            Self::Bt2020 => (0.2627, 0.0593),
            Self::Smpte240m => (0.212, 0.087),
            Self::Fcc => (0.30, 0.11),
        }
    }
}

/// What the sample values 0 to 255 stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Range {
    /// 0 is black and 255 is white.
    #[default]
    Full,
    /// 16 is black and 235 is white; chroma spans 16 to 240.
    Limited,
}

/// The part of a stream's colorimetry that decides what RGB a sample is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Colorimetry {
    /// Ignored by RGB formats.
    pub matrix: Matrix,
    /// Range of every plane.
    pub range: Range,
}

/// One plane of a frame.
#[derive(Debug, Clone, Copy)]
pub struct Plane<'a> {
    /// From the first byte of the first row.
    pub data: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
}

/// A borrowed picture whose planes are known to hold every row that its size announces.
#[derive(Debug, Clone)]
pub struct Frame<'a> {
    format: PixelFormat,
    width: usize,
    height: usize,
    planes: [Plane<'a>; 3],
    colorimetry: Colorimetry,
}

impl PixelFormat {
    /// How many planes it has.
    pub fn plane_count(self) -> usize {
        match self {
            Self::I420 => 3,
            Self::Nv12 => 2,
            _ => 1,
        }
    }

    /// Bytes of one row and number of rows of `plane` in a `width` x `height` picture.
    pub fn plane_size(self, plane: usize, width: usize, height: usize) -> (usize, usize) {
        let (half_w, half_h) = (width.div_ceil(2), height.div_ceil(2));
        match (self, plane) {
            (Self::Rgb | Self::Bgr, _) => (width.saturating_mul(3), height),
            (Self::Rgbx | Self::Bgrx | Self::Xrgb | Self::Xbgr, _) => {
                (width.saturating_mul(4), height)
            }
            (Self::Gray16 { .. }, _) => (width.saturating_mul(2), height),
            (Self::Gray8, _) | (Self::Nv12 | Self::I420, 0) => (width, height),
            (Self::Nv12, _) => (half_w.saturating_mul(2), half_h),
            (Self::I420, _) => (half_w, half_h),
        }
    }

    /// The 8 bits that a sample of [`Gray16`](Self::Gray16) with that depth is looked at in; white where more bits are used.
    pub fn narrowed(sample: u16, depth: u8) -> u8 {
        let value = sample >> depth.saturating_sub(8).min(8);
        value.min(u16::from(u8::MAX)) as u8
    }

    /// What left and top edge of a part must be multiples of, see [`Frame::crop`]: 2 where pixels share a chroma sample, else 1.
    pub fn crop_step(self) -> usize {
        match self {
            Self::Nv12 | Self::I420 => 2,
            _ => 1,
        }
    }
}

impl<'a> Frame<'a> {
    /// Largest width or height accepted.
    pub const MAX_SIDE: usize = 1 << 20;

    /// A frame over `planes`; an error if a row would end outside its plane's bytes.
    pub fn new(
        format: PixelFormat,
        width: usize,
        height: usize,
        planes: &[Plane<'a>],
        colorimetry: Colorimetry,
    ) -> Result<Self> {
        if !(1..=Self::MAX_SIDE).contains(&width) || !(1..=Self::MAX_SIDE).contains(&height) {
            return Err(Error::Frame(format!(
                "wanted a size from 1x1 to {m}x{m} pixels, found {width}x{height}",
                m = Self::MAX_SIDE
            )));
        }
        if planes.len() != format.plane_count() {
            return Err(Error::Frame(format!(
                "{format:?} has {} planes, found {}",
                format.plane_count(),
                planes.len()
            )));
        }
        for (i, plane) in planes.iter().enumerate() {
            let (row, rows) = format.plane_size(i, width, height);
            let end = plane
                .stride
                .checked_mul(rows - 1)
                .and_then(|n| n.checked_add(row));
            if plane.stride < row || end.is_none_or(|end| end > plane.data.len()) {
                return Err(Error::Frame(format!(
                    "plane {i} of {width}x{height} {format:?} needs {rows} rows of {row} bytes; \
                     found a stride of {} and {} bytes",
                    plane.stride,
                    plane.data.len()
                )));
            }
        }
        let empty = Plane {
            data: &[],
            stride: 0,
        };
        let mut all = [empty; 3];
        all[..planes.len()].copy_from_slice(planes);
        Ok(Self {
            format,
            width,
            height,
            planes: all,
            colorimetry,
        })
    }

    /// A full-range RGB frame of 3 bytes a pixel, `stride` bytes a row.
    pub fn rgb(data: &'a [u8], stride: usize, width: usize, height: usize) -> Result<Self> {
        let planes = [Plane { data, stride }];
        Self::new(
            PixelFormat::Rgb,
            width,
            height,
            &planes,
            Colorimetry::default(),
        )
    }

    /// How its pixels lie in memory.
    pub fn format(&self) -> PixelFormat {
        self.format
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Its matrix and range.
    pub fn colorimetry(&self) -> Colorimetry {
        self.colorimetry
    }

    /// The bytes of row `y` of `plane`, without the stride's padding. `y` counts rows of that plane.
    pub fn row(&self, plane: usize, y: usize) -> &'a [u8] {
        let (row, _) = self.format.plane_size(plane, self.width, self.height);
        let Plane { data, stride } = self.planes[plane];
        &data[y * stride..y * stride + row]
    }

    /// The bytes of `plane` where its rows follow one another without padding.
    pub fn packed(&self, plane: usize) -> Option<&'a [u8]> {
        let (row, rows) = self.format.plane_size(plane, self.width, self.height);
        let Plane { data, stride } = self.planes[plane];
        (stride == row).then(|| &data[..row * rows])
    }

    /// The top field of an interlaced frame: every second row of each plane, from the first on. Of one row, that row.
    ///
    /// Its pixels are twice as tall as the frame's.
    pub fn field(&self) -> Self {
        let mut field = self.clone();
        field.height = self.height.div_ceil(2);
        for plane in &mut field.planes {
            // Only a plane of one row can have a stride near the limit, and its stride is never used.
            plane.stride = plane.stride.saturating_mul(2);
        }
        field
    }

    /// The part of `width` x `height` pixels whose top left pixel is (`x`, `y`); in the same memory, nothing is copied.
    ///
    /// An error if it is empty, does not lie within the frame, or if `x` or `y` is no multiple of [`PixelFormat::crop_step`].
    pub fn crop(&self, x: usize, y: usize, width: usize, height: usize) -> Result<Self> {
        check_part((self.width, self.height), (x, y), (width, height))?;
        let step = self.format.crop_step();
        if !x.is_multiple_of(step) || !y.is_multiple_of(step) {
            return Err(Error::Frame(format!(
                "wanted a part of {:?} that begins at multiples of {step} pixels, found ({x}, {y})",
                self.format
            )));
        }
        let mut part = Self {
            width,
            height,
            ..self.clone()
        };
        let planes = part.planes[..self.format.plane_count()].iter_mut();
        for (i, plane) in planes.enumerate() {
            // At a multiple of the step, what lies left of a pixel and above it is a picture of its own.
            let (bytes, rows) = self.format.plane_size(i, x, y);
            plane.data = &plane.data[rows * plane.stride + bytes..];
        }
        Ok(part)
    }
}

/// An error if a part at a pixel, of a size, is empty or reaches beyond a picture of `whole` (width, height).
pub(crate) fn check_part(
    whole: (usize, usize),
    (x, y): (usize, usize),
    (width, height): (usize, usize),
) -> Result<()> {
    let fits = |start: usize, len: usize, whole: usize| {
        len > 0 && start.checked_add(len).is_some_and(|end| end <= whole)
    };
    if fits(x, width, whole.0) && fits(y, height, whole.1) {
        return Ok(());
    }
    Err(Error::Frame(format!(
        "wanted a part of at least 1x1 pixels within {}x{}, found {width}x{height} at ({x}, {y})",
        whole.0, whole.1
    )))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn rows(frame: &Frame<'_>, plane: usize) -> Vec<u8> {
        let (_, rows) = frame
            .format()
            .plane_size(plane, frame.width(), frame.height());
        (0..rows).map(|y| frame.row(plane, y)[0]).collect()
    }

    #[test]
    fn a_field_has_every_second_row_of_each_plane() {
        let bytes: Vec<u8> = (0..64).collect();
        for height in 1..=9 {
            let planes = [
                Plane {
                    data: &bytes[..height],
                    stride: 1,
                },
                Plane {
                    data: &bytes[..height.div_ceil(2)],
                    stride: 1,
                },
                Plane {
                    data: &bytes[..height.div_ceil(2)],
                    stride: 1,
                },
            ];
            let frame = Frame::new(
                PixelFormat::I420,
                1,
                height,
                &planes,
                Colorimetry::default(),
            )
            .unwrap();
            let field = frame.field();
            assert_eq!(field.height(), height.div_ceil(2));
            for plane in 0..3 {
                let every_second: Vec<u8> = rows(&frame, plane).into_iter().step_by(2).collect();
                assert_eq!(
                    rows(&field, plane),
                    every_second,
                    "height {height}, plane {plane}"
                );
            }
        }
    }

    #[test]
    fn the_field_of_one_row_is_that_row_whatever_the_stride() {
        let frame = Frame::rgb(&[1, 2, 3], usize::MAX, 1, 1).unwrap();
        assert_eq!(frame.field().row(0, 0), [1, 2, 3]);
        assert_eq!(frame.field().field().packed(0), None);
    }

    #[test]
    fn a_part_lies_in_the_frames_own_memory() {
        let bytes: Vec<u8> = (0..60).collect();
        let frame = Frame::rgb(&bytes, 15, 5, 4).unwrap();
        let part = frame.crop(1, 2, 3, 2).unwrap();
        assert_eq!((part.width(), part.height()), (3, 2));
        assert!(std::ptr::eq(part.row(0, 0), &bytes[33..42]));
        assert!(std::ptr::eq(part.row(0, 1), &bytes[48..57]));
        assert_eq!(part.packed(0), None);
        assert_eq!(
            frame.crop(0, 1, 5, 3).unwrap().packed(0),
            Some(&bytes[15..])
        );
    }

    #[test]
    fn a_part_of_a_field_has_every_second_row_of_the_part() {
        let bytes: Vec<u8> = (0..24).collect();
        let frame = Frame::rgb(&bytes, 3, 1, 8).unwrap();
        let part = frame.field().crop(0, 1, 1, 3).unwrap();
        assert_eq!(rows(&part, 0), [6, 12, 18]);
        let one_row = Frame::rgb(&bytes[..6], usize::MAX, 2, 1).unwrap();
        assert_eq!(one_row.crop(1, 0, 1, 1).unwrap().row(0, 0), [3, 4, 5]);
    }

    #[test]
    fn parts_that_cannot_be_are_errors_that_say_what_was_found() {
        let bytes = [0; 64];
        let plane = Plane {
            data: &bytes[..],
            stride: 8,
        };
        let of = |format: PixelFormat| {
            let planes = vec![plane; format.plane_count()];
            Frame::new(format, 7, 5, &planes, Colorimetry::default()).unwrap()
        };
        let grey = of(PixelFormat::Gray8);
        for (x, y, width, height) in [
            (0, 0, 0, 1),
            (0, 0, 1, 0),
            (0, 0, 8, 1),
            (0, 0, 1, 6),
            (7, 0, 1, 1),
            (3, 3, 4, 3),
            (usize::MAX, 0, 2, 1),
            (0, 1, 1, usize::MAX),
        ] {
            let error = grey.crop(x, y, width, height).unwrap_err().to_string();
            let found = format!("within 7x5, found {width}x{height} at ({x}, {y})");
            assert!(error.contains(&found), "{error}: no {found}");
        }
        assert!(grey.crop(3, 3, 4, 2).is_ok());
        for format in [PixelFormat::Nv12, PixelFormat::I420] {
            assert_eq!(format.crop_step(), 2);
            for (x, y) in [(1, 2), (2, 1), (3, 3)] {
                let error = of(format).crop(x, y, 2, 2).unwrap_err().to_string();
                assert!(error.contains("multiples of 2"), "{error}");
                assert!(error.contains(&format!("({x}, {y})")), "{error}");
            }
            assert!(of(format).crop(6, 4, 1, 1).is_ok());
        }
    }

    #[test]
    fn only_rows_without_padding_are_packed() {
        let bytes = [7; 16];
        let planes = |stride| {
            [Plane {
                data: &bytes[..],
                stride,
            }]
        };
        let frame = |stride| {
            Frame::new(
                PixelFormat::Gray8,
                3,
                3,
                &planes(stride),
                Colorimetry::default(),
            )
            .unwrap()
        };
        assert_eq!(frame(3).packed(0), Some(&bytes[..9]));
        assert_eq!(frame(4).packed(0), None);
        assert_eq!(frame(3).field().packed(0), None);
    }
}
