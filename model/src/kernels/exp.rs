//! The exponential function in a form that compilers turn into vector instructions.

/// `e^x` within 2 units in the last place, for x clamped to [-70, 88]: far enough from numbers so small that products
/// with them take the processor a hundred times as long.
///
/// Cephes' `expf`: split into a power of two and a remainder in [-ln 2 / 2, ln 2 / 2], the latter by a polynomial.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// Adding this leaves the nearest integer in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    const ROUND_BITS: i32 = 0x4B40_0000;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-70.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5.0e-1;
    let fraction = p * r * r + r + 1.0;
    let exponent = shifted.to_bits() as i32 - ROUND_BITS + 127;
    fraction * f32::from_bits((exponent << 23) as u32)
}

/// `e^x` within 1e-4 of it, for results that are rounded to bf16 and machines that multiply and add in one instruction.
#[inline(always)]
pub(super) fn exp_near(x: f32) -> f32 {
    /// Adding this leaves the nearest integer in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    let x = (x * std::f32::consts::LOG2_E).clamp(-100.0, 126.0);
    let shifted = x + ROUND;
    let r = x - (shifted - ROUND);
    let p = 0.055_171_67_f32.mul_add(r, 0.242_611_14);
    let p = p.mul_add(r, 0.693_260_97);
    let p = p.mul_add(r, 0.999_928_06);
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

#[cfg(test)]
mod tests {
    use super::{exp, exp_near};

    #[test]
    fn the_near_one_is_nearer_than_half_a_step_of_bf16() {
        for i in -69_000..87_000 {
            let x = i as f32 / 1000.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp_near(x)) - exact).abs() / exact;
            assert!(error < 1e-4, "{x}: {error}");
        }
        assert!(exp_near(f32::NEG_INFINITY) < 1e-30);
        assert!(exp_near(f32::NAN).is_nan());
    }

    #[test]
    fn is_near_the_exact_value_everywhere() {
        for i in -69_000..88_000 {
            let x = i as f32 / 1000.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 3e-7, "{x}: {error}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NEG_INFINITY) < 1e-30);
        assert!(exp(f32::INFINITY).is_finite());
    }
}
