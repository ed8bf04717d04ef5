//! How a picture that is larger than the network's input is cut into tiles: their size, and where they lie along a side.
//!
//! Tiles are squares of the picture's own pixels, each shown to the network as a picture of its own. Neighbours overlap, so that what lies on
//! an edge of one is inside of the other. The last tile of a side is shifted back to end with it: nothing is padded, nothing is left over.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A tile is shown at this part of its size at least, where nobody says otherwise: what is ten pixels wide stays four.
const MAX_SHRINK: f64 = 2.5;

/// Neighbours share an eighth, where nobody says otherwise: two patches of the compact model's eighteen.
const OVERLAP: usize = 8;

/// A whole frame is shown to the network up to this many times as long as wide. A film is at most 2.39.
const MAX_ASPECT: f64 = 2.4;

/// A whole frame is shown to the network up to this many times its input: ultra high definition to the compact model.
const MAX_WHOLE_SHRINK: f64 = 9.0;

/// What of a frame the network is shown at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tiling {
    /// [`Grid`](Self::Grid) for frames that are too long or too large to be shown whole, else none.
    #[default]
    Auto,
    /// All of it.
    None,
    /// Tiles of each frame.
    Grid,
    /// Tiles of the strip that the frames are pieces of.
    Scan,
}

impl Tiling {
    /// Whether a frame of that size is cut, for a network whose input is a square of `input` pixels.
    pub fn cuts(self, (width, height): (usize, usize), input: usize) -> bool {
        match self {
            Self::None => false,
            Self::Grid | Self::Scan => true,
            Self::Auto => {
                let (short, long) = (width.min(height) as f64, width.max(height) as f64);
                long > short * MAX_ASPECT || short > input as f64 * MAX_WHOLE_SHRINK
            }
        }
    }
}

/// What somebody says about tiles, in pixels; 0 for what suits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Choice {
    /// Side of a tile.
    pub tile_size: usize,
    /// What neighbours share.
    pub tile_overlap: usize,
    /// How many of the network's pixels the shorter side of a frame, or a strip's width, is shown with. A tile size says the same in the frame's pixels, and
    /// goes first.
    pub working_resolution: usize,
}

impl Choice {
    /// The tiles of a frame whose shorter side, or of a strip whose width, is `side`, for a network whose input is a square of `input` pixels.
    ///
    /// An error if tiles would share more than half.
    pub fn tiles(self, side: usize, input: usize) -> Result<Tiles> {
        let size = match (self.tile_size, self.working_resolution) {
            (0, 0) => (input as f64 * MAX_SHRINK) as usize,
            (0, shown) => (input as f64 * side as f64 / shown as f64).round() as usize,
            (size, _) => size,
        };
        let size = size.clamp(1, side.max(1));
        let overlap = match self.tile_overlap {
            0 => size / OVERLAP,
            overlap => overlap,
        };
        Tiles::new(size, overlap)
    }
}

/// Squares of one size that overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiles {
    size: usize,
    overlap: usize,
}

impl Tiles {
    /// Tiles of `size` pixels, of which neighbours share `overlap`.
    ///
    /// An error if there is no pixel in a tile, or if neighbours share more than half of one.
    pub fn new(size: usize, overlap: usize) -> Result<Self> {
        if size == 0 || overlap > size / 2 {
            return Err(Error::Frame(format!(
                "wanted tiles of 1 pixel or more that share half of it at most, found tiles of {size} pixels that share {overlap}; set a \
                 smaller tile-overlap or a larger tile-size"
            )));
        }
        Ok(Self { size, overlap })
    }

    /// Side of a tile, pixels.
    pub fn size(self) -> usize {
        self.size
    }

    /// What neighbours share at least, pixels.
    pub fn overlap(self) -> usize {
        self.overlap
    }

    /// From a tile to the next, pixels.
    pub fn step(self) -> usize {
        self.size - self.overlap
    }

    /// Where tiles begin along a side of `len` pixels, which is a tile or more: all of it is covered. One of less has one tile, of all of it.
    pub fn starts(self, len: usize) -> Vec<usize> {
        let last = len.saturating_sub(self.size);
        let mut starts: Vec<_> = (0..last).step_by(self.step()).collect();
        starts.push(last);
        starts
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn video_is_shown_whole_and_strips_are_cut() {
        let cut = |width, height| Tiling::Auto.cuts((width, height), 252);
        for (width, height) in [(640, 480), (1920, 1080), (3840, 2160), (2048, 858), (1, 1)] {
            assert!(!cut(width, height), "{width}x{height}");
        }
        for (width, height) in [(200, 5000), (8000, 2000), (2048, 512), (4096, 4096)] {
            assert!(cut(width, height), "{width}x{height}");
        }
    }

    #[test]
    fn a_scale_is_said_in_either_pixels_and_the_frames_goes_first() {
        let tiles = |tile_size, working_resolution, side| {
            let choice = Choice {
                tile_size,
                working_resolution,
                tile_overlap: 0,
            };
            choice.tiles(side, 252).unwrap().size()
        };
        assert_eq!(tiles(0, 0, 8192), 630);
        assert_eq!(tiles(0, 0, 512), 512);
        assert_eq!(tiles(0, 1008, 2048), 512);
        assert_eq!(tiles(0, 100, 2048), 2048);
        assert_eq!(tiles(300, 1008, 2048), 300);
        assert_eq!(tiles(300, 0, 200), 200);
        assert_eq!(tiles(0, usize::MAX, 1), 1);
    }

    #[test]
    fn tiles_that_share_more_than_half_are_refused_with_what_was_found() {
        let error = Tiles::new(100, 51).unwrap_err().to_string();
        assert!(error.contains("share 51"), "{error}");
        assert!(Tiles::new(0, 0).is_err());
    }

    proptest! {
        #[test]
        fn tiles_cover_a_side_and_neighbours_share_what_was_asked(size in 1_usize..60, share in 0.0..0.5, len in 1_usize..400) {
            let overlap = (size as f64 * share) as usize;
            let tiles = Tiles::new(size, overlap).unwrap();
            let starts = tiles.starts(len);
            prop_assert_eq!(starts[0], 0);
            prop_assert_eq!(starts.last().unwrap() + size.min(len), len);
            for pair in starts.windows(2) {
                prop_assert!(pair[0] < pair[1]);
                prop_assert!(pair[0] + size >= pair[1] + overlap);
            }
        }
    }
}
