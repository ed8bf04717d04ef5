//! A picture and its mask as the network sees them in training: a part of it, its colours and its place changed by chance.
//!
//! The authors' order: noise and colours on the 8-bit picture, then the resize, then geometry on picture and mask together after
//! normalisation, where what comes in from outside is zero, the mean colour. Colours as Pillow computes them, geometry as torchvision
//! does (nearest pixel). Parts, casts of colour and quarter turns
//! are ours.

use acdclip_model::{
    Frame,
    preprocess::{Preprocessor, Scratch, View},
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::{
    light, lump,
    recipe::{AugmentPart, CropPart, Sometimes},
};
use crate::dataset::mask::Mask;

/// How often a normal number is above 3, the authors' condition for a noisy pixel.
const NOISY: f64 = 0.001_349_898;

/// 8-bit RGB, row by row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rgb {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) pixels: Vec<u8>,
}

/// What goes into a batch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Example {
    /// [3, side, side], normalised.
    pub(crate) pixels: Vec<f32>,
    /// [side, side], 0 or 1.
    pub(crate) mask: Vec<f32>,
    /// Whether something is wrong in it.
    pub(crate) is_abnormal: bool,
}

/// A rectangle in shares of a picture's sides.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Part {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

impl Part {
    /// The whole pixels of a picture that it touches: x, y, width, height.
    fn pixels(self, width: usize, height: usize) -> [usize; 4] {
        let along = |start: f64, len: f64, side: usize| {
            let first = ((start * side as f64) as usize).min(side - 1);
            let end = (((start + len) * side as f64).ceil() as usize).clamp(first + 1, side);
            (first, end - first)
        };
        let (x, w) = along(self.x, self.width, width);
        let (y, h) = along(self.y, self.height, height);
        [x, y, w, h]
    }
}

impl Rgb {
    /// The part of `width` x `height` pixels at (`x`, `y`).
    fn cropped(&self, [x, y, width, height]: [usize; 4]) -> Self {
        let rows = self.pixels.chunks_exact(self.width * 3);
        let rows = rows.skip(y).take(height);
        Self {
            width,
            height,
            pixels: rows
                .flat_map(|row| &row[x * 3..(x + width) * 3])
                .copied()
                .collect(),
        }
    }
}

/// Makes an example of a picture. `mask` is there for an abnormal one, of any size.
///
/// The same numbers come out for the same state of `random`, whatever thread it runs on.
pub(crate) fn example(
    mut picture: Rgb,
    mut mask: Option<Mask>,
    recipe: &AugmentPart,
    preprocessor: &Preprocessor,
    side: usize,
    random: &mut ChaCha8Rng,
) -> acdclip_model::Result<Example> {
    if let Some(part) = part(&picture, mask.as_ref(), &recipe.crop, random) {
        picture = picture.cropped(part.pixels(picture.width, picture.height));
        mask = mask.map(|mask| {
            let (width, height) = mask.size();
            mask.cropped(part.pixels(width, height))
        });
        if recipe.crop.defect_free {
            mask = mask.filter(|mask| !mask.is_empty());
        }
    }
    // Nothing is drawn for lumps and light that are not asked for: recipes without them keep their numbers.
    if mask.is_none() && recipe.lump.probability > 0.0 && happens(recipe.lump.probability, random) {
        mask = Some(lump::raise(&mut picture, recipe.lump, random));
    }
    if recipe.light.probability > 0.0 && happens(recipe.light.probability, random) {
        light::cast(&mut picture, recipe.light.strength, random);
    }
    noise(&mut picture, recipe.noise, random);
    colours(&mut picture, recipe, random);
    let mut planes = vec![0.0; 4 * side * side];
    let (pixels, wrong) = planes.split_at_mut(3 * side * side);
    let frame = Frame::rgb(
        &picture.pixels,
        picture.width * 3,
        picture.width,
        picture.height,
    )?;
    preprocessor.run(&frame, View::default(), &mut Scratch::default(), pixels)?;
    if let Some(mask) = &mask {
        for (value, is_wrong) in wrong.iter_mut().zip(mask.resized(side, side)) {
            *value = f32::from(u8::from(is_wrong));
        }
    }
    let mut planes = Geometry::draw(recipe, side, random).apply(planes, side);
    let mask_plane = planes.split_off(3 * side * side);
    Ok(Example {
        pixels: planes,
        mask: mask_plane,
        is_abnormal: mask.is_some(),
    })
}

