//! Binary PNM, grey (P5) and colour (P6), of 8 or 16 bits a sample: what line-scan software dumps. Of any length.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use super::{
    Lines,
    band::{Band, Layout},
    picture::{check_size, unreadable},
};
use crate::outcome::{Failure, Outcome};

/// Digits of a number in a header, at most.
const MAX_DIGITS: usize = 19;

/// A binary PNM file.
pub(super) struct Pnm {
    path: PathBuf,
    file: BufReader<File>,
    layout: Layout,
    /// The largest sample.
    max: u16,
    width: usize,
    height: u64,
    read: u64,
    bytes: Vec<u8>,
}

impl Pnm {
    /// Whether a file that begins so is one.
    pub(super) fn reads(head: &[u8]) -> bool {
        head.starts_with(b"P5") || head.starts_with(b"P6")
    }

    /// Opens a file that [`Self::reads`]. A largest sample below 65535 says how many bits are used, and goes before `depth`.
    pub(super) fn open(path: &Path, mut file: BufReader<File>, depth: u8) -> Outcome<Self> {
        let mut magic = [0; 2];
        file.read_exact(&mut magic).map_err(Failure::io(path))?;
        let mut number = |name: &str| {
            let found = header_number(&mut file).map_err(Failure::io(path))?;
            found.ok_or_else(|| unreadable(path, format!("wanted a PNM header with its {name}")))
        };
        let (width, height, max) = (
            number("width")?,
            number("height")?,
            number("largest sample")?,
        );
        let (width, height) = check_size(path, width, height)?;
        let max = u16::try_from(max).ok().filter(|max| *max > 0);
        let max = max.ok_or_else(|| unreadable(path, "wanted a largest sample of 1 to 65535"))?;
        let used = (u16::BITS - max.leading_zeros()) as u8;
        Ok(Self {
            path: path.into(),
            file,
            layout: Layout {
                channels: if magic[1] == b'6' { 3 } else { 1 },
                depth: if max == u16::MAX { depth } else { used },
            },
            max,
            width,
            height,
            read: 0,
            bytes: Vec::new(),
        })
    }

    fn is_wide(&self) -> bool {
        self.max > u16::from(u8::MAX)
    }
}

/// The next number of a header and the white space behind it; none where something else stands there.
fn header_number(file: &mut impl BufRead) -> std::io::Result<Option<u64>> {
    let mut digits = String::new();
    let mut is_comment = false;
    for byte in file.bytes() {
        match byte? {
            b'\n' | b'\r' if is_comment => is_comment = false,
            _ if is_comment => {}
            b'#' if digits.is_empty() => is_comment = true,
            byte if byte.is_ascii_digit() && digits.len() < MAX_DIGITS => {
                digits.push(char::from(byte));
            }
            byte if byte.is_ascii_whitespace() && digits.is_empty() => {}
            byte if byte.is_ascii_whitespace() => break,
            _ => return Ok(None),
        }
    }
    Ok(digits.parse().ok())
}

impl Lines for Pnm {
    fn next(&mut self, band: &mut Band) -> Outcome<bool> {
        let (layout, is_wide) = (self.layout, self.is_wide());
        layout.start(band, self.width);
        let left = self.height - self.read;
        let lines = left.min(layout.lines(self.width) as u64);
        let line = self.width * layout.channels * if is_wide { 2 } else { 1 };
        self.bytes.resize(line * lines as usize, 0);
        self.file.read_exact(&mut self.bytes).map_err(|e| {
            let (from, wanted) = (self.read, self.height);
            let what = format!("{e}; wanted {wanted} lines, and cannot read those from {from} on");
            unreadable(&self.path, what)
        })?;
        if is_wide {
            let (pairs, _) = self.bytes.as_chunks();
            let samples = pairs.iter().map(|pair| u16::from_be_bytes(*pair));
            layout.append_wide(band, samples);
        } else {
            if self.max < u16::from(u8::MAX) {
                let max = self.max;
                let stretched = |sample: &u8| (u16::from(*sample).min(max) * 255 / max) as u8;
                let bytes = self.bytes.iter_mut();
                bytes.for_each(|sample| *sample = stretched(sample));
            }
            layout.append(band, &self.bytes);
        }
        self.read += lines;
        Ok(left > 0)
    }

    fn total(&self) -> Option<u64> {
        Some(self.height)
    }
}
