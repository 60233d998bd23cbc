//! The number types that kernels compute in.

use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub};

use candle_core::WithDType;

use super::simd::{self, Kernel};

/// f32 or f64.
pub(crate) trait Real:
    WithDType
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + MulAssign
    + PartialOrd
    + Sum
    + Send
    + Sync
    + 'static
{
    const ZERO: Self;
    const ONE: Self;
    fn of(x: f64) -> Self;
    fn f64(self) -> f64;
    fn exp(self) -> Self;
    fn ln(self) -> Self;
    fn sqrt(self) -> Self;
    fn abs(self) -> Self;
    fn erf(self) -> Self;
    /// Runs a kernel with the instruction set in use.
    fn run<K: Kernel<Self>>(kernel: K) -> K::Output;
}

macro_rules! real {
    ($t:ty, $erf:path, $run:path) => {
        impl Real for $t {
            const ZERO: Self = 0.;
            const ONE: Self = 1.;
            #[inline(always)]
            fn of(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn exp(self) -> Self {
                <$t>::exp(self)
            }
            #[inline(always)]
            fn ln(self) -> Self {
                <$t>::ln(self)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                <$t>::sqrt(self)
            }
            #[inline(always)]
            fn abs(self) -> Self {
                <$t>::abs(self)
            }
            #[inline(always)]
            fn erf(self) -> Self {
                $erf(self)
            }
            #[inline(always)]
            fn run<K: Kernel<Self>>(kernel: K) -> K::Output {
                $run(kernel)
            }
        }
    };
}
real!(f32, libm::erff, simd::run_f32);
real!(f64, libm::erf, simd::run_f64);
