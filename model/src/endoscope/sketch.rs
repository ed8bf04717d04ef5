//! A small picture of a frame, of any format: the mean colour of each cell of a grid, from a few samples a cell.

use crate::{
    frame::{Frame, PixelFormat, Range},
    preprocess::full_range,
    yuv::Coefficients,
};

/// Samples of a cell across and down, at most. More say little more, and cost.
const SAMPLES: usize = 3;

/// A small picture of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sketch {
    width: usize,
    height: usize,
    frame: (usize, usize),
    colours: Vec<[u8; 3]>,
    luma: Vec<u8>,
}

impl Sketch {
    /// Cells along the longer side, where nobody says otherwise: about what the network has pixels.
    pub const SIDE: usize = 256;

    /// Of a frame, with `side` cells along its longer side, or fewer where it has fewer pixels.
    pub fn of(frame: &Frame<'_>, side: usize) -> Self {
        let long = frame.width().max(frame.height());
        let cells = |len: usize| match long <= side {
            true => len,
            false => ((2 * len * side + long) / (2 * long)).max(1),
        };
        let (width, height) = (cells(frame.width()), cells(frame.height()));
        let colours = Sampler::new(frame, width, height).colours();
        let luma = colours.iter().map(|colour| luma(*colour)).collect();
        Self {
            width,
            height,
            frame: (frame.width(), frame.height()),
            colours,
            luma,
        }
    }

    /// Cells across.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Cells down.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Width and height of the frame, pixels.
    pub fn frame_size(&self) -> (usize, usize) {
        self.frame
    }

    /// Red, green and blue of each cell, full range, row by row.
    pub fn colours(&self) -> &[[u8; 3]] {
        &self.colours
    }

    /// Luma of each cell, full range, by the weights of BT.601 whatever the frame's, row by row.
    pub fn luma(&self) -> &[u8] {
        &self.luma
    }
}

fn luma([red, green, blue]: [u8; 3]) -> u8 {
    let [red, green, blue] = [red, green, blue].map(u32::from);
    ((77 * red + 150 * green + 29 * blue + 128) >> 8) as u8
}

/// Where a row or column of cells is sampled: `per_cell` positions a cell, from the first cell to the last.
struct Positions {
    at: Vec<usize>,
    per_cell: usize,
}

impl Positions {
    fn new(len: usize, cells: usize) -> Self {
        let per_cell = (len / cells).clamp(1, SAMPLES);
        let count = cells * per_cell;
        let at = (0..count).map(|i| (2 * i + 1) * len / (2 * count));
        Self {
            at: at.collect(),
            per_cell,
        }
    }
}

/// Sums up a frame's samples cell by cell.
struct Sampler<'a> {
    frame: &'a Frame<'a>,
    columns: Positions,
    rows: Positions,
    /// Of each cell of a row, over its samples so far.
    sums: Vec<[u16; 3]>,
}

impl<'a> Sampler<'a> {
    fn new(frame: &'a Frame<'a>, width: usize, height: usize) -> Self {
        Self {
            frame,
            columns: Positions::new(frame.width(), width),
            rows: Positions::new(frame.height(), height),
            sums: vec![[0; 3]; width],
        }
    }

    fn colours(mut self) -> Vec<[u8; 3]> {
        let coefficients = match self.frame.format() {
            PixelFormat::Nv12 | PixelFormat::I420 => {
                Some(Coefficients::of(self.frame.colorimetry()))
            }
            _ => None,
        };
        let is_full = self.frame.colorimetry().range == Range::Full;
        let full = full_range();
        let count = (self.columns.per_cell * self.rows.per_cell) as u16;
        let rows = std::mem::take(&mut self.rows.at);
        let mut colours = Vec::with_capacity(self.sums.len() * rows.len() / self.rows.per_cell);
        for rows in rows.chunks_exact(self.rows.per_cell) {
            self.sums.fill([0; 3]);
            rows.iter().for_each(|y| self.add_row(*y));
            colours.extend(self.sums.iter().map(|sums| {
                let [a, b, c] = sums.map(|sum| ((sum + count / 2) / count) as u8);
                match &coefficients {
                    Some(coefficients) => coefficients.rgb(a, b, c),
                    None if is_full => [a, b, c],
                    None => [a, b, c].map(|sample| full[usize::from(sample)]),
                }
            }));
        }
        colours
    }

    /// Adds the samples of row `y`.
    fn add_row(&mut self, y: usize) {
        let frame = self.frame;
        let row = frame.row(0, y);
        match frame.format() {
            PixelFormat::Rgb => self.add(|x| [row[3 * x], row[3 * x + 1], row[3 * x + 2]]),
            PixelFormat::Bgr => self.add(|x| [row[3 * x + 2], row[3 * x + 1], row[3 * x]]),
            PixelFormat::Rgbx => self.add(|x| [row[4 * x], row[4 * x + 1], row[4 * x + 2]]),
            PixelFormat::Bgrx => self.add(|x| [row[4 * x + 2], row[4 * x + 1], row[4 * x]]),
            PixelFormat::Xrgb => self.add(|x| [row[4 * x + 1], row[4 * x + 2], row[4 * x + 3]]),
            PixelFormat::Xbgr => self.add(|x| [row[4 * x + 3], row[4 * x + 2], row[4 * x + 1]]),
            PixelFormat::Gray8 => self.add(|x| [row[x]; 3]),
            PixelFormat::Gray16 { depth } => self.add(|x| {
                let sample = u16::from_le_bytes([row[2 * x], row[2 * x + 1]]);
                [PixelFormat::narrowed(sample, depth); 3]
            }),
            PixelFormat::Nv12 => {
                let chroma = frame.row(1, y / 2);
                self.add(|x| [row[x], chroma[x / 2 * 2], chroma[x / 2 * 2 + 1]]);
            }
            PixelFormat::I420 => {
                let (u, v) = (frame.row(1, y / 2), frame.row(2, y / 2));
                self.add(|x| [row[x], u[x / 2], v[x / 2]]);
            }
        }
    }

