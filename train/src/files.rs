//! Files written whole or not at all, and their hashes.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{ErrorKind, Read, Write},
    path::Path,
};

use candle_core::Tensor;
use sha2::{Digest, Sha256};

use crate::outcome::{Failure, Outcome};

/// SHA-256 of the file at `path`, hexadecimal.
pub(crate) fn sha256(path: &Path) -> Outcome<String> {
    let hash = || {
        let mut file = File::open(path)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => hasher.update(&buffer[..read]),
            }
        }
        let digits = hasher.finalize();
        Ok(digits.iter().map(|byte| format!("{byte:02x}")).collect())
    };
    hash().map_err(Failure::io(path))
}

/// Writes tensors as a safetensors file, whole or not at all.
pub(crate) fn write_tensors(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: HashMap<String, String>,
) -> Outcome {
    let bytes = safetensors::serialize(tensors, Some(metadata))
        .map_err(|e| Failure::wrong_file(path, &e))?;
    write_whole(path, &bytes)
}

/// How the names of files that are being written begin and end.
const UNFINISHED: [&str; 2] = [".acdclip-", ".part"];
/// How those of bundles end, which the library writes.
const UNFINISHED_BUNDLE: &str = ".tmp";

/// Removes what a kill has left half-written in a folder in which nobody else writes; nothing where there is no such folder.
pub(crate) fn sweep(folder: &Path) -> Outcome {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(e) => return Err(Failure::io(folder)(e)),
    };
    for entry in entries {
        let entry = entry.map_err(Failure::io(folder))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_unfinished = name.ends_with(UNFINISHED[1]) || name.ends_with(UNFINISHED_BUNDLE);
        if name.starts_with(UNFINISHED[0]) && is_unfinished {
            std::fs::remove_file(entry.path()).map_err(Failure::io(entry.path()))?;
        }
    }
    Ok(())
}

/// Looks whether a file can come to be at `path`, before what it is to hold is worked for.
pub(crate) fn check_output(path: &Path) -> Outcome {
    if path.is_dir() {
        return Err(Failure::Arguments(format!(
            "{}: wanted a file, found a directory",
            path.display()
        )));
    }
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    match directory {
        Some(directory) if !directory.is_dir() => Err(Failure::Arguments(format!(
            "{}: wanted a file in a directory that exists, found no {}",
            path.display(),
            directory.display()
        ))),
        _ => Ok(()),
    }
}

/// Writes `bytes` to `path`: to a temporary file beside it first, which then takes its name.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Outcome {
    write_whole_with(path, |file| {
        file.write_all(bytes).map_err(Failure::io(path))
    })
}

/// Writes what `content` writes to `path`, in the same way.
pub(crate) fn write_whole_with(path: &Path, content: impl FnOnce(&mut File) -> Outcome) -> Outcome {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(UNFINISHED[0]).suffix(UNFINISHED[1]);
    // Readable by whom the umask allows, like any other file that a program writes.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(directory).map_err(Failure::io(path))?;
    content(file.as_file_mut())?;
    let keep = || {
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    keep().map_err(Failure::io(path))
}

/// A file in `folder` that only its owner reads and that has no name yet: [`keep_private`] gives it one, [`sweep`] removes it.
#[cfg(feature = "monitor")]
pub(crate) fn begin_private(folder: &Path) -> Outcome<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(UNFINISHED[0]).suffix(UNFINISHED[1]);
    builder.tempfile_in(folder).map_err(Failure::io(folder))
}

/// Gives what [`begin_private`] has begun its name, once it is whole and on the disk.
#[cfg(feature = "monitor")]
pub(crate) fn keep_private(file: tempfile::NamedTempFile, path: &Path) -> Outcome {
    let keep = || {
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    keep().map_err(Failure::io(path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn replaces_a_file_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.png");
        write_whole(&path, b"first").unwrap();
        write_whole(&path, b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_kill_has_left_is_swept_away_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        for name in [
            ".acdclip-x1.part",
            ".acdclip-x2.tmp",
            "mine.part",
            ".acdclip-x1",
        ] {
            std::fs::write(directory.path().join(name), b"").unwrap();
        }
        sweep(directory.path()).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
        sweep(&directory.path().join("nowhere")).unwrap();
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let error = write_whole(Path::new("/nowhere/a.png"), b"x").unwrap_err();
        assert!(error.to_string().contains("/nowhere/a.png"), "{error}");
    }
}
