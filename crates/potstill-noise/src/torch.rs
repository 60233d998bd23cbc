//! torch's CPU generator.

use crate::elementary::{ln, sin_cos_of_turn};
#[cfg(any(test, not(target_arch = "aarch64")))]
use crate::fma::Emulated;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::fma::Hardware;
use crate::mt19937::Mt19937;
use crate::torch_normal::{GROUP, box_muller_avx2_class, libm_class_from_uniforms};
#[cfg(target_arch = "x86_64")]
use crate::wide::has_avx512;

/// From this range on, torch's `randint` draws 64 bits.
const WIDE_RANGE: u64 = 1 << 28;
const TWO_POW_M24: f32 = 1.0 / 16_777_216.0;
const TWO_POW_M53: f64 = 1.0 / 9_007_199_254_740_992.0;

/// An impossible range or length for [`TorchGenerator::randint`] and [`TorchGenerator::randperm`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RandintError {
    /// `low >= high`.
    #[error("randint needs low < high, got [{low}, {high})")]
    EmptyRange {
        /// Inclusive lower bound.
        low: i64,
        /// Exclusive upper bound.
        high: i64,
    },
}

/// `torch.Generator("cpu").manual_seed(seed)`, and the draws made from it.
///
/// `float32` normals of 16 values or more carry the bits of torch's AVX2 class on every machine: through the CPU's fused
/// multiply-add where it has one, through an exact emulation elsewhere. Shorter ones take torch's scalar path in f64
/// with its cached second value. A batch equals its samples drawn one after another only if a sample has a multiple of
/// 16 values. Never draw in half precision: torch's answer differs between its versions; draw f32 and cast.
#[derive(Clone)]
pub struct TorchGenerator {
    engine: Mt19937,
    /// The second half of the scalar path's last Box–Muller pair; the vector path neither uses nor clears it.
    cached: Option<Cached>,
}

/// A cached second value, in the precision of the library functions and in ours.
#[derive(Clone, Copy)]
struct Cached {
    /// By the platform's libm, for `float64` tensors.
    library: f64,
    /// By our own functions, the same on every platform, for `float32` tensors.
    portable: f64,
}

