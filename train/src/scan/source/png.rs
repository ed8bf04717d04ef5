//! PNG, row by row.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use png::{BitDepth, Decoder, Limits, Reader, Transformations};

use super::{
    Lines,
    band::{Band, Layout},
    picture::{check_size, unreadable},
};
use crate::outcome::Outcome;

/// Bytes that decoding a row may take: far more than the widest line.
const MAX_BYTES: usize = 256 << 20;

/// A PNG file whose rows lie from top to bottom.
pub(super) struct Png {
    path: PathBuf,
    reader: Reader<BufReader<File>>,
    layout: Layout,
    is_wide: bool,
    width: usize,
    height: u64,
    read: u64,
}

impl Png {
    /// Opens a file; none if it is interlaced.
    pub(super) fn open(path: &Path, file: BufReader<File>, depth: u8) -> Outcome<Option<Self>> {
        let limits = Limits { bytes: MAX_BYTES };
        let mut decoder = Decoder::new_with_limits(file, limits);
        decoder.set_transformations(Transformations::EXPAND);
        decoder.set_ignore_text_chunk(true);
        let reader = decoder.read_info().map_err(|e| unreadable(path, e))?;
        let info = reader.info();
        if info.interlaced {
            return Ok(None);
        }
        let (width, height) = check_size(path, info.width.into(), info.height.into())?;
        let (color, bits) = reader.output_color_type();
        Ok(Some(Self {
            path: path.into(),
            layout: Layout {
                channels: color.samples(),
                depth,
            },
            is_wide: bits == BitDepth::Sixteen,
            width,
            height,
            read: 0,
            reader,
        }))
    }
}

impl Lines for Png {
    fn next(&mut self, band: &mut Band) -> Outcome<bool> {
        let layout = self.layout;
        layout.start(band, self.width);
        let left = self.height - self.read;
        for _ in 0..left.min(layout.lines(self.width) as u64) {
            let row = self.reader.next_row();
            let row = row.map_err(|e| unreadable(&self.path, e))?;
            let row = row.ok_or_else(|| {
                let (wanted, found) = (self.height, self.read);
                unreadable(&self.path, format!("wanted {wanted} rows, found {found}"))
            })?;
            if self.is_wide {
                let (pairs, _) = row.data().as_chunks();
                let samples = pairs.iter().map(|pair| u16::from_be_bytes(*pair));
                layout.append_wide(band, samples);
            } else {
                layout.append(band, row.data());
            }
            self.read += 1;
        }
        Ok(left > 0)
    }

    fn total(&self) -> Option<u64> {
        Some(self.height)
    }
}
