//! Vectors as arrays, for processors without the other sets, and for f64. The compiler makes SSE or NEON of them.

use std::marker::PhantomData;

use super::{Bits, Pairs, Simd, math, pairs};
use crate::cpu::Real;

/// `N` numbers of type `T`.
#[derive(Clone, Copy)]
pub(crate) struct Portable<T, const N: usize>(PhantomData<T>);

#[inline(always)]
fn zip<T: Copy, const N: usize>(a: [T; N], b: [T; N], f: impl Fn(T, T) -> T) -> [T; N] {
    let mut out = a;
    for i in 0..N {
        out[i] = f(a[i], b[i]);
    }
    out
}

#[inline(always)]
fn each<T: Copy, const N: usize>(mut v: [T; N], f: impl Fn(T) -> T) -> [T; N] {
    for x in &mut v {
        *x = f(*x);
    }
    v
}

macro_rules! portable {
    ($t:ty, $n:literal, $exp:expr, $erf:expr) => {
        impl Simd for Portable<$t, $n> {
            type T = $t;
            type V = [$t; $n];
            const LANES: usize = $n;
            const ROWS: &'static [usize] = &[4, 2, 1];

            #[inline(always)]
            unsafe fn splat(x: $t) -> Self::V {
                [x; $n]
            }
            #[inline(always)]
            unsafe fn load(from: *const $t) -> Self::V {
                unsafe { from.cast::<Self::V>().read_unaligned() }
            }
            #[inline(always)]
            unsafe fn store(to: *mut $t, v: Self::V) {
                unsafe { to.cast::<Self::V>().write_unaligned(v) }
            }
            #[inline(always)]
            unsafe fn load_some(from: *const $t, count: usize) -> Self::V {
                let mut v = [0.; $n];
                for i in 0..count.min($n) {
                    v[i] = unsafe { *from.add(i) };
                }
                v
            }
            #[inline(always)]
            unsafe fn store_some(to: *mut $t, v: Self::V, count: usize) {
                for i in 0..count.min($n) {
                    unsafe { *to.add(i) = v[i] };
                }
            }
            #[inline(always)]
            unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
                zip(a, b, |a, b| a + b)
            }
            #[inline(always)]
            unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
                zip(a, b, |a, b| a - b)
            }
            #[inline(always)]
            unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
                zip(a, b, |a, b| a * b)
            }
            #[inline(always)]
            unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
                zip(a, b, |a, b| a / b)
            }
            #[inline(always)]
            unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
                zip(zip(a, b, |a, b| a * b), c, |p, c| p + c)
            }
            #[inline(always)]
            unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
                zip(a, b, |a, b| if a > b { a } else { b })
            }
            #[inline(always)]
            unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
                zip(a, b, |a, b| if a < b { a } else { b })
            }
            #[inline(always)]
            unsafe fn exp(v: Self::V) -> Self::V {
                $exp(v)
            }
            #[inline(always)]
            unsafe fn erf(v: Self::V) -> Self::V {
                $erf(v)
            }
            #[inline(always)]
            unsafe fn total(v: Self::V) -> $t {
                let mut sum = v[0];
                for x in &v[1..] {
                    sum += *x;
                }
                sum
            }
            #[inline(always)]
            unsafe fn greatest(v: Self::V) -> $t {
                v.into_iter().fold(v[0], |m, x| if x > m { x } else { m })
            }
        }
    };
}
// SAFETY: these need no instruction set.
portable!(f32, 4, |v| unsafe { math::exp::<Self>(v) }, |v| unsafe {
    math::erf::<Self>(v)
});
portable!(f64, 2, |v| each(v, Real::exp), |v| each(v, Real::erf));

impl Bits for Portable<f32, 4> {
    #[inline(always)]
    unsafe fn round(v: Self::V) -> Self::V {
        /// Adding and subtracting 1.5·2²³ leaves the nearest integer of what is small.
        const MAGIC: f32 = 12_582_912.;
        each(v, |x| (x + MAGIC) - MAGIC)
    }
    #[inline(always)]
    unsafe fn scale(v: Self::V, n: Self::V) -> Self::V {
        let power = |n: i32| f32::from_bits(((n + 127) as u32) << 23);
        zip(v, n, |v, n| {
            let n = n as i32;
            let half = n >> 1;
            v * power(half) * power(n - half)
        })
    }
    #[inline(always)]
    unsafe fn abs(v: Self::V) -> Self::V {
        each(v, f32::abs)
    }
    #[inline(always)]
    unsafe fn copysign(v: Self::V, sign: Self::V) -> Self::V {
        zip(v, sign, f32::copysign)
    }
    #[inline(always)]
    unsafe fn select_less(a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V {
        let mut out = y;
        for i in 0..4 {
            if a[i] < b[i] {
                out[i] = x[i];
            }
        }
        out
    }
}

impl Pairs for Portable<f32, 4> {
    #[inline(always)]
    unsafe fn low(v: Self::V) -> Self::V {
        each(v, |x| f32::from_bits(x.to_bits() << 16))
    }
    #[inline(always)]
    unsafe fn high(v: Self::V) -> Self::V {
        each(v, |x| f32::from_bits(x.to_bits() & pairs::HIGH))
    }
}
