//! DDIM (Song et al. 2021) with η = 0, as diffusers' `DDIMScheduler` without clipping.

use candle_core::Tensor;
use potstill_engine::Value;

use super::{Sampler, Spacing};
use crate::error::{ModelError, Result};
use crate::prediction::{PredictionKind, add_noise, convert};
use crate::schedule::Schedule;

/// Deterministic DDIM in the variance-preserving form: x is √ᾱ·x0 + √(1 − ᾱ)·ε throughout.
pub struct Ddim {
    timesteps: Vec<f64>,
    /// ᾱ before and after each step.
    levels: Vec<(f64, f64)>,
    prediction: PredictionKind,
}

impl Ddim {
    /// `steps` steps.
    pub fn new(schedule: &Schedule, steps: usize, spacing: Spacing) -> Result<Self> {
        let total = schedule.len();
        let timesteps: Vec<f64> = spacing
            .timesteps(steps, total)?
            .into_iter()
            .map(f64::round_ties_even)
            .collect();
        // A step ends a fixed stride below its timestep, not at the next one of the list.
        let stride = (total / steps) as f64;
        let levels = timesteps
            .iter()
            .map(|&t| {
                let after = if t < stride {
                    schedule.final_alpha_bar()
                } else {
                    schedule.alpha_bar(t - stride)?
                };
                Ok((schedule.alpha_bar(t)?, after))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            timesteps,
            levels,
            prediction: schedule.prediction(),
        })
    }
}

impl Sampler for Ddim {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn init_noise_sigma(&self) -> f64 {
        1.
    }

    fn scale_model_input(&self, _i: usize, x: &Tensor) -> Result<Tensor> {
        Ok(x.clone())
    }

    fn step(&self, i: usize, prediction: &Tensor, x: &Tensor) -> Result<Tensor> {
        let &(before, after) = self
            .levels
            .get(i)
            .ok_or_else(|| ModelError::input("i", format!("{i}: there are {} steps", self.levels.len())))?;
        let (prediction, x) = (Value::constant(prediction.clone()), Value::constant(x.clone()));
        let x0 = convert(&prediction, self.prediction, PredictionKind::X0, &x, &[before])?;
        let noise = convert(&prediction, self.prediction, PredictionKind::Epsilon, &x, &[before])?;
        Ok(add_noise(&x0, &noise, &[after])?.tensor().clone())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_perfect_prediction_lands_on_the_final_level() {
        let schedule = Schedule::sd(PredictionKind::V);
        let sampler = Ddim::new(&schedule, 10, Spacing::Leading).unwrap();
        let (x0, noise) = (0.5f64, -1.25f64);
        let tensor = |v: f64| Tensor::new(&[[v as f32]], &Device::Cpu).unwrap();
        let level = |t: f64| schedule.alpha_bar(t).unwrap();
        let first = level(sampler.timesteps()[0]);
        let mut x = tensor(first.sqrt() * x0 + (1. - first).sqrt() * noise);
        for (i, &t) in sampler.timesteps().iter().enumerate() {
            let (a, s) = (level(t).sqrt(), (1. - level(t)).sqrt());
            x = sampler.step(i, &tensor(a * noise - s * x0), &x).unwrap();
        }
        let last = schedule.final_alpha_bar();
        let expected = last.sqrt() * x0 + (1. - last).sqrt() * noise;
        let got = f64::from(x.to_vec2::<f32>().unwrap()[0][0]);
        assert!((got - expected).abs() < 1e-5, "{got} {expected}");
        assert!(sampler.step(10, &x, &x).is_err());
    }
}
