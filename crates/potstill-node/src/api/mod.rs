//! What JavaScript calls.

mod adapters;
mod autograd;
mod cache_build;
mod cache_draws;
mod cache_errors;
mod cache_export;
mod cache_gc;
mod cache_images;
mod cache_import;
mod cache_models;
mod cache_read;
mod cache_seal;
mod cache_source;
mod cache_verify;
mod checkpoint;
mod cuda;
mod files;
mod lora;
mod memory;
mod model;
mod noise;
mod optimizer;
mod profile;
mod random;
mod sampler;
mod tensors;
mod text;
mod unet;
mod vae;
mod workload;

use napi_derive::napi;

/// The addon's version; the package's must be the same.
#[napi]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Whether this addon computes on NVIDIA's devices as well.
#[napi]
pub fn has_cuda() -> bool {
    cfg!(feature = "cuda")
}

/// The classes of kernels that this processor has, best last.
#[napi]
pub fn kernel_classes() -> Vec<&'static str> {
    potstill_engine::kernel_classes()
}

/// Uses a class of kernels; false when this processor lacks it, there is none of this name, or another is in use already.
#[napi]
pub fn use_kernels(name: String) -> bool {
    potstill_engine::use_kernels(&name)
}

/// Which of the CPU's instruction sets the kernels use: `sse`, `avx2`, `avx512` or `neon`. Results are the same to the
/// bit within one of them.
#[napi]
pub fn kernel_class() -> &'static str {
    potstill_engine::kernel_class()
}

/// The same for products in bf16: `avx512-bf16` where the processor multiplies it, else the class with `-bf16-emulated`
/// behind it.
#[napi]
pub fn bf16_kernel_class() -> &'static str {
    potstill_engine::bf16_kernel_class()
}