impl TorchGenerator {
    /// Seeds the generator. Negative seeds of torch are `seed + 2⁶⁴`; only the low 32 bits matter.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            engine: Mt19937::new(seed),
            cached: None,
        }
    }

    /// `torch.randn(out.len(), dtype=torch.float32)` of a contiguous tensor, AVX2 class.
    pub fn randn(&mut self, out: &mut [f32]) {
        if out.len() < GROUP {
            for value in out {
                *value = self.scalar_normal().portable as f32;
            }
            return;
        }
        #[cfg(target_arch = "x86_64")]
        {
            if has_avx512() {
                // SAFETY: the CPU has just said that it has the features.
                unsafe { self.vector_normals_avx512(out) };
                return;
            }
            if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                // SAFETY: the CPU has just said that it has both features.
                unsafe { self.vector_normals_avx2(out) };
                return;
            }
        }
        #[cfg(target_arch = "aarch64")]
        self.vector_normals(out, box_muller_avx2_class::<Hardware>);
        #[cfg(not(target_arch = "aarch64"))]
        self.vector_normals(out, box_muller_avx2_class::<Emulated>);
    }

    /// `torch.randn` of the DEFAULT class (no AVX2; aarch64, macOS), within [`crate::TORCH_CLASS_TOLERANCE`].
    pub fn randn_libm_class(&mut self, out: &mut [f32]) {
        if out.len() < GROUP {
            return self.randn(out);
        }
        self.vector_normals(out, |groups| groups.iter_mut().for_each(libm_class_from_uniforms));
    }

    /// `torch.randn(out.len(), dtype=torch.float64)`. The last bits are the platform's C library's, as torch's are.
    pub fn randn_f64(&mut self, out: &mut [f64]) {
        if out.len() < GROUP {
            for value in out {
                *value = self.scalar_normal().library;
            }
            return;
        }
        self.rand_f64(out);
        let whole = out.len() / GROUP * GROUP;
        out[..whole].chunks_exact_mut(GROUP).for_each(box_muller_f64);
        if whole < out.len() {
            let tail = out.len() - GROUP;
            self.rand_f64(&mut out[tail..]);
            box_muller_f64(&mut out[tail..]);
        }
    }

    /// `torch.rand(out.len(), dtype=torch.float32)`: 24 bits in [0, 1).
    pub fn rand(&mut self, out: &mut [f32]) {
        self.uniforms(out);
    }

    /// `torch.rand(out.len(), dtype=torch.float64)`: 53 bits in [0, 1).
    pub fn rand_f64(&mut self, out: &mut [f64]) {
        for value in out {
            *value = self.uniform_f64();
        }
    }

    /// `torch.randint(low, high, (out.len(),))`.
    ///
    /// # Errors
    /// [`RandintError::EmptyRange`] unless `low < high`.
    pub fn randint(&mut self, low: i64, high: i64, out: &mut [i64]) -> Result<(), RandintError> {
        if low >= high {
            return Err(RandintError::EmptyRange { low, high });
        }
        let range = high.wrapping_sub(low) as u64;
        for value in out {
            let draw = if range >= WIDE_RANGE {
                self.engine.next_u64()
            } else {
                u64::from(self.engine.next_u32())
            };
            *value = low.wrapping_add((draw % range) as i64);
        }
        Ok(())
    }

    /// `torch.randperm(n)`, for the n below 2³²/20 for which torch shuffles with 32-bit draws.
    #[must_use]
    pub fn randperm(&mut self, n: u32) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n).collect();
        for i in 0..n.saturating_sub(1) {
            let pick = self.engine.next_u32() % (n - i);
            order.swap(i as usize, (i + pick) as usize);
        }
        order
    }

    /// The next raw 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        self.engine.next_u32()
    }

    fn uniform_f64(&mut self) -> f64 {
        (self.engine.next_u64() & ((1 << 53) - 1)) as f64 * TWO_POW_M53
    }

    #[inline(always)]
    fn uniforms(&mut self, out: &mut [f32]) {
        self.engine.fill(out.len(), |at, words| {
            for (value, &word) in out[at..at + words.len()].iter_mut().zip(words) {
                // At most 2²⁴ − 1, so the signed conversion (one instruction, unlike the unsigned) is exact.
                *value = (word & 0x00ff_ffff) as i32 as f32 * TWO_POW_M24;
            }
        });
    }

    /// Fills with uniforms, transforms groups of 16; a remainder makes torch refill the *last* 16 positions.
    #[inline(always)]
    fn vector_normals(&mut self, out: &mut [f32], box_muller: impl Fn(&mut [[f32; GROUP]])) {
        self.uniforms(out);
        let (groups, rest) = out.as_chunks_mut::<GROUP>();
        box_muller(groups);
        if !rest.is_empty()
            && let Some(tail) = out.last_chunk_mut::<GROUP>()
        {
            self.uniforms(tail);
            box_muller(std::slice::from_mut(tail));
        }
    }

    /// Wider registers, the same operations on every value: the bits cannot differ.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    #[expect(clippy::redundant_closure, reason = "as of the function below")]
    fn vector_normals_avx512(&mut self, out: &mut [f32]) {
        self.vector_normals(out, |groups| box_muller_avx2_class::<Hardware>(groups));
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    #[expect(
        clippy::redundant_closure,
        reason = "a closure inherits the target features, a function does not: 17 times the speed"
    )]
    fn vector_normals_avx2(&mut self, out: &mut [f32]) {
        self.vector_normals(out, |groups| box_muller_avx2_class::<Hardware>(groups));
    }

    /// One value of `normal_distribution<double>`.
    fn scalar_normal(&mut self) -> Cached {
        if let Some(value) = self.cached.take() {
            return value;
        }
        let (u1, u2) = (self.uniform_f64(), self.uniform_f64());
        let radius = (-2.0 * (-u2).ln_1p()).sqrt();
        let angle = std::f64::consts::TAU * u1;
        // 1 − u2 is exact, so its logarithm is log1p(−u2).
        let portable_radius = (-2.0 * ln(1.0 - u2)).sqrt();
        let (sin, cos) = sin_cos_of_turn(u1);
        self.cached = Some(Cached {
            library: radius * angle.sin(),
            portable: portable_radius * sin,
        });
        Cached {
            library: radius * angle.cos(),
            portable: portable_radius * cos,
        }
    }
}

