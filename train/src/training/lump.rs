//! A made-up defect for pictures that have none: a lump or a dent of irregular outline, lit from one side, with a cast of colour of its own.
//!
//! Surfaces that a set shows have the defects of its trade; that something stands out of a surface is a defect in any. The outline is
//! an ellipse whose radius swings, the relief a smooth hill whose slopes are lighter towards the light and darker away from it, and
//! what it is made of is the surface itself, seen larger on a lump and smaller in a dent.

use std::f64::consts::TAU;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{augment::Rgb, recipe::LumpPart};
use crate::dataset::mask::Mask;

/// How often the outline's radius swings around, at most.
const SWINGS: usize = 4;
/// Share of the radius over which the lump passes into the surface.
const RIM: f64 = 0.12;

/// One lump, in pixels of the picture.
struct Lump {
    centre: (f64, f64),
    radii: (f64, f64),
    /// Of the first radius, as sine and cosine.
    turned: (f64, f64),
    /// By number of swings from two on: height as a share of the radius, and phase.
    swings: [(f64, f64); SWINGS - 1],
    /// The higher, the flatter the top and the steeper the rim.
    steepness: f64,
    /// Direction of the light times the strength of its shades; in a dent they are swapped.
    light: (f64, f64),
    /// Share by which the texture is larger in the middle.
    larger: f64,
    /// What each channel is multiplied with.
    cast: [f64; 3],
}

/// Where a pixel lies on a lump.
struct Spot {
    /// From 0 in the middle to 1 on the outline.
    radius: f64,
    /// Unit vector away from the middle.
    outward: (f64, f64),
}

/// Makes a lump on `picture`, and tells where it is.
pub(super) fn raise(picture: &mut Rgb, recipe: LumpPart, random: &mut ChaCha8Rng) -> Mask {
    let lump = Lump::draw(picture, recipe, random);
    let before = picture.clone();
    let mut raised = vec![false; picture.width * picture.height];
    let pixels = picture.pixels.chunks_exact_mut(3);
    for (at, (pixel, is_raised)) in pixels.zip(&mut raised).enumerate() {
        let (x, y) = ((at % before.width) as f64, (at / before.width) as f64);
        if let Some(spot) = lump.spot(x, y) {
            *is_raised = true;
            lump.paint(pixel, &before, (x, y), &spot);
        }
    }
    Mask::new(picture.width, picture.height, raised)
}

impl Lump {
    fn draw(picture: &Rgb, recipe: LumpPart, random: &mut ChaCha8Rng) -> Self {
        let (width, height) = (picture.width as f64, picture.height as f64);
        let mut between = |low: f64, high: f64| low + (high - low) * random.random::<f64>();
        let [least, most] = recipe.size;
        let radius = between(least, most) * width.min(height) / 2.0;
        let flat = between(0.6, 1.0);
        let swings = [(); SWINGS - 1].map(|()| (between(0.0, 0.12), between(0.0, TAU)));
        let (light, shade) = (between(0.0, TAU), between(-1.0, 1.0) * recipe.relief);
        let depth = shade.signum();
        Self {
            centre: (
                between(0.1 * width, 0.9 * width),
                between(0.1 * height, 0.9 * height),
            ),
            radii: (radius.max(2.0), (radius * flat).max(2.0)),
            turned: between(0.0, TAU).sin_cos(),
            swings,
            steepness: between(1.0, 3.0),
            light: (shade * light.cos(), shade * light.sin()),
            larger: depth * between(0.0, 0.5),
            cast: [(); 3].map(|()| 1.0 + between(-1.0, 1.0) * recipe.cast),
        }
    }

