//! Products of tiles of bf16 by the instructions that a machine has for them: Intel's matrix unit (AMX-BF16) or the dot products of
//! AVX-512 (AVX512-BF16).
//!
//! The standard library has no stable functions for the matrix unit, so that one is reached by inline assembly.
//!
//! # Safety
//!
//! What is here is safe to call: [`multiply`] checks that every byte that its instructions touch lies within the slices that it was given,
//! a [`Session`] stands for what the instructions need of the machine (found at run time) and of the thread (a tile configuration, which
//! is loaded when a session begins and let go of when the thread's last one ends), and it cannot leave its thread.

#![allow(unsafe_code)]

use half::bf16;

/// Columns of a tile's result, and the most rows.
pub(super) const SIDE: usize = 32;

/// Rows come in steps of this: what is read and written is rounded up to it.
pub(super) const STEP: usize = 16;

/// Inner numbers come in steps of this.
pub(super) const DEPTH: usize = 32;

/// What multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Tiles of 16 x 32 numbers.
    #[cfg(target_arch = "x86_64")]
    Amx,
    /// Pairs in registers of 32 numbers.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// Any machine, slowly: what the others are tested against.
    Plain,
}

impl Unit {
    /// The quickest of this machine; none where there is only [`Unit::Plain`].
    pub(super) fn best() -> Option<Self> {
        Self::all().next()
    }

    /// Those of this machine but for the plain one, the quickest first.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        {
            let amx = (x86::has_avx512() && x86::has_amx()).then_some(Self::Amx);
            let avx512 = x86::has_avx512().then_some(Self::Avx512);
            amx.into_iter().chain(avx512)
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            std::iter::empty()
        }
    }
}

/// A thread's readiness to multiply.
pub(super) struct Session {
    unit: Unit,
    /// A tile configuration is of one thread.
    _of_this_thread: std::marker::PhantomData<*const ()>,
}

impl Session {
    /// # Panics
    ///
    /// If this machine does not have `unit`.
    pub(super) fn new(unit: Unit) -> Self {
        assert!(
            unit == Unit::Plain || Unit::all().any(|one| one == unit),
            "this machine has no {unit:?}"
        );
        #[cfg(target_arch = "x86_64")]
        if unit == Unit::Amx {
            x86::begin();
        }
        Self {
            unit,
            _of_this_thread: std::marker::PhantomData,
        }
    }

    /// What multiplies.
    pub(super) fn unit(&self) -> Unit {
        self.unit
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        #[cfg(target_arch = "x86_64")]
        if self.unit == Unit::Amx {
            x86::end();
        }
    }
}

/// Rows of bf16 in somebody's slice, `stride` numbers apart.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    pub(super) values: &'a [bf16],
    pub(super) stride: usize,
    pub(super) rows: usize,
}

/// Rows of f32 in somebody's slice, `stride` numbers apart.
pub(super) struct Out<'a> {
    pub(super) values: &'a mut [f32],
    pub(super) stride: usize,
}

