//! Writes a bundle: one tensor in memory at a time, into a file beside the target that takes its name only once it is whole.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use candle_core::DType;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Serialize;
use serde_json::Value;
use tempfile::NamedTempFile;

use super::storage::{self, StoragePolicy};
use super::{ContentHasher, FORMAT_VERSION, METADATA_KEY, Provenance, TEXT_BANK, is_text};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::schema;
use crate::tensors::{SCALE, Stored, TensorSet};
use crate::text_bank::TextBank;

/// Stands where the hash will be: the header is written before the tensors that are hashed.
const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

type Read<'a> = Box<dyn Fn() -> Result<Vec<f32>> + 'a>;

/// Collects what goes into a bundle, then writes it.
pub struct BundleWriter<'a> {
    config: Config,
    provenance: Provenance,
    calibration: Value,
    policy: StoragePolicy,
    records: Vec<Record<'a>>,
}

struct Record<'a> {
    name: String,
    shape: Vec<usize>,
    content: Content<'a>,
}

/// Where a record's bytes come from.
enum Content<'a> {
    /// Numbers, to be stored as the policy says.
    Numbers(Read<'a>),
    /// Another file, whose very bytes are kept.
    Stored(Stored<'a>),
}

/// A tensor of the file: a record's numbers, or the scales of an 8-bit one.
struct Chunk<'r, 'a> {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    record: &'r Record<'a>,
    is_scale: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    format_version: u64,
    config: &'a Config,
    provenance: &'a Provenance,
    calibration: &'a Value,
    content_sha256: &'a str,
}

impl<'a> BundleWriter<'a> {
    /// An empty bundle of `config`, whose tensors will be stored by `policy`.
    pub fn new(config: Config, provenance: Provenance, policy: StoragePolicy) -> Self {
        Self {
            config,
            provenance,
            calibration: Value::Null,
            policy,
            records: Vec::new(),
        }
    }

    /// Sets the calibration, any JSON value. Where it names the model that it is for (`model`), that becomes the bundle that is written.
    pub fn calibration(mut self, calibration: Value) -> Self {
        self.calibration = calibration;
        self
    }

    /// Adds a tensor under the model's name; `read` is called when its turn to be written comes, for an 8-bit one twice.
    pub fn tensor(
        mut self,
        name: impl Into<String>,
        shape: impl Into<Vec<usize>>,
        read: impl Fn() -> Result<Vec<f32>> + 'a,
    ) -> Self {
        self.records.push(Record {
            name: name.into(),
            shape: shape.into(),
            content: Content::Numbers(Box::new(read)),
        });
        self
    }

    /// Adds every tensor of `set` but text features, which [`BundleWriter::text_bank`] adds.
    pub fn tensors(mut self, set: &'a TensorSet) -> Self {
        for name in set.names().filter(|name| !name.starts_with(TEXT_BANK)) {
            let shape = set.shape(name).unwrap_or_default();
            self = self.tensor(name, shape, || set.read(name));
        }
        self
    }

    /// The same, but each tensor keeps the type and the bytes that its file has: written again, 8-bit numbers would come out of other
    /// scales. The policy is for those that are in no file.
    pub fn tensors_as_stored(mut self, set: &'a TensorSet) -> Self {
        for name in set.names().filter(|name| !name.starts_with(TEXT_BANK)) {
            let shape = set.shape(name).unwrap_or_default();
            match set.stored(name) {
                Some(stored) => self.records.push(Record {
                    name: name.into(),
                    shape: shape.into(),
                    content: Content::Stored(stored),
                }),
                None => self = self.tensor(name, shape, || set.read(name)),
            }
        }
        self
    }

    /// Adds the features of every class of `bank`; the config's classes become the bank's.
    pub fn text_bank(mut self, bank: &'a TextBank) -> Self {
        self.config.classes = bank.names().map(str::to_owned).collect();
        for (class, features) in &bank.classes {
            self = self.tensor(format!("{TEXT_BANK}{class}"), features.dims(), || {
                Ok(features
                    .to_dtype(DType::F32)?
                    .flatten_all()?
                    .to_vec1::<f32>()?)
            });
        }
        self
    }

    /// Writes the bundle and returns its hash. Nothing is left at `path`, or of what was there, but a whole file: the old or the new.
    ///
    /// An error if a tensor that the config implies is absent, has another shape, is named twice or holds numbers that the policy's type
    /// cannot; if the model could score no class; if the disk says no.
    pub fn write(self, path: &Path) -> Result<String> {
        self.check(path)?;
        let chunks = self.chunks();
        write_whole(path, |file| self.write_to(file, &chunks, path))
    }

    fn write_to(&self, file: &File, chunks: &[Chunk<'_, '_>], path: &Path) -> Result<String> {
        let io = |e| Error::io(path, e);
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.write_all(&self.header(chunks, NO_HASH, path)?)
            .map_err(io)?;
        let mut hasher = ContentHasher::new(&self.config_as_read(path)?);
        for chunk in chunks {
            let bytes = chunk.encode(path)?;
            hasher.tensor(&chunk.name, &chunk.dtype.to_string(), &chunk.shape);
            hasher.bytes(&bytes);
            out.write_all(&bytes).map_err(io)?;
        }
        let hash = hasher.finish();
        out.seek(SeekFrom::Start(0)).map_err(io)?;
        out.write_all(&self.header(chunks, &hash, path)?)
            .map_err(io)?;
        out.flush().map_err(io)?;
        Ok(hash)
    }

    fn check(&self, path: &Path) -> Result<()> {
        let has = |name: &str| self.records.iter().any(|record| record.name == name);
        let mut specs = [
            schema::vision_tower(&self.config),
            schema::image_adapter(&self.config),
        ]
        .concat();
        let text = self.records.iter().any(|record| is_text(&record.name));
        if text {
            specs.extend(schema::text_tower(&self.config));
            specs.extend(schema::text_adapter(&self.config));
        }
        let classes = self
            .config
            .classes
            .iter()
            .map(|class| format!("{TEXT_BANK}{class}"));
        if !text && !classes.clone().any(|name| has(&name)) {
            return Err(Error::file(
                path.display(),
                "wanted a text tower or the text features of a class, found neither: such a model can score nothing",
            ));
        }
        let bank = classes.map(|name| (name, vec![self.config.groups, self.config.text_width, 2]));
        specs.extend(bank.filter(|(name, _)| has(name)));
        let mut shapes: std::collections::HashMap<_, _> = specs.into_iter().collect();
        for record in &self.records {
            let wrong = |reason| Err(Error::tensor(path.display(), &record.name, reason));
            match shapes.remove(&record.name) {
                Some(shape) if shape == record.shape => {}
                Some(shape) => return wrong(format!("wanted {shape:?}, found {:?}", record.shape)),
                None => {
                    return wrong("the config implies no such tensor, or it is there twice".into());
                }
            }
        }
        match shapes.into_iter().min() {
            Some((name, shape)) => {
                let reason = format!("wanted {shape:?}, and there is none to write");
                Err(Error::tensor(path.display(), name, reason))
            }
            None => Ok(()),
        }
    }

    /// The file's tensors, widest type first so that each is aligned, then by name.
    fn chunks(&self) -> Vec<Chunk<'_, 'a>> {
        let mut chunks = Vec::new();
        for record in &self.records {
            let dtype = match &record.content {
                Content::Numbers(_) => self.policy.dtype(&record.name, &record.shape),
                Content::Stored(stored) => stored.dtype,
            };
            if dtype == Dtype::I8 {
                chunks.push(Chunk {
                    name: format!("{}{SCALE}", record.name),
                    dtype: Dtype::F32,
                    shape: record.shape.iter().copied().take(1).collect(),
                    record,
                    is_scale: true,
                });
            }
            chunks.push(Chunk {
                name: record.name.clone(),
                dtype,
                shape: record.shape.clone(),
                record,
                is_scale: false,
            });
        }
        chunks.sort_by(|a, b| {
            let width = b.dtype.bitsize().cmp(&a.dtype.bitsize());
            width.then_with(|| a.name.cmp(&b.name))
        });
        chunks
    }

    /// Length, JSON and padding, as the format has them at its beginning.
    fn header(&self, chunks: &[Chunk<'_, '_>], hash: &str, path: &Path) -> Result<Vec<u8>> {
        let broken = |e: String| Error::file(path.display(), e);
        let document = Document {
            format_version: FORMAT_VERSION,
            config: &self.config,
            provenance: &self.provenance,
            calibration: &self.calibration_of(hash),
            content_sha256: hash,
        };
        let document = serde_json::to_string(&document).map_err(|e| broken(e.to_string()))?;
        let metadata = [(METADATA_KEY.to_owned(), document)].into();
        let mut at = 0;
        let mut infos = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let size = chunk.shape.iter().product::<usize>() * chunk.dtype.bitsize() / 8;
            let info = TensorInfo {
                dtype: chunk.dtype,
                shape: chunk.shape.clone(),
                data_offsets: (at, at + size),
            };
            at += size;
            infos.push((chunk.name.clone(), info));
        }
        let header = Metadata::new(Some(metadata), infos).map_err(|e| broken(e.to_string()))?;
        let mut header = serde_json::to_vec(&header).map_err(|e| broken(e.to_string()))?;
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.append(&mut header);
        Ok(bytes)
    }

    fn calibration_of(&self, hash: &str) -> Value {
        let mut calibration = self.calibration.clone();
        if let Some(model) = calibration.get_mut("model") {
            *model = hash.into();
        }
        calibration
    }

    /// The config as a reader will find it: through JSON and back, so that both hash the same digits.
    fn config_as_read(&self, path: &Path) -> Result<Value> {
        serde_json::to_string(&self.config)
            .and_then(|text| serde_json::from_str(&text))
            .map_err(|e| Error::file(path.display(), e.to_string()))
    }
}

