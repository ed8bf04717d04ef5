//! Memory that begins with a line of the cache, as wide loads want it: across two lines they take twice as long, and tiles are many of them.

use std::ops::{Deref, DerefMut};

/// Bytes of a line.
const LINE: usize = 64;

/// Numbers whose first begins a line.
#[derive(Debug)]
pub(super) struct Aligned<T> {
    /// Some more than are wanted, so that a line begins within the first of them.
    values: Vec<T>,
    start: usize,
    len: usize,
}

impl<T> Default for Aligned<T> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            start: 0,
            len: 0,
        }
    }
}

impl<T: Copy + Default> Aligned<T> {
    /// Becomes `len` times zero.
    pub(super) fn reset(&mut self, len: usize) {
        let spare = LINE / size_of::<T>();
        self.values.clear();
        self.values.resize(len + spare, T::default());
        self.start = self.values.as_ptr().align_offset(LINE).min(spare);
        self.len = len;
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values[self.start..self.start + self.len]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_with_a_line_and_is_zero() {
        let mut numbers = Aligned::<u16>::default();
        for len in [0, 1, 31, 100, 5] {
            numbers.reset(len);
            assert_eq!(numbers.len(), len);
            assert!(numbers.as_ptr().addr().is_multiple_of(LINE));
            assert!(numbers.iter().all(|x| *x == 0));
            numbers.fill(7);
        }
    }
}
