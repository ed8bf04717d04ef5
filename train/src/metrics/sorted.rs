//! More numbers than fit in memory, sorted: an external merge sort.
//!
//! Numbers are gathered up to a run's length, sorted, and written to a temporary file of their own, as differences of neighbours in as
//! few bytes as each needs (LEB128: seven bits a byte). Sorted scores lie close together, so a pixel costs one to two bytes: 5000
//! pictures of 518 x 518 are 1.3 thousand million pixels, about 80 runs and 2 GB of disk in the directory for temporary files. At the end the runs are merged
//! through a heap. Memory is one run of each label (64 and 128 MiB) and a buffer a file, whatever the number of pixels; what fits into
//! one run never touches the disk. The files have no name and vanish with the process.

use std::{
    collections::BinaryHeap,
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, Write},
    marker::PhantomData,
    vec,
};

use rayon::slice::ParallelSliceMut;

/// Numbers that are held in memory before they are written out.
pub(super) const RUN_LENGTH: usize = 1 << 24;

/// A number that can be sorted here.
pub(super) trait Word: Copy + Ord + Send + Into<u64> + TryFrom<u64> {}

impl<T: Copy + Ord + Send + Into<u64> + TryFrom<u64>> Word for T {}

/// Numbers being gathered.
#[derive(Debug)]
pub(super) struct Runs<T> {
    length: usize,
    held: Vec<T>,
    written: Vec<(File, u64)>,
}

impl<T: Word> Runs<T> {
    /// Nothing yet; up to `length` numbers will be held in memory.
    pub(super) fn new(length: usize) -> Self {
        Self {
            length: length.max(1),
            held: Vec::new(),
            written: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, word: T) -> io::Result<()> {
        if self.held.len() == self.length {
            self.write_out()?;
        }
        self.held.push(word);
        Ok(())
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        let written: u64 = self.written.iter().map(|(_, len)| len).sum();
        written + self.held.len() as u64
    }

    /// All of them, the largest first.
    pub(super) fn descending(mut self) -> io::Result<Descending<T>> {
        sort(&mut self.held);
        let mut sources = vec![Source::Memory(self.held.into_iter())];
        for (mut file, left) in self.written {
            file.rewind()?;
            sources.push(Source::File(Reader {
                file: BufReader::with_capacity(1 << 16, file),
                left,
                last: u64::MAX,
            }));
        }
        Descending::new(sources)
    }

    fn write_out(&mut self) -> io::Result<()> {
        sort(&mut self.held);
        let mut file = BufWriter::with_capacity(1 << 16, tempfile::tempfile()?);
        let mut last = u64::MAX;
        for word in &self.held {
            let word: u64 = (*word).into();
            write_difference(&mut file, last - word)?;
            last = word;
        }
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        self.written.push((file, self.held.len() as u64));
        self.held.clear();
        Ok(())
    }
}

fn sort<T: Word>(words: &mut [T]) {
    words.par_sort_unstable_by(|a, b| b.cmp(a));
}

fn write_difference(file: &mut impl Write, mut difference: u64) -> io::Result<()> {
    let mut bytes = [0; 10];
    let mut len = 0;
    loop {
        let low = (difference & 0x7f) as u8;
        difference >>= 7;
        bytes[len] = low | if difference > 0 { 0x80 } else { 0 };
        len += 1;
        if difference == 0 {
            return file.write_all(&bytes[..len]);
        }
    }
}

/// One run, being read from its largest number down.
#[derive(Debug)]
enum Source<T> {
    Memory(vec::IntoIter<T>),
    File(Reader),
}

#[derive(Debug)]
struct Reader {
    file: BufReader<File>,
    left: u64,
    last: u64,
}

impl Reader {
    fn next(&mut self) -> io::Result<Option<u64>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let mut difference = 0;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.file.read_exact(&mut byte)?;
            difference |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                break;
            }
        }
        self.last = self.last.wrapping_sub(difference);
        Ok(Some(self.last))
    }
}

impl<T: Word> Source<T> {
    fn next(&mut self) -> io::Result<Option<u64>> {
        match self {
            Self::Memory(words) => Ok(words.next().map(Into::into)),
            Self::File(reader) => reader.next(),
        }
    }
}

/// Sorted numbers, the largest first.
#[derive(Debug)]
pub(super) struct Descending<T> {
    sources: Vec<Source<T>>,
    /// The next number of each source that has one.
    heads: BinaryHeap<(u64, usize)>,
    words: PhantomData<T>,
}

impl<T: Word> Descending<T> {
    fn new(mut sources: Vec<Source<T>>) -> io::Result<Self> {
        let mut heads = BinaryHeap::with_capacity(sources.len());
        for (i, source) in sources.iter_mut().enumerate() {
            heads.extend(source.next()?.map(|word| (word, i)));
        }
        Ok(Self {
            sources,
            heads,
            words: PhantomData,
        })
    }

    pub(super) fn next(&mut self) -> io::Result<Option<T>> {
        let Some(mut top) = self.heads.peek_mut() else {
            return Ok(None);
        };
        let (word, i) = *top;
        match self.sources[i].next()? {
            Some(next) => *top = (next, i),
            None => {
                std::collections::binary_heap::PeekMut::pop(top);
            }
        }
        // What was written came from a `T`; only a damaged file could say otherwise.
        T::try_from(word)
            .map(Some)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn sorted<T: Word>(words: &[T], length: usize) -> Vec<T> {
        let mut runs = Runs::new(length);
        for word in words {
            runs.push(*word).unwrap();
        }
        assert_eq!(runs.len(), words.len() as u64);
        let mut descending = runs.descending().unwrap();
        std::iter::from_fn(|| descending.next().unwrap()).collect()
    }

    proptest! {
        #[test]
        fn what_is_spilled_comes_back_sorted(words: Vec<u64>, length in 1_usize..9) {
            let mut expected = words.clone();
            expected.sort_unstable_by(|a, b| b.cmp(a));
            prop_assert_eq!(sorted(&words, length), &expected[..]);
            prop_assert_eq!(sorted(&words, usize::MAX), expected);
        }
    }

    #[test]
    fn the_ends_of_the_range_survive() {
        let words = [0, u64::MAX, 1, u64::MAX, 0, 1 << 63];
        let expected = [u64::MAX, u64::MAX, 1 << 63, 1, 0, 0];
        assert_eq!(sorted(&words, 2), expected);
        assert_eq!(sorted(&[0_u32, u32::MAX, 7], 1), [u32::MAX, 7, 0]);
    }
}
