//! Optimizers, gradient clipping, moving averages of weights. Their states are maps from names to tensors.

mod adafactor;
mod adamw;
mod clip;
mod ema;
mod lion;
mod prodigy;
mod slots;

pub use adafactor::{Adafactor, AdafactorConfig};
pub use adamw::{AdamW, AdamWConfig};
pub use clip::{clip_grad_norm, grad_norm};
pub use ema::{Ema, EmaConfig};
pub use lion::{Lion, LionConfig};
pub use prodigy::{Prodigy, ProdigyConfig};

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::error::Result;
use crate::gradients::Gradients;

/// The state of an optimizer or of an average, by name.
pub type State = BTreeMap<String, Tensor>;

/// What changes parameters by their gradients. The learning rate is given with each step.
pub trait Optimizer {
    /// Updates every parameter that has a gradient; the others stay, and their step count too.
    ///
    /// # Errors
    /// When a gradient is not like its parameter.
    fn step(&mut self, lr: f64, gradients: &Gradients) -> Result<()>;

    /// Sets the factor on the learning rate of each parameter, by its name; all are 1 at first.
    ///
    /// # Errors
    /// For factors that the optimizer cannot have.
    fn set_rates(&mut self, rate: &dyn Fn(&str) -> f64) -> Result<()>;

    /// Copies of everything that is kept between steps, tensors like their parameters and counts as i64.
    ///
    /// # Errors
    /// When it cannot be copied.
    fn state(&self) -> Result<State>;

    /// Takes over a state made by [`Optimizer::state`] for the same parameters; nothing changes when it does not fit.
    ///
    /// # Errors
    /// Naming what does not fit.
    fn load_state(&mut self, state: &State) -> Result<()>;
}