    fn add(&mut self, sample: impl Fn(usize) -> [u8; 3]) {
        let cells = self.columns.at.chunks_exact(self.columns.per_cell);
        for (sums, columns) in self.sums.iter_mut().zip(cells) {
            for x in columns {
                for (sum, sample) in sums.iter_mut().zip(sample(*x)) {
                    *sum += u16::from(sample);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::frame::{Colorimetry, Plane};

    const COLOUR: [u8; 3] = [200, 90, 40];

    /// A picture of one colour in any format, with a stride of its own.
    fn plain(format: PixelFormat, range: Range) -> Sketch {
        let (width, height, stride) = (21, 11, 128);
        let limited = |sample: u8| (f32::from(sample) * 219.0 / 255.0 + 16.0).round() as u8;
        let [r, g, b] = match range {
            Range::Full => COLOUR,
            Range::Limited => COLOUR.map(limited),
        };
        let grey = luma([r, g, b]);
        let [yr, yg, yb] = COLOUR.map(f64::from);
        let y = 0.299 * yr + 0.587 * yg + 0.114 * yb;
        let (u, v) = (0.5 / 0.886 * (yb - y), 0.5 / 0.701 * (yr - y));
        let (luma_scale, chroma_scale, black) = match range {
            Range::Full => (1.0, 1.0, 0.0),
            Range::Limited => (219.0 / 255.0, 224.0 / 255.0, 16.0),
        };
        let y = (y * luma_scale + black).round() as u8;
        let [u, v] = [u, v].map(|c| (c * chroma_scale + 128.0).round() as u8);
        let planes: Vec<Vec<u8>> = match format {
            PixelFormat::Rgb => vec![vec![r, g, b]],
            PixelFormat::Bgr => vec![vec![b, g, r]],
            PixelFormat::Rgbx => vec![vec![r, g, b, 7]],
            PixelFormat::Bgrx => vec![vec![b, g, r, 7]],
            PixelFormat::Xrgb => vec![vec![7, r, g, b]],
            PixelFormat::Xbgr => vec![vec![7, b, g, r]],
            PixelFormat::Gray8 => vec![vec![grey]],
            PixelFormat::Gray16 { .. } => vec![vec![0, grey]],
            PixelFormat::Nv12 => vec![vec![y], vec![u, v]],
            PixelFormat::I420 => vec![vec![y], vec![u], vec![v]],
        };
        let lines: Vec<Vec<u8>> = planes
            .iter()
            .map(|pixel| {
                pixel
                    .iter()
                    .copied()
                    .cycle()
                    .take(stride * height)
                    .collect()
            })
            .collect();
        // A row of three bytes a pixel must begin with the first of them.
        let stride = if planes[0].len() == 3 { 126 } else { stride };
        let planes: Vec<_> = lines.iter().map(|data| Plane { data, stride }).collect();
        let colorimetry = Colorimetry {
            range,
            ..Colorimetry::default()
        };
        let frame = Frame::new(format, width, height, &planes, colorimetry).unwrap();
        Sketch::of(&frame, 8)
    }

    #[test]
    fn every_format_has_the_same_colour() {
        for format in [
            PixelFormat::Rgb,
            PixelFormat::Bgr,
            PixelFormat::Rgbx,
            PixelFormat::Bgrx,
            PixelFormat::Xrgb,
            PixelFormat::Xbgr,
            PixelFormat::Nv12,
            PixelFormat::I420,
        ] {
            for range in [Range::Full, Range::Limited] {
                let sketch = plain(format, range);
                assert_eq!((sketch.width(), sketch.height()), (8, 4));
                for colour in sketch.colours() {
                    let off = colour.iter().zip(COLOUR).map(|(a, b)| a.abs_diff(b)).max();
                    assert!(off.unwrap() <= 3, "{format:?} {range:?}: {colour:?}");
                }
            }
        }
        for format in [PixelFormat::Gray8, PixelFormat::Gray16 { depth: 16 }] {
            for range in [Range::Full, Range::Limited] {
                let found = plain(format, range).luma()[0];
                assert!(found.abs_diff(luma(COLOUR)) <= 2, "{format:?}: {found}");
            }
        }
    }

    #[test]
    fn a_cell_is_the_mean_of_what_lies_in_it() {
        // Columns of 0 and 200, by turns, then all 100.
        let row: Vec<u8> = (0..24)
            .map(|x| match (x < 12, x % 2) {
                (true, even) => 200 * even,
                _ => 100,
            })
            .collect();
        let rows = row.repeat(2);
        let frame = Frame::new(
            PixelFormat::Gray8,
            24,
            2,
            &[Plane {
                data: &rows,
                stride: 24,
            }],
            Colorimetry::default(),
        )
        .unwrap();
        let sketch = Sketch::of(&frame, 12);
        assert_eq!((sketch.width(), sketch.height()), (12, 1));
        assert_eq!(sketch.luma(), [100; 12]);
    }

    #[test]
    fn a_small_frame_has_a_cell_a_pixel_and_a_long_one_at_least_one_row() {
        let bytes = [9; 3 * 600];
        let size = |width, height| {
            let frame = Frame::rgb(&bytes, 3 * width, width, height).unwrap();
            let sketch = Sketch::of(&frame, 256);
            (sketch.width(), sketch.height())
        };
        assert_eq!(size(20, 30), (20, 30));
        assert_eq!(size(1, 1), (1, 1));
        assert_eq!(size(600, 1), (256, 1));
    }
}
