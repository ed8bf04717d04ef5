//! The exponential function in a form that compilers turn into vector instructions.

/// `e^x` within 2 units in the last place, for x clamped to where the result is a normal number.
///
/// Cephes' `expf`: split into a power of two and a remainder in [-ln 2 / 2, ln 2 / 2], the latter by a polynomial.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// Adding this leaves the nearest integer in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    const ROUND_BITS: i32 = 0x4B40_0000;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.3, 88.0);
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

#[cfg(test)]
mod tests {
    use super::exp;

    #[test]
    fn is_near_the_exact_value_everywhere() {
        for i in -87_000..88_000 {
            let x = i as f32 / 1000.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 3e-7, "{x}: {error}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
        assert!(exp(f32::INFINITY).is_finite());
    }
}
