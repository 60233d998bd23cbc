//! Fused multiply-add in f32: the hardware's where there is one, an exact emulation elsewhere (WASM, old x86).

/// How a kernel gets `a·b + c` rounded once.
pub(crate) trait Fma {
    fn fma(a: f32, b: f32, c: f32) -> f32;
}

/// `f32::mul_add`: one instruction where the enclosing function's target has it, else a (correct) library call.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) struct Hardware;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
impl Fma for Hardware {
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

/// The same result from f64 arithmetic, without branches.
///
/// The product of two f32 is exact in f64. The sum is not, and rounding it twice (to f64, then to f32) could err, so the
/// f64 sum is rounded *to odd*: its error `e` comes from Knuth's two-sum, and when there is one and the last bit is even,
/// the sum moves one unit towards the true value. A number rounded to odd with at least two spare bits rounds to f32 as
/// the exact one does (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
#[cfg(any(test, not(target_arch = "aarch64")))]
pub(crate) struct Emulated;

#[cfg(any(test, not(target_arch = "aarch64")))]
impl Fma for Emulated {
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        let product = f64::from(a) * f64::from(b);
        let addend = f64::from(c);
        let sum = product + addend;
        let back = sum - product;
        let error = (product - (sum - back)) + (addend - back);
        let bits = sum.to_bits();
        let inexact_and_even = (error != 0.0) & (bits & 1 == 0) & sum.is_finite();
        let away_from_zero = (error > 0.0) == (sum > 0.0);
        let step = if away_from_zero { 1u64 } else { u64::MAX };
        let odd = bits.wrapping_add(if inexact_and_even { step } else { 0 });
        f64::from_bits(odd) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mt19937;

    #[test]
    fn emulation_equals_the_fused_operation() {
        let mut rng = Mt19937::new(1);
        // Random bits within exponents where nothing overflows, addends near the product so that cancellation and
        // double rounding happen.
        for i in 0..2_000_000u32 {
            let mut float = |spread: u32| {
                let r = rng.next_u32();
                f32::from_bits((r & 0x807f_ffff) | ((127 - spread / 2 + (r >> 23) % spread.max(1)) << 23))
            };
            let (a, b) = (float(20), float(20));
            let c = if i % 3 == 0 {
                -(a * b) * (1.0 + float(1) * f32::EPSILON)
            } else {
                float(60)
            };
            assert_eq!(
                Emulated::fma(a, b, c).to_bits(),
                a.mul_add(b, c).to_bits(),
                "{a} {b} {c}"
            );
        }
    }

    #[test]
    fn emulation_of_special_cases() {
        for (a, b, c) in [
            (0.0, 5.0, 0.0),
            (-0.0, 5.0, 0.0),
            (1.0, 1.0, -1.0),
            (f32::MAX, 2.0, f32::MIN),
            (f32::MAX, 2.0, 0.0),
            (f32::MIN_POSITIVE, 0.5, f32::from_bits(1)),
            (f32::from_bits(1), 0.5, f32::from_bits(1)),
            (f32::from_bits(3), 0.5, f32::from_bits(1)),
            (f32::INFINITY, 1.0, 1.0),
        ] {
            assert_eq!(
                Emulated::fma(a, b, c).to_bits(),
                a.mul_add(b, c).to_bits(),
                "{a} {b} {c}"
            );
        }
    }
}