    /// None outside.
    fn spot(&self, x: f64, y: f64) -> Option<Spot> {
        let (dx, dy) = (x - self.centre.0, y - self.centre.1);
        let (sin, cos) = self.turned;
        let u = (dx * cos + dy * sin) / self.radii.0;
        let v = (dy * cos - dx * sin) / self.radii.1;
        let from_middle = u.hypot(v);
        let outline = self.outline(v.atan2(u));
        let length = dx.hypot(dy).max(f64::EPSILON);
        (from_middle < outline).then(|| Spot {
            radius: from_middle / outline,
            outward: (dx / length, dy / length),
        })
    }

    /// The radius at an angle, as a share of the ellipse's.
    fn outline(&self, angle: f64) -> f64 {
        let swings = self.swings.iter().zip(2u32..);
        1.0 + swings
            .map(|((share, phase), times)| share * (f64::from(times) * angle + phase).cos())
            .sum::<f64>()
    }

    fn paint(&self, pixel: &mut [u8], before: &Rgb, (x, y): (f64, f64), spot: &Spot) {
        // A hill of height 1 - r^2p, and how steep it is, 1 at the rim.
        let power = 2.0 * self.steepness;
        let height = 1.0 - spot.radius.powf(power);
        let slope = spot.radius.powf(power - 1.0);
        let towards = spot.outward.0 * self.light.0 + spot.outward.1 * self.light.1;
        let blend = ((1.0 - spot.radius) / RIM).min(1.0);
        let shade = 1.0 + slope * towards * blend;
        let nearer = 1.0 - self.larger * height;
        let seen = before.at(
            self.centre.0 + (x - self.centre.0) * nearer,
            self.centre.1 + (y - self.centre.1) * nearer,
        );
        for ((sample, seen), cast) in pixel.iter_mut().zip(seen).zip(self.cast) {
            let lit = f64::from(seen) * shade * (1.0 + (cast - 1.0) * blend);
            *sample = lit.clamp(0.0, 255.0) as u8;
        }
    }
}

impl Rgb {
    /// The pixel nearest to (`x`, `y`), or to where that leaves the picture.
    fn at(&self, x: f64, y: f64) -> [u8; 3] {
        let inside = |at: f64, len: usize| (at.round().max(0.0) as usize).min(len - 1);
        let at = 3 * (inside(y, self.height) * self.width + inside(x, self.width));
        [self.pixels[at], self.pixels[at + 1], self.pixels[at + 2]]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rand::SeedableRng;

    use super::*;

    fn grey(side: usize) -> Rgb {
        Rgb {
            width: side,
            height: side,
            pixels: vec![128; 3 * side * side],
        }
    }

    #[test]
    fn a_lump_changes_what_its_mask_covers_and_nothing_else() {
        for seed in 0..50 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let (before, mut picture) = (grey(96), grey(96));
            let mask = raise(&mut picture, LumpPart::default(), &mut random);
            let changed = |at: usize| picture.pixels[3 * at..3 * at + 3] != before.pixels[..3];
            let inside = mask.pixels().iter().filter(|p| **p).count();
            assert!(inside > 0);
            let outside = (0..96 * 96).filter(|&at| !mask.pixels()[at]);
            assert_eq!(outside.filter(|&at| changed(at)).count(), 0);
            let touched = (0..96 * 96).filter(|&at| changed(at)).count();
            assert!(
                2 * touched > inside,
                "seed {seed}: {touched} of {inside} pixels"
            );
        }
    }

    #[test]
    fn one_side_is_lighter_and_the_other_darker() {
        let part = LumpPart {
            cast: 0.0,
            relief: 0.9,
            ..LumpPart::default()
        };
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let mut picture = grey(128);
        raise(&mut picture, part, &mut random);
        let least = *picture.pixels.iter().min().unwrap();
        let most = *picture.pixels.iter().max().unwrap();
        assert!(least < 115 && most > 141, "{least} to {most}");
    }

    #[test]
    fn the_smallest_picture_can_have_one() {
        let mut random = ChaCha8Rng::seed_from_u64(0);
        let mask = raise(&mut grey(1), LumpPart::default(), &mut random);
        assert_eq!(mask.size(), (1, 1));
    }
}
