//! One file of named tensors, safetensors or torch archive, told apart by what it begins with. Bytes stay where they are (mapped,
//! shared or compiled in) until a tensor is read.

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::entry::Entry;
use super::{archive, zip};
use crate::error::{Error, Result};
use crate::unsafe_mmap;

/// Longest safetensors header accepted, the format's own bound.
const MAX_HEADER: usize = 100_000_000;
/// How a `torch.save` of before 1.6 begins: protocol 2, then torch's magic number.
const LEGACY_TORCH: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46";
/// How a file begins whose bytes were never fetched.
const LFS_POINTER: &[u8] = b"version https://git-lfs";

/// A file of named tensors. Cheap to clone: clones share the bytes.
#[derive(Clone)]
pub struct TensorFile(Arc<Inner>);

struct Inner {
    label: String,
    bytes: Bytes,
    entries: BTreeMap<String, Result<Entry, String>>,
    metadata: HashMap<String, String>,
    integers: BTreeMap<String, i64>,
}

enum Bytes {
    Mapped(Mmap),
    Shared(Arc<[u8]>),
    Static(&'static [u8]),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Shared(bytes) => bytes,
            Self::Static(bytes) => bytes,
        }
    }
}

/// What a file's bytes were found to hold.
#[derive(Default)]
struct Parsed {
    entries: BTreeMap<String, Result<Entry, String>>,
    metadata: HashMap<String, String>,
    integers: BTreeMap<String, i64>,
}

impl TensorFile {
    /// Name of a buffer in errors.
    pub const MEMORY: &'static str = "<memory>";

    /// Maps the file at `path` and reads its directory of tensors. An error names the file and says what it is instead.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = Bytes::Mapped(unsafe_mmap::map(path)?);
        Self::parse(path.display().to_string(), bytes)
    }

    /// Reads the directory of a file that is in memory; its bytes are shared, not copied.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Result<Self> {
        Self::parse(Self::MEMORY.into(), Bytes::Shared(bytes.into()))
    }

    /// Reads the directory of a file that is compiled in.
    pub fn from_static(bytes: &'static [u8]) -> Result<Self> {
        Self::parse(Self::MEMORY.into(), Bytes::Static(bytes))
    }

    fn parse(label: String, bytes: Bytes) -> Result<Self> {
        let parsed = if bytes.starts_with(zip::MAGIC) {
            let contents = archive::read(&label, &bytes)?;
            Parsed {
                entries: contents.tensors,
                integers: contents.integers,
                ..Parsed::default()
            }
        } else {
            parse_safetensors(&bytes).map_err(|reason| Error::file(&label, reason))?
        };
        Ok(Self(Arc::new(Inner {
            label,
            bytes,
            entries: parsed.entries,
            metadata: parsed.metadata,
            integers: parsed.integers,
        })))
    }

    /// The file's path, or `<memory>`.
    pub fn label(&self) -> &str {
        &self.0.label
    }

    /// All of its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// Names of its tensors, sorted; also of those that [`TensorFile::read`] will refuse.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.entries.keys().map(String::as_str)
    }

    /// Stored type and shape of a tensor.
    pub fn info(&self, name: &str) -> Option<(Dtype, &[usize])> {
        let entry = self.entry(name)?;
        Some((entry.dtype, &entry.shape))
    }

    /// A text of a safetensors file's `__metadata__`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.0.metadata.get(key).map(String::as_str)
    }

    /// An integer that a torch archive holds beside its tensors, such as `epoch`.
    pub fn integer(&self, name: &str) -> Option<i64> {
        self.0.integers.get(name).copied()
    }

    /// A tensor's numbers as f32, row-major; those of an I8 tensor unscaled.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        let entry = self
            .entry(name)
            .ok_or_else(|| self.missing(name, "it is wanted"))?;
        self.read_entry(name, entry)
    }

    pub(crate) fn entry(&self, name: &str) -> Option<&Entry> {
        self.0.entries.get(name)?.as_ref().ok()
    }

    /// Every tensor with its name, in the order in which their bytes lie.
    pub(crate) fn entries_in_order(&self) -> Vec<(&str, &Entry)> {
        let entries = self.0.entries.iter();
        let mut entries: Vec<_> = entries
            .filter_map(|(name, entry)| Some((name.as_str(), entry.as_ref().ok()?)))
            .collect();
        entries.sort_by_key(|(_, entry)| entry.data.start);
        entries
    }

    /// A tensor's bytes as they are stored.
    pub(crate) fn stored_bytes(&self, entry: &Entry) -> &[u8] {
        self.bytes().get(entry.data.clone()).unwrap_or_default()
    }

    pub(crate) fn read_entry(&self, name: &str, entry: &Entry) -> Result<Vec<f32>> {
        let numbers = entry
            .read(self.bytes())
            .map_err(|reason| Error::tensor(self.label(), name, reason));
        self.let_go(entry);
        numbers
    }

    /// Has a tensor of a file that is mapped leave the memory: it has been read, and will hardly be again.
    pub(crate) fn let_go(&self, entry: &Entry) {
        if let Bytes::Mapped(map) = &self.0.bytes {
            unsafe_mmap::let_go(map, entry.data.clone());
        }
    }

    /// The error for a tensor that is not there, with a few names that come near, or why it cannot be read.
    pub(crate) fn missing(&self, name: &str, wanted: &str) -> Error {
        match self.0.entries.get(name) {
            Some(Err(reason)) => Error::tensor(self.label(), name, reason),
            _ => super::missing(self.label(), name, wanted, self.names()),
        }
    }
}

fn parse_safetensors(bytes: &[u8]) -> Result<Parsed, String> {
    let header_size = bytes
        .first_chunk()
        .map(|size| u64::from_le_bytes(*size))
        .and_then(|size| usize::try_from(size).ok())
        .filter(|size| *size <= MAX_HEADER);
    let header = header_size.and_then(|size| bytes.get(8..8 + size));
    let Some(header) = header.filter(|header| header.starts_with(b"{")) else {
        return Err(what_else(bytes));
    };
    let start = 8 + header.len();
    let header: Metadata = serde_json::from_slice(header)
        .map_err(|e| format!("its safetensors header is damaged: {e}"))?;
    let held = bytes.len() - start;
    if header.data_len() != held {
        return Err(format!(
            "its safetensors header announces {} bytes of tensors, and {held} follow: is the file truncated?",
            header.data_len()
        ));
    }
    let mut entries = BTreeMap::new();
    for (name, info) in header.tensors() {
        let (from, to) = info.data_offsets;
        let entry = Entry::contiguous(info.dtype, info.shape.clone(), start + from..start + to)
            .map_err(|reason| format!("tensor {name}: {reason}"))?;
        entries.insert(name, Ok(entry));
    }
    Ok(Parsed {
        entries,
        metadata: header.metadata().clone().unwrap_or_default(),
        integers: BTreeMap::new(),
    })
}

/// Why bytes that are neither of the two formats are not.
fn what_else(bytes: &[u8]) -> String {
    let formats = "wanted a safetensors file or a torch zip archive";
    if bytes.starts_with(LEGACY_TORCH) {
        format!(
            "{formats}; found a torch file of before version 1.6: load it and write it again with a newer torch.save"
        )
    } else if bytes.starts_with(LFS_POINTER) {
        format!("{formats}; found a Git LFS pointer: fetch the file itself (git lfs pull)")
    } else if bytes.is_empty() {
        format!("{formats}, found nothing: it is empty")
    } else {
        format!("{formats}, found neither: is it truncated, or something else?")
    }
}
