//! Named tensors, wherever they come from, in the form that the network asks for them.
//!
//! [`TensorFile`] is one file and knows only its own names. [`TensorSet`] is what a model is made of: under each of the model's names,
//! a tensor of a file (or a third of one, where somebody fused three matrices), or one in memory. A set is checked as it is put
//! together, so that a file that does not fit is refused before anything of it is read; numbers are read when they are asked for.
//! A set is the backend of a [`VarBuilder`], by which modules get their weights.

mod archive;
mod entry;
mod file;
mod pickle;
mod zip;

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::VarBuilder;
use candle_nn::var_builder::SimpleBackend;

use crate::error::{Error, Result};
use entry::Entry;
pub use file::TensorFile;
pub use safetensors::Dtype;

/// How many near names an error lists.
const NEAR: usize = 3;

/// Suffix of the scales of an 8-bit tensor: F32, one a row.
pub(crate) const SCALE: &str = ".scale";

/// Named tensors of one or several files. Cheap to clone.
#[derive(Clone)]
pub struct TensorSet {
    label: Arc<str>,
    tensors: Arc<BTreeMap<String, Source>>,
}

#[derive(Clone)]
enum Source {
    File {
        file: TensorFile,
        name: String,
        entry: Entry,
        scale: Option<Entry>,
    },
    Memory(Tensor),
}

/// A tensor as a file has it: its type and its very bytes, and those of its scales where it is an 8-bit one.
#[derive(Clone, Copy)]
pub(crate) struct Stored<'a> {
    pub(crate) dtype: Dtype,
    pub(crate) bytes: &'a [u8],
    pub(crate) scale: Option<&'a [u8]>,
}

/// A tensor under a file's own name: the whole of it, or one of three equal parts along its first axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceName {
    /// The file's name for it.
    pub name: String,
    /// Which third, where query, key and value were fused into one matrix.
    pub third: Option<usize>,
}

impl SourceName {
    /// The whole tensor of that name.
    pub fn whole(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            third: None,
        }
    }
}

impl TensorSet {
    /// An empty set; errors call it `label`.
    pub fn new(label: impl Into<Arc<str>>) -> Self {
        Self {
            label: label.into(),
            tensors: Arc::default(),
        }
    }

    /// Takes in `source` of `file` under `name`. An error says which tensor of which file, the shape wanted and the shape found.
    pub fn take(
        &mut self,
        name: &str,
        shape: &[usize],
        file: &TensorFile,
        source: &SourceName,
    ) -> Result<()> {
        let entry = file
            .entry(&source.name)
            .ok_or_else(|| file.missing(&source.name, &format!("wanted {shape:?}")))?;
        let wrong = |reason: String| Error::tensor(file.label(), &source.name, reason);
        let part = match source.third {
            None => Some(entry.clone()),
            Some(third) => entry.part(third, 3),
        };
        let part = part
            .filter(|part| part.shape == shape)
            .ok_or_else(|| wrong(mismatch(name, shape, source, &entry.shape)))?;
        let scale = match part.dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => None,
            Dtype::I8 => Some(scale(file, &source.name, &part).map_err(wrong)?),
            other => {
                return Err(wrong(format!(
                    "wanted F32, F16, BF16 or scaled I8, found {other}"
                )));
            }
        };
        self.insert(
            name,
            Source::File {
                file: file.clone(),
                name: source.name.clone(),
                entry: part,
                scale,
            },
        );
        Ok(())
    }

    /// Takes in a tensor that is in memory, of any device and float type.
    pub fn take_tensor(&mut self, name: &str, tensor: Tensor) {
        self.insert(name, Source::Memory(tensor));
    }

    fn insert(&mut self, name: &str, source: Source) {
        Arc::make_mut(&mut self.tensors).insert(name.to_owned(), source);
    }

    /// Leaves out every tensor whose name `drop` says yes to.
    pub fn remove(&mut self, drop: impl Fn(&str) -> bool) {
        Arc::make_mut(&mut self.tensors).retain(|name, _| !drop(name));
    }

    /// What errors call it.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether it has that tensor.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(match self.tensors.get(name)? {
            Source::File { entry, .. } => &entry.shape,
            Source::Memory(tensor) => tensor.dims(),
        })
    }

    /// A tensor's numbers as f32, row-major.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        match self.source(name, None)? {
            Source::Memory(tensor) => Ok(tensor
                .to_device(&Device::Cpu)?
                .to_dtype(DType::F32)?
                .flatten_all()?
                .to_vec1()?),
            Source::File {
                file,
                name,
                entry,
                scale,
            } => {
                let mut values = file.read_entry(name, entry)?;
                if let Some(scale) = scale {
                    let scales = file.read_entry(&format!("{name}{SCALE}"), scale)?;
                    let row = values.len() / scales.len().max(1);
                    for (row, scale) in values.chunks_mut(row.max(1)).zip(&scales) {
                        row.iter_mut().for_each(|value| *value *= scale);
                    }
                }
                Ok(values)
            }
        }
    }

    /// A tensor as its file has it; `None` for one in memory, and for one whose bytes do not lie in one piece.
    pub(crate) fn stored(&self, name: &str) -> Option<Stored<'_>> {
        let Source::File {
            file, entry, scale, ..
        } = self.tensors.get(name)?
        else {
            return None;
        };
        Some(Stored {
            dtype: entry.dtype,
            bytes: entry.bytes(file.bytes())?,
            scale: match scale {
                Some(scale) => Some(scale.bytes(file.bytes())?),
                None => None,
            },
        })
    }

    /// A tensor as f32 on the CPU; with `shape`, only if it has that shape.
    pub fn tensor(&self, name: &str, shape: Option<&[usize]>) -> Result<Tensor> {
        self.source(name, shape)?;
        let found = self.shape(name).unwrap_or_default();
        if let Some(shape) = shape.filter(|shape| *shape != found) {
            let reason = format!("wanted {shape:?}, found {found:?}");
            return Err(Error::tensor(self.label(), name, reason));
        }
        Ok(Tensor::from_vec(self.read(name)?, found, &Device::Cpu)?)
    }

    /// The set as a source of weights, which arrive as `dtype` on `device`.
    ///
    /// Its errors are this crate's, carried by candle without a backtrace: their text arrives as it is written here.
    pub fn var_builder(&self, dtype: DType, device: &Device) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), dtype, device.clone())
    }

    fn source(&self, name: &str, shape: Option<&[usize]>) -> Result<&Source> {
        self.tensors.get(name).ok_or_else(|| {
            let wanted = match shape {
                Some(shape) => format!("wanted {shape:?}"),
                None => "it is wanted".into(),
            };
            missing(self.label(), name, &wanted, self.names())
        })
    }
}

