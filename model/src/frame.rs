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
            (Self::Gray8, _) | (Self::Nv12 | Self::I420, 0) => (width, height),
            (Self::Nv12, _) => (half_w.saturating_mul(2), half_h),
            (Self::I420, _) => (half_w, half_h),
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
