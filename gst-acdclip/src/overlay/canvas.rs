//! A writable picture in any of the formats that the elements take, and how ink is laid on it.
//!
//! A drawing is a row of codes, one a pixel, each an index into a palette of inks that are already in the picture's own colour space.
//! Code 0 is no ink: such a pixel keeps its bytes, bit for bit.

use acdclip_model::{
    Error, Frame,
    frame::{Colorimetry, PixelFormat, Plane, Range},
};

/// Full opacity of an [`Ink`].
pub(crate) const OPAQUE: u16 = 256;

/// A colour in the picture's own space (R, G, B or Y, Cb, Cr) and how much of it covers what was there.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ink {
    /// 0 to [`OPAQUE`].
    pub(crate) alpha: u16,
    /// R, G, B or Y, Cb, Cr; grey pictures use the first.
    pub(crate) color: [u8; 3],
}

/// Inks by code.
pub(crate) type Palette = [Ink];

/// One plane of a canvas.
pub(crate) struct PlaneMut<'a> {
    /// From the first byte of the first row.
    pub(crate) data: &'a mut [u8],
    /// Bytes from one row to the next.
    pub(crate) stride: usize,
}

/// A picture to draw on, whose planes are known to hold every row.
pub(crate) struct Canvas<'a> {
    format: PixelFormat,
    width: usize,
    height: usize,
    planes: Vec<PlaneMut<'a>>,
}

impl<'a> Canvas<'a> {
    /// A canvas over `planes`; an error if a row would end outside its plane's bytes.
    pub(crate) fn new(
        format: PixelFormat,
        width: usize,
        height: usize,
        planes: Vec<PlaneMut<'a>>,
    ) -> Result<Self, Error> {
        let read_only: Vec<Plane<'_>> = planes
            .iter()
            .map(|plane| Plane {
                data: &*plane.data,
                stride: plane.stride,
            })
            .collect();
        Frame::new(format, width, height, &read_only, Colorimetry::default())?;
        Ok(Self {
            format,
            width,
            height,
            planes,
        })
    }

    /// Width in pixels.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub(crate) fn height(&self) -> usize {
        self.height
    }

    /// Lays ink on row `y` (even) and, where there is one, on the row below: the two share their chroma in 4:2:0.
    pub(crate) fn blend_rows(&mut self, y: usize, codes: [&[u16]; 2], palette: &Palette) {
        let rows = (self.height - y).min(2);
        for (below, codes) in codes[..rows].iter().enumerate() {
            self.blend_row(y + below, codes, palette);
        }
        match self.format {
            PixelFormat::Nv12 => {
                let row = self.row(1, y / 2);
                for (x, uv) in row.chunks_exact_mut(2).enumerate() {
                    blend_chroma(uv, [0, 1], &Block::new(x, &codes[..rows], palette));
                }
            }
            PixelFormat::I420 => {
                for plane in 1..3 {
                    let row = self.row(plane, y / 2);
                    for (x, c) in row.chunks_exact_mut(1).enumerate() {
                        let block = Block::new(x, &codes[..rows], palette);
                        c[0] = block.over(c[0], plane - 1);
                    }
                }
            }
            _ => {}
        }
    }

    fn blend_row(&mut self, y: usize, codes: &[u16], palette: &Palette) {
        if let PixelFormat::Gray16 { depth } = self.format {
            return blend_deep(self.row(0, y), codes, palette, depth);
        }
        let (step, order): (usize, &[usize]) = match self.format {
            PixelFormat::Rgb => (3, &[0, 1, 2]),
            PixelFormat::Bgr => (3, &[2, 1, 0]),
            PixelFormat::Rgbx => (4, &[0, 1, 2]),
            PixelFormat::Bgrx => (4, &[2, 1, 0]),
            PixelFormat::Xrgb => (4, &[1, 2, 3]),
            PixelFormat::Xbgr => (4, &[3, 2, 1]),
            _ => (1, &[0]),
        };
        let row = self.row(0, y);
        for (pixel, code) in row.chunks_exact_mut(step).zip(codes) {
            let ink = palette[usize::from(*code)];
            if ink.alpha > 0 {
                for (component, offset) in order.iter().enumerate() {
                    pixel[*offset] = over(pixel[*offset], ink.color[component], ink.alpha);
                }
            }
        }
    }

    fn row(&mut self, plane: usize, y: usize) -> &mut [u8] {
        let (bytes, _) = self.format.plane_size(plane, self.width, self.height);
        let PlaneMut { data, stride } = &mut self.planes[plane];
        &mut data[y * *stride..y * *stride + bytes]
    }
}

