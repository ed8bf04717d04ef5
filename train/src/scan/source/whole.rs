//! Pictures that are decoded whole, since their formats have few lines or do not lie in rows: JPEG (65,535 lines at most), BMP, WebP, PNM in
//! text, interlaced PNG. A GiB of samples is the most that is taken.

use std::path::Path;

use image::{DynamicImage, ExtendedColorType};

use super::{
    Lines,
    band::{Band, Layout},
    picture::{check_size, unreadable},
};
use crate::{outcome::Outcome, picture::open_whole};

/// A decoded picture.
pub(super) struct Whole {
    picture: DynamicImage,
    layout: Layout,
    is_wide: bool,
    width: usize,
    height: u64,
    read: u64,
}

impl Whole {
    pub(super) fn open(path: &Path, depth: u8) -> Outcome<Self> {
        let (picture, _) = open_whole(path)?;
        let color = picture.color();
        let is_wide = match ExtendedColorType::from(color) {
            ExtendedColorType::L8
            | ExtendedColorType::La8
            | ExtendedColorType::Rgb8
            | ExtendedColorType::Rgba8 => false,
            ExtendedColorType::L16
            | ExtendedColorType::La16
            | ExtendedColorType::Rgb16
            | ExtendedColorType::Rgba16 => true,
            other => {
                let what = format!("wanted 8 or 16 bits a sample, found {other:?}");
                return Err(unreadable(path, what));
            }
        };
        let (width, height) = (picture.width().into(), picture.height().into());
        let (width, height) = check_size(path, width, height)?;
        Ok(Self {
            picture,
            layout: Layout {
                channels: color.channel_count().into(),
                depth,
            },
            is_wide,
            width,
            height,
            read: 0,
        })
    }
}

impl Lines for Whole {
    fn next(&mut self, band: &mut Band) -> Outcome<bool> {
        let layout = self.layout;
        layout.start(band, self.width);
        let lines = (self.height - self.read).min(layout.lines(self.width) as u64);
        let line = self.width * layout.channels * if self.is_wide { 2 } else { 1 };
        let from = self.read as usize * line;
        let bytes = &self.picture.as_bytes()[from..from + lines as usize * line];
        if self.is_wide {
            let (pairs, _) = bytes.as_chunks();
            let samples = pairs.iter().map(|pair| u16::from_ne_bytes(*pair));
            layout.append_wide(band, samples);
        } else {
            layout.append(band, bytes);
        }
        self.read += lines;
        Ok(lines > 0)
    }

    fn total(&self) -> Option<u64> {
        Some(self.height)
    }
}
