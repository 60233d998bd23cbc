//! Optimizers, gradient clipping, moving averages of weights. Their states are maps from names to tensors.

mod adamw;
mod clip;
mod ema;

pub use adamw::{AdamW, AdamWConfig};
pub use clip::{clip_grad_norm, grad_norm};
pub use ema::{Ema, EmaConfig};

use std::collections::BTreeMap;

use candle_core::Tensor;

/// The state of an optimizer or of an average, by name.
pub type State = BTreeMap<String, Tensor>;
