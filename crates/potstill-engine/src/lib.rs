//! What candle lacks: fused operations with backward, gradients for what is trained only, optimizers.
//!
//! Tensors are [`candle_core::Tensor`]s; candle's own autograd is never used. A [`Value`] is a tensor that may take part
//! in a graph, [`ops`] are the operations on values, [`backward`] walks the graph. Activations are channels-last
//! everywhere: images `[B, H, W, C]`, tokens `[B, N, C]`.

mod cpu;
// Where there is no card, all of it is there and nothing of it can be reached.
#[cfg_attr(
    not(any(feature = "cuda", all(any(test, feature = "host"), target_os = "linux"))),
    allow(dead_code, unreachable_code, unused_variables)
)]
mod cuda;
pub mod devices;
mod error;
mod gradients;
mod memory;
pub mod noise;
pub mod ops;
pub mod optim;
mod param;
mod profile;
pub mod quant;
#[cfg(test)]
mod testing;
mod value;
mod workload;

pub use candle_core::{DType, Device, Shape, Tensor};
pub use cpu::{bf16_kernel_class, kernel_class, kernel_classes, use_kernels};
#[cfg(all(feature = "host", target_os = "linux"))]
pub use cuda::on_host;
pub use error::{EngineError, Result};
pub use gradients::{Gradients, backward, backward_into};
pub use memory::Recycler;
pub use param::Param;
pub use profile::{Pass, ProfileRow, start_profile, take_profile};
pub use value::{NodeId, Value, Vjp, checkpoint, is_grad_enabled, no_grad};
pub use workload::Workload;
