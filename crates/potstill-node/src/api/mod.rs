//! What JavaScript calls.

mod adapters;
mod autograd;
mod cache_build;
mod cache_draws;
mod cache_errors;
mod cache_export;
mod cache_images;
mod cache_import;
mod cache_models;
mod cache_read;
mod cache_source;
mod cache_verify;
mod checkpoint;
mod files;
mod lora;
mod model;
mod noise;
mod optimizer;
mod profile;
mod sampler;
mod tensors;
mod text;
mod unet;
mod vae;

use napi_derive::napi;

/// The addon's version; the package's must be the same.
#[napi]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Which of the CPU's instruction sets the kernels use: `sse`, `avx2`, `avx512` or `neon`. Results are the same to the
/// bit within one of them.
#[napi]
pub fn kernel_class() -> &'static str {
    potstill_engine::kernel_class()
}
