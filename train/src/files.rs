//! Files written whole or not at all, and their hashes.

use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
};

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

/// Writes `bytes` to `path`: to a temporary file beside it first, which then takes its name.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Outcome {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let write = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".acdclip-").suffix(".part");
        // Readable by whom the umask allows, like any other file that a program writes.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut file = builder.tempfile_in(directory)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(Failure::io(path))
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
    fn a_directory_that_is_not_there_is_named() {
        let error = write_whole(Path::new("/nowhere/a.png"), b"x").unwrap_err();
        assert!(error.to_string().contains("/nowhere/a.png"), "{error}");
    }
}
