//! AVX-512: sixteen f32 at once, and with its BF16 extension pairs of bf16.

use std::arch::x86_64::*;

use super::{Bits, Pairs, Simd, math, pairs};

/// `BF16`: whether the extension is there.
#[derive(Clone, Copy)]
pub(crate) struct Avx512<const BF16: bool>;

#[inline(always)]
fn first(count: usize) -> u16 {
    if count >= 16 { u16::MAX } else { (1u16 << count) - 1 }
}

impl<const BF16: bool> Simd for Avx512<BF16> {
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

impl<const BF16: bool> Bits for Avx512<BF16> {
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

impl Pairs for Avx512<false> {
    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        unsafe { transpose(from, from_stride, to, to_stride) }
    }
    #[inline(always)]
    unsafe fn low(v: __m512) -> __m512 {
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(v))) }
    }
    #[inline(always)]
    unsafe fn high(v: __m512) -> __m512 {
        unsafe {
            let mask = _mm512_set1_epi32(pairs::HIGH as i32);
            _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(v), mask))
        }
    }
}

impl Pairs for Avx512<true> {
    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        unsafe { transpose(from, from_stride, to, to_stride) }
    }
    #[inline(always)]
    unsafe fn low(v: __m512) -> __m512 {
        unsafe { Avx512::<false>::low(v) }
    }
    #[inline(always)]
    unsafe fn high(v: __m512) -> __m512 {
        unsafe { Avx512::<false>::high(v) }
    }
    #[inline(always)]
    unsafe fn dot(a: __m512, b: __m512, sum: __m512) -> __m512 {
        unsafe { _mm512_dpbf16_ps(sum, bits(a), bits(b)) }
    }
    #[inline(always)]
    unsafe fn pair(first: __m512, second: __m512) -> __m512 {
        unsafe {
            let half = |v| std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v));
            let (first, second) = (_mm512_cvtepu16_epi32(half(first)), _mm512_cvtepu16_epi32(half(second)));
            _mm512_castsi512_ps(_mm512_or_si512(first, _mm512_slli_epi32::<16>(second)))
        }
    }
    #[inline(always)]
    unsafe fn narrow(first: __m512, second: __m512) -> __m512 {
        unsafe { std::mem::transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(second, first)) }
    }
    #[inline(always)]
    unsafe fn widen(from: *const u16) -> __m512 {
        unsafe {
            let words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words))
        }
    }
}

#[inline(always)]
fn bits(v: __m512) -> __m512bh {
    // SAFETY: both are 64 bytes, all of whose values are valid.
    unsafe { std::mem::transmute(v) }
}

/// Transposes 16 rows of 16: within quarters of vectors first, then the quarters.
#[inline(always)]
unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    unsafe {
        let mut rows = [_mm512_setzero_ps(); 16];
        for (i, row) in rows.iter_mut().enumerate() {
            *row = _mm512_loadu_ps(from.add(i * from_stride));
        }
        // Quarter q of quads[4·i + j]: rows 4i to 4i + 3 of column 4q + j.
        let mut quads = [_mm512_setzero_pd(); 16];
        for i in 0..4 {
            let [a, b, c, d] = [rows[4 * i], rows[4 * i + 1], rows[4 * i + 2], rows[4 * i + 3]];
            let (low, high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let (low2, high2) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            let double = |v| _mm512_castps_pd(v);
            quads[4 * i] = _mm512_unpacklo_pd(double(low), double(low2));
            quads[4 * i + 1] = _mm512_unpackhi_pd(double(low), double(low2));
            quads[4 * i + 2] = _mm512_unpacklo_pd(double(high), double(high2));
            quads[4 * i + 3] = _mm512_unpackhi_pd(double(high), double(high2));
        }
        for j in 0..4 {
            let [a, b, c, d] = [quads[j], quads[4 + j], quads[8 + j], quads[12 + j]];
            // The even quarters of two, then the odd ones.
            const EVEN: i32 = 0b10_00_10_00;
            const ODD: i32 = 0b11_01_11_01;
            let (even, even2) = (_mm512_shuffle_f64x2::<EVEN>(a, b), _mm512_shuffle_f64x2::<EVEN>(c, d));
            let (odd, odd2) = (_mm512_shuffle_f64x2::<ODD>(a, b), _mm512_shuffle_f64x2::<ODD>(c, d));
            let put = |column: usize, v: __m512d| _mm512_storeu_ps(to.add(column * to_stride), _mm512_castpd_ps(v));
            put(j, _mm512_shuffle_f64x2::<EVEN>(even, even2));
            put(4 + j, _mm512_shuffle_f64x2::<EVEN>(odd, odd2));
            put(8 + j, _mm512_shuffle_f64x2::<ODD>(even, even2));
            put(12 + j, _mm512_shuffle_f64x2::<ODD>(odd, odd2));
        }
    }
}
