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

    /// Entries of <https://gist.github.com/mikhailov-work/ee72ba4191942acecc03fe6da94fc73f>, by their index of 255, in bytes.
    #[test]
    fn turbo_is_near_its_published_table() {
        let published = [
            (0.0, [48, 18, 59]),
            (8.0, [57, 42, 115]),
            (22.0, [68, 81, 191]),
            (45.0, [69, 140, 253]),
            (52.0, [61, 158, 254]),
            (68.0, [34, 197, 226]),
            (82.0, [24, 224, 189]),
            (97.0, [53, 243, 148]),
            (112.0, [109, 254, 98]),
            (128.0, [164, 252, 60]),
            (142.0, [200, 239, 52]),
            (158.0, [235, 211, 57]),
            (172.0, [251, 182, 55]),
            (188.0, [253, 138, 38]),
            (202.0, [242, 96, 20]),
            (218.0, [220, 59, 7]),
            (232.0, [190, 33, 2]),
            (247.0, [149, 13, 1]),
            (255.0, [122, 4, 3]),
        ];
        for (index, wanted) in published {
            let found = Colormap::Turbo.color(index / 255.0);
            let near = |(found, wanted): (u8, i32)| (i32::from(found) - wanted).abs() <= 10;
            assert!(
                found.into_iter().zip(wanted).all(near),
                "entry {index}: {found:?}, published {wanted:?}"
            );
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
