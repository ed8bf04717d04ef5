//! An endoscope's picture, on real clips and frames: where its field of view is, and whether anything can be seen in it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::{Path, PathBuf};

use acdclip_model::{
    Frame,
    endoscope::{
        field::{Field, FieldFinder},
        outline::Shape,
        quality::{Quality, QualityGate},
        sketch::Sketch,
    },
};
use common::{Frames, shared};
use image::RgbImage;

const COLON: &str = "data/video/colonoscopy_cvc_clinicdb_seq02_05_07_13.mp4";
const SINUS: &str = "data/video/endoscopy_sinus_normal_35f.mp4";
const KVASIR: &str = "data/kvasir_seg256/colon/test/polyp";

/// Every `step`th frame of a clip.
fn clip(path: &Path, step: usize) -> Vec<RgbImage> {
    let frames = Frames::open(path).step_by(step).map(|frame| {
        let rows = frame.data.chunks(frame.stride).take(frame.height);
        let packed = rows.flat_map(|row| row[..3 * frame.width].to_vec());
        RgbImage::from_raw(frame.width as u32, frame.height as u32, packed.collect()).unwrap()
    });
    frames.collect()
}

/// Every `step`th picture of a folder.
fn pictures(folder: &Path, step: usize) -> Vec<RgbImage> {
    let files = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    let read = |file: &PathBuf| image::open(file).unwrap().into_rgb8();
    files.iter().step_by(step).map(read).collect()
}

fn frame(picture: &RgbImage) -> Frame<'_> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    Frame::rgb(picture.as_raw(), 3 * width, width, height).unwrap()
}

fn seen(finder: &mut FieldFinder, picture: &RgbImage, time: u64) -> Field {
    finder.push(&Sketch::of(&frame(picture), Sketch::SIDE), 1.0, time)
}

/// What `picture` is by itself, in the field of view of `good`.
fn quality(picture: &RgbImage, good: &RgbImage) -> Quality {
    let field = seen(&mut FieldFinder::default(), good, 0);
    let sketch = Sketch::of(&frame(picture), Sketch::SIDE);
    let counts: Vec<bool> = (0..field.mask().height())
        .flat_map(|y| field.mask().row(y).collect::<Vec<_>>())
        .collect();
    QualityGate::default().push(&sketch, &counts, 0)
}

/// The part of pictures that are of a quality after a change.
fn part(pictures: &[RgbImage], wanted: Quality, change: impl Fn(&RgbImage) -> RgbImage) -> f64 {
    let is_so = |picture: &&RgbImage| quality(&change(picture), picture) == wanted;
    pictures.iter().filter(is_so).count() as f64 / pictures.len() as f64
}

fn pointwise(picture: &RgbImage, change: impl Fn([f32; 3]) -> [f32; 3]) -> RgbImage {
    let mut changed = picture.clone();
    for pixel in changed.pixels_mut() {
        pixel.0 = change(pixel.0.map(f32::from)).map(|sample| sample.clamp(0.0, 255.0) as u8);
    }
    changed
}

#[test]
fn the_field_of_real_clips_is_found_and_steady() {
    let Some((colon, sinus)) = shared(COLON).zip(shared(SINUS)) else {
        return;
    };
    // Four sequences of 25 frames, 6 a second; the first changes its size in the 23rd.
    let mut finder = FieldFinder::default();
    let fields: Vec<Field> = (clip(&colon, 1).iter().zip(0..))
        .map(|(picture, n)| seen(&mut finder, picture, n * 1_000_000_000 / 6))
        .collect();
    assert!(fields.iter().all(|field| field.shape() == Shape::Octagon));
    let changes = fields.windows(2).filter(|pair| !pair[0].is(&pair[1]));
    assert!((2..=4).contains(&changes.count()));
    for (n, wanted) in [
        (0, [43, 24, 299, 257]),
        (45, [46, 24, 296, 257]),
        (99, [42, 13, 314, 268]),
    ] {
        let off = fields[n]
            .bounds()
            .iter()
            .zip(wanted)
            .map(|(a, b): (&u32, u32)| a.abs_diff(b))
            .max();
        assert!(off.unwrap() <= 4, "{n}: {:?}", fields[n].bounds());
    }
    let mut finder = FieldFinder::default();
    let fields: Vec<Field> = (clip(&sinus, 1).iter().zip(0..))
        .map(|(picture, n)| seen(&mut finder, picture, n * 40_000_000))
        .collect();
    assert_eq!(fields[0].shape(), Shape::Circle);
    assert!(fields.iter().all(|field| field.is(&fields[0])));
}

#[test]
fn good_pictures_are_told_from_those_in_which_nothing_can_be_seen() {
    let Some((colon, kvasir)) = shared(COLON).zip(shared(KVASIR)) else {
        return;
    };
    for pictures in [clip(&colon, 3), pictures(&kvasir, 6)] {
        let good = part(&pictures, Quality::Good, RgbImage::clone);
        assert!(good >= 0.97, "{good}");
        let scaled = |gain: f32, offset: f32| {
            move |picture: &RgbImage| pointwise(picture, |rgb| rgb.map(|c| c * gain + offset))
        };
        let grey =
            |picture: &RgbImage| pointwise(picture, |[r, g, b]| [0.3 * r + 0.59 * g + 0.11 * b; 3]);
        let blurred = |picture: &RgbImage| {
            image::imageops::fast_blur(picture, 0.015 * picture.width() as f32)
        };
        let bars = |picture: &RgbImage| {
            let colours = [
                [235; 3],
                [235, 235, 16],
                [16, 235, 235],
                [16, 235, 16],
                [235, 16, 235],
                [235, 16, 16],
                [16, 16, 235],
            ];
            RgbImage::from_fn(picture.width(), picture.height(), |x, _| {
                image::Rgb(colours[(x * 7 / picture.width()) as usize])
            })
        };
        let found = [
            part(&pictures, Quality::Blurred, blurred),
            part(&pictures, Quality::Underexposed, scaled(0.12, 0.0)),
            part(&pictures, Quality::Underexposed, scaled(0.0, 4.0)),
            part(&pictures, Quality::Overexposed, scaled(3.0, 60.0)),
            part(&pictures, Quality::Washed, scaled(0.2, 152.0)),
            part(&pictures, Quality::OutsideBody, grey),
            part(&pictures, Quality::OutsideBody, bars),
        ];
        assert!(found.iter().all(|part| *part >= 0.95), "{found:?}");
    }
}
