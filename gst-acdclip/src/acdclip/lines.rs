//! Records in a file: a JSON line a frame, each written whole and at once.

use std::{fs::File, io::Write, path::PathBuf};

use acdclip_model::record::Record;

/// A file of JSON lines. Who follows it sees no half of one, and none is lost with the process.
pub(super) struct JsonLines {
    path: PathBuf,
    file: File,
}

impl JsonLines {
    /// Creates or truncates the file.
    pub(super) fn create(path: PathBuf) -> std::io::Result<Self> {
        let file = File::create(&path)?;
        Ok(Self { path, file })
    }

    /// Appends a record; an error names the file.
    pub(super) fn write(&mut self, record: &Record) -> Result<(), String> {
        let mut line = serde_json::to_vec(record).map_err(|e| e.to_string())?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .map_err(|e| format!("{}: {e}", self.path.display()))
    }
}
