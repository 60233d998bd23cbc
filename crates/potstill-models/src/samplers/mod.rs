//! Samplers: from noise to latents in a given number of steps, with diffusers' numbers.

mod ddim;
mod euler;
mod spacing;

use candle_core::Tensor;

use crate::error::Result;
use crate::schedule::Schedule;
pub use ddim::Ddim;
pub use euler::Euler;
pub use spacing::Spacing;

/// One run's worth of steps. `i` counts the steps from 0; latents are f32.
///
/// A run is: `x = noise · init_noise_sigma`; for each i, `prediction = model(scale_model_input(i, x), timesteps[i])`,
/// `x = step(i, prediction, x)`; the last x is the clean latents.
pub trait Sampler: Send + Sync {
    /// What the model is told at each step.
    fn timesteps(&self) -> &[f64];

    /// Factor from unit noise to the first x.
    fn init_noise_sigma(&self) -> f64;

    /// x as the model takes it.
    fn scale_model_input(&self, i: usize, x: &Tensor) -> Result<Tensor>;

    /// x after step i, from the model's (guided) prediction at it. The prediction is of the schedule's kind.
    fn step(&self, i: usize, prediction: &Tensor, x: &Tensor) -> Result<Tensor>;
}

/// The samplers by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SamplerKind {
    /// Deterministic DDIM (η = 0).
    Ddim,
    /// Euler's method on the probability-flow ODE in σ.
    Euler,
}

impl SamplerKind {
    /// The kind of a name (`ddim`, `euler`).
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "ddim" => Self::Ddim,
            "euler" => Self::Euler,
            _ => return None,
        })
    }

    /// A sampler of this kind; `spacing` is leading with offset 1 unless chosen.
    pub fn create(self, schedule: &Schedule, steps: usize, spacing: Spacing) -> Result<Box<dyn Sampler>> {
        Ok(match self {
            Self::Ddim => Box::new(Ddim::new(schedule, steps, spacing)?),
            Self::Euler => Box::new(Euler::new(schedule, steps, spacing)?),
        })
    }
}
