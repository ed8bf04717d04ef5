//! The directory of a zip archive, as far as torch's archives need it: stored entries, found where they lie, never copied.
//!
//! A general reader of the format searches for signatures and sizes its tables by what the archive claims. Here the file is foreign
//! and may be many gigabytes of somebody else's weights, so this reads only what torch writes (one disk, the end record at the end,
//! ZIP64 where the archive is large), allocates by what is there, and refuses the rest.
//! Format: PKWARE's APPNOTE.TXT 6.3, sections 4.3.7 to 4.3.16 and 4.5.3.

use std::collections::HashMap;
use std::ops::Range;

const END: &[u8] = b"PK\x05\x06";
const END_SIZE: usize = 22;
const END64_LOCATOR: &[u8] = b"PK\x06\x07";
const END64_LOCATOR_SIZE: usize = 20;
const END64: &[u8] = b"PK\x06\x06";
const DIRECTORY_ENTRY: &[u8] = b"PK\x01\x02";
const DIRECTORY_ENTRY_SIZE: usize = 46;
const LOCAL_ENTRY: &[u8] = b"PK\x03\x04";
const LOCAL_ENTRY_SIZE: usize = 30;
const MAX_COMMENT: usize = u16::MAX as usize;
const ZIP64_EXTRA: u16 = 1;

/// What every archive begins with.
pub(super) const MAGIC: &[u8] = LOCAL_ENTRY;

/// Names and places of an archive's entries.
pub(super) struct Directory<'a> {
    archive: &'a [u8],
    entries: HashMap<&'a str, Place>,
}

struct Place {
    encrypted: bool,
    method: u16,
    packed: u64,
    size: u64,
    header: u64,
}

/// A little-endian reader of fixed fields; `None` past the end.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn at(bytes: &'a [u8], offset: usize, magic: &[u8]) -> Option<Self> {
        let fields = bytes.get(offset..)?;
        fields.starts_with(magic).then_some(Self(fields))
    }

    fn u16(&self, at: usize) -> Option<u16> {
        Some(u16::from_le_bytes(*self.0.get(at..)?.first_chunk()?))
    }

    fn u32(&self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(*self.0.get(at..)?.first_chunk()?))
    }

    fn u64(&self, at: usize) -> Option<u64> {
        Some(u64::from_le_bytes(*self.0.get(at..)?.first_chunk()?))
    }

    fn bytes(&self, at: usize, len: usize) -> Option<&'a [u8]> {
        self.0.get(at..at.checked_add(len)?)
    }
}

impl<'a> Directory<'a> {
    /// Reads the directory at the archive's end.
    pub(super) fn read(archive: &'a [u8]) -> Result<Self, String> {
        let end = find_end(archive)
            .ok_or("wanted a zip archive, found no end of its directory: is the file truncated?")?;
        let (count, range) =
            directory(archive, end).ok_or("the end record of the zip archive is damaged")?;
        let bytes = archive
            .get(range)
            .ok_or("the zip archive's directory lies outside the file")?;
        if count > (bytes.len() / DIRECTORY_ENTRY_SIZE) as u64 {
            return Err(format!(
                "the zip archive claims {count} entries in a directory of {} bytes",
                bytes.len()
            ));
        }
        let mut entries = HashMap::new();
        let mut at = 0;
        for _ in 0..count {
            let (name, place, size) =
                entry(bytes, at).ok_or("an entry of the zip archive's directory is damaged")?;
            if let Ok(name) = std::str::from_utf8(name) {
                entries.insert(name, place);
            }
            at += size;
        }
        Ok(Self { archive, entries })
    }

    /// Names of all entries, in no order.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.entries.keys().copied()
    }

    /// Where the bytes of an entry lie in the archive; `Ok(None)` if there is no such entry.
    pub(super) fn range(&self, name: &str) -> Result<Option<Range<usize>>, String> {
        let Some(place) = self.entries.get(name) else {
            return Ok(None);
        };
        if place.encrypted || place.method != 0 || place.packed != place.size {
            return Err(format!(
                "wanted stored entries, as torch writes them; {name} is compressed or encrypted"
            ));
        }
        content(self.archive, place, name)
            .map(Some)
            .ok_or_else(|| format!("the bytes of {name} lie outside the file: is it truncated?"))
    }
}