impl Chunk<'_, '_> {
    fn encode(&self, path: &Path) -> Result<Cow<'_, [u8]>> {
        match &self.record.content {
            Content::Numbers(read) => self.encode_numbers(read, path).map(Cow::Owned),
            Content::Stored(stored) if self.is_scale => {
                Ok(Cow::Borrowed(stored.scale.unwrap_or_default()))
            }
            Content::Stored(stored) => Ok(Cow::Borrowed(stored.bytes)),
        }
    }

    fn encode_numbers(&self, read: &Read<'_>, path: &Path) -> Result<Vec<u8>> {
        let wrong = |reason| Error::tensor(path.display(), &self.name, reason);
        let values = read()?;
        let elements: usize = self.record.shape.iter().product();
        if values.len() != elements {
            return Err(wrong(format!(
                "wanted {elements} numbers, found {}",
                values.len()
            )));
        }
        let rows = self.record.shape.first().copied().unwrap_or(1);
        if self.is_scale {
            return storage::encode(Dtype::F32, &storage::row_scales(&values, rows), rows)
                .map_err(wrong);
        }
        storage::encode(self.dtype, &values, rows).map_err(wrong)
    }
}

/// Lets `write` fill a file that then takes the name `path`: what is there is the old file or the new, whole.
pub(super) fn write_whole<T>(path: &Path, write: impl FnOnce(&File) -> Result<T>) -> Result<T> {
    let io = |e| Error::io(path, e);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let temp = temp_file(folder).map_err(io)?;
    let written = write(temp.as_file())?;
    temp.as_file().sync_all().map_err(io)?;
    temp.persist(path).map_err(|e| io(e.error))?;
    // The rename itself is durable once the folder is; not every file system lets a folder be opened for that.
    if let Ok(folder) = File::open(folder) {
        folder.sync_all().ok();
    }
    Ok(written)
}

/// A file of its own in `folder`, that others may read once it has its name, as far as the user's umask lets them.
fn temp_file(folder: &Path) -> std::io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".acdclip-").suffix(".tmp");
    #[cfg(unix)]
    let permissions = {
        use std::os::unix::fs::PermissionsExt;
        std::fs::Permissions::from_mode(0o666)
    };
    #[cfg(unix)]
    builder.permissions(permissions);
    builder.tempfile_in(folder)
}
