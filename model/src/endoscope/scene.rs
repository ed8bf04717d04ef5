//! Pictures as an endoscope makes them, for tests: tissue with a texture of its own, in a shape, on black.

#![allow(clippy::unwrap_used)]

use super::sketch::Sketch;
use crate::frame::Frame;

/// Any number from 0 to 1 for a place, always the same.
pub(crate) fn noise(x: i64, y: i64, seed: u64) -> f64 {
    let mut n = (x as u64) << 32 ^ (y as u64) & 0xffff_ffff ^ seed << 17;
    for _ in 0..2 {
        n = (n ^ (n >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    (n >> 40) as f64 / (1_u64 << 24) as f64
}

/// Smooth noise with structures of a given size.
fn smooth(x: f64, y: f64, size: f64, seed: u64) -> f64 {
    let (x, y) = (x / size, y / size);
    let (left, top) = (x.floor(), y.floor());
    let ease = |t: f64| t * t * (3.0 - 2.0 * t);
    let (dx, dy) = (ease(x - left), ease(y - top));
    let at = |i: i64, j: i64| noise(left as i64 + i, top as i64 + j, seed);
    let row = |j: i64| at(0, j) * (1.0 - dx) + at(1, j) * dx;
    row(0) * (1.0 - dy) + row(1) * dy
}

/// The colour of tissue at a place, in parts of the picture's height: folds, patches and vessels.
pub(crate) fn tissue(x: f64, y: f64) -> [u8; 3] {
    let shade = 0.55
        + 0.5 * (smooth(x, y, 0.3, 1) - 0.5)
        + 0.35 * (smooth(x, y, 0.08, 2) - 0.5)
        + 0.25 * (smooth(x, y, 0.02, 3) - 0.5)
        + 0.12 * (smooth(x, y, 0.008, 4) - 0.5);
    [230.0, 125.0, 95.0].map(|full| (full * shade.clamp(0.12, 1.0)) as u8)
}

/// A picture being painted.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) rgb: Vec<u8>,
}

impl Scene {
    /// Black, or what is taken for it.
    pub(crate) fn black(width: usize, height: usize) -> Self {
        let pixel = |i: usize| {
            let (x, y) = ((i % width) as i64, (i / width) as i64);
            [8 + (noise(x, y, 9) * 6.0) as u8; 3]
        };
        Self {
            width,
            height,
            rgb: (0..width * height).flat_map(pixel).collect(),
        }
    }

    /// Paints where `is_inside` says, in pixels.
    pub(crate) fn paint(
        mut self,
        is_inside: impl Fn(f64, f64) -> bool,
        colour: impl Fn(f64, f64) -> [u8; 3],
    ) -> Self {
        for (i, pixel) in self.rgb.chunks_exact_mut(3).enumerate() {
            let (x, y) = ((i % self.width) as f64 + 0.5, (i / self.width) as f64 + 0.5);
            if is_inside(x, y) {
                pixel.copy_from_slice(&colour(x, y));
            }
        }
        self
    }

    /// Paints tissue, moved by a part of the height.
    pub(crate) fn tissue(self, shift: [f64; 2], is_inside: impl Fn(f64, f64) -> bool) -> Self {
        let height = self.height as f64;
        self.paint(is_inside, move |x, y| {
            tissue(x / height - shift[0], y / height - shift[1])
        })
    }

    /// Something like lines of text in a rectangle.
    pub(crate) fn text(self, left: f64, top: f64, width: f64, lines: usize) -> Self {
        let size = self.height as f64 / 40.0;
        let bottom = top + 1.6 * size * lines as f64;
        self.paint(
            |x, y| {
                let (column, row) = ((x - left) / size, (y - top) / (1.6 * size));
                let stroke = noise((column * 6.0) as i64, (row * 8.0) as i64, 5) > 0.45;
                (left..left + width).contains(&x)
                    && (top..bottom).contains(&y)
                    && row.fract() < 0.6
                    && stroke
            },
            |_, _| [235; 3],
        )
    }

    pub(crate) fn frame(&self) -> Frame<'_> {
        Frame::rgb(&self.rgb, 3 * self.width, self.width, self.height).unwrap()
    }

    pub(crate) fn sketch(&self) -> Sketch {
        Sketch::of(&self.frame(), Sketch::SIDE)
    }
}

/// A circle around a place.
pub(crate) fn circle(x: f64, y: f64, radius: f64) -> impl Fn(f64, f64) -> bool + Clone {
    move |px, py| (px - x).hypot(py - y) < radius
}

/// A rectangle with corners cut by so much.
pub(crate) fn octagon(
    [left, top, right, bottom]: [f64; 4],
    cut: f64,
) -> impl Fn(f64, f64) -> bool + Clone {
    move |x, y| {
        let (dx, dy) = ((x - left).min(right - x), (y - top).min(bottom - y));
        dx > 0.0 && dy > 0.0 && dx + dy > cut
    }
}
