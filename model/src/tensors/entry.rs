//! Where one tensor lies among a file's bytes, and how its numbers are read from there.
//!
//! An [`Entry`] can only be made for bytes that are there: shape, strides and element size are multiplied with overflow checks and
//! held against the bytes before anything is allocated. What is allocated afterwards is at most four times what the file holds.

use std::borrow::Cow;
use std::ops::Range;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use safetensors::Dtype;

/// A tensor's type, shape and place.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// Bytes of the file: the tensor's own where it is contiguous, else the whole storage that it looks into.
    pub(super) data: Range<usize>,
    view: Option<View>,
}

/// How a tensor that is not contiguous looks into its storage, in elements.
#[derive(Debug, Clone)]
struct View {
    offset: usize,
    strides: Vec<usize>,
}

/// Number of elements of `shape`, `None` where it does not fit in a usize.
fn count(shape: &[usize]) -> Option<usize> {
    shape.iter().copied().try_fold(1, usize::checked_mul)
}

/// Strides of a contiguous tensor.
fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

impl Entry {
    /// A contiguous tensor whose elements are exactly the bytes `data`.
    pub(crate) fn contiguous(
        dtype: Dtype,
        shape: Vec<usize>,
        data: Range<usize>,
    ) -> Result<Self, String> {
        let bytes = count(&shape).and_then(|n| n.checked_mul(dtype.bitsize()));
        if bytes != data.len().checked_mul(8) {
            return Err(format!(
                "{dtype} {shape:?} does not fit the {} bytes that the file has for it",
                data.len()
            ));
        }
        Ok(Self {
            dtype,
            shape,
            data,
            view: None,
        })
    }

    /// A tensor that looks into the storage `data` from element `offset` with `strides` in elements.
    pub(crate) fn strided(
        dtype: Dtype,
        shape: Vec<usize>,
        data: Range<usize>,
        offset: usize,
        strides: Vec<usize>,
    ) -> Result<Self, String> {
        let size = dtype.bitsize() / 8;
        let held = data.len() / size.max(1);
        let wrong = || {
            format!(
                "shape {shape:?} with strides {strides:?} from element {offset} lies outside its storage of {held} elements"
            )
        };
        if shape.len() != strides.len() {
            return Err(format!("shape {shape:?} has strides {strides:?}"));
        }
        let elements = count(&shape).filter(|n| *n <= held).ok_or_else(wrong)?;
        let last = shape
            .iter()
            .zip(&strides)
            .try_fold(offset, |at, (n, stride)| {
                at.checked_add(n.saturating_sub(1).checked_mul(*stride)?)
            });
        if last.is_none_or(|last| last >= held) && elements > 0 {
            return Err(wrong());
        }
        let in_order = row_major(&shape)
            .iter()
            .zip(&strides)
            .zip(&shape)
            .all(|((wanted, found), n)| wanted == found || *n == 1);
        if in_order || elements == 0 {
            let start = if elements == 0 {
                data.start
            } else {
                data.start + offset * size
            };
            return Self::contiguous(dtype, shape, start..start + elements * size);
        }
        Ok(Self {
            dtype,
            shape,
            data,
            view: Some(View { offset, strides }),
        })
    }

    /// The `index`-th of `of` equal parts along the first axis, `None` where it cannot be cut so.
    pub(crate) fn part(&self, index: usize, of: usize) -> Option<Self> {
        let rows = *self.shape.first()?;
        if of == 0 || index >= of || rows % of != 0 {
            return None;
        }
        let mut part = self.clone();
        part.shape[0] = rows / of;
        match &mut part.view {
            Some(view) => view.offset += index * (rows / of) * view.strides[0],
            None => {
                let bytes = self.data.len() / of;
                let start = self.data.start + index * bytes;
                part.data = start..start + bytes;
            }
        }
        Some(part)
    }

