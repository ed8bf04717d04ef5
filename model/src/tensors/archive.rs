//! Torch's zip archives, `torch.save`'s and TorchScript's: which tensors they hold, under which names, and where.
//!
//! An archive is a folder with a pickle (`data.pkl`) and one file a storage (`data/0`, `data/1`, ...). The pickle describes an object
//! whose leaves are tensors, each a view of a storage. Dictionaries, and the attributes of TorchScript's modules, become one flat list of
//! dotted names. Written down by torch in `torch/_utils.py` (the rebuild functions) and `torch/serialization.py` (persistent ids).

use std::collections::BTreeMap;

use safetensors::Dtype;

use super::entry::Entry;
use super::pickle::{Id, Pickle, Value};
use super::zip::Directory;
use crate::error::{Error, Result};

/// Bounds of what a pickle may unfold into. A pickle can refer to one dictionary from many places, so its own size is no bound.
const MAX_DEPTH: usize = 64;
const MAX_VISITS: usize = 1 << 20;
const MAX_TENSORS: usize = 1 << 16;
const MAX_NAME: usize = 512;
const MAX_RANK: usize = 8;

/// What an archive holds.
#[derive(Default)]
pub(super) struct Contents {
    /// Tensors by name. One that cannot be read (sparse, quantised, complex, broken) is kept with the reason: often nobody asks for it.
    pub(super) tensors: BTreeMap<String, Result<Entry, String>>,
    /// Integers among the tensors, such as the `epoch` of a checkpoint.
    pub(super) integers: BTreeMap<String, i64>,
}

/// Reads the archive in `bytes`; `file` is its name in errors.
pub(super) fn read(file: &str, bytes: &[u8]) -> Result<Contents> {
    let broken = |reason: String| Error::file(file, reason);
    let directory = Directory::read(bytes).map_err(broken)?;
    let root = find_root(&directory).map_err(broken)?;
    let byteorder = slice(bytes, &directory, &format!("{root}byteorder")).map_err(broken)?;
    if byteorder.is_some_and(|order| order != b"little") {
        return Err(broken(
            "wanted little-endian storages; its byteorder says otherwise".into(),
        ));
    }
    let pickle = slice(bytes, &directory, &format!("{root}data.pkl"))
        .map_err(broken)?
        .unwrap_or_default();
    let pickle = Pickle::read(pickle).map_err(broken)?;
    let mut walk = Walk {
        file,
        root,
        directory: &directory,
        pickle: &pickle,
        visits: 0,
        contents: Contents::default(),
    };
    walk.visit(pickle.root, &mut String::new(), 0)?;
    Ok(walk.contents)
}

/// The folder that holds everything, with its trailing slash, or nothing.
fn find_root<'a>(directory: &Directory<'a>) -> Result<&'a str, String> {
    directory
        .names()
        .filter_map(|name| name.strip_suffix("data.pkl"))
        .filter(|root| root.is_empty() || root.ends_with('/'))
        .min_by_key(|root| root.len())
        .ok_or_else(|| {
            "wanted an archive written by torch.save or TorchScript; found a zip archive without data.pkl".into()
        })
}

fn slice<'a>(
    bytes: &'a [u8],
    directory: &Directory<'a>,
    name: &str,
) -> Result<Option<&'a [u8]>, String> {
    Ok(directory.range(name)?.and_then(|range| bytes.get(range)))
}

struct Walk<'a> {
    file: &'a str,
    root: &'a str,
    directory: &'a Directory<'a>,
    pickle: &'a Pickle<'a>,
    visits: usize,
    contents: Contents,
}

