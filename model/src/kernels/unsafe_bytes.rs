//! Products of rows of 8-bit codes and panels of 8-bit weights by the dot products of AVX-512 (AVX512-VNNI), summed up in 32 bits a group of
//! inner numbers at a time and in f32 from group to group.
//!
//! # Safety
//!
//! What is here is safe to call: [`multiply`] checks that every byte that its instructions touch lies within the slices that it was given, and
//! a [`Unit`] other than the plain one is there only where the machine has the instructions.

#![allow(unsafe_code)]

use super::unsafe_tiles::{Out, SIDE};

/// Inner numbers that share a step.
pub(super) const GROUP: usize = 128;

/// Rows come in steps of this: what is read and written is rounded up to it.
pub(super) const STEP: usize = 8;

/// What multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Sums of four products in registers of 64 bytes.
    #[cfg(target_arch = "x86_64")]
    Vnni(x86::Found),
    /// Any machine, slowly: what the other is tested against.
    Plain,
}

impl Unit {
    /// The quickest of this machine.
    pub(super) fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(found) = x86::Found::here() {
            return Self::Vnni(found);
        }
        Self::Plain
    }
}

/// Codes of inner numbers: each stands for `step * code - offset`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Group {
    pub(super) step: f32,
    pub(super) offset: f32,
    pub(super) codes: [u8; GROUP],
}

impl Default for Group {
    fn default() -> Self {
        Self {
            step: 0.0,
            offset: 0.0,
            codes: [0; GROUP],
        }
    }
}

/// Rows of groups in somebody's slice, `stride` groups apart.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    pub(super) groups: &'a [Group],
    pub(super) stride: usize,
    pub(super) rows: usize,
}

/// The weights of 32 outputs.
#[derive(Clone, Copy)]
pub(super) struct Panel<'a> {
    /// [groups, GROUP / 4, 32, 4]
    pub(super) codes: &'a [i8],
    /// The sum of each output's codes of a group, [groups, 32].
    pub(super) sums: &'a [f32],
    /// What a code of 1 stands for, an output each.
    pub(super) scales: &'a [f32; SIDE],
    pub(super) bias: &'a [f32; SIDE],
}

/// `out = left * panel + bias`, [rows, 32], for up to 32 rows.
///
/// The panel says how many groups the product is deep. Rows of `left` and `out` are read and written in steps of [`STEP`], so that slices
/// have to reach that far; what is in the rows of `out` beyond those of `left` is anything afterwards.
///
/// # Panics
///
/// If a slice is too short, or codes and sums of the panel are not of as many groups.
pub(super) fn multiply(unit: Unit, left: Left<'_>, panel: Panel<'_>, out: Out<'_>) {
    let groups = panel.sums.len() / SIDE;
    let rows = left.rows.next_multiple_of(STEP);
    assert!(rows > 0 && rows <= SIDE && groups > 0);
    assert!(panel.sums.len() == groups * SIDE && panel.codes.len() == groups * GROUP * SIDE);
    let reach = |stride: usize, last: usize| stride.checked_mul(rows - 1)?.checked_add(last);
    assert!(reach(left.stride, groups).is_some_and(|end| end <= left.groups.len()));
    assert!(out.stride >= SIDE);
    assert!(reach(out.stride, SIDE).is_some_and(|end| end <= out.values.len()));
    match unit {
        // SAFETY: the unit is there only where the machine has the instructions. The assertions hold the last row's last number within each
        // slice.
        #[cfg(target_arch = "x86_64")]
        Unit::Vnni(_) => unsafe { x86::multiply(left, panel, out) },
        Unit::Plain => plain(left, panel, out),
    }
}