/// Whether something with that probability happens. Draws a number in any case, so that later ones do not depend on it.
fn happens(probability: f64, random: &mut ChaCha8Rng) -> bool {
    random.random::<f64>() < probability
}

/// Uniform between `-limit` and `limit`.
fn either_way(limit: f64, random: &mut ChaCha8Rng) -> f64 {
    (2.0 * random.random::<f64>() - 1.0) * limit
}

fn part(
    picture: &Rgb,
    mask: Option<&Mask>,
    recipe: &CropPart,
    random: &mut ChaCha8Rng,
) -> Option<Part> {
    if !happens(recipe.probability, random) {
        return None;
    }
    let [least, largest] = recipe.scale;
    let scale = least + (largest - least) * random.random::<f64>();
    let (width, height) = match recipe.square {
        false => (scale, scale),
        true => {
            let side = scale * picture.width.min(picture.height) as f64;
            (side / picture.width as f64, side / picture.height as f64)
        }
    };
    let over = happens(recipe.on_defect, random) || !recipe.defect_free;
    let defect = mask
        .filter(|_| over)
        .and_then(|mask| any_defect(mask, random));
    let mut along = |len: f64, through: Option<f64>| {
        let (low, high) = match through {
            Some(at) => ((at - len).max(0.0), at.min(1.0 - len)),
            None => (0.0, 1.0 - len),
        };
        low + (high - low).max(0.0) * random.random::<f64>()
    };
    Some(Part {
        x: along(width, defect.map(|d| d.0)),
        y: along(height, defect.map(|d| d.1)),
        width,
        height,
    })
}

/// The middle of a pixel where something is wrong, in shares of the sides; each is as likely.
fn any_defect(mask: &Mask, random: &mut ChaCha8Rng) -> Option<(f64, f64)> {
    let wrong = || mask.pixels().iter().enumerate().filter(|(_, p)| **p);
    let count = wrong().count();
    if count == 0 {
        return None;
    }
    let (at, _) = wrong().nth(random.random_range(0..count))?;
    let (width, height) = mask.size();
    let x = (at % width) as f64 + 0.5;
    let y = (at / width) as f64 + 0.5;
    Some((x / width as f64, y / height as f64))
}

/// Multiplies a few pixels, channel by channel, with normal numbers.
fn noise(picture: &mut Rgb, recipe: Sometimes, random: &mut ChaCha8Rng) {
    if !happens(recipe.probability, random) {
        return;
    }
    let count = picture.width * picture.height;
    let mut at = gap(random);
    while at < count {
        for sample in &mut picture.pixels[3 * at..3 * at + 3] {
            let factor: f32 = random.sample(StandardNormal);
            let value = f32::from(*sample) / 255.0 * factor * recipe.strength as f32;
            // Cut off, not rounded, as torchvision makes bytes of numbers.
            *sample = (value.clamp(0.0, 1.0) * 255.0) as u8;
        }
        at += 1 + gap(random);
    }
}

/// Pixels before the next noisy one, where each is noisy by itself.
fn gap(random: &mut ChaCha8Rng) -> usize {
    let uniform: f64 = 1.0 - random.random::<f64>();
    (uniform.ln() / (-NOISY).ln_1p()) as usize
}

fn colours(picture: &mut Rgb, recipe: &AugmentPart, random: &mut ChaCha8Rng) {
    let mut factor = |change: Sometimes| {
        let happens = happens(change.probability, random);
        let factor = 1.0 + either_way(change.strength, random);
        happens.then_some(factor.max(0.0) as f32)
    };
    let factors = [recipe.brightness, recipe.contrast, recipe.saturation].map(&mut factor);
    if let Some(factor) = factors[0] {
        all_from(&mut picture.pixels, 0, factor);
    }
    if let Some(factor) = factors[1] {
        contrast(&mut picture.pixels, factor);
    }
    if let Some(factor) = factors[2] {
        saturation(&mut picture.pixels, factor);
    }
    tint(&mut picture.pixels, recipe.tint, random);
}