fn box_muller_f64(group: &mut [f64]) {
    let (u1, u2) = group.split_at_mut(GROUP / 2);
    for (a, b) in u1.iter_mut().zip(u2) {
        let radius = (-2.0 * (1.0 - *a).ln()).sqrt();
        let angle = std::f64::consts::TAU * *b;
        *a = radius * angle.cos();
        *b = radius * angle.sin();
    }
}

/// Forces the emulated multiply-add, which the host's own dispatch would not choose.
#[cfg(test)]
fn randn_emulated(generator: &mut TorchGenerator, out: &mut [f32]) {
    generator.vector_normals(out, box_muller_avx2_class::<Emulated>);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_of_seed_zero() {
        let mut out = [0f32; 4];
        TorchGenerator::new(0).rand(&mut out);
        assert_eq!(out, [0.496_256_6, 0.768_221_8, 0.088_477_43, 0.132_030_49]);
        TorchGenerator::new(0).randn(&mut out);
        assert_eq!(out, [1.540_996_1, -0.293_428_9, -2.178_789_4, 0.568_431_26]);
    }

    #[test]
    fn emulated_fma_gives_the_same_bits() {
        let (mut fast, mut slow) = (vec![0f32; 100_003], vec![0f32; 100_003]);
        TorchGenerator::new(9).randn(&mut fast);
        randn_emulated(&mut TorchGenerator::new(9), &mut slow);
        assert!(fast.iter().zip(&slow).all(|(a, b)| a.to_bits() == b.to_bits()));
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_width_gives_the_same_bits() {
        if !(has_avx512() && std::arch::is_x86_feature_detected!("fma")) {
            return; // the emulated operation, above, is all that there is to compare with
        }
        for n in [16, 17, 128, 129, 100_003] {
            let (mut wide, mut narrow) = (vec![0f32; n], vec![0f32; n]);
            // SAFETY: the CPU has just said that it has the features.
            unsafe {
                TorchGenerator::new(9).vector_normals_avx512(&mut wide);
                TorchGenerator::new(9).vector_normals_avx2(&mut narrow);
            }
            assert!(wide.iter().zip(&narrow).all(|(a, b)| a.to_bits() == b.to_bits()), "{n}");
        }
    }

    #[test]
    fn classes_differ_within_the_tolerance() {
        let (mut avx2, mut libm) = (vec![0f32; 1 << 18], vec![0f32; 1 << 18]);
        TorchGenerator::new(1).randn(&mut avx2);
        TorchGenerator::new(1).randn_libm_class(&mut libm);
        let worst = avx2.iter().zip(&libm).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst > 0.0 && worst < crate::TORCH_CLASS_TOLERANCE, "{worst}");
    }

    #[test]
    fn only_the_low_32_bits_of_a_seed_count() {
        let (mut a, mut b) = ([0f32; 32], [0f32; 32]);
        TorchGenerator::new(42).randn(&mut a);
        TorchGenerator::new((1 << 32) + 42).randn(&mut b);
        assert_eq!(a, b);
    }

    #[test]
    fn randint_refuses_an_empty_range_and_takes_the_widest() {
        let mut generator = TorchGenerator::new(0);
        assert_eq!(
            generator.randint(3, 3, &mut [0]),
            Err(RandintError::EmptyRange { low: 3, high: 3 })
        );
        assert!(generator.randint(i64::MIN, i64::MAX, &mut [0]).is_ok());
        assert!(generator.randperm(0).is_empty());
    }
}
