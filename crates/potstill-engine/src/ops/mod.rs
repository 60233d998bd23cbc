//! Operations on values, with their gradients.
//!
//! Every operation takes f32 or f64 tensors on the CPU, all inputs of one dtype (but the frozen weight of an f32 convolution
//! or linear layer may be bf16), makes non-contiguous inputs contiguous, and computes gradients for those inputs only that
//! need one. Mistakes are [`EngineError`](crate::EngineError)s that
//! name the operation and the shapes.

mod activation;
mod add_rows;
mod arithmetic;
mod attention;
mod cast;
mod concat;
mod conv2d;
mod embedding;
mod geglu;
mod group_norm;
mod join;
mod layer_norm;
mod layout;
mod linear;
mod reduce;
mod sinusoids;
mod slice;
mod unary;
mod upsample;
mod weighted;

pub use activation::{gelu, quick_gelu, silu};
pub use add_rows::add_rows;
pub use arithmetic::{add, div, mul, sub};
pub use attention::{Attention, attention};
pub use cast::cast;
pub use concat::concat_last;
pub use conv2d::{Conv2d, conv2d};
pub use embedding::embedding;
pub use geglu::geglu;
pub use group_norm::{Activation, group_norm};
pub use join::{broadcast_to, concat};
pub use layer_norm::layer_norm;
pub use layout::{nchw_to_nhwc, nhwc_to_nchw, reshape};
pub use linear::{LowRank, linear, linear_with};
pub use reduce::{mean, sum};
pub use sinusoids::sinusoids;
pub use slice::narrow;
pub use unary::{abs, affine, clamp, exp, log, neg, sqrt, square};
pub use upsample::upsample_nearest;

pub(crate) use arithmetic::sum_of;

use candle_core::{Device, Tensor};

use crate::cpu::Real;
use crate::error::Result;

/// A tensor of values in row-major order.
fn tensor<T: Real>(values: Vec<T>, dims: &[usize]) -> Result<Tensor> {
    Ok(Tensor::from_vec(values, dims, &Device::Cpu)?)
}

/// `Some(f()?)` when a gradient is needed.
fn when<T>(needed: bool, f: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
    needed.then(f).transpose()
}
