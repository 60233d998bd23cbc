//! Noise where it is needed: the generators of `potstill-noise` on every device, with the same bits.

use candle_core::{Device, Tensor};
use potstill_noise::{Generator, Stream};

use crate::cuda::Gpu;
use crate::error::Result;

/// Fewer values than this torch draws in another way, one after the other.
const TORCH_GROUP: usize = 16;

/// Standard normal noise of a seed in f32: for `philox` stream 0 of the seed, for `torch` what
/// `torch.randn(dims, generator=torch.Generator().manual_seed(seed))` gives.
pub fn normals(generator: Generator, seed: u64, dims: &[usize], device: &Device) -> Result<Tensor> {
    let count: usize = dims.iter().product();
    if let Some(gpu) = Gpu::on(device) {
        match generator {
            Generator::Philox => return gpu.philox(seed, Stream::Noise as u32, dims),
            Generator::Torch if count >= TORCH_GROUP => return gpu.torch_normals(seed, dims),
            Generator::Torch => {}
        }
    }
    let mut values = vec![0f32; count];
    generator.fill_noise(seed, &mut values);
    Ok(Tensor::from_vec(values, dims, device)?)
}
