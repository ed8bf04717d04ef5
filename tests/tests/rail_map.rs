//! On the line-scan clips with annotated defects, the built-in model's map is higher inside the defects than outside.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::Path;

use acdclip_model::{Detector, DeviceSpec, Frame};
use common::{Decoded, Frames, shared};

/// Every how many frames one is scored: the window has moved by half its height then.
const EVERY: usize = 16;

/// An annotated rectangle, in rows and columns of the strip.
struct Box {
    defect: bool,
    x: f64,
    y: f64,
    w: f64,
    h: f64,
}

impl Box {
    fn holds(&self, x: usize, y: usize) -> bool {
        let (x, y) = (x as f64, y as f64);
        (self.x..self.x + self.w).contains(&x) && (self.y..self.y + self.h).contains(&y)
    }
}

/// The clip's boxes, and how many strip rows it moves on a frame.
fn annotation(clip: &Path) -> (Vec<Box>, usize) {
    let text = std::fs::read_to_string(clip.with_extension("json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let boxes = json["boxes"].as_array().unwrap().iter().map(|entry| {
        let side = |i: usize| entry["bbox"][i].as_f64().unwrap();
        Box {
            defect: entry["defect"].as_bool().unwrap(),
            x: side(0),
            y: side(1),
            w: side(2),
            h: side(3),
        }
    });
    (
        boxes.collect(),
        json["lines_per_video_frame"].as_u64().unwrap() as usize,
    )
}

/// Sums of probability and pixel counts: inside defects, and outside every box.
#[derive(Default)]
struct Sums {
    inside: (f64, u64),
    outside: (f64, u64),
}

impl Sums {
    fn add(&mut self, map: &[f32], width: usize, first_row: usize, boxes: &[Box]) {
        for (i, p) in map.iter().enumerate() {
            let (x, y) = (i % width, first_row + i / width);
            let is_in = |defect: bool| boxes.iter().any(|b| b.defect == defect && b.holds(x, y));
            let sum = match (is_in(true), is_in(false)) {
                (true, _) => &mut self.inside,
                (false, false) => &mut self.outside,
                // What is annotated, but is dirt or a joint, counts for neither side.
                (false, true) => continue,
            };
            sum.0 += f64::from(*p);
            sum.1 += 1;
        }
    }

    fn means(&self) -> (f64, f64) {
        (
            self.inside.0 / self.inside.1 as f64,
            self.outside.0 / self.outside.1 as f64,
        )
    }
}

fn map(detector: &Detector, frame: &Decoded) -> Vec<f32> {
    let pixels = Frame::rgb(&frame.data, frame.stride, frame.width, frame.height).unwrap();
    let found = detector.score(&pixels, &detector.default_class()).unwrap();
    found.map.upsample_to_frame(frame.width, frame.height)
}

fn check(name: &str) {
    let Some(clip) = shared(&format!("data/video/{name}.mp4")) else {
        return;
    };
    let (boxes, lines) = annotation(&clip);
    let detector = Detector::builtin(DeviceSpec::Cpu).unwrap();
    let mut sums = Sums::default();
    for (k, frame) in Frames::open(&clip).enumerate().step_by(EVERY) {
        sums.add(&map(&detector, &frame), frame.width, k * lines, &boxes);
    }
    let (inside, outside) = sums.means();
    println!("{name}: mean probability {inside:.3} inside defects, {outside:.3} outside");
    assert!(inside > 2.0 * outside, "inside {inside}, outside {outside}");
}

#[test]
fn first_run() {
    check("rail_linescan_145647010_0190-0199");
}

#[test]
fn second_run() {
    check("rail_linescan_145648020_0152-0157");
}
