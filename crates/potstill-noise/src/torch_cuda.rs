//! torch's CUDA `randn`, emulated on the CPU to recognise noise that was made on a GPU.
//!
//! Philox4x32-10 as cuRAND runs it: key = the seed, counter = (call, 0, thread low, thread high), one call for every four
//! values of a thread. A launch has at most as many threads as the GPU holds at once, so a tensor longer than that has
//! values that depend on the GPU: value e lies in call e div 4T, in component (e mod 4T) div T of thread e mod T. The words
//! become normals by Box–Muller in f32 with the GPU's fast sine and cosine, whose last bits are nobody's promise: the
//! values here are those of exact functions, within [`TORCH_CUDA_TOLERANCE`] of a GPU's.
//!
//! Sources: `aten/src/ATen/native/cuda/DistributionTemplates.h` of torch; `curand_normal.h` and `curand_uniform.h` of CUDA.

use crate::elementary::{ln, sin_cos_of_turn};
use crate::philox::philox4x32_10;

/// Threads of a block in torch's launches: thread counts are multiples of it.
pub const TORCH_CUDA_BLOCK: u32 = 256;

/// Largest absolute difference to be expected: the fast sine and cosine are off by up to 2⁻²⁰ for angles below 2π, times a
/// radius of up to 6.66, and as much again for roundings in f32.
pub const TORCH_CUDA_TOLERANCE: f32 = 2e-5;

/// Normals of one thread's call.
const WORDS: usize = 4;
const TWO_POW_M32: f32 = 2.328_306_4e-10;
/// 2π·2⁻³² in f32, as cuRAND folds it.
const TWO_PI_POW_M32: f32 = TWO_POW_M32 * std::f32::consts::TAU;

/// `torch.randn(n, device="cuda", generator=torch.Generator("cuda").manual_seed(seed))` of a GPU that runs so many threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TorchCudaNormals {
    key: [u32; 2],
    threads: u64,
}

impl TorchCudaNormals {
    /// The sequence of a seed on a GPU that holds `threads` threads at once: its multiprocessors times the threads of each,
    /// a multiple of [`TORCH_CUDA_BLOCK`].
    #[must_use]
    pub fn new(seed: u64, threads: u32) -> Self {
        Self {
            key: [seed as u32, (seed >> 32) as u32],
            threads: u64::from(threads.next_multiple_of(TORCH_CUDA_BLOCK).max(TORCH_CUDA_BLOCK)),
        }
    }

    /// Value `index` of the tensor.
    #[must_use]
    pub fn value(self, index: u64) -> f32 {
        let wave = WORDS as u64 * self.threads;
        let (call, within) = (index / wave, index % wave);
        let (component, thread) = (within / self.threads, within % self.threads);
        let words = philox4x32_10(
            [call as u32, (call >> 32) as u32, thread as u32, (thread >> 32) as u32],
            self.key,
        );
        let pair = component as usize & !1;
        let (sin, cos) = box_muller(words[pair], words[pair + 1]);
        if component & 1 == 0 { sin } else { cos }
    }

    /// The values from `first` on.
    pub fn fill_from(self, first: u64, out: &mut [f32]) {
        for (index, value) in (first..).zip(out) {
            *value = self.value(index);
        }
    }
}

/// The two normals of two words; that of the sine is the first.
fn box_muller(x: u32, y: u32) -> (f32, f32) {
    // In f64 and rounded once, as the fused multiply-add that the compiler makes of it.
    let fused = |word: u32, unit: f32| (f64::from(word as f32) * f64::from(unit) + f64::from(unit / 2.0)) as f32;
    let u = f64::from(fused(x, TWO_POW_M32)).min(1.0);
    let angle = f64::from(fused(y, TWO_PI_POW_M32));
    let radius = (-2.0 * ln(u)).sqrt();
    let (sin, cos) = sin_cos_of_turn(angle / std::f64::consts::TAU);
    ((radius * sin) as f32, (radius * cos) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_do_not_depend_on_the_gpu_up_to_its_threads() {
        let (small, large) = (TorchCudaNormals::new(7, 1024), TorchCudaNormals::new(7, 270_336));
        for index in 0..1024 {
            assert_eq!(small.value(index), large.value(index));
        }
        assert_ne!(small.value(1024), large.value(1024));
    }

    /// As `torch.manual_seed(0); torch.randn(10, device="cuda")` prints them.
    #[test]
    fn anchors_of_seed_zero() {
        let printed = [
            -0.9247, -0.4253, -2.6438, 0.1452, -0.1209, -0.5797, -0.6229, -0.3284, -1.0745, -0.3631,
        ];
        let normals = TorchCudaNormals::new(0, 270_336);
        for (index, want) in printed.into_iter().enumerate() {
            let got = normals.value(index as u64);
            assert!((got - want).abs() < 6e-5, "value {index}: {got}, printed {want}");
        }
    }

    #[test]
    fn threads_take_the_components_in_turn() {
        let normals = TorchCudaNormals::new(3, 256);
        let words = philox4x32_10([0, 0, 5, 0], [3, 0]);
        let (first, second) = box_muller(words[0], words[1]);
        let (third, fourth) = box_muller(words[2], words[3]);
        let of_thread_5 = [0, 1, 2, 3].map(|component| normals.value(5 + 256 * component));
        assert_eq!(of_thread_5, [first, second, third, fourth]);
        // The fifth value is of the next call.
        let next = philox4x32_10([1, 0, 5, 0], [3, 0]);
        assert_eq!(normals.value(5 + 1024), box_muller(next[0], next[1]).0);
    }

    #[test]
    fn they_are_standard_normals() {
        let mut values = vec![0f32; 1 << 16];
        TorchCudaNormals::new(1, 4096).fill_from(0, &mut values);
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n;
        assert!(
            mean.abs() < 4.0 / n.sqrt() && (variance - 1.0).abs() < 6.0 / n.sqrt(),
            "{mean} {variance}"
        );
    }

    #[test]
    fn the_ends_of_the_words_give_finite_values() {
        for x in [0, 1, u32::MAX] {
            for y in [0, 1, u32::MAX] {
                let (a, b) = box_muller(x, y);
                assert!(a.is_finite() && b.is_finite(), "{x} {y}");
            }
        }
    }
}
