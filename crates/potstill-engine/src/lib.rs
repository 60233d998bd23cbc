//! What candle lacks: fused operations with backward, gradients for what is trained only, optimizers.
//!
//! Tensors are [`candle_core::Tensor`]s; candle's own autograd is never used. A [`Value`] is a tensor that may take part
//! in a graph, [`ops`] are the operations on values, [`backward`] walks the graph. Activations are channels-last
//! everywhere: images `[B, H, W, C]`, tokens `[B, N, C]`.

mod cpu;
mod error;
mod gradients;
mod memory;
pub mod ops;
pub mod optim;
mod param;
mod profile;
#[cfg(test)]
mod testing;
mod value;

pub use candle_core::{DType, Device, Shape, Tensor};
pub use cpu::kernel_class;
pub use error::{EngineError, Result};
pub use gradients::{Gradients, backward, backward_into};
pub use memory::Recycler;
pub use param::Param;
pub use profile::{Pass, ProfileRow, start_profile, take_profile};
pub use value::{NodeId, Value, Vjp, checkpoint, is_grad_enabled, no_grad};
