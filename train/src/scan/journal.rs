//! What the network answered, kept row of tiles by row of tiles, so that a scan that was stopped need not ask again.
//!
//! A scan goes on by reading its strip from the first line again and taking from here what the network found. All that is made of the answers
//! (seams, edges, flaws, numbers) is made anew from the same numbers in the same order, and so comes out the same. An answer is 1.3 KB of the
//! built-in model: in tiles of 512 pixels less than a hundredth of the strip.
//!
//! The file is a header, then records: length and CRC-32C of what follows, each 4 bytes, then the answers. What a kill has left half-written at
//! its end is cut off. All numbers have their lowest byte first.

use std::{
    fs::{File, OpenOptions},
    io::{BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use acdclip_model::{
    detector::Finding,
    map::{AnomalyMap, MapValues},
    mask::Mask,
    preprocess::Placement,
};

use crate::outcome::{Failure, Outcome};

/// How a file begins; its last byte is the format's version.
const MAGIC: &[u8; 8] = b"acdscan\x01";

/// No row of tiles has answers of more bytes.
const MAX_RECORD: usize = 1 << 30;

/// Answers of one strip.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// None when all that were kept have been read.
    kept: Option<BufReader<File>>,
    /// Where the next answers go, bytes.
    end: u64,
}

impl Journal {
    /// Opens the answers about strip number `strip`; those about another are thrown away.
    pub(super) fn open(path: &Path, strip: u64) -> Outcome<Self> {
        let open = || {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(path)?;
            let wanted = [&MAGIC[..], &strip.to_le_bytes()].concat();
            let mut found = Vec::new();
            Read::by_ref(&mut file)
                .take(wanted.len() as u64)
                .read_to_end(&mut found)?;
            if found != wanted {
                file.set_len(0)?;
                file.rewind()?;
                file.write_all(&wanted)?;
            }
            let mut kept = BufReader::new(File::open(path)?);
            kept.seek(SeekFrom::Start(wanted.len() as u64))?;
            Ok(Self {
                path: path.into(),
                file,
                kept: Some(kept),
                end: wanted.len() as u64,
            })
        };
        open().map_err(Failure::io(path))
    }

    /// What was answered about the next row of tiles; none where it must be asked. `masks` are those of its tiles.
    pub(super) fn next(
        &mut self,
        kind: MapValues,
        masks: &[Option<Arc<Mask>>],
    ) -> Outcome<Option<Vec<Finding>>> {
        let Some(kept) = &mut self.kept else {
            return Ok(None);
        };
        let payload = record(kept).map_err(Failure::io(&self.path))?;
        let findings = payload
            .as_ref()
            .and_then(|bytes| decode(bytes, kind, masks));
        match (&payload, findings) {
            (Some(payload), Some(findings)) => {
                self.end += 8 + payload.len() as u64;
                Ok(Some(findings))
            }
            _ => {
                self.kept = None;
                self.start_writing().map_err(Failure::io(&self.path))?;
                Ok(None)
            }
        }
    }

    fn start_writing(&mut self) -> std::io::Result<()> {
        self.file.set_len(self.end)?;
        self.file.seek(SeekFrom::Start(self.end)).map(drop)
    }

    /// Keeps what was answered about a row of tiles. [`Self::next`] has told that it must be asked.
    pub(super) fn push(&mut self, findings: &[Finding]) -> Outcome {
        let payload = encode(findings);
        let mut record = Vec::with_capacity(payload.len() + 8);
        record.extend((payload.len() as u32).to_le_bytes());
        record.extend(crc32c::crc32c(&payload).to_le_bytes());
        record.extend(payload);
        self.end += record.len() as u64;
        // Not flushed to the disk: what a power cut takes is asked again.
        self.file
            .write_all(&record)
            .map_err(Failure::io(&self.path))
    }
}

/// The next record's answers; none where there is no whole one.
fn record(file: &mut impl Read) -> std::io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    file.take(8).read_to_end(&mut head)?;
    let Some((len, crc)) = head.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let len = u32::from_le_bytes(*len) as usize;
    if crc.len() != 4 || len > MAX_RECORD {
        return Ok(None);
    }
    let mut payload = Vec::new();
    file.take(len as u64).read_to_end(&mut payload)?;
    let is_whole = payload.len() == len && crc == crc32c::crc32c(&payload).to_le_bytes();
    Ok(is_whole.then_some(payload))
}

