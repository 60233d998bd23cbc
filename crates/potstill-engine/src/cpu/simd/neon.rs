//! NEON with fused multiply-add: four f32 at once, on every aarch64.

use std::arch::aarch64::*;

use super::{Bits, Pairs, Simd, math, pairs};

#[derive(Clone, Copy)]
pub(crate) struct Neon;

impl Simd for Neon {
    type T = f32;
    type V = float32x4_t;
    const LANES: usize = 4;
    const ROWS: &'static [usize] = &[8, 4, 2, 1];

    #[inline(always)]
    unsafe fn splat(x: f32) -> float32x4_t {
        unsafe { vdupq_n_f32(x) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> float32x4_t {
        unsafe { vld1q_f32(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: float32x4_t) {
        unsafe { vst1q_f32(to, v) }
    }
    #[inline(always)]
    unsafe fn load_some(from: *const f32, count: usize) -> float32x4_t {
        let mut lanes = [0f32; 4];
        for (i, lane) in lanes.iter_mut().enumerate().take(count) {
            *lane = unsafe { *from.add(i) };
        }
        unsafe { vld1q_f32(lanes.as_ptr()) }
    }
    #[inline(always)]
    unsafe fn store_some(to: *mut f32, v: float32x4_t, count: usize) {
        let mut lanes = [0f32; 4];
        unsafe { vst1q_f32(lanes.as_mut_ptr(), v) };
        for (i, &lane) in lanes.iter().enumerate().take(count) {
            unsafe { *to.add(i) = lane };
        }
    }
    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vdivq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        unsafe { vfmaq_f32(c, a, b) }
    }
    // NEON's own maximum and minimum are NaN when either is.
    #[inline(always)]
    unsafe fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vbslq_f32(vcltq_f32(a, b), a, b) }
    }
    #[inline(always)]
    unsafe fn exp(v: float32x4_t) -> float32x4_t {
        unsafe { math::exp::<Self>(v) }
    }
    #[inline(always)]
    unsafe fn erf(v: float32x4_t) -> float32x4_t {
        unsafe { math::erf::<Self>(v) }
    }
    #[inline(always)]
    unsafe fn total(v: float32x4_t) -> f32 {
        unsafe { vaddvq_f32(v) }
    }
    #[inline(always)]
    unsafe fn greatest(v: float32x4_t) -> f32 {
        unsafe { vmaxvq_f32(v) }
    }
}

impl Bits for Neon {
    #[inline(always)]
    unsafe fn round(v: float32x4_t) -> float32x4_t {
        unsafe { vrndnq_f32(v) }
    }
    #[inline(always)]
    unsafe fn scale(v: float32x4_t, n: float32x4_t) -> float32x4_t {
        unsafe {
            // In two halves, each of which is a normal power of two.
            let n = vcvtq_s32_f32(n);
            let half = vshrq_n_s32::<1>(n);
            let bias = vdupq_n_s32(127);
            let low = vshlq_n_s32::<23>(vaddq_s32(half, bias));
            let high = vshlq_n_s32::<23>(vaddq_s32(vsubq_s32(n, half), bias));
            vmulq_f32(vmulq_f32(v, vreinterpretq_f32_s32(low)), vreinterpretq_f32_s32(high))
        }
    }
    #[inline(always)]
    unsafe fn abs(v: float32x4_t) -> float32x4_t {
        unsafe { vabsq_f32(v) }
    }
    #[inline(always)]
    unsafe fn copysign(v: float32x4_t, sign: float32x4_t) -> float32x4_t {
        unsafe { vbslq_f32(vdupq_n_u32(1 << 31), sign, v) }
    }
    #[inline(always)]
    unsafe fn select_less(a: float32x4_t, b: float32x4_t, x: float32x4_t, y: float32x4_t) -> float32x4_t {
        unsafe { vbslq_f32(vcltq_f32(a, b), x, y) }
    }
}

impl Pairs for Neon {
    #[inline(always)]
    unsafe fn low(v: float32x4_t) -> float32x4_t {
        unsafe { vreinterpretq_f32_u32(vshlq_n_u32::<16>(vreinterpretq_u32_f32(v))) }
    }
    #[inline(always)]
    unsafe fn high(v: float32x4_t) -> float32x4_t {
        unsafe { vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), vdupq_n_u32(pairs::HIGH))) }
    }
}
