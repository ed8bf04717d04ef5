//! TIFF, strip by strip or tile row by tile row.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use tiff::{
    ColorType,
    decoder::{Decoder, DecodingResult, Limits},
    tags::Tag,
};

use super::{
    Lines,
    band::{Band, Layout},
    picture::{check_size, unreadable},
};
use crate::outcome::Outcome;

/// Bytes of a strip of the file, or of a row of its tiles, which is decoded whole. Files of many lines have many of them.
const MAX_BYTES: usize = 1 << 30;

/// Separate planes, as the tag has it.
const PLANAR: u64 = 2;

/// A TIFF file's first picture.
pub(super) struct Tiff {
    path: PathBuf,
    decoder: Decoder<BufReader<File>>,
    layout: Layout,
    width: usize,
    height: u64,
    /// Tiles that lie beside one another.
    across: u32,
    /// Rows of tiles, or strips, that have been decoded.
    decoded: u32,
    /// Lines that have been decoded, from `given` on not given out yet.
    ready: Band,
    given: usize,
    read: u64,
}

impl Tiff {
    /// Opens a file of 8 or 16 bits a sample, grey or RGB, whose samples lie together.
    pub(super) fn open(path: &Path, file: BufReader<File>, depth: u8) -> Outcome<Self> {
        let failed = |e| unreadable(path, e);
        let mut limits = Limits::default();
        limits.decoding_buffer_size = MAX_BYTES;
        limits.intermediate_buffer_size = MAX_BYTES;
        let mut decoder = Decoder::new(file).map_err(failed)?.with_limits(limits);
        let (width, height) = decoder.dimensions().map_err(failed)?;
        let (width, height) = check_size(path, width.into(), height.into())?;
        let color = decoder.colortype().map_err(failed)?;
        let (channels, bits) = match color {
            ColorType::Gray(bits @ (8 | 16)) => (1, bits),
            ColorType::GrayA(bits @ (8 | 16)) => (2, bits),
            ColorType::RGB(bits @ (8 | 16)) => (3, bits),
            ColorType::RGBA(bits @ (8 | 16)) => (4, bits),
            other => {
                return Err(unreadable(
                    path,
                    format!("wanted grey or RGB of 8 or 16 bits a sample, found {other:?}"),
                ));
            }
        };
        let planes = decoder.find_tag_unsigned::<u64>(Tag::PlanarConfiguration);
        if channels > 1 && planes.map_err(failed)? == Some(PLANAR) {
            let what = "wanted the samples of a pixel side by side, found a plane for each; convert it with `tiffcp -p contig`";
            return Err(unreadable(path, what));
        }
        let (chunk, lines) = decoder.chunk_dimensions();
        let lines = u64::from(lines).min(height);
        let pixel = channels as u64 * u64::from(bits / 8);
        let bytes = lines.saturating_mul(width as u64 * pixel);
        if bytes > MAX_BYTES as u64 {
            let what = format!(
                "wanted strips of at most {} MiB, found {lines} lines in one; write it anew with `tiffcp -r 64`",
                MAX_BYTES >> 20
            );
            return Err(unreadable(path, what));
        }
        Ok(Self {
            path: path.into(),
            decoder,
            layout: Layout { channels, depth },
            width,
            height,
            across: (width as u32).div_ceil(chunk.max(1)),
            decoded: 0,
            ready: Band::default(),
            given: 0,
            read: 0,
        })
    }

    /// Decodes the next strip or row of tiles.
    fn decode(&mut self) -> Outcome {
        let first = self.decoded * self.across;
        let mut parts = Vec::new();
        for chunk in first..first + self.across {
            let (width, _) = self.decoder.chunk_data_dimensions(chunk);
            let samples = self.decoder.read_chunk(chunk);
            let samples = samples.map_err(|e| unreadable(&self.path, e))?;
            let mut part = Band::default();
            self.layout.start(&mut part, width as usize);
            match samples {
                DecodingResult::U8(samples) => self.layout.append(&mut part, &samples),
                DecodingResult::U16(samples) => {
                    self.layout.append_wide(&mut part, samples.into_iter());
                }
                _ => return Err(unreadable(&self.path, "wanted whole numbers as samples")),
            }
            parts.push(part);
        }
        self.decoded += 1;
        self.given = 0;
        self.ready = beside(parts, self.width);
        if self.ready.len() == 0 {
            return Err(unreadable(
                &self.path,
                "wanted lines in a strip, found none",
            ));
        }
        Ok(())
    }
}

/// Parts of the same lines as one, `width` pixels wide; those of one part alone are taken as they are.
fn beside(mut parts: Vec<Band>, width: usize) -> Band {
    if parts.len() == 1 {
        return parts.remove(0);
    }
    let lines = parts.iter().map(Band::len).min().unwrap_or(0);
    let mut whole = Band {
        is_grey: parts.iter().all(|part| part.is_grey),
        width,
        bytes: Vec::new(),
    };
    for line in 0..lines {
        for part in &parts {
            let stride = part.width * part.pixel();
            let line = &part.bytes[line * stride..(line + 1) * stride];
            whole.bytes.extend_from_slice(line);
        }
    }
    whole
}

impl Lines for Tiff {
    fn next(&mut self, band: &mut Band) -> Outcome<bool> {
        self.layout.start(band, self.width);
        if self.read == self.height {
            return Ok(false);
        }
        if self.given == self.ready.len() {
            self.decode()?;
        }
        let left = (self.height - self.read) as usize;
        let lines = (self.ready.len() - self.given)
            .min(self.layout.lines(self.width))
            .min(left);
        let stride = self.width * self.ready.pixel();
        let bytes = self.given * stride..(self.given + lines) * stride;
        band.bytes.extend_from_slice(&self.ready.bytes[bytes]);
        self.given += lines;
        self.read += lines as u64;
        Ok(true)
    }

    fn total(&self) -> Option<u64> {
        Some(self.height)
    }
}
