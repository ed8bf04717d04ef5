//! `defects.jsonl`: a line for each defect as soon as it is complete, on the disk before the scan goes on.
//!
//! A scan that goes on finds again what it had found. Those defects are compared with the lines that are there, and not written twice; so the
//! file of a scan that was stopped any number of times is, byte by byte, that of one that was not.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use super::defect::Defect;
use crate::outcome::{Failure, Outcome};

/// A line is no longer than this, or it is none of ours.
const MAX_LINE: u64 = 1 << 20;

/// The file, open at its end.
pub(super) struct Ledger {
    path: PathBuf,
    file: File,
    /// Lines that are there and have not been found again.
    known: Option<BufReader<File>>,
    count: u64,
}

impl Ledger {
    /// Opens the file behind its first `done` lines, which are about strips that are done. A last line that is not whole is cut off.
    ///
    /// An error if there are fewer lines.
    pub(super) fn open(path: &Path, done: u64) -> Outcome<Self> {
        let failed = || Failure::io(path);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(failed())?;
        let whole = whole_lines(&mut file).map_err(failed())?;
        file.set_len(whole)
            .and_then(|()| file.seek(SeekFrom::Start(whole)))
            .map_err(failed())?;
        let known = BufReader::new(File::open(path).map_err(failed())?);
        let mut ledger = Self {
            path: path.into(),
            file,
            known: Some(known),
            count: 0,
        };
        while ledger.count < done {
            if ledger.recall()?.is_none() {
                let what = format!(
                    "wanted the {done} defects of the strips that are done, found {}; begin anew with --fresh",
                    ledger.count
                );
                return Err(Failure::wrong_file(path, &what));
            }
            ledger.count += 1;
        }
        Ok(ledger)
    }

    /// Defects that are told of, of all strips so far.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Whether the next defect is to be written, and not just to be found again.
    pub(super) fn is_new(&mut self) -> Outcome<bool> {
        let Some(known) = &mut self.known else {
            return Ok(true);
        };
        let rest = known.fill_buf().map_err(Failure::io(&self.path))?;
        Ok(rest.is_empty())
    }

    /// The next line that is there.
    fn recall(&mut self) -> Outcome<Option<String>> {
        let Some(known) = &mut self.known else {
            return Ok(None);
        };
        let mut line = String::new();
        let read = known.by_ref().take(MAX_LINE).read_line(&mut line);
        if read.map_err(Failure::io(&self.path))? == 0 {
            self.known = None;
            return Ok(None);
        }
        Ok(Some(line))
    }

    /// Takes the next defect: writes it, or finds it where it was written before. [`Self::sync`] comes after.
    pub(super) fn push(&mut self, defect: &Defect) -> Outcome {
        let json = serde_json::to_string(defect);
        let line = json.map_err(|e| Failure::wrong_file(&self.path, &e))? + "\n";
        match self.recall()? {
            Some(known) if known == line => {}
            Some(known) => return Err(self.differs(&known, &line)),
            None => self
                .file
                .write_all(line.as_bytes())
                .map_err(Failure::io(&self.path))?,
        }
        self.count += 1;
        Ok(())
    }

    /// Waits until what was written is on the disk.
    pub(super) fn sync(&mut self) -> Outcome {
        self.file.sync_data().map_err(Failure::io(&self.path))
    }

    /// A strip has ended.
    ///
    /// An error if there are lines that were not found again.
    pub(super) fn end_strip(&mut self) -> Outcome {
        match self.recall()? {
            Some(known) => Err(self.differs(&known, "none")),
            None => self.sync(),
        }
    }

    fn differs(&self, known: &str, found: &str) -> Failure {
        let what = format!(
            "wanted to find defect {} again as it was, {}; found {}; the strip or the machine has changed: begin anew with --fresh",
            self.count + 1,
            known.trim_end(),
            found.trim_end()
        );
        Failure::wrong_file(&self.path, &what)
    }
}

/// Bytes up to the end of the last whole line.
fn whole_lines(file: &mut File) -> std::io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut block = vec![0; 4096];
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let block = &mut block[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(block)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// The defects in the file at `path`, one after the other.
pub(super) fn read(path: &Path) -> Outcome<impl Iterator<Item = Outcome<Defect>>> {
    let file = BufReader::new(File::open(path).map_err(Failure::io(path))?);
    let path = path.to_owned();
    let defect = move |line: std::io::Result<String>| {
        let line = line.map_err(Failure::io(&path))?;
        serde_json::from_str(&line).map_err(|e| Failure::wrong_file(&path, &e))
    };
    Ok(file.lines().map(defect))
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub(in crate::scan) fn defect(id: u64) -> Defect {
        Defect {
            id,
            source: "rail, \"left\" <1>.png".into(),
            line: 10 * id,
            last_line: 10 * id + 4,
            x: 3,
            w: 7,
            h: 5,
            score: 0.5 + id as f32 / 100.0,
            area: 30,
            worst_x: 5,
            worst_line: 10 * id + 1,
            position_mm: (id % 2 == 1).then_some(id as f64 * 2.5),
            length_mm: None,
            width_mm: Some(1.75),
            model: "0123abcd".into(),
            class_name: "rail".into(),
            threshold: 0.5,
            crop: (!id.is_multiple_of(3)).then(|| format!("crops/{id:06}.jpg")),
        }
    }

    fn write(path: &Path, done: u64, ids: std::ops::Range<u64>) -> Outcome<u64> {
        let mut ledger = Ledger::open(path, done)?;
        for id in ids {
            ledger.push(&defect(id))?;
        }
        ledger.end_strip()?;
        Ok(ledger.count())
    }

    #[test]
    fn what_is_found_again_is_not_written_twice_wherever_the_file_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("defects.jsonl");
        write(&path, 0, 1..4).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(write(&path, 0, 1..4).unwrap(), 3);
            assert_eq!(std::fs::read(&path).unwrap(), whole);
        }
        assert_eq!(write(&path, 3, 4..6).unwrap(), 5);
        let read: Vec<_> = read(&path).unwrap().map(Result::unwrap).collect();
        assert_eq!(read, (1..6).map(defect).collect::<Vec<_>>());
    }

    #[test]
    fn other_defects_than_before_are_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("defects.jsonl");
        write(&path, 0, 1..4).unwrap();
        for (done, ids) in [(0, 2..4), (0, 1..3), (4, 1..1)] {
            let complaint = write(&path, done, ids).unwrap_err().to_string();
            assert!(complaint.contains("--fresh"), "{complaint}");
        }
    }
}
