//! Attention's weights in one pass: exponentials of scores, rounded to bf16 for the product with the values, and their sum.
//!
//! The compiler vectorises each of the three, but not the three at once.
//!
//! # Safety
//!
//! [`weights`] is safe to call: a [`Session`] that is not plain is there only where the machine has the instructions, and what is read and
//! written is chunks of the slices given.

#![allow(unsafe_code)]

use half::bf16;

use super::{
    exp::exp_near,
    unsafe_tiles::{Session, Unit},
};

/// Numbers of a step.
const STEP: usize = 32;

/// `weights = e^(scores - largest)`, rounded, each within 1e-4 before that; their sum. What is no number stays that.
///
/// # Panics
///
/// If the slices are not of one length, a multiple of 32.
pub(super) fn weights(
    session: &Session,
    scores: &[f32],
    largest: f32,
    weights: &mut [bf16],
) -> f32 {
    let (scores, rest) = scores.as_chunks::<STEP>();
    let (weights, rest_of_weights) = weights.as_chunks_mut::<STEP>();
    assert!(rest.is_empty() && rest_of_weights.is_empty() && scores.len() == weights.len());
    match session.unit() {
        // SAFETY: a session of either is there only where the machine has AVX512-BF16.
        #[cfg(target_arch = "x86_64")]
        Unit::Amx | Unit::Avx512 => unsafe { x86::weights(scores, largest, weights) },
        Unit::Plain => plain(scores, largest, weights),
    }
}

fn plain(scores: &[[f32; STEP]], largest: f32, weights: &mut [[bf16; STEP]]) -> f32 {
    let pairs = scores.as_flattened().iter().zip(weights.as_flattened_mut());
    pairs
        .map(|(score, weight)| {
            let e = exp_near(score - largest);
            *weight = bf16::from_f32(e);
            e
        })
        .sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use half::bf16;

    use super::STEP;

    /// # Safety
    ///
    /// The machine has AVX512-BF16.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) unsafe fn weights(
        scores: &[[f32; STEP]],
        largest: f32,
        weights: &mut [[bf16; STEP]],
    ) -> f32 {
        let shift = _mm512_set1_ps(largest * std::f32::consts::LOG2_E);
        let mut sums = [_mm512_setzero_ps(); 2];
        for (scores, weights) in scores.iter().zip(weights) {
            let halves = [0, STEP / 2].map(|at| {
                // SAFETY: 16 of the 32 numbers from either on.
                let scores = unsafe { _mm512_loadu_ps(scores.as_ptr().add(at)) };
                exp2(_mm512_fmsub_ps(
                    scores,
                    _mm512_set1_ps(std::f32::consts::LOG2_E),
                    shift,
                ))
            });
            sums = [
                _mm512_add_ps(sums[0], halves[0]),
                _mm512_add_ps(sums[1], halves[1]),
            ];
            let rounded = _mm512_cvtne2ps_pbh(halves[1], halves[0]);
            // SAFETY: 64 bytes without invalid values, into 32 numbers of two bytes.
            unsafe {
                let rounded = std::mem::transmute::<__m512bh, __m512i>(rounded);
                _mm512_storeu_si512(weights.as_mut_ptr().cast(), rounded);
            }
        }
        _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1]))
    }

    /// `2^x` as [`super::exp_near`] computes it.
    #[target_feature(enable = "avx512f")]
    fn exp2(x: __m512) -> __m512 {
        // Of two of which one is no number, `max` gives the second.
        let x = _mm512_max_ps(_mm512_set1_ps(-100.0), x);
        let n = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
        let r = _mm512_sub_ps(x, n);
        let p = _mm512_fmadd_ps(
            _mm512_set1_ps(0.055_171_67),
            r,
            _mm512_set1_ps(0.242_611_14),
        );
        let p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.693_260_97));
        let p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.999_928_06));
        _mm512_scalef_ps(p, n)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_unit_computes_what_the_plain_one_does(
            scores in prop::collection::vec(-200f32..50.0, 1..200),
        ) {
            let mut scores = scores;
            scores.resize(scores.len().next_multiple_of(STEP), f32::NEG_INFINITY);
            let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let of = |unit| {
                let mut found = vec![bf16::ZERO; scores.len()];
                let sum = weights(&Session::new(unit), &scores, largest, &mut found);
                (sum, found)
            };
            let (sum, plain) = of(Unit::Plain);
            for unit in Unit::all() {
                let (found_sum, found) = of(unit);
                prop_assert!((found_sum - sum).abs() < 1e-3 * sum, "{unit:?}: {found_sum} for {sum}");
                for (found, plain) in found.iter().zip(&plain) {
                    let (found, plain) = (found.to_f32(), plain.to_f32());
                    prop_assert!((found - plain).abs() <= 0.01 * plain.max(1e-25), "{unit:?}: {found} for {plain}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_that() {
        for unit in Unit::all().chain([Unit::Plain]) {
            let mut scores = [0.0; STEP];
            scores[5] = f32::NAN;
            let mut found = [bf16::ZERO; STEP];
            let sum = weights(&Session::new(unit), &scores, 0.0, &mut found);
            assert!(
                sum.is_nan() && found[5].is_nan() && found[6] == bf16::ONE,
                "{unit:?}"
            );
        }
    }
}
