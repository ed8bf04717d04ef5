//! Products of rows and panels of 32-bit floats by AVX-512's multiply and add.
//!
//! # Safety
//!
//! What is here is safe to call: [`multiply`] checks that every byte that its instructions touch lies within the slices that it was given, and
//! a [`Unit`] other than the plain one is there only where the machine has the instructions.

#![allow(unsafe_code)]

use super::unsafe_tiles::{Out, SIDE};

/// Rows come in steps of this: what is read and written is rounded up to it.
pub(super) const STEP: usize = 8;

/// What multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Registers of 16 numbers.
    #[cfg(target_arch = "x86_64")]
    Avx512(x86::Found),
    /// Any machine, slowly: what the other is tested against.
    Plain,
}

impl Unit {
    /// The quickest of this machine.
    pub(super) fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(found) = x86::Found::here() {
            return Self::Avx512(found);
        }
        Self::Plain
    }
}

/// Rows in somebody's slice, `stride` numbers apart.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
    pub(super) rows: usize,
}

/// `out = start + left * panel`, [rows, 32], the same start for each of up to 32 rows.
///
/// The panel is [depth, 32], and its length says how deep the product is. Rows of `left` and `out` are read and written in steps of [`STEP`],
/// so that slices have to reach that far; what is in the rows of `out` beyond those of `left` is anything afterwards.
///
/// # Panics
///
/// If a slice is too short.
pub(super) fn multiply(
    unit: Unit,
    left: Left<'_>,
    panel: &[f32],
    start: &[f32; SIDE],
    out: Out<'_>,
) {
    let depth = panel.len() / SIDE;
    let rows = left.rows.next_multiple_of(STEP);
    assert!(rows > 0 && rows <= SIDE && depth > 0 && panel.len() == depth * SIDE);
    let reach = |stride: usize, last: usize| stride.checked_mul(rows - 1)?.checked_add(last);
    assert!(reach(left.stride, depth).is_some_and(|end| end <= left.values.len()));
    assert!(out.stride >= SIDE);
    assert!(reach(out.stride, SIDE).is_some_and(|end| end <= out.values.len()));
    match unit {
        // SAFETY: the unit is there only where the machine has the instructions. The assertions hold the last row's last number within each
        // slice.
        #[cfg(target_arch = "x86_64")]
        Unit::Avx512(_) => unsafe { x86::multiply(left, panel, start, out) },
        Unit::Plain => plain(left, panel, start, out),
    }
}

