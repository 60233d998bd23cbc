//! Exponential and error function in f32, accurate to about two units in the last place.
//!
//! The polynomials of `erf` were fitted by weighted least squares over Chebyshev nodes; that of `exp` is Taylor's.

use super::Bits;

/// Beyond these the result is zero or infinite.
const EXP_LOW: f32 = -104.;
const EXP_HIGH: f32 = 89.;
/// ln 2 in two parts: the first has 9 bits, so that its multiples are exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// 1/k! for k = 2 … 7: the remainder on ±½·ln 2 is below 6e-9.
const EXP: [f32; 6] = [
    0.5,
    0.166_666_67,
    0.041_666_67,
    0.008_333_334,
    0.001_388_888_9,
    0.000_198_412_7,
];

/// 2ˣ is zero in f32 from here on.
const EXP2_LOW: f32 = -150.;
/// lnᵏ 2/k! for k = 0 … 4: the remainder on ±½ is below 5e-5.
const EXP2: [f32; 5] = [1., std::f32::consts::LN_2, 0.240_226_5, 0.055_504_11, 0.009_618_129];

/// Where the two forms of erf meet.
const ERF_SPLIT: f32 = 1.;
/// From here on erf is 1 in f32.
const ERF_FLAT: f32 = 4.;
/// (erf(x) − x)/x as a polynomial in x², for |x| ≤ 1.
const ERF_NEAR: [f32; 7] = [
    0.128_379_17,
    -0.376_126_26,
    0.112_835_824,
    -0.026_853_692,
    0.005_188_099,
    -8.008_189e-4,
    7.847_259e-5,
];
/// −ln(1 − erf(x)) as a polynomial in x, for 1 ≤ x ≤ 4.
const ERF_FAR: [f32; 7] = [
    3.419_623_5e-4,
    1.127_088_9,
    0.638_142_47,
    0.103_111_45,
    -0.021_841_707,
    0.002_948_945_9,
    -1.865_517_1e-4,
];

/// Horner's rule.
#[inline(always)]
unsafe fn polynomial<S: Bits, const N: usize>(coefficients: &[f32; N], x: S::V) -> S::V {
    unsafe {
        let mut sum = S::splat(coefficients[N - 1]);
        for i in (0..N - 1).rev() {
            sum = S::fma(sum, x, S::splat(coefficients[i]));
        }
        sum
    }
}

/// eˣ; NaN stays NaN.
#[inline(always)]
pub(super) unsafe fn exp<S: Bits>(x: S::V) -> S::V {
    unsafe {
        let x = S::min(S::splat(EXP_HIGH), S::max(S::splat(EXP_LOW), x));
        let n = S::round(S::mul(x, S::splat(std::f32::consts::LOG2_E)));
        let r = S::fma(n, S::splat(-LN2_LOW), S::fma(n, S::splat(-LN2_HIGH), x));
        let tail = S::mul(S::mul(r, r), polynomial::<S, 6>(&EXP, r));
        S::scale(S::add(S::splat(1.), S::add(r, tail)), n)
    }
}

/// 2ˣ for x ≤ 0 with an error below 2⁻¹⁴ of the result, which rounding to bf16 covers; NaN stays NaN.
#[inline(always)]
pub(crate) unsafe fn exp2_short<S: Bits>(x: S::V) -> S::V {
    unsafe {
        let x = S::max(S::splat(EXP2_LOW), x);
        let n = S::round(x);
        S::scale(polynomial::<S, 5>(&EXP2, S::sub(x, n)), n)
    }
}

/// The error function.
#[inline(always)]
pub(super) unsafe fn erf<S: Bits>(x: S::V) -> S::V {
    unsafe {
        let t = S::abs(x);
        let near = S::fma(x, polynomial::<S, 7>(&ERF_NEAR, S::mul(x, x)), x);
        let exponent = polynomial::<S, 7>(&ERF_FAR, S::min(S::splat(ERF_FLAT), t));
        let far = S::sub(S::splat(1.), exp::<S>(S::sub(S::splat(0.), exponent)));
        S::select_less(t, S::splat(ERF_SPLIT), near, S::copysign(far, x))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Choice, Kernel, Simd, run_f32};

    struct Both<'a>(&'a [f32], Vec<f32>, Vec<f32>);

    impl Kernel<f32> for Both<'_> {
        type Output = (Vec<f32>, Vec<f32>);

        #[inline(always)]
        unsafe fn run<S: Simd<T = f32>>(mut self) -> Self::Output {
            unsafe {
                for i in (0..self.0.len()).step_by(S::LANES) {
                    let count = self.0.len() - i;
                    let v = S::load_some(self.0.as_ptr().add(i), count);
                    S::store_some(self.1.as_mut_ptr().add(i), S::exp(v), count);
                    S::store_some(self.2.as_mut_ptr().add(i), S::erf(v), count);
                }
            }
            (self.1, self.2)
        }
    }

    /// The distance in units of the last place of the wanted value.
    fn ulps(found: f32, wanted: f64) -> f64 {
        let unit = f64::from((wanted.abs() as f32).max(f32::MIN_POSITIVE));
        (f64::from(found) - wanted).abs() / (unit.log2().floor() - 23.).exp2()
    }

    #[test]
    fn exp_and_erf_are_accurate_in_every_class() {
        let xs: Vec<f32> = (-120_000..120_003).map(|i| i as f32 * 0.00073).collect();
        for choice in Choice::all() {
            let class = choice.name();
            let (exp, erf) = choice.on(1, || run_f32(Both(&xs, vec![0.; xs.len()], vec![0.; xs.len()])));
            for (i, &x) in xs.iter().enumerate() {
                let e = ulps(exp[i], f64::from(x).exp());
                assert!(e < 2.5, "{class} exp({x}) = {} off by {e} units", exp[i]);
                let e = ulps(erf[i], libm::erf(f64::from(x)));
                assert!(e < 3., "{class} erf({x}) = {} off by {e} units", erf[i]);
            }
        }
    }

    #[test]
    fn extremes_in_every_class() {
        let xs = [
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            1e30,
            -1e30,
            -0.,
            100.,
            -100.,
            88.5,
        ];
        for choice in Choice::all() {
            let class = choice.name();
            let (exp, erf) = choice.on(1, || run_f32(Both(&xs, vec![0.; xs.len()], vec![0.; xs.len()])));
            assert!(exp[0].is_nan() && erf[0].is_nan(), "{class}");
            assert_eq!(exp[1..6], [f32::INFINITY, 0., f32::INFINITY, 0., 1.], "{class}");
            assert_eq!(exp[6], f32::INFINITY, "{class}");
            assert!(exp[7] < 1e-40, "{class}");
            assert!(ulps(exp[8], 88.5f64.exp()) < 2.5, "{class}");
            assert_eq!(erf[1..5], [1., -1., 1., -1.], "{class}");
        }
    }
}
