//! AVX-512: sixteen f32 at once.

use std::arch::x86_64::*;

use super::{Bits, Simd, math};

#[derive(Clone, Copy)]
pub(crate) struct Avx512;

#[inline(always)]
fn first(count: usize) -> u16 {
    if count >= 16 { u16::MAX } else { (1u16 << count) - 1 }
}

impl Simd for Avx512 {
    type T = f32;
    type V = __m512;
    const LANES: usize = 16;
    const ROWS: &'static [usize] = &[14, 8, 4, 2, 1];

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m512) {
        unsafe { _mm512_storeu_ps(to, v) }
    }
    #[inline(always)]
    unsafe fn load_some(from: *const f32, count: usize) -> __m512 {
        unsafe { _mm512_maskz_loadu_ps(first(count), from) }
    }
    #[inline(always)]
    unsafe fn store_some(to: *mut f32, v: __m512, count: usize) {
        unsafe { _mm512_mask_storeu_ps(to, first(count), v) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn exp(v: __m512) -> __m512 {
        unsafe { math::exp::<Self>(v) }
    }
    #[inline(always)]
    unsafe fn erf(v: __m512) -> __m512 {
        unsafe { math::erf::<Self>(v) }
    }
    #[inline(always)]
    unsafe fn total(v: __m512) -> f32 {
        unsafe { _mm512_reduce_add_ps(v) }
    }
    #[inline(always)]
    unsafe fn greatest(v: __m512) -> f32 {
        unsafe { _mm512_reduce_max_ps(v) }
    }
}

impl Bits for Avx512 {
    #[inline(always)]
    unsafe fn round(v: __m512) -> __m512 {
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v) }
    }
    #[inline(always)]
    unsafe fn scale(v: __m512, n: __m512) -> __m512 {
        unsafe { _mm512_scalef_ps(v, n) }
    }
    #[inline(always)]
    unsafe fn abs(v: __m512) -> __m512 {
        unsafe { _mm512_abs_ps(v) }
    }
    #[inline(always)]
    unsafe fn copysign(v: __m512, sign: __m512) -> __m512 {
        unsafe {
            let bit = _mm512_set1_ps(-0.);
            _mm512_or_ps(_mm512_andnot_ps(bit, v), _mm512_and_ps(bit, sign))
        }
    }
    #[inline(always)]
    unsafe fn select_less(a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), y, x) }
    }
}