fn plain(left: Left<'_>, panel: Panel<'_>, out: Out<'_>) {
    let groups = panel.sums.len() / SIDE;
    for row in 0..left.rows {
        let groups = &left.groups[row * left.stride..][..groups];
        for column in 0..SIDE {
            let of_a_group = panel.codes.chunks_exact(GROUP * SIDE).zip(groups);
            let sum = of_a_group.zip(panel.sums.chunks_exact(SIDE));
            let sum: f32 = sum
                .map(|((weights, group), sums)| {
                    let quads = weights.chunks_exact(4 * SIDE).zip(group.codes.chunks(4));
                    let products = quads.flat_map(|(weights, codes)| {
                        let weights = weights[4 * column..].iter().zip(codes);
                        weights.map(|(weight, code)| i32::from(*weight) * i32::from(*code))
                    });
                    group.step * products.sum::<i32>() as f32 - group.offset * sums[column]
                })
                .sum();
            out.values[row * out.stride + column] = sum * panel.scales[column] + panel.bias[column];
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{GROUP, Group, Left, Out, Panel, SIDE, STEP};

    /// That this machine has the instructions.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(in super::super) struct Found(());

    impl Found {
        pub(super) fn here() -> Option<Self> {
            (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni"))
                .then_some(Self(()))
        }
    }

    /// # Safety
    ///
    /// The machine has AVX512-VNNI; the slices reach as [`super::multiply`] checks.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) unsafe fn multiply(left: Left<'_>, panel: Panel<'_>, out: Out<'_>) {
        for first in (0..left.rows).step_by(STEP) {
            let a = &left.groups[first * left.stride..];
            let c = &mut out.values[first * out.stride..];
            // SAFETY: rows come in steps of STEP, which the slices reach to.
            unsafe { eight_rows((a, left.stride), panel, (c, out.stride)) };
        }
    }

    /// So many rows of a product.
    ///
    /// # Safety
    ///
    /// The machine has AVX512-VNNI; `a` has [`STEP`] rows of the panel's groups, `c` has as many of [`SIDE`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn eight_rows(
        (a, from_row_to_row): (&[Group], usize),
        panel: Panel<'_>,
        (c, stride): (&mut [f32], usize),
    ) {
        let halves = |values: &[f32]| {
            let (halves, _) = values[..SIDE].as_chunks::<{ SIDE / 2 }>();
            // SAFETY: 16 numbers each.
            [0, 1].map(|half| unsafe { _mm512_loadu_ps(halves[half].as_ptr()) })
        };
        let groups = panel.sums.len() / SIDE;
        for group in 0..groups {
            let weights = &panel.codes[group * GROUP * SIDE..][..GROUP * SIDE];
            let mut sums = [[_mm512_setzero_si512(); 2]; STEP];
            // SAFETY: the caller's promise; what follows stays within a group of a row of `a`, a group of the panel and 32 numbers of a row of `c`.
            unsafe {
                let first = a.as_ptr().add(group);
                for quad in 0..GROUP / 4 {
                    let b = weights.as_ptr().add(quad * 4 * SIDE);
                    let b = [0, 64].map(|at| _mm512_loadu_si512(b.add(at).cast()));
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let codes = &raw const (*first.add(row * from_row_to_row)).codes;
                        let four = codes.cast::<i32>().add(quad).read_unaligned();
                        let four = _mm512_set1_epi32(four);
                        sums[0] = _mm512_dpbusd_epi32(sums[0], four, b[0]);
                        sums[1] = _mm512_dpbusd_epi32(sums[1], four, b[1]);
                    }
                }
                let of_weights = halves(&panel.sums[group * SIDE..]);
                let is_last = group + 1 == groups;
                let (scales, bias) = (halves(panel.scales), halves(panel.bias));
                for (row, sums) in sums.iter().enumerate() {
                    let one = &*first.add(row * from_row_to_row);
                    let (step, offset) = (_mm512_set1_ps(one.step), _mm512_set1_ps(one.offset));
                    for half in 0..2 {
                        let at = c.as_mut_ptr().add(row * stride + half * SIDE / 2);
                        let before = match group {
                            0 => _mm512_setzero_ps(),
                            _ => _mm512_loadu_ps(at),
                        };
                        let sum = _mm512_fmadd_ps(step, _mm512_cvtepi32_ps(sums[half]), before);
                        let mut sum = _mm512_fnmadd_ps(offset, of_weights[half], sum);
                        if is_last {
                            sum = _mm512_fmadd_ps(sum, scales[half], bias[half]);
                        }
                        _mm512_storeu_ps(at, sum);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::drawn;

    /// What a unit makes of codes that `seed` stands for.
    fn product(unit: Unit, rows: usize, groups: usize, more: usize, seed: u32) -> Vec<f32> {
        let number = |i: usize| drawn(i, seed);
        let byte = |i: usize| (128.0 * number(i)) as i8;
        let stride = groups + more;
        let reach = rows.next_multiple_of(STEP);
        let left: Vec<_> = (0..reach * stride)
            .map(|i| Group {
                step: number(i) / 128.0,
                offset: number(i + 1),
                codes: std::array::from_fn(|j| byte(i * GROUP + j) as u8),
            })
            .collect();
        let codes: Vec<_> = (0..groups * GROUP * SIDE).map(|i| byte(i + 7919)).collect();
        let numbers: Vec<_> = (0..groups * SIDE).map(number).collect();
        let mut out = vec![0.0; reach * SIDE];
        let left = Left {
            groups: &left,
            stride,
            rows,
        };
        let panel = Panel {
            codes: &codes,
            sums: &numbers,
            scales: &std::array::from_fn(|i| number(i + 3)),
            bias: &std::array::from_fn(|i| number(i + 5)),
        };
        let whole = Out {
            values: &mut out,
            stride: SIDE,
        };
        multiply(unit, left, panel, whole);
        out.truncate(rows * SIDE);
        out
    }

    proptest! {
        #[test]
        fn the_machines_unit_multiplies_as_the_plain_one(rows in 1usize..=SIDE, groups in 1usize..9, more in 0usize..3, seed: u32) {
            let plain = product(Unit::Plain, rows, groups, more, seed);
            let found = product(Unit::best(), rows, groups, more, seed);
            for (found, plain) in found.iter().zip(&plain) {
                prop_assert!((found - plain).abs() < 1e-4 * (100.0 + plain.abs()), "{found} for {plain}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "end <= left.groups.len()")]
    fn a_slice_that_is_too_short_is_not_read() {
        let mut out = [0.0; STEP * SIDE];
        let left = Left {
            groups: &[Group::default(); STEP - 1],
            stride: 1,
            rows: STEP,
        };
        let panel = Panel {
            codes: &[0; GROUP * SIDE],
            sums: &[0.0; SIDE],
            scales: &[0.0; SIDE],
            bias: &[0.0; SIDE],
        };
        let whole = Out {
            values: &mut out,
            stride: SIDE,
        };
        multiply(Unit::Plain, left, panel, whole);
    }
}
