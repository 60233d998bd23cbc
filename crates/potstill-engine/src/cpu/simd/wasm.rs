//! WASM's 128-bit vectors: four f32 at once.
//!
//! There is no fused multiply-add, as in the class `sse` ([`super::Portable`]), and every operation here rounds and orders
//! as it does there: the two classes give the same bits.

use std::arch::wasm32::*;

use super::{Bits, Pairs, Simd, math, pairs};

#[derive(Clone, Copy)]
pub(crate) struct Wasm;

impl Simd for Wasm {
    type T = f32;
    type V = v128;
    const LANES: usize = 4;
    // Engines have 16 registers to give on x86-64: more rows would be kept in memory.
    const ROWS: &'static [usize] = &[4, 2, 1];

    #[inline(always)]
    unsafe fn splat(x: f32) -> v128 {
        f32x4_splat(x)
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> v128 {
        unsafe { v128_load(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: v128) {
        unsafe { v128_store(to.cast(), v) }
    }
    #[inline(always)]
    unsafe fn load_some(from: *const f32, count: usize) -> v128 {
        unsafe {
            match count {
                0 => f32x4_splat(0.),
                1 => v128_load32_zero(from.cast()),
                2 => v128_load64_zero(from.cast()),
                3 => v128_load32_lane::<2>(v128_load64_zero(from.cast()), from.add(2).cast()),
                _ => Self::load(from),
            }
        }
    }
    #[inline(always)]
    unsafe fn store_some(to: *mut f32, v: v128, count: usize) {
        unsafe {
            match count {
                0 => {}
                1 => v128_store32_lane::<0>(v, to.cast()),
                2 => v128_store64_lane::<0>(v, to.cast()),
                3 => {
                    v128_store64_lane::<0>(v, to.cast());
                    v128_store32_lane::<2>(v, to.add(2).cast());
                }
                _ => Self::store(to, v),
            }
        }
    }
    #[inline(always)]
    unsafe fn add(a: v128, b: v128) -> v128 {
        f32x4_add(a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: v128, b: v128) -> v128 {
        f32x4_sub(a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: v128, b: v128) -> v128 {
        f32x4_mul(a, b)
    }
    #[inline(always)]
    unsafe fn div(a: v128, b: v128) -> v128 {
        f32x4_div(a, b)
    }
    #[inline(always)]
    unsafe fn fma(a: v128, b: v128, c: v128) -> v128 {
        f32x4_add(f32x4_mul(a, b), c)
    }
    #[inline(always)]
    unsafe fn max(a: v128, b: v128) -> v128 {
        // pmax(x, y) is `if x < y { y } else { x }`.
        f32x4_pmax(b, a)
    }
    #[inline(always)]
    unsafe fn min(a: v128, b: v128) -> v128 {
        // pmin(x, y) is `if y < x { y } else { x }`.
        f32x4_pmin(b, a)
    }
    #[inline(always)]
    unsafe fn exp(v: v128) -> v128 {
        unsafe { math::exp::<Self>(v) }
    }
    #[inline(always)]
    unsafe fn erf(v: v128) -> v128 {
        unsafe { math::erf::<Self>(v) }
    }
    #[inline(always)]
    unsafe fn total(v: v128) -> f32 {
        let [a, b, c, d] = lanes(v);
        a + b + c + d
    }
    #[inline(always)]
    unsafe fn greatest(v: v128) -> f32 {
        lanes(v)
            .into_iter()
            .reduce(|m, x| if x > m { x } else { m })
            .unwrap_or(0.)
    }
}

#[inline(always)]
fn lanes(v: v128) -> [f32; 4] {
    [
        f32x4_extract_lane::<0>(v),
        f32x4_extract_lane::<1>(v),
        f32x4_extract_lane::<2>(v),
        f32x4_extract_lane::<3>(v),
    ]
}

impl Bits for Wasm {
    #[inline(always)]
    unsafe fn round(v: v128) -> v128 {
        /// Adding and subtracting 1.5·2²³ leaves the nearest integer of what is small.
        const MAGIC: f32 = 12_582_912.;
        f32x4_sub(f32x4_add(v, f32x4_splat(MAGIC)), f32x4_splat(MAGIC))
    }
    #[inline(always)]
    unsafe fn scale(v: v128, n: v128) -> v128 {
        // In two halves, each of which is a normal power of two.
        let n = i32x4_trunc_sat_f32x4(n);
        let half = i32x4_shr(n, 1);
        let bias = i32x4_splat(127);
        let low = i32x4_shl(i32x4_add(half, bias), 23);
        let high = i32x4_shl(i32x4_add(i32x4_sub(n, half), bias), 23);
        f32x4_mul(f32x4_mul(v, low), high)
    }
    #[inline(always)]
    unsafe fn abs(v: v128) -> v128 {
        f32x4_abs(v)
    }
    #[inline(always)]
    unsafe fn copysign(v: v128, sign: v128) -> v128 {
        v128_bitselect(sign, v, f32x4_splat(-0.))
    }
    #[inline(always)]
    unsafe fn select_less(a: v128, b: v128, x: v128, y: v128) -> v128 {
        v128_bitselect(x, y, f32x4_lt(a, b))
    }
}

impl Pairs for Wasm {
    #[inline(always)]
    unsafe fn low(v: v128) -> v128 {
        u32x4_shl(v, 16)
    }
    #[inline(always)]
    unsafe fn high(v: v128) -> v128 {
        v128_and(v, u32x4_splat(pairs::HIGH))
    }
}