    /// Its bytes as they lie in the file; `None` where it is not contiguous.
    pub(super) fn bytes<'a>(&self, file: &'a [u8]) -> Option<&'a [u8]> {
        match &self.view {
            None => file.get(self.data.clone()),
            Some(_) => None,
        }
    }

    /// Its numbers, row-major. 8-bit integers come as they are: their scale is another tensor.
    pub(crate) fn read(&self, file: &[u8]) -> Result<Vec<f32>, String> {
        let data = file
            .get(self.data.clone())
            .ok_or("its bytes lie outside the file")?;
        let packed = match &self.view {
            None => Cow::Borrowed(data),
            Some(view) => Cow::Owned(self.gather(data, view)?),
        };
        decode(self.dtype, &packed)
            .ok_or_else(|| format!("wanted F32, F16, BF16 or scaled I8, found {}", self.dtype))
    }

    fn gather(&self, storage: &[u8], view: &View) -> Result<Vec<u8>, String> {
        let size = self.dtype.bitsize() / 8;
        let elements: usize = self.shape.iter().product();
        let mut packed = Vec::with_capacity(elements * size);
        let mut index = vec![0; self.shape.len()];
        for _ in 0..elements {
            let steps = index
                .iter()
                .zip(&view.strides)
                .map(|(i, stride)| i * stride);
            let at = (view.offset + steps.sum::<usize>()) * size;
            let element = storage
                .get(at..at + size)
                .ok_or("its strides lead outside its storage")?;
            packed.extend_from_slice(element);
            for (i, n) in index.iter_mut().zip(&self.shape).rev() {
                *i += 1;
                if *i < *n {
                    break;
                }
                *i = 0;
            }
        }
        Ok(packed)
    }
}

/// Little-endian numbers as f32; `None` for a type that no weights of ours have.
fn decode(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let values = match dtype {
        Dtype::F32 => bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect(),
        Dtype::F16 => {
            let halves = bytes.as_chunks::<2>().0.iter();
            let halves: Vec<f16> = halves.map(|b| f16::from_le_bytes(*b)).collect();
            halves.to_f32_vec()
        }
        Dtype::BF16 => {
            let halves = bytes.as_chunks::<2>().0.iter();
            let halves: Vec<bf16> = halves.map(|b| bf16::from_le_bytes(*b)).collect();
            halves.to_f32_vec()
        }
        Dtype::I8 => bytes
            .iter()
            .map(|b| f32::from(i8::from_le_bytes([*b])))
            .collect(),
        _ => return None,
    };
    Some(values)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn bytes(n: u8) -> Vec<u8> {
        (0..n).flat_map(|i| f32::from(i).to_le_bytes()).collect()
    }

    #[test]
    fn a_transposed_view_is_gathered() {
        let file = bytes(7);
        let entry = Entry::strided(Dtype::F32, vec![3, 2], 0..28, 1, vec![1, 3]).unwrap();
        assert_eq!(entry.read(&file).unwrap(), [1., 4., 2., 5., 3., 6.]);
        let last = entry.part(2, 3).unwrap();
        assert_eq!(
            (last.shape.as_slice(), last.read(&file).unwrap()),
            (&[1, 2][..], vec![3., 6.])
        );
    }

    #[test]
    fn a_contiguous_view_is_sliced() {
        let file = bytes(7);
        let entry = Entry::strided(Dtype::F32, vec![1, 3, 2], 0..28, 1, vec![99, 2, 1]).unwrap();
        assert!(entry.view.is_none());
        assert_eq!(entry.read(&file).unwrap(), [1., 2., 3., 4., 5., 6.]);
    }

    #[test]
    fn what_the_storage_does_not_hold_is_refused() {
        for (shape, offset, strides) in [
            (vec![7], 1, vec![1]),
            (vec![2, 4], 0, vec![4, 1]),
            (vec![1 << 40], 0, vec![0]),
            (vec![usize::MAX, 3], 0, vec![1, 1]),
            (vec![2], 0, vec![usize::MAX]),
            (vec![2], usize::MAX, vec![1]),
            (vec![2, 2], 0, vec![1]),
        ] {
            assert!(Entry::strided(Dtype::F32, shape, 0..28, offset, strides).is_err());
        }
        assert!(Entry::contiguous(Dtype::F32, vec![usize::MAX, 2], 0..28).is_err());
        assert!(Entry::contiguous(Dtype::F32, vec![6], 0..28).is_err());
    }
}
