//! A matrix shared out among threads in blocks of rows and columns, which slices alone can do by rows only.
//!
//! # Safety
//!
//! Blocks are made here alone, of one exclusively borrowed matrix, and no two of one sharing overlap; a row of a block is a slice within the
//! matrix. So each number has one owner at a time, as with `chunks_mut`.

#![allow(unsafe_code)]

use std::marker::PhantomData;

use rayon::prelude::*;

/// A part of a matrix.
pub(super) struct Block<'a, T> {
    /// Its first number.
    first: *mut T,
    /// From one row to the next.
    stride: usize,
    /// Its first row in the matrix.
    pub(super) row: usize,
    /// Its first column there.
    pub(super) column: usize,
    /// How many rows it has.
    pub(super) rows: usize,
    /// How many columns.
    pub(super) columns: usize,
    _owner: PhantomData<&'a mut [T]>,
}

// SAFETY: a block is an exclusive borrow of its numbers, as a mutable slice is.
unsafe impl<T: Send> Send for Block<'_, T> {}

impl<T> Block<'_, T> {
    /// Its row `i`, counted from its first.
    pub(super) fn line(&mut self, i: usize) -> &mut [T] {
        assert!(i < self.rows);
        // SAFETY: `for_each` keeps the block within the matrix; the borrow of `self` is that of the row.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(i * self.stride), self.columns) }
    }
}

/// Where a matrix begins, for threads that each take blocks of their own.
struct Start<T>(*mut T);

// SAFETY: the pointer is used for disjoint blocks alone, whose numbers may move between threads.
unsafe impl<T: Send> Sync for Start<T> {}

impl<T> Start<T> {
    fn at(&self, index: usize) -> *mut T {
        self.0.wrapping_add(index)
    }
}

/// Runs `f` on every block of up to `rows` x `columns` of a matrix whose rows have `width` numbers, on all cores, those of the same columns
/// one after the other. A core that has nothing left to do takes over single blocks of another.
pub(super) fn for_each<T: Send>(
    matrix: &mut [T],
    width: usize,
    (rows, columns): (usize, usize),
    f: impl Fn(Block<'_, T>) + Sync,
) {
    assert!(width > 0 && rows > 0 && columns > 0 && matrix.len().is_multiple_of(width));
    let height = matrix.len() / width;
    let (down, across) = (height.div_ceil(rows), width.div_ceil(columns));
    let start = Start(matrix.as_mut_ptr());
    let numbers = (0..down * across).into_par_iter().with_max_len(1);
    numbers.for_each(|i| {
        let (row, column) = (i % down * rows, i / down * columns);
        f(Block {
            first: start.at(row * width + column),
            stride: width,
            row,
            column,
            rows: rows.min(height - row),
            columns: columns.min(width - column),
            _owner: PhantomData,
        });
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_number_is_in_one_block(height in 0usize..20, width in 1usize..20, rows in 1usize..9, columns in 1usize..9) {
            let mut matrix = vec![0usize; height * width];
            for_each(&mut matrix, width, (rows, columns), |mut block| {
                for i in 0..block.rows {
                    let (row, column) = (block.row + i, block.column);
                    for (j, number) in block.line(i).iter_mut().enumerate() {
                        *number += 1 + row * width + column + j;
                    }
                }
            });
            prop_assert!(matrix.into_iter().eq(1..=height * width));
        }
    }
}
