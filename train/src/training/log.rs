//! A run's tables: CSV files whose rows begin with a number that only grows, and which a continued run goes on with.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use crate::{
    files::write_whole,
    outcome::{Failure, Outcome},
};

/// A table that rows are added to.
pub(crate) struct Table {
    file: File,
    path: PathBuf,
}

impl Table {
    /// Opens the table in `path`, keeping of what is there the rows whose number is at most `last`.
    ///
    /// What a run wrote after its last checkpoint is written again by the run that goes on from there.
    pub(crate) fn open(path: &Path, columns: &[&str], last: u64) -> Outcome<Self> {
        let before = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
            Err(e) => return Err(Failure::io(path)(e)),
        };
        let mut kept = columns.join(",");
        kept.push('\n');
        for row in before.split_inclusive('\n').skip(1) {
            let number = row.split(',').next().and_then(|n| n.parse::<u64>().ok());
            if row.ends_with('\n') && number.is_some_and(|number| number <= last) {
                kept.push_str(row);
            }
        }
        write_whole(path, kept.as_bytes())?;
        let file = OpenOptions::new().append(true).open(path);
        Ok(Self {
            file: file.map_err(Failure::io(path))?,
            path: path.into(),
        })
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, number: u64, cells: &[String]) -> Outcome {
        let row = format!("{number},{}\n", cells.join(","));
        self.file
            .write_all(row.as_bytes())
            .map_err(Failure::io(&self.path))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rows_after_the_checkpoint_and_half_rows_are_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.csv");
        let mut table = Table::open(&path, &["step", "loss"], 0).unwrap();
        for step in 1..=3 {
            table.row(step, &[format!("0.{step}")]).unwrap();
        }
        std::fs::write(&path, std::fs::read_to_string(&path).unwrap() + "2,0.").unwrap();
        let mut table = Table::open(&path, &["step", "loss"], 2).unwrap();
        table.row(3, &["0.9".into()]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "step,loss\n1,0.1\n2,0.2\n3,0.9\n");
    }
}
