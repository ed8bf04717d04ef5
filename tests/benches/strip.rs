//! What scanning a strip costs: lines a second by width, in tiles and with each frame squeezed to a square; and memory over two million
//! lines. `make bench-strip` runs it; `PRECISION=bf16` measures that.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::{init, pipeline};
use gst::prelude::*;

/// How long each way is measured.
const TIME: Duration = Duration::from_secs(15);

/// Lines of a frame.
const HEIGHT: usize = 500;

/// Lines over which memory is measured, and how often.
const LINES: usize = 2_000_000;
const LOOKS: usize = 8;

fn main() {
    init();
    let precision = std::env::var("PRECISION").unwrap_or_else(|_| "auto".into());
    println!(
        "frames of {HEIGHT} lines, precision={precision}, {} processors, {} s a line",
        std::thread::available_parallelism().unwrap(),
        TIME.as_secs()
    );
    println!("{:>5}  {:<32}  {:>9}", "width", "way", "lines/s");
    for width in [2048, 8192] {
        for way in [
            "tiling=none",
            "tiling=scan",
            "tiling=scan tile-size=512",
            "tiling=scan tile-size=1024",
        ] {
            let line = format!("{way} precision={precision}");
            let (lines, took) = run(width, &line, |_, start| start.elapsed() > TIME);
            let rate = lines as f64 / took.as_secs_f64();
            println!("{width:>5}  {way:<32}  {rate:>9.0}");
        }
    }
    println!("\nmemory in use, 2048 wide, in tiles as wide as the strip, with its edges followed:");
    println!("{:>9}  {:>6}", "lines", "MB");
    let line = format!("tiling=scan tile-size=2048 auto-mask=strip precision={precision}");
    run(2048, &line, |lines, _| {
        if lines % (LINES / LOOKS) == 0 {
            println!("{lines:>9}  {:>6}", resident() >> 20);
        }
        lines >= LINES
    });
}

/// Scans until `done` says so of the lines that were given and the start; the lines that left, and what that took.
fn run(width: usize, properties: &str, done: impl Fn(usize, Instant) -> bool) -> (usize, Duration) {
    let caps = format!("video/x-raw,format=GRAY8,width={width},height={HEIGHT},framerate=10/1");
    let pipeline = pipeline(&format!(
        "appsrc name=camera format=time block=true max-buffers=4 max-bytes=0 caps=\"{caps}\" ! \
         acdclip name=scan {properties} overlay=0 merge-distance=16 ! fakesink"
    ));
    let camera = pipeline.by_name("camera").unwrap();
    let camera = camera.downcast::<gst_app::AppSrc>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let strip = strip(width);
    let start = Instant::now();
    let mut lines = 0;
    while !done(lines, start) {
        let mut frame = gst::Buffer::from_slice(strip[lines / HEIGHT % strip.len()].clone());
        let times = frame.get_mut().unwrap();
        times.set_pts(gst::ClockTime::from_mseconds(lines as u64 / 5));
        camera.push_buffer(frame).unwrap();
        lines += HEIGHT;
    }
    camera.end_of_stream().unwrap();
    common::run_to_end(&pipeline);
    (lines, start.elapsed())
}

/// Frames of bright noise between dark borders, one of them with a dark spot.
fn strip(width: usize) -> Vec<Vec<u8>> {
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 26) as u8
    };
    let mut frame = |spot: bool| {
        let pixels = (0..HEIGHT * width).map(|at| {
            let (x, y) = (at % width * 2048 / width, at / width);
            let dark = !(200..1848).contains(&x)
                || spot && (900..1000).contains(&x) && (200..300).contains(&y);
            noise() + if dark { 0 } else { 110 }
        });
        pixels.collect()
    };
    vec![frame(false), frame(true), frame(false)]
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
    kilobytes.unwrap().parse::<usize>().unwrap() << 10
}