/// Lays ink on a row of grey of `depth` bits in two bytes, the lower one first.
fn blend_deep(row: &mut [u8], codes: &[u16], palette: &Palette, depth: u8) {
    let white = (1_u32 << depth.min(16)) - 1;
    for (pixel, code) in row.chunks_exact_mut(2).zip(codes) {
        let ink = palette[usize::from(*code)];
        if ink.alpha > 0 {
            let (below, alpha) = (
                u32::from(u16::from_le_bytes([pixel[0], pixel[1]])),
                u32::from(ink.alpha),
            );
            let color = u32::from(ink.color[0]) * white / 255;
            let mixed = (below * (256 - alpha) + color * alpha + 128) >> 8;
            pixel.copy_from_slice(&(mixed as u16).to_le_bytes());
        }
    }
}

fn over(below: u8, ink: u8, alpha: u16) -> u8 {
    let (below, ink, alpha) = (u32::from(below), u32::from(ink), u32::from(alpha));
    ((below * (256 - alpha) + ink * alpha + 128) >> 8) as u8
}

/// The inks of the up to four pixels that share one chroma sample.
struct Block {
    pixels: u32,
    alpha: u32,
    weighted: [u32; 2],
}

impl Block {
    fn new(x: usize, rows: &[&[u16]], palette: &Palette) -> Self {
        let mut block = Self {
            pixels: 0,
            alpha: 0,
            weighted: [0; 2],
        };
        for codes in rows {
            for code in codes.iter().skip(2 * x).take(2) {
                let ink = palette[usize::from(*code)];
                let alpha = u32::from(ink.alpha);
                block.pixels += 1;
                block.alpha += alpha;
                block.weighted[0] += alpha * u32::from(ink.color[1]);
                block.weighted[1] += alpha * u32::from(ink.color[2]);
            }
        }
        block
    }

    /// `below` with the block's mean ink of `component` (0 Cb, 1 Cr) over it.
    fn over(&self, below: u8, component: usize) -> u8 {
        let full = 256 * self.pixels;
        if self.alpha == 0 {
            return below;
        }
        let sum = u32::from(below) * (full - self.alpha) + self.weighted[component];
        ((sum + full / 2) / full) as u8
    }
}

fn blend_chroma(samples: &mut [u8], components: [usize; 2], block: &Block) {
    for (sample, component) in samples.iter_mut().zip(components) {
        *sample = block.over(*sample, component);
    }
}

/// An RGB colour in the space of a picture's planes.
pub(crate) fn encode(rgb: [u8; 3], format: PixelFormat, colorimetry: Colorimetry) -> [u8; 3] {
    let [r, g, b] = rgb.map(|c| f32::from(c) / 255.0);
    let (base, luma_span, chroma_span) = match colorimetry.range {
        Range::Full => (0.0, 255.0, 255.0),
        Range::Limited => (16.0, 219.0, 224.0),
    };
    let byte = |x: f32| x.round().clamp(0.0, 255.0) as u8;
    match format {
        PixelFormat::Gray8 | PixelFormat::Gray16 { .. } | PixelFormat::Nv12 | PixelFormat::I420 => {
            let (kr, kb) = colorimetry.matrix.kr_kb();
            let (kr, kb) = (kr as f32, kb as f32);
            let luma = kr * r + (1.0 - kr - kb) * g + kb * b;
            let chroma =
                |c: f32, k: f32| byte(128.0 + chroma_span * (c - luma) / (2.0 * (1.0 - k)));
            [byte(base + luma_span * luma), chroma(b, kb), chroma(r, kr)]
        }
        _ => [r, g, b].map(|c| byte(base + luma_span * c)),
    }
}
