//! The exponential function in a form that compilers turn into vector instructions.

/// Adding this leaves the nearest integer in the low bits of the mantissa.
const ROUND: f32 = 12_582_912.0;

const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// Of `(e^r - 1 - r) / r^2` for r in [-ln 2 / 2, ln 2 / 2], the highest power first (Cephes' `expf`).
const REMAINDER: [f32; 6] = [
    1.987_569_1e-4,
    1.398_199_9e-3,
    8.333_452e-3,
    4.166_579_6e-2,
    1.666_666_5e-1,
    5.0e-1,
];

/// `e^x` within 2 units in the last place, for x clamped to [-70, 88]: far enough from numbers so small that products
/// with them take the processor a hundred times as long.
///
/// Cephes' `expf`: split into a power of two and a remainder in [-ln 2 / 2, ln 2 / 2], the latter by a polynomial.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let x = x.clamp(-70.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let [first, rest @ ..] = REMAINDER;
    let p = rest.into_iter().fold(first, |p, c| p * r + c);
    (p * r * r + r + 1.0) * power_of_two(shifted)
}

/// The same for x of 88 at most, which is not looked at, on machines that multiply and add in one instruction.
#[inline(always)]
pub(super) fn exp_fused(x: f32) -> f32 {
    // What is no number is not below any, and stays.
    let x = if x < -70.0 { -70.0 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let [first, rest @ ..] = REMAINDER;
    let p = rest.into_iter().fold(first, |p, c| p.mul_add(r, c));
    (p.mul_add(r * r, r) + 1.0) * power_of_two(shifted)
}

/// Two to the power that is in the low bits of `shifted`. A product with it keeps what is no number, as sums of bits would not.
#[inline(always)]
fn power_of_two(shifted: f32) -> f32 {
    f32::from_bits((shifted.to_bits() << 23).wrapping_add(1f32.to_bits()))
}

/// `e^x` within 1e-4 of it, for results that are rounded to bf16 and machines that multiply and add in one instruction.
#[inline(always)]
pub(super) fn exp_near(x: f32) -> f32 {
    let x = (x * std::f32::consts::LOG2_E).clamp(-100.0, 126.0);
    let shifted = x + ROUND;
    let r = x - (shifted - ROUND);
    let p = 0.055_171_67_f32.mul_add(r, 0.242_611_14);
    let p = p.mul_add(r, 0.693_260_97);
    let p = p.mul_add(r, 0.999_928_06);
    p * power_of_two(shifted)
}

#[cfg(test)]
mod tests {
    use super::{exp, exp_fused, exp_near};

    #[test]
    fn the_near_one_is_nearer_than_half_a_step_of_bf16() {
        for i in -69_000..87_000 {
            let x = i as f32 / 1000.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp_near(x)) - exact).abs() / exact;
            assert!(error < 1e-4, "{x}: {error}");
        }
        assert!(exp_near(f32::NEG_INFINITY) < 1e-30);
    }

    #[test]
    fn what_is_no_number_stays_none() {
        for bits in [
            0x7fc0_0000,
            0x7fc0_0080,
            0x7fff_ffff,
            0xffff_ffff,
            0x7f80_0001,
        ] {
            let x = f32::from_bits(bits);
            for found in [exp(x), exp_fused(x), exp_near(x)] {
                assert!(found.is_nan(), "{bits:x}: {found}");
            }
        }
    }

    #[test]
    fn is_near_the_exact_value_everywhere() {
        for i in -69_000..88_000 {
            let x = i as f32 / 1000.0;
            let exact = f64::from(x).exp();
            for found in [exp(x), exp_fused(x)] {
                let error = (f64::from(found) - exact).abs() / exact;
                assert!(error < 3e-7, "{x}: {error}");
            }
        }
        assert_eq!([exp(0.0), exp_fused(0.0)], [1.0; 2]);
        assert!(exp(f32::NEG_INFINITY) < 1e-30 && exp_fused(f32::NEG_INFINITY) < 1e-30);
        assert!(exp(f32::INFINITY).is_finite());
    }
}