/// Multiplies each channel by a factor of its own.
fn tint(samples: &mut [u8], recipe: Sometimes, random: &mut ChaCha8Rng) {
    if !happens(recipe.probability, random) {
        return;
    }
    let factors = [0; 3].map(|_| (1.0 + either_way(recipe.strength, random)).max(0.0) as f32);
    for pixel in samples.chunks_exact_mut(3) {
        for (sample, factor) in pixel.iter_mut().zip(factors) {
            *sample = blend(0, *sample, factor);
        }
    }
}

/// Moves every sample away from the picture's mean grey.
fn contrast(samples: &mut [u8], factor: f32) {
    let pixels = samples.chunks_exact(3);
    let count = pixels.len().max(1) as f64;
    let sum: u64 = pixels.map(|pixel| u64::from(luma(pixel))).sum();
    all_from(samples, (sum as f64 / count + 0.5) as u8, factor);
}

/// Moves every pixel away from its grey.
fn saturation(samples: &mut [u8], factor: f32) {
    for pixel in samples.chunks_exact_mut(3) {
        let grey = luma(pixel);
        for sample in pixel {
            *sample = blend(grey, *sample, factor);
        }
    }
}

/// Moves every sample away from `from` by `factor`.
fn all_from(samples: &mut [u8], from: u8, factor: f32) {
    let table: Vec<u8> = (0..=u8::MAX).map(|s| blend(from, s, factor)).collect();
    for sample in samples {
        *sample = table[usize::from(*sample)];
    }
}

/// Pillow's blend of two samples: from `from` (factor 0) through `to` (factor 1) and beyond, cut off.
fn blend(from: u8, to: u8, factor: f32) -> u8 {
    let from = f32::from(from);
    (from + factor * (f32::from(to) - from)).clamp(0.0, 255.0) as u8
}

/// Pillow's grey of a pixel.
fn luma(pixel: &[u8]) -> u8 {
    let weighted = |i: usize, weight: u32| u32::from(pixel[i]) * weight;
    ((weighted(0, 19_595) + weighted(1, 38_470) + weighted(2, 7_471) + 0x8000) >> 16) as u8
}

/// Where each pixel of the changed picture comes from: torchvision's rotation, translation and flips, one after the other, then turns.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Geometry {
    /// Radians.
    rotation: f64,
    /// Pixels to the right and down.
    shift: (isize, isize),
    flip_horizontal: bool,
    flip_vertical: bool,
    /// Quarters.
    turns: u8,
}

impl Geometry {
    fn draw(recipe: &AugmentPart, side: usize, random: &mut ChaCha8Rng) -> Self {
        let rotated = happens(recipe.rotation.probability, random);
        let angle = either_way(recipe.rotation.strength, random).to_radians();
        let moved = happens(recipe.translation.probability, random);
        let most = recipe.translation.strength * side as f64;
        let mut step = || either_way(most, random).round() as isize;
        let shift = (step(), step());
        Self {
            rotation: if rotated { angle } else { 0.0 },
            shift: if moved { shift } else { (0, 0) },
            flip_horizontal: happens(recipe.flip_horizontal, random),
            flip_vertical: happens(recipe.flip_vertical, random),
            turns: match happens(recipe.quarter_turn, random) {
                true => random.random_range(1..=3),
                false => 0,
            },
        }
    }

    /// Changes planes of side x side alike; what comes from outside is zero.
    fn apply(self, planes: Vec<f32>, side: usize) -> Vec<f32> {
        if self == Self::default() {
            return planes;
        }
        let sources: Vec<Option<usize>> = (0..side * side)
            .map(|i| self.source(i % side, i / side, side))
            .collect();
        planes
            .chunks_exact(side * side)
            .flat_map(|plane| sources.iter().map(|at| at.map_or(0.0, |at| plane[at])))
            .collect()
    }

