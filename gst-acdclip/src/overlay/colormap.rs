//! Colour maps: which colour a probability has.
//!
//! Turbo is Anton Mikhailov's (Google, Apache-2.0), viridis and inferno are Nathaniel Smith's and Stéfan van der Walt's (matplotlib, CC0),
//! each by a few of its 256 entries with straight lines between, which is closer than an eye can tell.

use gst::glib;

/// A colour map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, glib::Enum)]
#[serde(rename_all = "kebab-case")]
#[enum_type(name = "AcdClipColormap")]
pub(crate) enum Colormap {
    /// Blue, green, yellow, red: what most people read as heat.
    #[default]
    #[enum_value(name = "Turbo: blue, green, yellow, red", nick = "turbo")]
    Turbo,
    /// Violet to yellow, even to the eye and to the colour-blind.
    #[enum_value(name = "Viridis: violet, green, yellow", nick = "viridis")]
    Viridis,
    /// Black, purple, orange, pale yellow.
    #[enum_value(name = "Inferno: black, purple, orange, pale yellow", nick = "inferno")]
    Inferno,
    /// Black to white.
    #[enum_value(name = "Grey: black to white", nick = "grey")]
    Grey,
}

impl Colormap {
    /// The colour (R, G, B) of a probability; outside [0, 1] that of the nearer end.
    pub(crate) fn color(self, probability: f32) -> [u8; 3] {
        let p = probability.clamp(0.0, 1.0);
        match self {
            Self::Turbo => interpolate(&TURBO, p),
            Self::Viridis => interpolate(&VIRIDIS, p),
            Self::Inferno => interpolate(&INFERNO, p),
            Self::Grey => [(p * 255.0).round() as u8; 3],
        }
    }
}

const TURBO: [[u8; 3]; 15] = [
    [48, 18, 59],
    [65, 69, 171],
    [70, 117, 237],
    [57, 162, 252],
    [27, 207, 212],
    [36, 236, 166],
    [97, 252, 108],
    [164, 252, 59],
    [209, 232, 52],
    [243, 198, 58],
    [254, 155, 45],
    [243, 99, 21],
    [217, 56, 6],
    [177, 25, 1],
    [122, 4, 2],
];

const VIRIDIS: [[u8; 3]; 9] = [
    [68, 1, 84],
    [71, 44, 122],
    [59, 81, 139],
    [44, 113, 142],
    [33, 144, 141],
    [39, 173, 129],
    [92, 200, 99],
    [170, 220, 50],
    [253, 231, 37],
];

const INFERNO: [[u8; 3]; 9] = [
    [0, 0, 4],
    [31, 12, 72],
    [85, 15, 109],
    [136, 34, 106],
    [186, 54, 85],
    [227, 89, 51],
    [249, 140, 10],
    [249, 201, 50],
    [252, 255, 164],
];

fn interpolate(table: &[[u8; 3]], p: f32) -> [u8; 3] {
    let last = table.len() - 1;
    let at = p * last as f32;
    let low = (at as usize).min(last - 1);
    let weight = at - low as f32;
    std::array::from_fn(|c| {
        let (a, b) = (f32::from(table[low][c]), f32::from(table[low + 1][c]));
        (a + (b - a) * weight).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// <https://gist.github.com/mikhailov-work/0d177465a8151eb6ede1768d51d476c7>
    #[test]
    fn turbo_is_near_its_authors_polynomial() {
        let coefficients = [
            [
                0.135_721, 4.615_393, -42.660_32, 132.131_08, -152.942_4, 59.286_38,
            ],
            [
                0.091_403,
                2.194_188,
                4.842_967,
                -14.185_033,
                4.277_299,
                2.829_566,
            ],
            [
                0.106_673, 12.641_946, -60.582_05, 110.362_77, -89.903_11, 27.348_25,
            ],
        ];
        for step in 0..=100 {
            let p = step as f32 / 100.0;
            let found = Colormap::Turbo.color(p);
            for (found, c) in found.iter().zip(coefficients) {
                let wanted = 255.0 * c.iter().rev().fold(0.0, |sum, c| sum * p + c);
                let apart = (f32::from(*found) - wanted).abs();
                assert!(
                    apart < 36.0,
                    "turbo({p}): {found}, the polynomial has {wanted}"
                );
            }
        }
    }

    #[test]
    fn ends_are_the_published_ones_and_nothing_lies_beyond() {
        assert_eq!(Colormap::Viridis.color(-1.0), [68, 1, 84]);
        assert_eq!(Colormap::Viridis.color(2.0), [253, 231, 37]);
        assert_eq!(Colormap::Inferno.color(0.0), [0, 0, 4]);
        assert_eq!(Colormap::Inferno.color(1.0), [252, 255, 164]);
        assert_eq!(Colormap::Grey.color(0.5), [128; 3]);
    }
}