impl Walk<'_> {
    fn visit(&mut self, id: Id, path: &mut String, depth: usize) -> Result<()> {
        self.visits += 1;
        if depth > MAX_DEPTH || self.visits > MAX_VISITS {
            return Err(Error::file(
                self.file,
                format!(
                    "its pickle unfolds to more than {MAX_DEPTH} levels or {MAX_VISITS} values"
                ),
            ));
        }
        match self.pickle.get(id) {
            Value::Dict(items) => self.visit_items(items, path, depth),
            Value::Int(number) => {
                if self.contents.integers.len() < MAX_TENSORS {
                    self.contents.integers.insert(path.clone(), *number);
                }
                Ok(())
            }
            Value::Object {
                class,
                args,
                items,
                state,
            } => match self.pickle.global(*class) {
                Some(("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor")) => {
                    self.add(path, self.tensor(*args))
                }
                Some(("torch._utils", name)) if name.starts_with("_rebuild_parameter") => {
                    match self.pickle.tuple(*args).and_then(|args| args.first()) {
                        Some(data) => self.visit(*data, path, depth + 1),
                        None => self.add(path, Err("its parameter holds no tensor".into())),
                    }
                }
                Some(("torch._utils", name)) if name.starts_with("_rebuild") => self.add(
                    path,
                    Err(format!("wanted a plain dense tensor, found {name}")),
                ),
                // The state of an ordered dictionary is bookkeeping of torch's.
                Some(("collections", "OrderedDict")) => self.visit_items(items, path, depth),
                _ => {
                    self.visit_items(items, path, depth)?;
                    state.map_or(Ok(()), |state| self.visit(state, path, depth + 1))
                }
            },
            _ => Ok(()),
        }
    }

    fn visit_items(&mut self, items: &[(Id, Id)], path: &mut String, depth: usize) -> Result<()> {
        for (key, value) in items {
            let parent = path.len();
            if parent > 0 {
                path.push('.');
            }
            match self.pickle.get(*key) {
                Value::Str(key) if key.len() <= MAX_NAME => path.push_str(key),
                Value::Int(key) => path.push_str(&key.to_string()),
                _ => {
                    path.truncate(parent);
                    continue;
                }
            }
            if path.len() <= MAX_NAME {
                self.visit(*value, path, depth + 1)?;
            }
            path.truncate(parent);
        }
        Ok(())
    }

    fn add(&mut self, path: &str, entry: Result<Entry, String>) -> Result<()> {
        if self.contents.tensors.len() >= MAX_TENSORS {
            return Err(Error::file(
                self.file,
                format!("it holds more than {MAX_TENSORS} tensors"),
            ));
        }
        self.contents.tensors.insert(path.to_owned(), entry);
        Ok(())
    }

    /// `(storage, offset, size, stride, ...)`, as the rebuild functions take it.
    fn tensor(&self, args: Id) -> Result<Entry, String> {
        let args = self.pickle.tuple(args).unwrap_or_default();
        let [storage, offset, shape, strides, ..] = args else {
            return Err("its description is damaged".into());
        };
        let offset = self
            .pickle
            .size(*offset)
            .ok_or("wanted an offset of 0 or more")?;
        let shape = self.sizes(*shape).ok_or("its shape is damaged")?;
        let strides = self
            .sizes(*strides)
            .ok_or("wanted strides of 0 or more elements")?;
        let (dtype, range) = self.storage(*storage)?;
        Entry::strided(dtype, shape, range, offset, strides)
    }

    fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        let items = self.pickle.tuple(id)?;
        if items.len() > MAX_RANK {
            return None;
        }
        items.iter().map(|item| self.pickle.size(*item)).collect()
    }

    /// `("storage", class, key, device, number of elements)`, torch's persistent id.
    fn storage(&self, id: Id) -> Result<(Dtype, std::ops::Range<usize>), String> {
        let damaged = "its storage's description is damaged";
        let Value::Persistent(id) = self.pickle.get(id) else {
            return Err(damaged.into());
        };
        let Some([tag, class, key, _device, elements, ..]) = self.pickle.tuple(*id) else {
            return Err(damaged.into());
        };
        let (Some("storage"), Some((_, class)), Some(key), Some(elements)) = (
            self.pickle.str(*tag),
            self.pickle.global(*class),
            self.pickle.str(*key),
            self.pickle.size(*elements),
        ) else {
            return Err(damaged.into());
        };
        let dtype = storage_dtype(class)
            .ok_or_else(|| format!("wanted numbers of a plain type, found a {class}"))?;
        let range = self
            .directory
            .range(&format!("{}data/{key}", self.root))?
            .ok_or_else(|| format!("its storage data/{key} is not in the archive"))?;
        if elements.checked_mul(dtype.bitsize() / 8) != Some(range.len()) {
            return Err(format!(
                "its storage data/{key} should hold {elements} elements of {dtype}, and has {} bytes",
                range.len()
            ));
        }
        Ok((dtype, range))
    }
}

fn storage_dtype(class: &str) -> Option<Dtype> {
    Some(match class {
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "DoubleStorage" => Dtype::F64,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" => Dtype::I8,
        "ByteStorage" => Dtype::U8,
        "BoolStorage" => Dtype::BOOL,
        _ => return None,
    })
}
