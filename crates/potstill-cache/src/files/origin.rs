//! By which generator noise was made from its seed.

use std::fmt;

use potstill_io::{Dtype, f32_to_bytes, f32_to_bytes_into};
use potstill_noise::{
    Generator, NoiseStream, TORCH_CLASS_TOLERANCE, TORCH_CUDA_BLOCK, TORCH_CUDA_TOLERANCE, TorchCudaNormals,
    TorchGenerator,
};

use crate::canonical::same_bytes;

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

/// Values that are compared first: foreign noise differs in them.
const PREFIX: usize = 64;
/// Values that are made and compared at a time: few enough for the nearest cache.
const PIECE: usize = 2048;
/// No last piece is shorter.
const TAIL: usize = NoiseStream::STEP;

impl NoiseOrigin {
    /// Finds the generator of noise that was stored as `dtype`; none when no known one makes it from this seed.
    #[must_use]
    pub fn recognise(seed: u64, noise: &[f32], dtype: Dtype) -> Option<Self> {
        // Cannot fail for dtypes of floats, of which the noise came.
        Self::recognise_stored(seed, &f32_to_bytes(noise, dtype).unwrap_or_default(), dtype)
    }

    /// [`NoiseOrigin::recognise`] of the bytes as they are stored.
    pub(crate) fn recognise_stored(seed: u64, bytes: &[u8], dtype: Dtype) -> Option<Self> {
        if bytes.is_empty() || !dtype.is_float() {
            return None;
        }
        for bf16 in [false, true] {
            let exactly = Exactly { bytes, dtype, bf16 };
            for (generator, source) in [
                (Generator::Torch, NoiseSource::TorchAvx2),
                (Generator::Philox, NoiseSource::Philox),
            ] {
                if exactly.is_made_by(generator.noise(seed)) {
                    return Some(Self { source, bf16 });
                }
            }
            let stored = Stored { bytes, dtype, bf16 };
            if let Some(source) = stored.torch_default(seed).or_else(|| stored.torch_cuda(seed)) {
                return Some(Self { source, bf16 });
            }
        }
        None
    }
}

/// Noise as it lies in a file, of a generator whose bits are known.
struct Exactly<'a> {
    bytes: &'a [u8],
    dtype: Dtype,
    bf16: bool,
}

impl Exactly<'_> {
    /// Whether rounding gives the very values.
    fn is_made_by(&self, mut noise: NoiseStream) -> bool {
        let size = self.dtype.size();
        let count = self.bytes.len() / size;
        let (mut made, mut rounded) = ([0f32; PIECE + TAIL], [0u8; (PIECE + TAIL) * size_of::<f64>()]);
        let mut start = 0;
        while start < count {
            let wanted = if start == 0 { PREFIX } else { PIECE };
            let left = count - start;
            let length = if left < wanted + TAIL { left } else { wanted };
            let (made, rounded) = (&mut made[..length], &mut rounded[..length * size]);
            noise.fill(made);
            if !self.agrees(&self.bytes[start * size..(start + length) * size], made, rounded) {
                return false;
            }
            start += length;
        }
        true
    }

    /// Rounds values as they would lie there.
    fn agrees(&self, stored: &[u8], made: &mut [f32], rounded: &mut [u8]) -> bool {
        if self.bf16 {
            let halves = &mut rounded[..made.len() * Dtype::Bf16.size()];
            // Cannot fail: the sizes are right, and all are dtypes of floats.
            let _ = f32_to_bytes_into(made, Dtype::Bf16, halves).and_then(|()| Dtype::Bf16.to_f32_into(halves, made));
        }
        let _ = f32_to_bytes_into(made, self.dtype, rounded);
        if same_bytes(stored, rounded) {
            return true;
        }
        // A zero may have lost its sign.
        let values = |bytes: &[u8]| self.dtype.to_f32(bytes);
        matches!((values(stored), values(rounded)), (Ok(stored), Ok(made)) if stored == made)
    }
}

/// Noise as it lies in a file, of a generator whose values are known nearly.
struct Stored<'a> {
    bytes: &'a [u8],
    dtype: Dtype,
    bf16: bool,
}

impl Stored<'_> {
    /// How many values there are.
    fn count(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }

    /// The first values.
    fn first(&self, count: usize) -> Vec<f32> {
        // Cannot fail: the dtype is a float's, and there are as many.
        self.dtype
            .to_f32(&self.bytes[..count * self.dtype.size()])
            .unwrap_or_default()
    }

    fn torch_default(&self, seed: u64) -> Option<NoiseSource> {
        let made_alike = |length: usize| {
            let mut made = vec![0.0; length];
            TorchGenerator::new(seed).randn_libm_class(&mut made);
            self.is_near(&self.first(length), &made, TORCH_CLASS_TOLERANCE)
        };
        // A prefix of a tensor is drawn as the tensor is, up to its tail.
        let is_long = self.count() >= PREFIX + TAIL;
        let found = (!is_long || made_alike(PREFIX)) && made_alike(self.count());
        found.then_some(NoiseSource::TorchDefault)
    }

    fn torch_cuda(&self, seed: u64) -> Option<NoiseSource> {
        let near = |stored: &[f32], made: &[f32]| self.is_near(stored, made, TORCH_CUDA_TOLERANCE);
        // Every thread's first value: what a GPU with threads enough draws.
        let widest = TorchCudaNormals::new(seed, u32::MAX / TORCH_CUDA_BLOCK * TORCH_CUDA_BLOCK);
        let prefix = PREFIX.min(self.count());
        let mut made = vec![0.0; prefix];
        widest.fill_from(0, &mut made);
        if !near(&self.first(prefix), &made) {
            return None;
        }
        let noise = self.first(self.count());
        made.resize(noise.len(), 0.0);
        widest.fill_from(prefix as u64, &mut made[prefix..]);
        let differs = (0..made.len()).find(|&i| !near(&noise[i..=i], &made[i..=i]));
        let Some(first) = differs else {
            return Some(NoiseSource::TorchCuda(None));
        };
        // Beyond the GPU's threads come their second values.
        let threads = first as u32 / TORCH_CUDA_BLOCK * TORCH_CUDA_BLOCK;
        if threads == 0 {
            return None;
        }
        TorchCudaNormals::new(seed, threads).fill_from(0, &mut made);
        near(&noise, &made).then_some(NoiseSource::TorchCuda(Some(threads)))
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
