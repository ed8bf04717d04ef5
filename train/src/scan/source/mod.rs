//! Where a strip's lines come from: one picture, a folder of frames, or a video; all are read in bands of lines, from the first to the last.
//!
//! Samples of more than 8 bits are narrowed here, and alpha is dropped, so that a band is grey or colour of 8 bits a sample.

use std::{
    fs::Metadata,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use image::ImageReader;
use sha2::{Digest, Sha256};

use crate::{
    dataset::tree::pictures,
    outcome::{Failure, Outcome},
};

pub(super) mod band;
mod frames;
mod picture;
mod png;
mod pnm;
mod tiff;
#[cfg(feature = "video")]
mod video;
mod whole;

use band::Band;

/// How lines are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    /// Bits that are used of samples of 16, 8 to 16.
    pub(super) depth: u8,
    /// New lines at the end of each frame but the first; 0 for all of its rows.
    pub(super) line_advance: usize,
}

/// Lines, in order.
pub(super) trait Lines {
    /// Puts the next lines into `band`, at least one of them; false where there are no more.
    ///
    /// An error if the file ends early or is damaged.
    fn next(&mut self, band: &mut Band) -> Outcome<bool>;

    /// All lines there are, where that is known beforehand.
    fn total(&self) -> Option<u64>;
}

/// A strip's file or folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// As it was named.
    pub(super) path: PathBuf,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Picture,
    /// Pictures, in the order of their names.
    Frames(Vec<PathBuf>),
    Video,
}

impl Source {
    /// Tells pictures from videos by what they hold, whatever their names; a folder is a strip that was cut into frames.
    pub(super) fn tell(path: &Path) -> Outcome<Self> {
        let kind = if path.is_dir() {
            let mut frames = pictures(path)?;
            frames.sort();
            if frames.is_empty() {
                return Err(Failure::Arguments(format!(
                    "{}: wanted a folder of pictures that are a strip's frames, found none in it (videos are named one by one)",
                    path.display()
                )));
            }
            Kind::Frames(frames)
        } else if is_picture(path)? {
            Kind::Picture
        } else {
            Kind::Video
        };
        let path = path.to_owned();
        Ok(Self { path, kind })
    }

    /// What changes when the file does: lengths and times of what it consists of. Hexadecimal.
    pub(super) fn stamp(&self) -> Outcome<String> {
        let files = match &self.kind {
            Kind::Frames(frames) => &frames[..],
            Kind::Picture | Kind::Video => std::slice::from_ref(&self.path),
        };
        let mut hasher = Sha256::new();
        for file in files {
            let metadata = std::fs::metadata(file).map_err(Failure::io(file))?;
            hasher.update(file.as_os_str().as_encoded_bytes());
            hasher.update(metadata.len().to_le_bytes());
            hasher.update(modified(&metadata).to_le_bytes());
        }
        let digits = hasher.finalize();
        Ok(digits.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Opens it at its first line.
    pub(super) fn open(&self, reading: Reading) -> Outcome<Box<dyn Lines>> {
        match &self.kind {
            Kind::Picture => picture::open(&self.path, reading.depth),
            Kind::Frames(frames) => Ok(Box::new(frames::Frames::new(frames.clone(), reading))),
            Kind::Video => open_video(&self.path, reading),
        }
    }
}

/// Nanoseconds since 1970; 0 where the file system does not say.
fn modified(metadata: &Metadata) -> u128 {
    let time = metadata.modified().ok();
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_nanos())
}

fn is_picture(path: &Path) -> Outcome<bool> {
    let reader = ImageReader::open(path)
        .and_then(ImageReader::with_guessed_format)
        .map_err(Failure::io(path))?;
    Ok(reader.format().is_some())
}

#[cfg(feature = "video")]
fn open_video(path: &Path, reading: Reading) -> Outcome<Box<dyn Lines>> {
    Ok(Box::new(video::Video::open(path, reading)?))
}

#[cfg(not(feature = "video"))]
fn open_video(path: &Path, _: Reading) -> Outcome<Box<dyn Lines>> {
    Err(Failure::wrong_file(
        path,
        &"wanted a picture or a folder of pictures; this build reads no video: build acdclip with its feature `video`",
    ))
}

/// Of a frame of `height` rows how many at its top were seen before.
fn seen_before(height: usize, is_first: bool, line_advance: usize) -> usize {
    match line_advance {
        _ if is_first => 0,
        0 => 0,
        advance => height.saturating_sub(advance),
    }
}

#[cfg(test)]
mod tests;
