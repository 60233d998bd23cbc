//! Logarithm, sine and cosine in f64 from correctly rounded + − × ÷ alone.
//!
//! No library call and no contraction: the same bits on every CPU, in WASM and (compiled with `-fmad=false`) in CUDA.
//! Branch-free, so that loops over arrays become SIMD. The coefficients are Chebyshev interpolants computed with 60
//! digits by `scripts/coefficients.py` and rounded to f64. Relative error of all three: below 4·10⁻¹⁶ (2 units in the last place),
//! tested against the platform's library.

// The coefficients are written with as many digits as an f64 needs to round-trip.
#![allow(clippy::excessive_precision)]

/// 2⁵², and its bits as an f64: OR-ing an integer below 2⁵² into them and subtracting converts it without an instruction
/// that only AVX-512 has.
const TWO_52: f64 = 4_503_599_627_370_496.0;
const TWO_52_BITS: u64 = 0x4330_0000_0000_0000;

/// Bits of √½, where the mantissa's range [√½, √2) begins.
const SQRT_HALF_BITS: u64 = 0x3fe6_a09e_667f_3bcd;
const ONE_BITS: u64 = 0x3ff0_0000_0000_0000;
const MANTISSA_MASK: u64 = 0x000f_ffff_ffff_ffff;

/// ln 2, split so that `k · LN2_HIGH` is exact for every exponent k (32 significant bits) and LN2_HIGH + LN2_LOW has 85.
const LN2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
const LN2_LOW: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);

/// (2·atanh(s)/s − 2)/s² as a polynomial in s², for s² up to 0.0295.
const LN: [f64; 7] = [
    0.666666666666667,
    0.39999999999899444,
    0.2857142862600327,
    0.22222211130259878,
    0.18182889455674947,
    0.15331710618210773,
    0.14616585424888623,
];

/// sin(πf/2)/f as a polynomial in f², |f| ≤ ½.
const SIN: [f64; 7] = [
    std::f64::consts::FRAC_PI_2,
    -0.6459640975062443,
    0.07969262624604301,
    -0.004681754132340976,
    0.0001604411507421909,
    -3.59864335298231e-06,
    5.633933781537854e-08,
];

/// (cos(πf/2) − 1)/f² as a polynomial in f², |f| ≤ ½.
const COS: [f64; 7] = [
    -1.2337005501361697,
    0.2536695079010478,
    -0.020863480763340773,
    0.0009192602745468447,
    -2.5202039028029178e-05,
    4.710678405505227e-07,
    -6.329396344967424e-09,
];

#[inline(always)]
fn horner<const N: usize>(coefficients: &[f64; N], x: f64) -> f64 {
    let mut sum = coefficients[N - 1];
    let mut i = N - 1;
    while i > 0 {
        i -= 1;
        sum = sum * x + coefficients[i];
    }
    sum
}

/// An integer below 2⁵² as f64, exactly.
#[inline(always)]
fn to_f64(n: u64) -> f64 {
    f64::from_bits(TWO_52_BITS | n) - TWO_52
}

/// A 32-bit integer as f64, exactly.
#[inline(always)]
pub(crate) fn u32_to_f64(n: u32) -> f64 {
    to_f64(u64::from(n))
}

/// Natural logarithm of a positive normal number.
#[inline(always)]
pub(crate) fn ln(x: f64) -> f64 {
    let shifted = x.to_bits().wrapping_add(ONE_BITS - SQRT_HALF_BITS);
    let exponent = to_f64(shifted >> 52) - 1023.0;
    let mantissa = f64::from_bits((shifted & MANTISSA_MASK) + SQRT_HALF_BITS);
    let f = mantissa - 1.0;
    let s = f / (mantissa + 1.0);
    let z = s * s;
    let tail = s * (z * horner(&LN, z)) + exponent * LN2_LOW;
    exponent * LN2_HIGH + (2.0 * s + tail)
}

/// (sin, cos) of `quarter` quarter turns (taken modulo 4) plus `f` of one, |f| ≤ ½.
#[inline(always)]
pub(crate) fn sin_cos_quarters(quarter: u32, f: f64) -> (f64, f64) {
    let z = f * f;
    let sin = f * horner(&SIN, z);
    let cos = 1.0 + z * horner(&COS, z);
    let odd = quarter & 1 != 0;
    let (sine, cosine) = if odd { (cos, sin) } else { (sin, cos) };
    let sin_sign = u64::from(quarter >> 1 & 1) << 63;
    let cos_sign = u64::from((quarter.wrapping_add(1)) >> 1 & 1) << 63;
    (
        f64::from_bits(sine.to_bits() ^ sin_sign),
        f64::from_bits(cosine.to_bits() ^ cos_sign),
    )
}

/// (sin, cos) of 2π·n/2³².
#[inline(always)]
pub(crate) fn sin_cos_of_u32_turn(n: u32) -> (f64, f64) {
    let quarter = n.wrapping_add(1 << 29) >> 30;
    let rest = n.wrapping_sub(quarter << 30) as i32;
    sin_cos_quarters(quarter, f64::from(rest) * (1.0 / 1_073_741_824.0))
}

/// (sin, cos) of 2π·u for 0 ≤ u < 1.
#[inline(always)]
pub(crate) fn sin_cos_of_turn(u: f64) -> (f64, f64) {
    let quarters = u * 4.0;
    let quarter = (quarters + 0.5) as u32;
    sin_cos_quarters(quarter, quarters - f64::from(quarter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mt19937;

    fn relative(got: f64, want: f64) -> f64 {
        if got == want { 0.0 } else { ((got - want) / want).abs() }
    }

    #[test]
    fn logarithm_within_two_units() {
        assert_eq!(ln(1.0), 0.0);
        let mut rng = Mt19937::new(3);
        for i in 0..1_000_000u64 {
            let n = if i < 1_000 {
                i + 1
            } else {
                u64::from(rng.next_u32()) + 1
            };
            for x in [n as f64 / 4_294_967_296.0, 1.0 - n as f64 / 9_007_199_254_740_992.0] {
                assert!(relative(ln(x), x.ln()) < 4e-16, "{x}");
            }
        }
    }

    #[test]
    fn sine_and_cosine_within_two_units() {
        let mut rng = Mt19937::new(4);
        for i in 0..1_000_000u32 {
            let n = if i < 8 { i << 29 } else { rng.next_u32() };
            let (sin, cos) = sin_cos_of_u32_turn(n);
            assert_eq!((sin, cos), sin_cos_of_turn(f64::from(n) / 4_294_967_296.0));
            // The library's argument 2π·n/2³² is itself rounded, so the error is absolute where the value is small.
            let angle = std::f64::consts::TAU * (f64::from(n) / 4_294_967_296.0);
            assert!(
                (sin - angle.sin()).abs() < 1e-15 && (cos - angle.cos()).abs() < 1e-15,
                "{n}"
            );
            assert!((sin * sin + cos * cos - 1.0).abs() < 1e-15);
        }
        assert_eq!(sin_cos_of_u32_turn(0), (0.0, 1.0));
        assert_eq!(sin_cos_of_u32_turn(1 << 30), (1.0, 0.0_f64.copysign(-1.0)));
    }
}
