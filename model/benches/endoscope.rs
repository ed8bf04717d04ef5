//! What it costs to watch an endoscope's picture: each part by itself, at 1080p and 2160p. The network is not in it.
#![allow(clippy::unwrap_used)]

use acdclip_model::{
    Frame,
    endoscope::{
        field::FieldFinder, graphics::StaticGraphics, highlights::Highlights, motion::MotionMeter,
        quality::QualityGate, sketch::Sketch,
    },
    frame::{Colorimetry, Matrix, PixelFormat, Plane, Range},
};
use divan::{Bencher, black_box};

/// Heights of 16:9 frames, pixels.
const HEIGHTS: [usize; 2] = [1080, 2160];

/// From frame to frame, nanoseconds.
const STEP: u64 = 40_000_000;

fn main() {
    divan::main();
}

/// A round picture with structure in it on black, in NV12; `shift` is how far it has moved, pixels.
fn with_frame<T>(height: usize, shift: usize, f: impl FnOnce(&Frame<'_>) -> T) -> T {
    let width = height * 16 / 9;
    let inside = |x: usize, y: usize| {
        let (x, y) = (
            x as f64 - width as f64 / 2.0,
            y as f64 - height as f64 / 2.0,
        );
        x.hypot(y) < height as f64 * 0.48
    };
    let pixel = |i: usize| {
        let (x, y) = (i % width, i / width);
        match inside(x, y) {
            true => 60 + ((x + shift) / 9 * 31 % 83 + y / 11 * 47 % 71) as u8,
            false => 16,
        }
    };
    let luma: Vec<u8> = (0..width * height).map(pixel).collect();
    let chroma = [110, 150].repeat(width * height / 4);
    let planes = [&luma, &chroma].map(|data| Plane {
        data,
        stride: width,
    });
    let colorimetry = Colorimetry {
        matrix: Matrix::Bt709,
        range: Range::Limited,
    };
    f(&Frame::new(PixelFormat::Nv12, width, height, &planes, colorimetry).unwrap())
}

/// Sketches of two frames between which the picture has moved.
fn sketches(height: usize) -> [Sketch; 2] {
    [0, 12].map(|shift| with_frame(height, shift, |frame| Sketch::of(frame, Sketch::SIDE)))
}

/// Benches `run` on sketches that follow one another, with all cells that count.
fn alternately(
    bencher: Bencher<'_, '_>,
    height: usize,
    mut run: impl FnMut(&Sketch, &[bool], u64),
) {
    let sketches = sketches(height);
    let counts = vec![true; sketches[0].luma().len()];
    let mut n = 0;
    bencher.bench_local(|| {
        n += 1;
        run(&sketches[n % 2], &counts, n as u64 * STEP);
    });
}

#[divan::bench(args = HEIGHTS)]
fn sketch(bencher: Bencher<'_, '_>, height: usize) {
    with_frame(height, 0, |frame| {
        bencher.bench_local(|| Sketch::of(black_box(frame), Sketch::SIDE))
    });
}

#[divan::bench(args = HEIGHTS)]
fn field(bencher: Bencher<'_, '_>, height: usize) {
    let mut finder = FieldFinder::default();
    alternately(bencher, height, |sketch, _, time| {
        black_box(finder.push(sketch, 1.0, time));
    });
}

#[divan::bench(args = HEIGHTS)]
fn graphics(bencher: Bencher<'_, '_>, height: usize) {
    let mut graphics = StaticGraphics::default();
    alternately(bencher, height, |sketch, counts, time| {
        black_box(graphics.push(sketch, counts, time));
    });
}

#[divan::bench(args = HEIGHTS)]
fn quality(bencher: Bencher<'_, '_>, height: usize) {
    let mut gate = QualityGate::default();
    alternately(bencher, height, |sketch, counts, time| {
        black_box(gate.push(sketch, counts, time));
    });
}

#[divan::bench(args = HEIGHTS)]
fn motion(bencher: Bencher<'_, '_>, height: usize) {
    let mut meter = MotionMeter::default();
    alternately(bencher, height, |sketch, counts, time| {
        black_box(meter.push(sketch, counts, time));
    });
}

#[divan::bench(args = HEIGHTS)]
fn highlights(bencher: Bencher<'_, '_>, height: usize) {
    alternately(bencher, height, |sketch, counts, _| {
        black_box(Highlights::find(sketch, counts));
    });
}
