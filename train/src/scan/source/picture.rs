//! Which reader a picture's file is for.

use std::{
    fs::File,
    io::{BufReader, Read, Seek},
    path::Path,
};

use image::ImageFormat;

use super::{Lines, png::Png, pnm::Pnm, tiff::Tiff, whole::Whole};
use crate::outcome::{Failure, Outcome};

/// Opens a picture: PNG, TIFF and binary PNM in bands, all others decoded whole.
pub(super) fn open(path: &Path, depth: u8) -> Outcome<Box<dyn Lines>> {
    let mut file = File::open(path).map_err(Failure::io(path))?;
    let mut head = Vec::new();
    file.by_ref()
        .take(64)
        .read_to_end(&mut head)
        .and_then(|_| file.rewind())
        .map_err(Failure::io(path))?;
    let file = BufReader::with_capacity(1 << 20, file);
    match image::guess_format(&head) {
        Ok(ImageFormat::Png) => match Png::open(path, file, depth)? {
            Some(png) => Ok(Box::new(png)),
            // Its rows come in seven passes.
            None => Ok(Box::new(Whole::open(path, depth)?)),
        },
        Ok(ImageFormat::Tiff) => Ok(Box::new(Tiff::open(path, file, depth)?)),
        Ok(ImageFormat::Pnm) if Pnm::reads(&head) => Ok(Box::new(Pnm::open(path, file, depth)?)),
        _ => Ok(Box::new(Whole::open(path, depth)?)),
    }
}

/// A picture that cannot be read.
pub(super) fn unreadable(path: &Path, reason: impl std::fmt::Display) -> Failure {
    Failure::Picture {
        path: path.into(),
        reason: reason.to_string(),
    }
}

/// An error if a side is 0 or more lines or pixels than a frame may have across.
pub(super) fn check_size(path: &Path, width: u64, height: u64) -> Outcome<(usize, u64)> {
    let side = acdclip_model::Frame::MAX_SIDE as u64;
    if (1..=side).contains(&width) && height > 0 {
        return Ok((width as usize, height));
    }
    Err(unreadable(
        path,
        format!("wanted lines of 1 to {side} pixels, and at least one, found {width}x{height}"),
    ))
}