/// `out = start + left * panel`, [rows, 32], the same start, or zeros, for each of up to 32 rows.
///
/// The panel is [depth / 2, 32, 2]: pairs of inner numbers, column by column, and its length says how deep the product is. Rows of `left`
/// and `out` are read and written in steps of up to [`STEP`], so that slices have to reach that far; what is in the rows of `out` beyond those
/// of `left` is anything afterwards.
///
/// # Panics
///
/// If a slice is too short, or the depth no multiple of [`DEPTH`].
pub(super) fn multiply(
    session: &Session,
    left: Left<'_>,
    panel: &[bf16],
    start: Option<&[f32; SIDE]>,
    out: Out<'_>,
) {
    let depth = panel.len() / SIDE;
    let rows = left.rows.next_multiple_of(STEP);
    assert!(rows > 0 && rows <= SIDE && depth > 0);
    assert!(panel.len().is_multiple_of(SIDE * DEPTH));
    let reach = |stride: usize, last: usize| stride.checked_mul(rows - 1)?.checked_add(last);
    assert!(reach(left.stride, depth).is_some_and(|end| end <= left.values.len()));
    assert!(out.stride >= SIDE);
    assert!(reach(out.stride, SIDE).is_some_and(|end| end <= out.values.len()));
    match session.unit {
        // SAFETY: a session of a unit is there only where the machine has it, and for AMX the thread's tiles are configured. The
        // assertions hold the last row's last number within each slice, for `rows` rows of `depth` numbers and of 32.
        #[cfg(target_arch = "x86_64")]
        Unit::Amx => unsafe { x86::multiply_amx(left, rows, panel, start, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Unit::Avx512 => unsafe { x86::multiply_avx512(left, panel, start, out) },
        Unit::Plain => multiply_plain(left, rows, panel, start, out),
    }
}

/// The nearest bf16 of each number, halves to even; what is no number stays that.
pub(super) fn round_all(session: &Session, numbers: &[f32], out: &mut [bf16]) {
    match session.unit {
        // SAFETY: a session of either is there only where the machine has AVX512-BF16.
        #[cfg(target_arch = "x86_64")]
        Unit::Amx | Unit::Avx512 => unsafe { x86::round_all(numbers, out) },
        Unit::Plain => {
            for (out, x) in out.iter_mut().zip(numbers) {
                *out = bf16::from_f32(*x);
            }
        }
    }
}

fn multiply_plain(
    left: Left<'_>,
    rows: usize,
    panel: &[bf16],
    start: Option<&[f32; SIDE]>,
    out: Out<'_>,
) {
    for row in 0..rows {
        let sums = &mut out.values[row * out.stride..][..SIDE];
        sums.copy_from_slice(start.unwrap_or(&[0.0; SIDE]));
        let pairs = left.values[row * left.stride..].chunks_exact(2);
        for (pair, weights) in pairs.zip(panel.chunks_exact(2 * SIDE)) {
            let (a, b) = (pair[0].to_f32(), pair[1].to_f32());
            for (sum, weight) in sums.iter_mut().zip(weights.chunks_exact(2)) {
                *sum += a * weight[0].to_f32() + b * weight[1].to_f32();
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::{
        arch::{asm, x86_64::*},
        cell::Cell,
        sync::LazyLock,
    };

    use half::bf16;

    use super::{DEPTH, Left, Out, SIDE, STEP};

    /// Rows that are summed up in registers together, [`SIDE`] columns each.
    const ROWS: usize = 8;

    /// The same for the last rows where they are no more than that: fewer are no quicker, for each sum waits for the one before it.
    const LAST_ROWS: usize = 4;

    pub(super) fn has_avx512() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512bf16")
    }

    /// Whether there is a matrix unit for bf16 and the kernel lets this process use it.
    pub(super) fn has_amx() -> bool {
        static HAS: LazyLock<bool> = LazyLock::new(|| amx_bf16() && permitted());
        *HAS
    }

    /// Intel's manual, CPUID leaf 7: tiles and their bf16 products.
    fn amx_bf16() -> bool {
        const BF16: u32 = 1 << 22;
        const TILES: u32 = 1 << 24;
        if __get_cpuid_max(0).0 < 7 {
            return false;
        }
        let found = __cpuid_count(7, 0).edx;
        found & BF16 != 0 && found & TILES != 0
    }

    /// Asks Linux for the tiles' state (Documentation/arch/x86/xstate.rst), which threads then get as they use it.
    #[cfg(target_os = "linux")]
    fn permitted() -> bool {
        const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
        const XFEATURE_XTILEDATA: libc::c_ulong = 18;
        // SAFETY: this request takes two numbers and touches no memory of ours.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_arch_prctl,
                ARCH_REQ_XCOMP_PERM,
                XFEATURE_XTILEDATA,
            )
        };
        answer == 0
    }

    #[cfg(not(target_os = "linux"))]
    fn permitted() -> bool {
        false
    }

    /// As LDTILECFG reads it: every tile has 16 rows of 64 bytes.
    #[repr(C, align(64))]
    struct Tiles {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        bytes_a_row: [u16; 16],
        rows: [u8; 16],
    }

    static TILES: Tiles = Tiles {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        bytes_a_row: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
        rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
    };

    thread_local! {
        /// Sessions of this thread.
        static SESSIONS: Cell<usize> = const { Cell::new(0) };
    }

    pub(super) fn begin() {
        let before = SESSIONS.replace(SESSIONS.get() + 1);
        if before == 0 {
            // SAFETY: sessions are begun only where `has_amx`; TILES is 64 bytes as palette 1 wants them.
            unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const TILES, options(nostack, readonly)) };
        }
    }

    pub(super) fn end() {
        let now = SESSIONS.get() - 1;
        SESSIONS.set(now);
        if now == 0 {
            // SAFETY: as at its beginning. No tile is live between calls of `multiply_amx`.
            unsafe { asm!("tilerelease", options(nostack, nomem)) };
        }
    }

    /// # Safety
    ///
    /// The thread's tiles are configured as [`TILES`]; the slices reach as [`super::multiply`] checks.
    pub(super) unsafe fn multiply_amx(
        left: Left<'_>,
        rows: usize,
        panel: &[bf16],
        start: Option<&[f32; SIDE]>,
        mut out: Out<'_>,
    ) {
        // SAFETY: as the caller promises.
        unsafe { tiles_amx(left, rows, panel, &mut out) };
        if let Some(start) = start {
            // SAFETY: a machine with tiles has AVX-512.
            unsafe { add_to_rows(start, rows, out) };
        }
    }

    /// Adds the same to each row.
    #[target_feature(enable = "avx512f")]
    fn add_to_rows(start: &[f32; SIDE], rows: usize, out: Out<'_>) {
        for row in out.values.chunks_mut(out.stride).take(rows) {
            for (x, start) in row.iter_mut().zip(start) {
                *x += start;
            }
        }
    }

    /// # Safety
    ///
    /// As that of [`multiply_amx`].
    unsafe fn tiles_amx(left: Left<'_>, rows: usize, panel: &[bf16], out: &mut Out<'_>) {
        let steps = panel.len() / SIDE / DEPTH;
        let (a, stride) = (left.values.as_ptr(), 2 * left.stride);
        let (b, c) = (panel.as_ptr(), out.values.as_mut_ptr());
        let width = 4 * out.stride;
        // A step reads 16 or 32 rows of 64 bytes at `a`, and 16 rows of 128 bytes at `b`.
        if rows == STEP {
            // SAFETY: see above.
            unsafe {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "2:",
                    "tileloadd tmm4, [{a} + {stride}]",
                    "tileloadd tmm6, [{b} + {side}]",
                    "tileloadd tmm7, [{b} + {side} + 64]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "add {a}, 64",
                    "add {b}, 2048",
                    "dec {steps}",
                    "jnz 2b",
                    "tilestored [{c} + {width}], tmm0",
                    "tilestored [{c} + {width} + 64], tmm1",
                    a = inout(reg) a => _,
                    b = inout(reg) b => _,
                    steps = inout(reg) steps => _,
                    c = in(reg) c,
                    stride = in(reg) stride,
                    side = in(reg) 4 * SIDE,
                    width = in(reg) width,
                    out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
            return;
        }
        // SAFETY: see above.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm4, [{a} + {stride}]",
                "tileloadd tmm6, [{b} + {side}]",
                "tileloadd tmm7, [{b} + {side} + 64]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{second} + {stride}]",
                "prefetcht0 [{b} + 4096]",
                "prefetcht0 [{b} + 4160]",
                "prefetcht0 [{b} + 4224]",
                "prefetcht0 [{b} + 4288]",
                "prefetcht0 [{b} + 4352]",
                "prefetcht0 [{b} + 4416]",
                "prefetcht0 [{b} + 4480]",
                "prefetcht0 [{b} + 4544]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "prefetcht0 [{b} + 4608]",
                "prefetcht0 [{b} + 4672]",
                "prefetcht0 [{b} + 4736]",
                "prefetcht0 [{b} + 4800]",
                "prefetcht0 [{b} + 4864]",
                "prefetcht0 [{b} + 4928]",
                "prefetcht0 [{b} + 4992]",
                "prefetcht0 [{b} + 5056]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "prefetcht0 [{b} + 5120]",
                "prefetcht0 [{b} + 5184]",
                "prefetcht0 [{b} + 5248]",
                "prefetcht0 [{b} + 5312]",
                "prefetcht0 [{b} + 5376]",
                "prefetcht0 [{b} + 5440]",
                "prefetcht0 [{b} + 5504]",
                "prefetcht0 [{b} + 5568]",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "prefetcht0 [{b} + 5632]",
                "prefetcht0 [{b} + 5696]",
                "prefetcht0 [{b} + 5760]",
                "prefetcht0 [{b} + 5824]",
                "prefetcht0 [{b} + 5888]",
                "prefetcht0 [{b} + 5952]",
                "prefetcht0 [{b} + 6016]",
                "prefetcht0 [{b} + 6080]",
                "add {a}, 64",
                "add {second}, 64",
                "add {b}, 2048",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{c} + {width}], tmm0",
                "tilestored [{c} + {width} + 64], tmm1",
                "tilestored [{below} + {width}], tmm2",
                "tilestored [{below} + {width} + 64], tmm3",
                a = inout(reg) a => _,
                second = inout(reg) a.byte_add(STEP * stride) => _,
                b = inout(reg) b => _,
                steps = inout(reg) steps => _,
                c = in(reg) c,
                below = in(reg) c.byte_add(STEP * width),
                stride = in(reg) stride,
                side = in(reg) 4 * SIDE,
                width = in(reg) width,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }

    /// # Safety
    ///
    /// The machine has AVX512-BF16; the slices reach as [`super::multiply`] checks.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn multiply_avx512(
        left: Left<'_>,
        panel: &[bf16],
        start: Option<&[f32; SIDE]>,
        out: Out<'_>,
    ) {
        let (start, _) = start.unwrap_or(&[0.0; SIDE]).as_chunks::<16>();
        // SAFETY: 16 numbers each.
        let start = [0, 1].map(|half| unsafe { _mm512_loadu_ps(start[half].as_ptr()) });
        for first in (0..left.rows).step_by(ROWS) {
            let a = &left.values[first * left.stride..];
            let c = &mut out.values[first * out.stride..];
            // SAFETY: rows come in steps of both ROWS and LAST_ROWS within a STEP, which the slices reach to.
            unsafe {
                match left.rows - first > LAST_ROWS {
                    true => sums_avx512::<ROWS>((a, left.stride), panel, start, (c, out.stride)),
                    false => {
                        sums_avx512::<LAST_ROWS>((a, left.stride), panel, start, (c, out.stride));
                    }
                }
            }
        }
    }

    /// So many rows of a product.
    ///
    /// # Safety
    ///
    /// The machine has AVX512-BF16; `a` has `N` rows of the panel's depth, `c` has `N` of [`SIDE`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn sums_avx512<const N: usize>(
        (a, from_row_to_row): (&[bf16], usize),
        panel: &[bf16],
        start: [__m512; 2],
        (c, stride): (&mut [f32], usize),
    ) {
        let mut sums = [start; N];
        // SAFETY: the caller's promise; what follows stays within `depth` numbers of a row of `a` and 32 of one of `c`.
        unsafe {
            let a = a.as_ptr().cast::<i32>();
            for pair in 0..panel.len() / SIDE / 2 {
                let b = panel.as_ptr().add(pair * 2 * SIDE).cast::<i32>();
                let b = [0, 16].map(|at| _mm512_loadu_si512(b.add(at).cast()));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let a = a.byte_add(2 * row * from_row_to_row).add(pair);
                    let a = as_bf16(_mm512_set1_epi32(a.read_unaligned()));
                    sums[0] = _mm512_dpbf16_ps(sums[0], a, as_bf16(b[0]));
                    sums[1] = _mm512_dpbf16_ps(sums[1], a, as_bf16(b[1]));
                }
            }
            for (row, sums) in sums.iter().enumerate() {
                let c = c.as_mut_ptr().add(row * stride);
                _mm512_storeu_ps(c, sums[0]);
                _mm512_storeu_ps(c.add(16), sums[1]);
            }
        }
    }

    /// # Safety
    ///
    /// The machine has AVX512-BF16.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) unsafe fn round_all(numbers: &[f32], out: &mut [bf16]) {
        let (whole, rest) = numbers.as_chunks::<SIDE>();
        let (whole_out, rest_out) = out.as_chunks_mut::<SIDE>();
        for (numbers, out) in whole.iter().zip(whole_out) {
            // SAFETY: 32 numbers of four bytes are two loads, 32 of two bytes a store.
            unsafe {
                let low = _mm512_loadu_ps(numbers.as_ptr());
                let high = _mm512_loadu_ps(numbers.as_ptr().add(SIDE / 2));
                let rounded = _mm512_cvtne2ps_pbh(high, low);
                let rounded = std::mem::transmute::<__m512bh, __m512i>(rounded);
                _mm512_storeu_si512(out.as_mut_ptr().cast(), rounded);
            }
        }
        for (out, x) in rest_out.iter_mut().zip(rest) {
            *out = bf16::from_f32(*x);
        }
    }

    #[inline(always)]
    fn as_bf16(bits: __m512i) -> __m512bh {
        // SAFETY: both are 64 bytes without invalid values.
        unsafe { std::mem::transmute::<__m512i, __m512bh>(bits) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::drawn;

    /// What a unit makes of numbers between -1 and 1 that `seed` stands for.
    fn product(
        unit: Unit,
        rows: usize,
        (depth, stride): (usize, usize),
        start_given: bool,
        seed: u32,
    ) -> Vec<f32> {
        let number = |i: usize| bf16::from_f32(drawn(i, seed));
        let reach = rows.next_multiple_of(STEP);
        let values: Vec<_> = (0..(reach - 1) * stride + depth).map(number).collect();
        let panel: Vec<_> = (0..depth * SIDE).map(|i| number(i + 7919)).collect();
        let mut out = vec![0.0; reach * SIDE];
        let left = Left {
            values: &values,
            stride,
            rows,
        };
        let whole = Out {
            values: &mut out,
            stride: SIDE,
        };
        let start = std::array::from_fn(|i| number(i + 77).to_f32());
        multiply(
            &Session::new(unit),
            left,
            &panel,
            start_given.then_some(&start),
            whole,
        );
        out.truncate(rows * SIDE);
        out
    }

    proptest! {
        #[test]
        fn every_unit_multiplies_as_the_plain_one(rows in 1usize..=SIDE, steps in 1usize..50, more in 0usize..70, start: bool, seed: u32) {
            let depth = steps * DEPTH;
            let size = (depth, depth + more);
            let plain = product(Unit::Plain, rows, size, start, seed);
            for unit in Unit::all() {
                let found = product(unit, rows, size, start, seed);
                for (found, plain) in found.iter().zip(&plain) {
                    prop_assert!((found - plain).abs() < 1e-5 * depth as f32, "{unit:?}: {found} for {plain}");
                }
            }
        }
    }

    /// 32 rows of `values` times zeros, into ones.
    fn nothing(session: &Session, values: &[bf16]) -> Vec<f32> {
        let mut out = vec![1.0; SIDE * SIDE];
        let left = Left {
            values,
            stride: DEPTH,
            rows: SIDE,
        };
        let whole = Out {
            values: &mut out,
            stride: SIDE,
        };
        multiply(session, left, &[bf16::ZERO; SIDE * DEPTH], None, whole);
        out
    }

    #[test]
    fn sessions_of_a_thread_nest() {
        for unit in Unit::all().chain([Unit::Plain]) {
            let outer = Session::new(unit);
            drop(Session::new(unit));
            let out = nothing(&outer, &[bf16::ONE; SIDE * DEPTH]);
            assert!(out.iter().all(|x| *x == 0.0), "{unit:?}");
        }
    }

    #[test]
    #[should_panic(expected = "end <= left.values.len()")]
    fn a_slice_that_is_too_short_is_not_read() {
        nothing(&Session::new(Unit::Plain), &[bf16::ONE; SIDE * DEPTH - 1]);
    }
}
