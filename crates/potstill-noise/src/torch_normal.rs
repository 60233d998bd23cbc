//! Box–Muller as torch's CPU kernels compute it for contiguous float32 tensors of 16 values or more.
//!
//! Two classes exist. **AVX2** (every x86-64 CPU with AVX2, AVX-512 included: torch registers no AVX-512 kernel here) uses
//! polynomials in f32 that the compiler contracts into fused multiply-adds; [`box_muller_avx2_class`] repeats them
//! operation by operation. **DEFAULT** (other CPUs, aarch64 and macOS among them) uses the C library's `logf`, `sinf` and
//! `cosf`; [`libm_class_from_uniforms`] gives the values that a perfect library would, for recognition within
//! [`TORCH_CLASS_TOLERANCE`].

#![allow(clippy::excessive_precision)]

use crate::elementary::{ln, sin_cos_of_turn};
use crate::fma::Fma;

/// Values that torch transforms together: eight radii, eight angles.
pub(crate) const GROUP: usize = 16;
const LANES: usize = GROUP / 2;

/// Largest absolute difference between classes and C libraries: 2.5·10⁻⁶ was measured over 2²⁴ values; the margin is for
/// libraries that were not.
pub const TORCH_CLASS_TOLERANCE: f32 = 1e-5;

const SQRT_HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;
const LN2_HIGH: f32 = 0.693359375;
const LN2_LOW: f32 = -2.12194440e-4;
const LN: [f32; 9] = [
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
];
const FOUR_OVER_PI: f32 = 1.27323954473516;
/// −π/4 in three parts, so that the reduced angle keeps its low bits.
const QUARTER_PI: [f32; 3] = [-0.78515625, -2.4187564849853515625e-4, -3.77489497744594108e-8];
const COS: [f32; 3] = [2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2];
const SIN: [f32; 3] = [-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1];
const TWO_PI: f32 = std::f32::consts::TAU;

#[inline(always)]
fn ln_f32<F: Fma>(u: f32) -> f32 {
    let bits = u.to_bits();
    let mut exponent = ((bits >> 23) as i32 - 126) as f32;
    let mantissa = f32::from_bits((bits & 0x007f_ffff) | 0x3f00_0000);
    let small = mantissa < SQRT_HALF;
    exponent -= if small { 1.0 } else { 0.0 };
    let m = (mantissa - 1.0) + if small { mantissa } else { 0.0 };
    let z = m * m;
    let mut y = LN[0];
    for &coefficient in &LN[1..] {
        y = F::fma(y, m, coefficient);
    }
    y *= m;
    y = F::fma(y, z, exponent * LN2_LOW);
    y = F::fma(-z, 0.5, y);
    F::fma(exponent, LN2_HIGH, m + y)
}

#[inline(always)]
fn sin_cos_f32<F: Fma>(angle: f32) -> (f32, f32) {
    // 0 ≤ angle ≤ 2π, so the conversion never saturates.
    let octant = ((angle * FOUR_OVER_PI) as i32 + 1) & !1;
    let y = octant as f32;
    let mut x = angle;
    for part in QUARTER_PI {
        x = F::fma(y, part, x);
    }
    let z = x * x;
    let mut a = F::fma(COS[0], z, COS[1]);
    a = F::fma(a, z, COS[2]) * z;
    a = F::fma(a, z, -(z * 0.5)) + 1.0;
    let mut b = F::fma(SIN[0], z, SIN[1]);
    b = F::fma(b, z, SIN[2]) * z;
    b = F::fma(b, x, x);
    let (sin, cos) = if octant & 2 == 0 { (b, a) } else { (a, b) };
    let sin_sign = ((octant & 4) as u32) << 29;
    let cos_sign = (!(octant - 2) & 4) as u32;
    (
        f32::from_bits(sin.to_bits() ^ sin_sign),
        f32::from_bits(cos.to_bits() ^ (cos_sign << 29)),
    )
}

/// Groups that are transformed together: lanes enough for the widest registers, few enough for the nearest cache.
const BATCH: usize = 8;

/// Replaces groups of uniforms by normals, to the bit as the AVX2 class does.
#[inline(always)]
pub(crate) fn box_muller_avx2_class<F: Fma>(groups: &mut [[f32; GROUP]]) {
    let (batches, rest) = groups.as_chunks_mut::<BATCH>();
    for batch in batches {
        let (mut u1, mut u2) = ([0f32; BATCH * LANES], [0f32; BATCH * LANES]);
        for ((group, a), b) in batch.iter().zip(u1.as_chunks_mut().0).zip(u2.as_chunks_mut().0) {
            (*a, *b) = halves(group);
        }
        transform::<F, { BATCH * LANES }>(&mut u1, &mut u2);
        for ((group, a), b) in batch
            .iter_mut()
            .zip(u1.as_chunks::<LANES>().0)
            .zip(u2.as_chunks::<LANES>().0)
        {
            group[..LANES].copy_from_slice(a);
            group[LANES..].copy_from_slice(b);
        }
    }
    for group in rest {
        let (mut u1, mut u2) = halves(group);
        transform::<F, LANES>(&mut u1, &mut u2);
        group[..LANES].copy_from_slice(&u1);
        group[LANES..].copy_from_slice(&u2);
    }
}

/// What the radii and what the angles of a group are made of.
#[inline(always)]
fn halves(group: &[f32; GROUP]) -> ([f32; LANES], [f32; LANES]) {
    (
        std::array::from_fn(|i| group[i]),
        std::array::from_fn(|i| group[LANES + i]),
    )
}

#[inline(always)]
fn transform<F: Fma, const N: usize>(u1: &mut [f32; N], u2: &mut [f32; N]) {
    let mut radius = [0f32; N];
    for (r, &u) in radius.iter_mut().zip(&*u1) {
        *r = (-2.0 * ln_f32::<F>(1.0 - u)).sqrt();
    }
    for i in 0..N {
        let (sin, cos) = sin_cos_f32::<F>(TWO_PI * u2[i]);
        u1[i] = radius[i] * cos;
        u2[i] = radius[i] * sin;
    }
}

/// Replaces 16 uniforms, in the order in which torch draws them, by 16 normals of the DEFAULT class.
///
/// Computed in f64 and rounded once: within [`TORCH_CLASS_TOLERANCE`] of any C library and of the AVX2 class.
pub fn libm_class_from_uniforms(group: &mut [f32; 16]) {
    let (u1, u2) = group.split_at_mut(LANES);
    for (a, b) in u1.iter_mut().zip(u2) {
        let radius = (-2.0 * ln(1.0 - f64::from(*a))).sqrt();
        let (sin, cos) = sin_cos_of_turn(f64::from(*b));
        *a = (radius * cos) as f32;
        *b = (radius * sin) as f32;
    }
}
