//! By which generator noise was made from its seed.

use std::fmt;

use potstill_io::{Dtype, f32_to_bytes};
use potstill_noise::{
    Generator, TORCH_CLASS_TOLERANCE, TORCH_CUDA_BLOCK, TORCH_CUDA_TOLERANCE, TorchCudaNormals, TorchGenerator,
};

/// A generator whose noise is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoiseSource {
    /// torch's CPU `randn` on x86-64 with AVX2, to the bit.
    TorchAvx2,
    /// torch's CPU `randn` elsewhere, within a tolerance.
    TorchDefault,
    /// torch's `randn` on a GPU, within a tolerance: of any that runs at least as many threads as there are values, or of
    /// those that run so many.
    TorchCuda(Option<u32>),
    /// potstill's own generator, to the bit.
    Philox,
}

impl fmt::Display for NoiseSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TorchAvx2 => f.write_str("torch-cpu-avx2"),
            Self::TorchDefault => f.write_str("torch-cpu-default"),
            Self::TorchCuda(None) => f.write_str("torch-cuda"),
            Self::TorchCuda(Some(threads)) => write!(f, "torch-cuda-{threads}-threads"),
            Self::Philox => f.write_str("philox"),
        }
    }
}

/// Where noise comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NoiseOrigin {
    /// Its generator.
    pub source: NoiseSource,
    /// Whether it was rounded to bf16 before it was stored: it was drawn in the precision of the model.
    pub bf16: bool,
}

impl fmt::Display for NoiseOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.source, if self.bf16 { ", rounded to bf16" } else { "" })
    }
}

/// Values that are compared before all are: foreign noise differs in the first.
const PREFIX: usize = 64;
/// torch's CPU generator refills the last 16 values of a tensor whose length is no multiple of 16.
const TAIL: usize = 16;

impl NoiseOrigin {
    /// Finds the generator of noise that was stored as `dtype`; none when no known one makes it from this seed.
    #[must_use]
    pub fn recognise(seed: u64, noise: &[f32], dtype: Dtype) -> Option<Self> {
        // Cannot fail for dtypes of floats, of which the noise came.
        let bytes = f32_to_bytes(noise, dtype).unwrap_or_default();
        Self::recognise_stored(seed, noise, &bytes, dtype)
    }

    /// [`NoiseOrigin::recognise`], with the bytes that the values were read from.
    pub(crate) fn recognise_stored(seed: u64, noise: &[f32], bytes: &[u8], dtype: Dtype) -> Option<Self> {
        if noise.is_empty() {
            return None;
        }
        for bf16 in [false, true] {
            let stored = Stored {
                noise,
                bytes,
                dtype,
                bf16,
            };
            let found = stored
                .exactly(NoiseSource::TorchAvx2, &|out| TorchGenerator::new(seed).randn(out))
                .or_else(|| stored.exactly(NoiseSource::Philox, &|out| Generator::Philox.fill_noise(seed, out)))
                .or_else(|| stored.torch_default(seed))
                .or_else(|| stored.torch_cuda(seed));
            if let Some(source) = found {
                return Some(Self { source, bf16 });
            }
        }
        None
    }
}

/// Noise as it lies in a file, and how it is supposed to have come there.
struct Stored<'a> {
    noise: &'a [f32],
    /// The same, as they lie there.
    bytes: &'a [u8],
    dtype: Dtype,
    bf16: bool,
}

impl Stored<'_> {
    /// That rounding gives the very values.
    fn exactly(&self, source: NoiseSource, fill: &dyn Fn(&mut [f32])) -> Option<NoiseSource> {
        let agree = |stored: &[f32], made: &[f32]| {
            let bytes = self.rounded(made);
            // Nearly always; a zero may have lost its sign.
            self.bytes.starts_with(&bytes) || self.dtype.to_f32(&bytes).is_ok_and(|made| stored == made)
        };
        self.is_made_by(fill, &agree).then_some(source)
    }

    fn torch_default(&self, seed: u64) -> Option<NoiseSource> {
        let near = |stored: &[f32], made: &[f32]| self.is_near(stored, made, TORCH_CLASS_TOLERANCE);
        let fill = |out: &mut [f32]| TorchGenerator::new(seed).randn_libm_class(out);
        self.is_made_by(&fill, &near).then_some(NoiseSource::TorchDefault)
    }

    fn torch_cuda(&self, seed: u64) -> Option<NoiseSource> {
        let near = |stored: &[f32], made: &[f32]| self.is_near(stored, made, TORCH_CUDA_TOLERANCE);
        // Every thread's first value: what a GPU with threads enough draws.
        let widest = TorchCudaNormals::new(seed, u32::MAX / TORCH_CUDA_BLOCK * TORCH_CUDA_BLOCK);
        let prefix = PREFIX.min(self.noise.len());
        let mut made = vec![0.0; self.noise.len()];
        widest.fill_from(0, &mut made[..prefix]);
        if !near(&self.noise[..prefix], &made[..prefix]) {
            return None;
        }
        widest.fill_from(prefix as u64, &mut made[prefix..]);
        let differs = (0..made.len()).find(|&i| !near(&self.noise[i..=i], &made[i..=i]));
        let Some(first) = differs else {
            return Some(NoiseSource::TorchCuda(None));
        };
        // Beyond the GPU's threads come their second values.
        let threads = first as u32 / TORCH_CUDA_BLOCK * TORCH_CUDA_BLOCK;
        if threads == 0 {
            return None;
        }
        TorchCudaNormals::new(seed, threads).fill_from(0, &mut made);
        near(self.noise, &made).then_some(NoiseSource::TorchCuda(Some(threads)))
    }

    fn is_made_by(&self, fill: &dyn Fn(&mut [f32]), agree: &dyn Fn(&[f32], &[f32]) -> bool) -> bool {
        let mut made = vec![0.0; self.noise.len()];
        if self.noise.len() >= PREFIX + TAIL {
            fill(&mut made[..PREFIX]);
            if !agree(&self.noise[..PREFIX], &made[..PREFIX]) {
                return false;
            }
        }
        fill(&mut made);
        agree(self.noise, &made)
    }

    /// Values as they would lie there.
    fn rounded(&self, made: &[f32]) -> Vec<u8> {
        // Cannot fail: all are dtypes of floats.
        let stored = |values: &[f32]| f32_to_bytes(values, self.dtype).unwrap_or_default();
        if !self.bf16 {
            return stored(made);
        }
        let bf16 = f32_to_bytes(made, Dtype::Bf16).and_then(|bytes| Dtype::Bf16.to_f32(&bytes));
        stored(&bf16.unwrap_or_default())
    }

    /// Within the tolerance of a generator and what rounding adds to it.
    fn is_near(&self, stored: &[f32], made: &[f32], tolerance: f32) -> bool {
        let relative = half_step(self.dtype) + if self.bf16 { half_step(Dtype::Bf16) } else { 0.0 };
        stored.iter().zip(made).all(|(&stored, &made)| {
            let bound = tolerance + (made.abs() + tolerance) * relative + SMALLEST_HALF_STEP;
            (stored - made).abs() <= bound
        })
    }
}

