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
