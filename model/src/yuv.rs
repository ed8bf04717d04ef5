//! Y'CbCr 4:2:0 to R'G'B', by any of the matrices that [`crate::frame::Matrix`] knows, full or limited range.
//!
//! Chroma is replicated: the four pixels of a 2x2 block take the block's sample, wherever in the block the stream says it was sited.
//! That is at most half a pixel off, far below a patch. The arithmetic is fixed-point and within 1 of the exact formula.

use std::ops;

use crate::frame::{Colorimetry, Frame, PixelFormat, Range};

/// Binary places of the coefficients. The largest, 2.14, fits 16 bits with them, and 16-bit factors are what vector units multiply.
const PLACES: u32 = 13;

/// Chroma's share of each pixel of a row, one list a channel.
#[derive(Debug, Default)]
pub(crate) struct Scratch([Vec<i32>; 3]);

/// The formula R = y Y + rv V + c and so on, in fixed point, for samples as they are stored.
pub(crate) struct Coefficients {
    y: i16,
    red_v: i16,
    green_u: i16,
    green_v: i16,
    blue_u: i16,
    /// Luma's offset, and the half that makes the final shift round.
    offset: i32,
}

impl Coefficients {
    pub(crate) fn of(Colorimetry { matrix, range }: Colorimetry) -> Self {
        let (red, blue) = matrix.kr_kb();
        let green = 1.0 - red - blue;
        let (black, luma, chroma) = match range {
            Range::Full => (0.0, 1.0, 1.0),
            Range::Limited => (16.0, 255.0 / 219.0, 255.0 / 224.0),
        };
        let one = f64::from(1 << PLACES);
        let fixed = |factor: f64| (factor * one).round() as i16;
        Self {
            y: fixed(luma),
            red_v: fixed(chroma * 2.0 * (1.0 - red)),
            green_u: fixed(chroma * -2.0 * blue * (1.0 - blue) / green),
            green_v: fixed(chroma * -2.0 * red * (1.0 - red) / green),
            blue_u: fixed(chroma * 2.0 * (1.0 - blue)),
            offset: ((0.5 - luma * black) * one).round() as i32,
        }
    }

    /// Chroma's share of red, green and blue, with the offsets.
    fn shares(&self, u: u8, v: u8) -> [i32; 3] {
        let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
        [
            self.offset + i32::from(self.red_v) * v,
            self.offset + i32::from(self.green_u) * u + i32::from(self.green_v) * v,
            self.offset + i32::from(self.blue_u) * u,
        ]
    }

    /// Red, green and blue of one pixel.
    pub(crate) fn rgb(&self, y: u8, u: u8, v: u8) -> [u8; 3] {
        let luma = i32::from(self.y) * i32::from(y);
        self.shares(u, v)
            .map(|share| ((luma + share) >> PLACES).clamp(0, 255) as u8)
    }
}

/// Fills `planes` with red, then green, then blue of `rows` of a 4:2:0 frame, each without padding.
pub(crate) fn to_rgb_planes(
    frame: &Frame<'_>,
    rows: ops::Range<usize>,
    planes: &mut Vec<u8>,
    scratch: &mut Scratch,
) {
    let width = frame.width();
    let coefficients = Coefficients::of(frame.colorimetry());
    planes.resize(3 * width * rows.len(), 0);
    for (at, y) in rows.clone().enumerate() {
        if at == 0 || y % 2 == 0 {
            chroma_row(frame, y / 2, &coefficients, scratch);
        }
        let luma = frame.row(0, y);
        let planes = planes.chunks_exact_mut(width * rows.len());
        for (plane, shares) in planes.zip(&scratch.0) {
            let row = &mut plane[at * width..(at + 1) * width];
            for ((sample, luma), share) in row.iter_mut().zip(luma).zip(shares) {
                let value = (i32::from(coefficients.y) * i32::from(*luma) + share) >> PLACES;
                *sample = value.clamp(0, 255) as u8;
            }
        }
    }
}

/// Chroma's shares of the pixels above chroma row `y`, two alike next to each other.
fn chroma_row(
    frame: &Frame<'_>,
    y: usize,
    coefficients: &Coefficients,
    Scratch(shares): &mut Scratch,
) {
    let samples = frame.width().div_ceil(2);
    for list in shares.iter_mut() {
        list.resize(2 * samples, 0);
    }
    let mut put = |x: usize, u: u8, v: u8| {
        for (list, share) in shares.iter_mut().zip(coefficients.shares(u, v)) {
            list[2 * x..2 * x + 2].fill(share);
        }
    };
    if frame.format() == PixelFormat::Nv12 {
        for (x, pair) in frame.row(1, y).chunks_exact(2).enumerate() {
            put(x, pair[0], pair[1]);
        }
    } else {
        for (x, (u, v)) in frame.row(1, y).iter().zip(frame.row(2, y)).enumerate() {
            put(x, *u, *v);
        }
    }
}
