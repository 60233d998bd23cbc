//! Euler's method (Karras et al. 2022, algorithm 2 without churn), as diffusers' `EulerDiscreteScheduler`.

use candle_core::Tensor;

use super::{Sampler, Spacing};
use crate::error::{ModelError, Result};
use crate::prediction::PredictionKind;
use crate::schedule::Schedule;

/// ᾱ that stands for 0 at the end of a zero-terminal-SNR schedule: σ is 4096 there (diffusers' value).
const SMALLEST_ALPHA_BAR: f32 = 1. / (1 << 24) as f32;

/// Euler's method in the variance-exploding form: x is x0 + σ·ε, and the model takes x/√(σ² + 1).
pub struct Euler {
    timesteps: Vec<f64>,
    /// σ before each step, and 0 at the end.
    sigmas: Vec<f64>,
    init_noise_sigma: f64,
    prediction: PredictionKind,
}

impl Euler {
    /// `steps` steps.
    pub fn new(schedule: &Schedule, steps: usize, spacing: Spacing) -> Result<Self> {
        if schedule.prediction() == PredictionKind::Flow {
            return Err(ModelError::input("sampler", "euler does not take flow predictions"));
        }
        // diffusers keeps timesteps and sigmas in f32.
        let timesteps: Vec<f64> = spacing
            .timesteps(steps, schedule.len())?
            .into_iter()
            .map(|t| f64::from(t as f32))
            .collect();
        let table: Vec<f64> = schedule
            .alphas_cumprod()
            .iter()
            .map(|&a| a.max(SMALLEST_ALPHA_BAR))
            .map(|a| f64::from(((1. - a) / a).sqrt()))
            .collect();
        let mut sigmas: Vec<f64> = timesteps
            .iter()
            .map(|&t| f64::from(interpolate(&table, t) as f32))
            .collect();
        let largest = sigmas[0];
        let init_noise_sigma = match spacing {
            Spacing::Leading => (largest * largest + 1.).sqrt(),
            Spacing::Trailing | Spacing::Linspace => largest,
        };
        sigmas.push(0.);
        Ok(Self {
            timesteps,
            sigmas,
            init_noise_sigma,
            prediction: schedule.prediction(),
        })
    }

    /// σ before each step, and the final 0.
    pub fn sigmas(&self) -> &[f64] {
        &self.sigmas
    }

    fn sigma(&self, i: usize) -> Result<f64> {
        match self.sigmas[..self.timesteps.len()].get(i) {
            Some(&sigma) => Ok(sigma),
            None => Err(ModelError::input(
                "i",
                format!("{i}: there are {} steps", self.timesteps.len()),
            )),
        }
    }
}

/// The table's value at a fractional index within it.
fn interpolate(table: &[f64], at: f64) -> f64 {
    let low = at as usize;
    match table.get(low + 1) {
        Some(next) => table[low] + (next - table[low]) * at.fract(),
        None => table[table.len() - 1],
    }
}

impl Sampler for Euler {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn init_noise_sigma(&self) -> f64 {
        self.init_noise_sigma
    }

    fn scale_model_input(&self, i: usize, x: &Tensor) -> Result<Tensor> {
        let sigma = self.sigma(i)?;
        Ok((x / (sigma * sigma + 1.).sqrt())?)
    }

    fn step(&self, i: usize, prediction: &Tensor, x: &Tensor) -> Result<Tensor> {
        let sigma = self.sigma(i)?;
        let delta = self.sigmas[i + 1] - sigma;
        // x + d·Δσ with the derivative d = (x − x0)/σ, as one combination c_x·x + c_p·prediction.
        let square = sigma * sigma + 1.;
        let (d_x, d_p) = match self.prediction {
            PredictionKind::Epsilon => (0., 1.),
            PredictionKind::V => (sigma / square, 1. / square.sqrt()),
            PredictionKind::X0 => (1. / sigma, -1. / sigma),
            PredictionKind::Flow => unreachable!("refused in new"),
        };
        Ok(((x * (1. + delta * d_x))? + (prediction * (delta * d_p))?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sigmas_are_diffusers() {
        let schedule = Schedule::sd(PredictionKind::Epsilon);
        let euler = Euler::new(&schedule, 20, Spacing::Leading).unwrap();
        assert!((euler.sigmas()[0] - 11.0283).abs() < 1e-4 && (euler.init_noise_sigma() - 11.0736).abs() < 1e-4);
        let trailing = Euler::new(&schedule, 4, Spacing::Trailing).unwrap();
        assert!((trailing.init_noise_sigma() - 14.6146).abs() < 1e-4);
    }

    #[test]
    fn zero_terminal_snr_has_a_finite_sigma() {
        let json = serde_json::json!({"rescale_betas_zero_snr": true, "prediction_type": "v_prediction"});
        let schedule = Schedule::parse(json.as_object().expect("an object"), "test").unwrap();
        let euler = Euler::new(&schedule, 4, Spacing::Trailing).unwrap();
        assert!((euler.init_noise_sigma() - 4096.).abs() < 1e-3);
    }
}