fn plain(left: Left<'_>, panel: &[f32], start: &[f32; SIDE], out: Out<'_>) {
    for row in 0..left.rows {
        let sums = &mut out.values[row * out.stride..][..SIDE];
        sums.copy_from_slice(start);
        let numbers = &left.values[row * left.stride..];
        for (x, weights) in numbers.iter().zip(panel.chunks_exact(SIDE)) {
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum += x * weight;
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Left, Out, SIDE, STEP};

    /// Inner numbers that are summed up in registers before the sums are put down: so many of a step's rows stay in the nearest cache.
    const DEPTH: usize = 384;

    /// That this machine has the instructions.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(in super::super) struct Found(());

    impl Found {
        pub(super) fn here() -> Option<Self> {
            is_x86_feature_detected!("avx512f").then_some(Self(()))
        }
    }

    /// # Safety
    ///
    /// The machine has AVX-512; the slices reach as [`super::multiply`] checks.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn multiply(
        left: Left<'_>,
        panel: &[f32],
        start: &[f32; SIDE],
        out: Out<'_>,
    ) {
        for (part, panel) in panel.chunks(DEPTH * SIDE).enumerate() {
            for first in (0..left.rows).step_by(STEP) {
                let a = &left.values[first * left.stride + part * DEPTH..];
                let c = &mut out.values[first * out.stride..];
                // SAFETY: rows come in steps of STEP, which the slices reach to, and each begins with this part of its numbers.
                unsafe {
                    match part {
                        0 => {
                            let start = from(start.as_ptr());
                            eight_rows((a, left.stride), panel, [start; STEP], (c, out.stride));
                        }
                        _ => {
                            let so_far = |row| from(c.as_ptr().add(row * out.stride));
                            let so_far = std::array::from_fn(so_far);
                            eight_rows((a, left.stride), panel, so_far, (c, out.stride));
                        }
                    }
                }
            }
        }
    }

    /// # Safety
    ///
    /// The machine has AVX-512; 32 numbers lie at `at`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn from(at: *const f32) -> [__m512; 2] {
        // SAFETY: the caller's promise.
        unsafe { [_mm512_loadu_ps(at), _mm512_loadu_ps(at.add(SIDE / 2))] }
    }

    /// So many rows of a product.
    ///
    /// # Safety
    ///
    /// The machine has AVX-512; `a` has [`STEP`] rows of the panel's depth, `c` has as many of [`SIDE`].
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn eight_rows(
        (a, from_row_to_row): (&[f32], usize),
        panel: &[f32],
        mut sums: [[__m512; 2]; STEP],
        (c, stride): (&mut [f32], usize),
    ) {
        // SAFETY: the caller's promise; what follows stays within the depth of a row of `a` and 32 numbers of one of `c`.
        unsafe {
            for number in 0..panel.len() / SIDE {
                let b = from(panel.as_ptr().add(number * SIDE));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let x = _mm512_set1_ps(*a.as_ptr().add(row * from_row_to_row + number));
                    sums[0] = _mm512_fmadd_ps(x, b[0], sums[0]);
                    sums[1] = _mm512_fmadd_ps(x, b[1], sums[1]);
                }
            }
            for (row, sums) in sums.iter().enumerate() {
                let c = c.as_mut_ptr().add(row * stride);
                _mm512_storeu_ps(c, sums[0]);
                _mm512_storeu_ps(c.add(SIDE / 2), sums[1]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::drawn;

    /// What a unit makes of numbers between -1 and 1 that `seed` stands for.
    fn product(unit: Unit, rows: usize, (depth, stride): (usize, usize), seed: u32) -> Vec<f32> {
        let number = |i: usize| drawn(i, seed);
        let reach = rows.next_multiple_of(STEP);
        let values: Vec<_> = (0..(reach - 1) * stride + depth).map(number).collect();
        let panel: Vec<_> = (0..depth * SIDE).map(|i| number(i + 7919)).collect();
        let mut out = vec![f32::NAN; reach * SIDE];
        let left = Left {
            values: &values,
            stride,
            rows,
        };
        let whole = Out {
            values: &mut out,
            stride: SIDE,
        };
        let start = std::array::from_fn(|i| number(i + 77));
        multiply(unit, left, &panel, &start, whole);
        out.truncate(rows * SIDE);
        out
    }

    proptest! {
        #[test]
        fn the_machines_unit_multiplies_as_the_plain_one(rows in 1usize..=SIDE, depth in 1usize..1200, more in 0usize..70, seed: u32) {
            let plain = product(Unit::Plain, rows, (depth, depth + more), seed);
            let found = product(Unit::best(), rows, (depth, depth + more), seed);
            for (found, plain) in found.iter().zip(&plain) {
                prop_assert!((found - plain).abs() < 1e-6 * (depth as f32 + 10.0), "{found} for {plain}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "end <= left.values.len()")]
    fn a_slice_that_is_too_short_is_not_read() {
        let mut out = [0.0; STEP * SIDE];
        let left = Left {
            values: &[0.0; STEP * 3 - 1],
            stride: 3,
            rows: STEP,
        };
        let whole = Out {
            values: &mut out,
            stride: SIDE,
        };
        multiply(Unit::Plain, left, &[0.0; 3 * SIDE], &[0.0; SIDE], whole);
    }
}
