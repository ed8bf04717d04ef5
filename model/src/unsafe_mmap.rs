//! Maps a file into memory for reading, and lets go of what was read. The only reason to change is what makes that sound.
#![allow(unsafe_code)]

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use memmap2::Mmap;

use crate::error::{Error, Result};

/// Maps the regular file at `path`. A directory, a device or an empty file is an error that names it.
pub(crate) fn map(path: &Path) -> Result<Mmap> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let about = file.metadata().map_err(|e| Error::io(path, e))?;
    if !about.is_file() {
        return Err(Error::file(
            path.display(),
            "wanted a file of weights, found a directory or a device",
        ));
    }
    if about.len() == 0 {
        return Err(Error::file(
            path.display(),
            "wanted a file of weights, found an empty file",
        ));
    }
    // SAFETY: the map is private to this process, read-only and shared with nobody who writes. What remains is the condition that
    // every memory map has: while it lives, no other process may truncate the file or write into it. Weights are files that are
    // written once; this crate itself only ever replaces them by a rename, which leaves the mapped inode as it was. Every reader of
    // the map copies values out before it acts on them, so even a changed byte can only change a number.
    unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, e))
}

/// Takes the pages of a part of a map out of this process's memory, where the system can. Whoever reads them again gets them from the file.
pub(crate) fn let_go(map: &Mmap, part: Range<usize>) {
    #[cfg(unix)]
    {
        // SAFETY: what is unsound about this advice is that it undoes writes to memory that no file stands for. A map of `map` is read-only and
        // stands for a file, so that its pages come back as they were.
        let advice = memmap2::UncheckedAdvice::DontNeed;
        let let_go = unsafe { map.unchecked_advise_range(advice, part.start, part.len()) };
        // Nothing but the memory in use depends on it.
        drop(let_go);
    }
    #[cfg(not(unix))]
    let _ = (map, part);
}