    /// The pixel that (x, y) shows, undoing the changes from the last to the first.
    fn source(self, x: usize, y: usize, side: usize) -> Option<usize> {
        let last = side - 1;
        let (mut x, mut y) = (x, y);
        for _ in 0..self.turns {
            (x, y) = (y, last - x);
        }
        if self.flip_vertical {
            y = last - y;
        }
        if self.flip_horizontal {
            x = last - x;
        }
        let within = |at: isize| usize::try_from(at).ok().filter(|at| *at <= last);
        let x = within(x as isize - self.shift.0)?;
        let y = within(y as isize - self.shift.1)?;
        if self.rotation == 0.0 {
            return Some(y * side + x);
        }
        let centre = last as f64 / 2.0;
        let (dx, dy) = (x as f64 - centre, y as f64 - centre);
        let (sin, cos) = self.rotation.sin_cos();
        let near = |at: f64| within((at + centre).round_ties_even() as isize);
        let x = near(cos * dx - sin * dy)?;
        let y = near(sin * dx + cos * dy)?;
        Some(y * side + x)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::training::random::stream;

    fn gradient(width: usize, height: usize) -> Rgb {
        Rgb {
            pixels: (0..width * height * 3)
                .map(|i| (i * 7 % 256) as u8)
                .collect(),
            width,
            height,
        }
    }

    fn spot(width: usize, height: usize, at: usize) -> Mask {
        let mut pixels = vec![false; width * height];
        pixels[at] = true;
        Mask::new(width, height, pixels)
    }

    fn run(mask: Option<Mask>, recipe: &AugmentPart, place: u64) -> Example {
        let preprocessor = Preprocessor::new(16, 16, [0.5; 3], [0.5; 3]).unwrap();
        let mut random = stream(3, "image", [0, place]);
        example(
            gradient(40, 30),
            mask,
            recipe,
            &preprocessor,
            16,
            &mut random,
        )
        .unwrap()
    }

    #[test]
    fn the_same_place_gives_the_same_numbers_and_another_place_others() {
        let recipe = AugmentPart::default();
        let mask = Some(spot(40, 30, 600));
        assert_eq!(run(mask.clone(), &recipe, 1), run(mask.clone(), &recipe, 1));
        assert_ne!(run(mask.clone(), &recipe, 1), run(mask, &recipe, 2));
    }

    #[test]
    fn colours_are_pillows() {
        let made = |change: &dyn Fn(&mut [u8])| {
            let mut pixels = [10, 200, 30, 255, 0, 128, 77, 77, 77];
            change(&mut pixels);
            pixels
        };
        // Pillow's ImageEnhance.Brightness(1.4), Contrast(0.6) and Color(1.3).
        let brighter = made(&|pixels| all_from(pixels, 0, 1.4));
        assert_eq!(brighter, [14, 255, 42, 255, 0, 179, 107, 107, 107]);
        let flatter = made(&|pixels| contrast(pixels, 0.6));
        assert_eq!(flatter, [44, 158, 56, 191, 38, 115, 85, 85, 85]);
        let richer = made(&|pixels| saturation(pixels, 1.3));
        assert_eq!(richer, [0, 222, 1, 255, 0, 139, 77, 77, 77]);
    }

    #[test]
    fn a_tint_gives_grey_a_colour() {
        let always = Sometimes {
            probability: 1.0,
            strength: 0.4,
        };
        let mut pixels = vec![100; 300];
        tint(&mut pixels, always, &mut stream(1, "x", [0, 0]));
        let first = pixels[..3].to_vec();
        assert!(first.iter().all(|s| (60..=140).contains(s)));
        assert!(first[0] != first[1] || first[1] != first[2]);
        assert!(pixels.chunks_exact(3).all(|pixel| pixel == first));
    }

    #[test]
    fn picture_and_mask_move_together() {
        let mut planes = vec![0.0; 4 * 64];
        for plane in 0..4 {
            planes[plane * 64 + 8 + 2] = 1.0;
        }
        for geometry in [
            Geometry {
                rotation: 0.5,
                ..Geometry::default()
            },
            Geometry {
                shift: (2, -1),
                ..Geometry::default()
            },
            Geometry {
                flip_horizontal: true,
                turns: 3,
                ..Geometry::default()
            },
        ] {
            let moved = geometry.apply(planes.clone(), 8);
            assert_eq!(moved[..64], moved[192..]);
            assert_ne!(moved, planes);
        }
    }

    #[test]
    fn each_change_of_place_is_what_it_says() {
        let plane: Vec<f32> = (0..9).map(|i| i as f32).collect();
        let moved = |geometry: Geometry| geometry.apply(plane.clone(), 3);
        let none = Geometry::default();
        let flip_horizontal = true;
        assert_eq!(
            moved(Geometry {
                flip_horizontal,
                ..none
            }),
            [2., 1., 0., 5., 4., 3., 8., 7., 6.]
        );
        assert_eq!(
            moved(Geometry {
                shift: (1, 0),
                ..none
            }),
            [0., 0., 1., 0., 3., 4., 0., 6., 7.]
        );
        assert_eq!(
            moved(Geometry { turns: 1, ..none }),
            [6., 3., 0., 7., 4., 1., 8., 5., 2.]
        );
        let quarter = std::f64::consts::FRAC_PI_2;
        let turned = moved(Geometry {
            rotation: quarter,
            ..none
        });
        assert_eq!(turned, moved(Geometry { turns: 3, ..none }));
    }

    #[test]
    fn a_part_with_the_defect_keeps_the_label_and_one_without_loses_it() {
        let mut recipe = AugmentPart::none();
        recipe.crop = CropPart {
            probability: 1.0,
            scale: [0.2, 0.4],
            on_defect: 1.0,
            ..CropPart::default()
        };
        for place in 0..20 {
            let over = run(Some(spot(40, 30, 613)), &recipe, place);
            assert!(over.is_abnormal && over.mask.contains(&1.0));
        }
        recipe.crop.on_defect = 0.0;
        let labels: Vec<_> = (0..40)
            .map(|place| run(Some(spot(40, 30, 613)), &recipe, place))
            .inspect(|e| assert_eq!(e.is_abnormal, e.mask.contains(&1.0)))
            .map(|e| e.is_abnormal)
            .collect();
        assert!(labels.contains(&false), "some parts have no defect");
        recipe.crop.defect_free = false;
        assert!((0..20).all(|place| run(Some(spot(40, 30, 613)), &recipe, place).is_abnormal));
    }

    #[test]
    fn a_mask_of_another_size_than_the_picture_is_no_problem() {
        let mut recipe = AugmentPart::none();
        recipe.crop.probability = 1.0;
        let example = run(Some(spot(7, 90, 300)), &recipe, 5);
        assert_eq!(example.mask.len(), 256);
    }

    #[test]
    fn noise_is_rare_and_only_where_it_is_asked_for() {
        let always = Sometimes {
            probability: 1.0,
            strength: 1.0,
        };
        let clean = gradient(400, 300);
        let mut noisy = clean.clone();
        noise(&mut noisy, always, &mut stream(1, "x", [0, 0]));
        let changed = clean
            .pixels
            .chunks_exact(3)
            .zip(noisy.pixels.chunks_exact(3))
            .filter(|(a, b)| a != b)
            .count();
        // 120 000 pixels, 162 of them expected.
        assert!((110..220).contains(&changed), "{changed}");
    }

    #[test]
    fn a_lump_makes_a_defect_of_a_picture_that_has_none_and_of_no_other() {
        let mut recipe = AugmentPart::none();
        recipe.lump.probability = 1.0;
        let wrong = |example: &Example| example.mask.iter().filter(|m| **m > 0.0).count();
        for place in 0..20 {
            let plain = run(None, &AugmentPart::none(), place);
            let made_up = run(None, &recipe, place);
            assert!(made_up.is_abnormal && wrong(&made_up) > 0);
            assert_ne!(made_up.pixels, plain.pixels);
            let mask = spot(40, 30, 615);
            let own = run(Some(mask.clone()), &recipe, place);
            assert_eq!(own, run(Some(mask), &AugmentPart::none(), place));
        }
    }

    #[test]
    fn light_changes_the_picture_and_not_what_is_wrong_in_it() {
        let mut recipe = AugmentPart::none();
        recipe.light = Sometimes {
            probability: 1.0,
            strength: 1.5,
        };
        let mask = || Some(spot(40, 30, 615));
        let lit = run(mask(), &recipe, 4);
        let plain = run(mask(), &AugmentPart::none(), 4);
        assert_ne!(lit.pixels, plain.pixels);
        assert_eq!(lit.mask, plain.mask);
        assert!(!run(None, &recipe, 4).is_abnormal);
    }
}