/// Half the spacing of f16's subnormal numbers.
const SMALLEST_HALF_STEP: f32 = 1.0 / (1 << 25) as f32;

/// Largest relative error of rounding to a dtype.
fn half_step(dtype: Dtype) -> f32 {
    match dtype {
        Dtype::F16 => 1.0 / 2_048.0,
        Dtype::Bf16 => 1.0 / 256.0,
        _ => f32::EPSILON / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(values: &[f32], dtypes: &[Dtype]) -> Vec<f32> {
        dtypes.iter().fold(values.to_vec(), |values, &dtype| {
            dtype.to_f32(&f32_to_bytes(&values, dtype).unwrap()).unwrap()
        })
    }

    fn made(source: NoiseSource, seed: u64, n: usize) -> Vec<f32> {
        let mut out = vec![0.0; n];
        match source {
            NoiseSource::TorchAvx2 => TorchGenerator::new(seed).randn(&mut out),
            NoiseSource::TorchDefault => TorchGenerator::new(seed).randn_libm_class(&mut out),
            NoiseSource::TorchCuda(threads) => {
                TorchCudaNormals::new(seed, threads.unwrap_or(1 << 20)).fill_from(0, &mut out);
            }
            NoiseSource::Philox => Generator::Philox.fill_noise(seed, &mut out),
        }
        out
    }

    #[test]
    fn every_generator_is_recognised_after_any_rounding() {
        for n in [256, 1000, 16_384] {
            for source in [
                NoiseSource::TorchAvx2,
                NoiseSource::TorchCuda(None),
                NoiseSource::TorchCuda(Some(256)),
                NoiseSource::TorchCuda(Some(4096)),
                NoiseSource::Philox,
            ] {
                let source = match source {
                    NoiseSource::TorchCuda(Some(threads)) if n <= threads as usize => NoiseSource::TorchCuda(None),
                    other => other,
                };
                let noise = made(source, 77, n);
                for (dtypes, bf16) in [
                    (&[Dtype::F16][..], false),
                    (&[Dtype::Bf16, Dtype::F16], true),
                    (&[Dtype::F32], false),
                ] {
                    let found = NoiseOrigin::recognise(77, &stored(&noise, dtypes), *dtypes.last().unwrap());
                    assert_eq!(found, Some(NoiseOrigin { source, bf16 }), "{n} {dtypes:?}");
                    assert_eq!(
                        NoiseOrigin::recognise(78, &stored(&noise, dtypes), *dtypes.last().unwrap()),
                        None
                    );
                }
            }
        }
    }

    /// f16 hides most of the difference between torch's two classes; what shows of it is recognised as the other class.
    #[test]
    fn the_other_class_of_torch_is_recognised_where_it_shows() {
        let noise = made(NoiseSource::TorchDefault, 5, 16_384);
        let found = NoiseOrigin::recognise(5, &stored(&noise, &[Dtype::F32]), Dtype::F32).unwrap();
        assert_eq!(found.source, NoiseSource::TorchDefault);
        let found = NoiseOrigin::recognise(5, &stored(&noise, &[Dtype::F16]), Dtype::F16).unwrap();
        assert!(matches!(
            found.source,
            NoiseSource::TorchDefault | NoiseSource::TorchAvx2
        ));
    }

    #[test]
    fn a_changed_value_is_no_longer_its_noise() {
        for source in [
            NoiseSource::TorchAvx2,
            NoiseSource::TorchCuda(None),
            NoiseSource::Philox,
        ] {
            for at in [0, 100, 1023] {
                let mut noise = stored(&made(source, 3, 1024), &[Dtype::F16]);
                noise[at] += 0.25;
                assert_eq!(NoiseOrigin::recognise(3, &noise, Dtype::F16), None, "{source} {at}");
            }
        }
    }
}