fn find_end(archive: &[u8]) -> Option<usize> {
    let newest = archive.len().checked_sub(END_SIZE)?;
    (newest.saturating_sub(MAX_COMMENT)..=newest)
        .rev()
        .find(|&at| {
            Fields::at(archive, at, END)
                .and_then(|end| end.u16(20))
                .is_some_and(|comment| at + END_SIZE + usize::from(comment) == archive.len())
        })
}

/// Number of entries, and the directory's bytes.
fn directory(archive: &[u8], at: usize) -> Option<(u64, Range<usize>)> {
    let end = Fields::at(archive, at, END)?;
    let mut count = u64::from(end.u16(10)?);
    let mut size = u64::from(end.u32(12)?);
    let mut start = u64::from(end.u32(16)?);
    if count == u64::from(u16::MAX) || size == u64::from(u32::MAX) || start == u64::from(u32::MAX) {
        let locator = Fields::at(archive, at.checked_sub(END64_LOCATOR_SIZE)?, END64_LOCATOR)?;
        let end = Fields::at(archive, usize::try_from(locator.u64(8)?).ok()?, END64)?;
        (count, size, start) = (end.u64(32)?, end.u64(40)?, end.u64(48)?);
    }
    let stop = start.checked_add(size)?;
    Some((
        count,
        usize::try_from(start).ok()?..usize::try_from(stop).ok()?,
    ))
}

/// Name and place of the directory entry at `at`, and how long that entry is.
fn entry(directory: &[u8], at: usize) -> Option<(&[u8], Place, usize)> {
    let fields = Fields::at(directory, at, DIRECTORY_ENTRY)?;
    let name_size = usize::from(fields.u16(28)?);
    let extra_size = usize::from(fields.u16(30)?);
    let comment_size = usize::from(fields.u16(32)?);
    let name = fields.bytes(DIRECTORY_ENTRY_SIZE, name_size)?;
    let extra = fields.bytes(DIRECTORY_ENTRY_SIZE + name_size, extra_size)?;
    let mut place = Place {
        encrypted: fields.u16(8)? & 1 != 0,
        method: fields.u16(10)?,
        packed: u64::from(fields.u32(20)?),
        size: u64::from(fields.u32(24)?),
        header: u64::from(fields.u32(42)?),
    };
    widen(&mut place, extra)?;
    let size = DIRECTORY_ENTRY_SIZE + name_size + extra_size + comment_size;
    Some((name, place, size))
}

/// Replaces saturated 32-bit fields by the 64-bit ones of the ZIP64 extra field, in the order that the format fixes.
fn widen(place: &mut Place, mut extra: &[u8]) -> Option<()> {
    let saturated = u64::from(u32::MAX);
    let mut narrow = [&mut place.size, &mut place.packed, &mut place.header];
    if narrow.iter().all(|field| **field != saturated) {
        return Some(());
    }
    loop {
        let head = Fields(extra);
        let (id, size) = (head.u16(0)?, usize::from(head.u16(2)?));
        let body = Fields(head.bytes(4, size)?);
        if id == ZIP64_EXTRA {
            let wide = narrow.iter_mut().filter(|field| ***field == saturated);
            for (i, field) in wide.enumerate() {
                **field = body.u64(8 * i)?;
            }
            return Some(());
        }
        extra = &extra[4 + size..];
    }
}

fn content(archive: &[u8], place: &Place, name: &str) -> Option<Range<usize>> {
    let header = usize::try_from(place.header).ok()?;
    let local = Fields::at(archive, header, LOCAL_ENTRY)?;
    let (name_size, extra_size) = (usize::from(local.u16(26)?), usize::from(local.u16(28)?));
    if local.bytes(LOCAL_ENTRY_SIZE, name_size)? != name.as_bytes() {
        return None;
    }
    let start = header.checked_add(LOCAL_ENTRY_SIZE + name_size + extra_size)?;
    let stop = start.checked_add(usize::try_from(place.size).ok()?)?;
    archive.get(start..stop)?;
    Some(start..stop)
}
