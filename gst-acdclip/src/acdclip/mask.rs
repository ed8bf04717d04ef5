//! The mask, read from a picture file.

use std::{fs::File, io::BufReader, path::Path, sync::Arc};

use acdclip_model::mask::Mask;
use image::{ImageReader, Limits};

/// Widest and highest picture that is read, and the memory that reading it may take.
const MAX_SIDE: u32 = 8192;
const MAX_BYTES: u64 = 256 << 20;

/// The mask in the picture at `path`; none where that is empty.
pub(super) fn read(path: &str) -> Result<Option<Arc<Mask>>, String> {
    if path.is_empty() {
        return Ok(None);
    }
    let wrong = |e: &dyn std::fmt::Display| {
        format!("mask {path}: {e}; wanted a picture that is black where nothing is to be looked at")
    };
    let file = File::open(Path::new(path)).map_err(|e| wrong(&e))?;
    let reader = ImageReader::new(BufReader::new(file));
    let mut reader = reader.with_guessed_format().map_err(|e| wrong(&e))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let luma = reader.decode().map_err(|e| wrong(&e))?.into_luma8();
    let (width, height) = luma.dimensions();
    let mask = Mask::from_luma(width as usize, height as usize, &luma).map_err(|e| wrong(&e))?;
    Ok(Some(Arc::new(mask)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_that_is_no_picture_says_what_was_wanted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"certainly no picture").unwrap();
        let path = file.path().to_str().unwrap();
        for path in [path, "/nonexistent/mask.png"] {
            let complaint = read(path).unwrap_err();
            assert!(
                complaint.contains(path) && complaint.contains("black where"),
                "{complaint}"
            );
        }
        assert!(read("").unwrap().is_none());
    }
}