impl SimpleBackend for TensorSet {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: candle_nn::Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        self.tensor(name, Some(shape.dims()))
            .map_err(carry)?
            .to_device(device)?
            .to_dtype(dtype)
    }

    fn get_unchecked(
        &self,
        name: &str,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        self.tensor(name, None)
            .map_err(carry)?
            .to_device(device)?
            .to_dtype(dtype)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.contains(name)
    }
}

/// This crate's error inside candle's: not by `Error::wrap`, which adds a backtrace to what a user reads.
fn carry(error: Error) -> candle_core::Error {
    match error {
        Error::Compute(error) => error,
        error => candle_core::Error::Wrapped(Box::new(error)),
    }
}

fn scale(file: &TensorFile, name: &str, values: &Entry) -> Result<Entry, String> {
    let name = format!("{name}{SCALE}");
    let rows = values.shape.first().copied().unwrap_or(1);
    match file.entry(&name) {
        Some(scale) if scale.dtype == Dtype::F32 && scale.shape == [rows] => Ok(scale.clone()),
        Some(scale) => Err(format!(
            "8-bit, wanted its scales {name} as F32 [{rows}], found {} {:?}",
            scale.dtype, scale.shape
        )),
        None => Err(format!(
            "8-bit, wanted its scales {name} as F32 [{rows}], found none"
        )),
    }
}

fn mismatch(name: &str, wanted: &[usize], source: &SourceName, found: &[usize]) -> String {
    let mut whole = wanted.to_vec();
    if let (Some(rows), Some(_)) = (whole.first_mut(), source.third) {
        *rows *= 3;
    }
    let mut reason = format!("wanted {whole:?}, found {found:?}");
    if name == "vision_model.embeddings.position_embedding.weight"
        && let [Some(wanted), Some(found)] = [wanted, found].map(grid)
    {
        reason += &format!(
            " (a grid of {wanted} x {wanted} patches by the config's vision.image_size and patch_size, of {found} x {found} in the file)"
        );
    }
    reason
}

/// Side of the square grid that a position table of `shape` is for.
fn grid(shape: &[usize]) -> Option<usize> {
    let patches = shape.first()?.checked_sub(1)?;
    let side = patches.isqrt();
    (side * side == patches).then_some(side)
}

fn missing<'a>(
    label: &str,
    name: &str,
    wanted: &str,
    names: impl Iterator<Item = &'a str>,
) -> Error {
    let near = near(name, names);
    let near = if near.is_empty() {
        String::new()
    } else {
        format!("; the nearest are {}", near.join(", "))
    };
    Error::tensor(label, name, format!("{wanted}, not in the file{near}"))
}

/// The names that share the longest beginning and end with `name`, if that is at least half of it.
fn near<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let same = |a: &[u8], b: &[u8]| {
        let head = a.iter().zip(b).take_while(|(a, b)| a == b).count();
        let tails = a[head..].iter().rev().zip(b[head..].iter().rev());
        head + tails.take_while(|(a, b)| a == b).count()
    };
    let mut near: Vec<_> = names
        .map(|other| (same(name.as_bytes(), other.as_bytes()), other))
        .filter(|(score, _)| *score * 2 >= name.len())
        .collect();
    near.sort_by_key(|(score, other)| (std::cmp::Reverse(*score), other.len()));
    near.into_iter().take(NEAR).map(|(_, name)| name).collect()
}
