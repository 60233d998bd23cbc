//! Seeds, timesteps, torch-exact and counter-based noise. No tensor engine, no I/O.
//!
//! * [`TorchGenerator`]: torch's CPU generator, bit-exact with the AVX2 class of `torch.randn` for `float32`.
//! * [`TorchCudaNormals`]: torch's CUDA generator, emulated within a tolerance, to recognise noise that a GPU made.
//! * [`PhiloxNormals`]: potstill's own counter-based generator, the same bits on every CPU, in CUDA and in WASM.
//! * [`draw_seed`], [`View`], [`stratified_timestep`]: what a cache derives instead of storing.
//! * [`Generator`]: which of the generators made the noise of a cache.

mod elementary;
mod fma;
mod generator;
mod mt19937;
mod philox;
mod seed;
mod timestep;
mod torch;
mod torch_cuda;
mod torch_normal;
#[cfg(target_arch = "x86_64")]
mod wide;

pub use generator::{Generator, NoiseStream, UnknownGenerator};
pub use mt19937::Mt19937;
pub use philox::{PhiloxNormals, Stream, philox4x32_10};
pub use seed::{View, ViewError, draw_seed};
pub use timestep::{TimestepError, TimestepRange, stratified_timestep};
pub use torch::{RandintError, TorchGenerator};
pub use torch_cuda::{TORCH_CUDA_BLOCK, TORCH_CUDA_TOLERANCE, TorchCudaNormals};
pub use torch_normal::{TORCH_CLASS_TOLERANCE, libm_class_from_uniforms};
