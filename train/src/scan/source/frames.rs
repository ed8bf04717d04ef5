//! A folder of pictures that are one strip, cut into frames.

use std::path::PathBuf;

use super::{Lines, Reading, band::Band, picture, seen_before};
use crate::outcome::Outcome;

/// Frames in order, one open at a time.
pub(super) struct Frames {
    paths: std::vec::IntoIter<PathBuf>,
    reading: Reading,
    open: Option<(PathBuf, Box<dyn Lines>)>,
    /// Rows of the open one that were seen before, in the one before it.
    seen: usize,
    /// Pixels of a line, and whether it is grey.
    like: Option<(usize, bool)>,
}

impl Frames {
    pub(super) fn new(paths: Vec<PathBuf>, reading: Reading) -> Self {
        Self {
            paths: paths.into_iter(),
            reading,
            open: None,
            seen: 0,
            like: None,
        }
    }

    /// Opens the next frame; false where there is none.
    fn turn(&mut self) -> Outcome<bool> {
        let Some(path) = self.paths.next() else {
            return Ok(false);
        };
        let lines = picture::open(&path, self.reading.depth)?;
        let height = lines.total().unwrap_or(0) as usize;
        self.seen = seen_before(height, self.like.is_none(), self.reading.line_advance);
        self.open = Some((path, lines));
        Ok(true)
    }
}

impl Lines for Frames {
    fn next(&mut self, band: &mut Band) -> Outcome<bool> {
        loop {
            let Some((path, lines)) = &mut self.open else {
                if self.turn()? {
                    continue;
                }
                return Ok(false);
            };
            if !lines.next(band)? {
                self.open = None;
                continue;
            }
            let like = (band.width, band.is_grey);
            let wanted = *self.like.get_or_insert(like);
            if wanted != like {
                let name = |(width, is_grey)| {
                    format!(
                        "{width} pixels of {}",
                        if is_grey { "grey" } else { "colour" }
                    )
                };
                let what = format!(
                    "wanted lines of {} as in the frames before it, found {}",
                    name(wanted),
                    name(like)
                );
                return Err(picture::unreadable(path, what));
            }
            let skipped = self.seen.min(band.len());
            self.seen -= skipped;
            band.bytes.drain(..skipped * band.width * band.pixel());
            if band.len() > 0 {
                return Ok(true);
            }
        }
    }

    fn total(&self) -> Option<u64> {
        None
    }
}
