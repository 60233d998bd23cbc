//! Activation functions.

use super::unary::{Function, apply, function};
use crate::cpu::Real;
use crate::error::Result;
use crate::value::Value;

/// Factor in CLIP's approximation of GELU.
const QUICK_GELU: f64 = 1.702;

#[inline(always)]
fn sigmoid<T: Real>(x: T) -> T {
    T::ONE / (T::ONE + (-x).exp())
}

/// The standard normal distribution function.
#[inline(always)]
pub(super) fn normal_cdf<T: Real>(x: T) -> T {
    T::of(0.5) * (T::ONE + (x * T::of(std::f64::consts::FRAC_1_SQRT_2)).erf())
}

/// The standard normal density.
#[inline(always)]
pub(super) fn normal_density<T: Real>(x: T) -> T {
    /// 1/√(2π).
    const PEAK: f64 = 0.398_942_280_401_432_7;
    T::of(PEAK) * (T::of(-0.5) * x * x).exp()
}

function!(
    /// `x · sigmoid(x)`.
    silu,
    Silu,
    |x| x * sigmoid(x),
    |x, g| {
        let s = sigmoid(x);
        g * s * (T::ONE + x * (T::ONE - s))
    }
);
function!(
    /// The exact GELU, `x · Φ(x)` with the error function.
    gelu,
    Gelu,
    |x| x * normal_cdf(x),
    |x, g| g * (normal_cdf(x) + x * normal_density(x))
);
function!(
    /// CLIP's approximation of GELU, `x · sigmoid(1.702·x)`.
    quick_gelu,
    QuickGelu,
    |x| x * sigmoid(T::of(QUICK_GELU) * x),
    |x, g| {
        let s = sigmoid(T::of(QUICK_GELU) * x);
        g * s * (T::ONE + T::of(QUICK_GELU) * x * (T::ONE - s))
    }
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn gradients() {
        let x = random(&[5, 7], 1).affine(3., 0.).unwrap();
        check(&[x.clone()], |v| silu(&v[0]));
        check(&[x.clone()], |v| gelu(&v[0]));
        check(&[x], |v| quick_gelu(&v[0]));
    }

    #[test]
    fn many_elements_agree() {
        let x = random(&[3, 9001], 1).affine(4., 0.).unwrap();
        agree(&[x.clone()], |v| silu(&v[0]));
        agree(&[x.clone()], |v| gelu(&v[0]));
        agree(&[x], |v| quick_gelu(&v[0]));
    }

    #[test]
    fn extremes_stay_finite() {
        let x = Value::leaf(crate::Tensor::new(&[-1e4f32, -100., 0., 100., 1e4], &crate::Device::Cpu).unwrap());
        for f in [silu, gelu, quick_gelu] {
            let y = f(&x).unwrap();
            let ones = y.tensor().ones_like().unwrap();
            assert_eq!(
                y.tensor().to_vec1::<f32>().unwrap(),
                [0., 0., 0., 100., 1e4].map(|v: f32| v.max(0.))
            );
            let g = crate::backward(&[(y, ones)]).unwrap();
            assert_eq!(g.get(&x).unwrap().to_vec1::<f32>().unwrap(), [0., 0., 0.5, 1., 1.]);
        }
    }
}
