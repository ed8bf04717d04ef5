//! Uneven light for training pictures: bands, pools and shadows that are no defect.
//!
//! A lamp over a rail head leaves a bright band along it, an endoscope a pool of light before it and the dark of the lumen behind. Most
//! sets are lit evenly, so that a network which has seen nothing else takes the lamp's light for what is wrong. The light changes and the
//! mask does not.

use std::f32::consts::TAU;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::augment::Rgb;

/// Bands and pools in one picture, at most.
const MOST: usize = 3;
/// Share of the lights that are bands.
const BANDS: f32 = 0.7;

/// One part of the light. Places are in half sides from the picture's middle, so that the picture reaches from -1 to 1 both ways.
enum Light {
    /// Brighter or darker along a line, from side to side.
    Band {
        /// Unit vector across the band.
        across: (f32, f32),
        /// Of its middle.
        at: f32,
        half_width: f32,
        /// Over what length it passes into the rest.
        rim: f32,
    },
    /// Brighter or darker around a point, fading as a Gaussian does.
    Pool { centre: (f32, f32), sigma: f32 },
}

/// Lights `picture` unevenly, by up to `strength` stops (powers of two) more or less for each band or pool.
pub(super) fn cast(picture: &mut Rgb, strength: f64, random: &mut ChaCha8Rng) {
    let count = random.random_range(1..=MOST);
    let lights: Vec<(f32, Light)> = (0..count)
        .map(|_| {
            let stops = (2.0 * random.random::<f32>() - 1.0) * strength as f32;
            (stops, Light::draw(random))
        })
        .collect();
    let (width, height) = (picture.width as f32, picture.height as f32);
    for (at, pixel) in picture.pixels.chunks_exact_mut(3).enumerate() {
        let x = ((at % picture.width) as f32 + 0.5) / width * 2.0 - 1.0;
        let y = ((at / picture.width) as f32 + 0.5) / height * 2.0 - 1.0;
        let stops = lights.iter().map(|(stops, light)| stops * light.at(x, y));
        // Finite, so that black stays black in any light.
        let factor = stops.sum::<f32>().exp2().min(f32::MAX);
        for sample in pixel {
            *sample = (f32::from(*sample) * factor).min(255.0) as u8;
        }
    }
}

impl Light {
    fn draw(random: &mut ChaCha8Rng) -> Self {
        let is_band = random.random::<f32>() < BANDS;
        let mut between = |low: f32, high: f32| low + (high - low) * random.random::<f32>();
        if is_band {
            let (sin, cos) = between(0.0, TAU).sin_cos();
            return Self::Band {
                across: (cos, sin),
                at: between(-1.0, 1.0),
                half_width: between(0.1, 0.7),
                rim: between(0.02, 0.5),
            };
        }
        Self::Pool {
            centre: (between(-1.2, 1.2), between(-1.2, 1.2)),
            sigma: between(0.4, 1.2),
        }
    }

    /// How much of it falls on (`x`, `y`), 0 to 1.
    fn at(&self, x: f32, y: f32) -> f32 {
        match self {
            Self::Band {
                across,
                at,
                half_width,
                rim,
            } => {
                let from_edge = half_width - (x * across.0 + y * across.1 - at).abs();
                let share = (from_edge / rim + 0.5).clamp(0.0, 1.0);
                share * share * (3.0 - 2.0 * share)
            }
            Self::Pool { centre, sigma } => {
                let (dx, dy) = (x - centre.0, y - centre.1);
                (-(dx * dx + dy * dy) / (2.0 * sigma * sigma)).exp()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn lit(grey: u8, seed: u64, strength: f64) -> Vec<u8> {
        let mut picture = Rgb {
            width: 64,
            height: 48,
            pixels: vec![grey; 3 * 64 * 48],
        };
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        cast(&mut picture, strength, &mut random);
        picture.pixels
    }

    #[test]
    fn light_falls_unevenly_and_has_no_colour() {
        let mut spreads = 0;
        for seed in 0..40 {
            let pixels = lit(100, seed, 1.5);
            assert!(pixels.chunks_exact(3).all(|p| p[0] == p[1] && p[1] == p[2]));
            let (least, most) = (pixels.iter().min(), pixels.iter().max());
            spreads += u32::from(least.zip(most).is_some_and(|(l, m)| m - l > 20));
        }
        assert!(spreads > 30, "{spreads} of 40 are lit unevenly");
    }

    #[test]
    fn light_is_smooth_where_its_rim_is() {
        let pool = Light::Pool {
            centre: (0.0, 0.0),
            sigma: 0.5,
        };
        assert_eq!(pool.at(0.0, 0.0), 1.0);
        assert!(pool.at(0.5, 0.0) > 0.6 && pool.at(1.0, 1.0) < 0.02);
        let band = Light::Band {
            across: (1.0, 0.0),
            at: 0.2,
            half_width: 0.3,
            rim: 0.1,
        };
        assert_eq!((band.at(0.2, -1.0), band.at(0.2, 1.0)), (1.0, 1.0));
        assert!((band.at(0.5, 0.0) - 0.5).abs() < 1e-5);
        assert_eq!((band.at(0.6, 0.0), band.at(-0.2, 0.0)), (0.0, 0.0));
    }

    #[test]
    fn no_strength_changes_nothing_and_no_strength_lights_black() {
        for seed in 0..20 {
            assert!(lit(100, seed, 0.0).iter().all(|s| *s == 100));
            assert!(lit(0, seed, 1e6).iter().all(|s| *s == 0));
        }
    }
}
