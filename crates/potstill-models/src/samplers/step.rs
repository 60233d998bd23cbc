//! One step of a sampler: what it tells the model, and the linear combination that is the next x.

use crate::error::Result;
use crate::prediction::{PredictionKind, combination_of};

/// A noise level: noisy latents are `signal·x0 + noise·ε`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// √ᾱ on a variance-preserving schedule, 1 − σ on a straight path.
    pub signal: f64,
    /// √(1 − ᾱ) on a variance-preserving schedule, σ on a straight path.
    pub noise: f64,
}

impl Level {
    /// Of a variance-preserving schedule.
    pub fn of_alpha_bar(alpha_bar: f64) -> Self {
        Self {
            signal: alpha_bar.sqrt(),
            noise: (1. - alpha_bar).sqrt(),
        }
    }

    /// The variance-preserving level with the ratio σ of noise to signal.
    pub fn of_sigma(sigma: f64) -> Self {
        let signal = 1. / (sigma * sigma + 1.).sqrt();
        Self {
            signal,
            noise: sigma * signal,
        }
    }
}

/// `x`·x + `prediction`·prediction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Combination {
    /// Share of x.
    pub x: f64,
    /// Share of the model's prediction.
    pub prediction: f64,
}

impl Combination {
    /// What `wanted` is of a model's input at a level and its prediction there.
    pub(super) fn of(wanted: PredictionKind, from: PredictionKind, level: Level) -> Result<Self> {
        let (x, prediction) = combination_of(from, wanted, level.signal, level.noise)?;
        Ok(Self { x, prediction })
    }

    /// The same of an x of which the model's input is `input`·x.
    pub(super) fn before(self, input: f64) -> Self {
        Self {
            x: self.x * input,
            ..self
        }
    }

    /// `a`·self + `b`·other.
    pub(super) fn mix(self, a: f64, other: Self, b: f64) -> Self {
        Self {
            x: a * self.x + b * other.x,
            prediction: a * self.prediction + b * other.prediction,
        }
    }

    /// Just x.
    pub(super) const X: Self = Self { x: 1., prediction: 0. };
}

/// One step. Every sampler's step is linear, so its coefficients, computed in f64, are all there is to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// What the model is told; may be fractional.
    pub timestep: f64,
    /// The model takes `input`·x.
    pub input: f64,
    /// Noise level of what the model takes.
    pub level: Level,
    /// The model's estimate of the clean latents.
    pub clean: Combination,
    /// The next x, but for the two terms below.
    pub next: Combination,
    /// Share of the clean latents as estimated one step before, in the next x. 0 but in multistep samplers.
    pub previous: f64,
    /// Share of fresh unit noise in the next x. 0 in deterministic samplers.
    pub noise: f64,
}