fn encode(findings: &[Finding]) -> Vec<u8> {
    let mut bytes = (findings.len() as u32).to_le_bytes().to_vec();
    for finding in findings {
        let map = &finding.map;
        let sides = [map.grid().0, map.grid().1, map.input().0, map.input().1];
        bytes.extend(sides.iter().flat_map(|side| (*side as u32).to_le_bytes()));
        let Placement {
            x,
            y,
            width,
            height,
        } = map.placement();
        let numbers = [finding.score, finding.class_score, finding.map_max];
        let numbers = numbers.into_iter().chain([x, y, width, height]);
        let numbers = numbers.chain(map.values().iter().copied());
        bytes.extend(numbers.flat_map(f32::to_le_bytes));
    }
    bytes
}

/// The other way; none where something does not fit.
fn decode(bytes: &[u8], kind: MapValues, masks: &[Option<Arc<Mask>>]) -> Option<Vec<Finding>> {
    let (words, []) = bytes.as_chunks::<4>() else {
        return None;
    };
    let mut words = words.iter();
    let mut side = || Some(u32::from_le_bytes(*words.next()?) as usize);
    if side()? != masks.len() {
        return None;
    }
    let mut findings = Vec::new();
    for mask in masks {
        let mut side = || Some(u32::from_le_bytes(*words.next()?) as usize);
        let (grid, input) = ((side()?, side()?), (side()?, side()?));
        let mut number = || Some(f32::from_le_bytes(*words.next()?));
        let [score, class_score, map_max] = [number()?, number()?, number()?];
        let placement = Placement {
            x: number()?,
            y: number()?,
            width: number()?,
            height: number()?,
        };
        let count = grid.0.checked_mul(grid.1).filter(|n| *n <= words.len())?;
        let values = words.by_ref().take(count);
        let values = values.map(|word| f32::from_le_bytes(*word)).collect();
        let map = AnomalyMap::new(grid, values, kind, input, placement).ok()?;
        findings.push(Finding {
            score,
            class_score,
            map_max,
            map: match mask {
                Some(mask) => map.masked(mask.clone()),
                None => map,
            },
        });
    }
    words.next().is_none().then_some(findings)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KIND: MapValues = MapValues::LogitDifference;

    fn finding(seed: u8) -> Finding {
        let value = f32::from(seed) * 0.3;
        let placement = Placement {
            x: 0.0,
            y: 1.5,
            width: 28.0,
            height: 25.0,
        };
        let values = (0..4).map(|i| value - i as f32).collect();
        Finding {
            score: value,
            class_score: 0.25,
            map_max: 0.75,
            map: AnomalyMap::new((2, 2), values, KIND, (28, 28), placement).unwrap(),
        }
    }

    /// Reads all that is kept, then keeps one more.
    fn go_on(path: &Path, strip: u64, seed: u8) -> Vec<f32> {
        let mut journal = Journal::open(path, strip).unwrap();
        let mut scores = Vec::new();
        while let Some(found) = journal.next(KIND, &[None]).unwrap() {
            assert_eq!(
                found[0].map,
                finding((found[0].score / 0.3).round() as u8).map
            );
            scores.push(found[0].score);
        }
        journal.push(&[finding(seed)]).unwrap();
        scores
    }

    #[test]
    fn answers_come_back_to_the_bit_and_what_is_half_written_is_asked_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answers");
        assert!(go_on(&path, 3, 1).is_empty());
        assert_eq!(go_on(&path, 3, 2), [0.3]);
        let whole = std::fs::read(&path).unwrap();
        let record = (whole.len() - 16) / 2;
        for cut in 1..=record {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            assert_eq!(go_on(&path, 3, 2), [0.3], "{cut}");
            assert_eq!(std::fs::read(&path).unwrap(), whole);
        }
        let mut damaged = whole.clone();
        damaged[whole.len() - 3] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        assert_eq!(go_on(&path, 3, 2), [0.3]);
    }

    #[test]
    fn answers_about_another_strip_are_thrown_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answers");
        go_on(&path, 0, 1);
        assert!(go_on(&path, 1, 2).is_empty());
        assert_eq!(go_on(&path, 1, 3), [0.6]);
    }

    #[test]
    fn answers_about_other_tiles_are_asked_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answers");
        go_on(&path, 0, 1);
        let mut journal = Journal::open(&path, 0).unwrap();
        assert!(journal.next(KIND, &[None, None]).unwrap().is_none());
    }
}
