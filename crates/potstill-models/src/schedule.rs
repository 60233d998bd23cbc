//! The noise schedule: ᾱ of every training timestep, as diffusers computes it.

use std::path::Path;

use serde_json::{Map, Value as Json};

use crate::error::{ModelError, Result};
use crate::fields::{Fields, read_object};
use crate::prediction::PredictionKind;

/// Longest schedule that is accepted; all known models have 1000 steps.
const MAX_TIMESTEPS: usize = 100_000;

/// How the names of diffusers' flow-matching schedulers begin.
const FLOW_MATCHING: &str = "FlowMatch";

/// Largest shift of σ that is accepted; published models have up to 12.
const MAX_SHIFT: f64 = 1000.;

/// A discrete variance-preserving schedule, and what its configuration says about the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    alphas_cumprod: Vec<f32>,
    prediction: PredictionKind,
    set_alpha_to_one: bool,
    /// Straight paths from latents to noise (rectified flow) in place of the variance-preserving ones.
    straight: bool,
    flow_shift: f64,
}

impl Schedule {
    /// The schedule of Stable Diffusion 1.x and XL: scaled-linear betas from 0.00085 to 0.012 over 1000 timesteps.
    pub fn sd(prediction: PredictionKind) -> Self {
        let betas = scaled_linear(0.00085, 0.012, 1000);
        Self {
            alphas_cumprod: cumulative_alphas(&betas),
            prediction,
            set_alpha_to_one: false,
            straight: false,
            flow_shift: 1.,
        }
    }

    /// With another kind of prediction.
    pub fn predicting(self, prediction: PredictionKind) -> Self {
        Self { prediction, ..self }
    }

    /// Reads a `scheduler_config.json`.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&read_object(path)?, &path.display().to_string())
    }

    /// Reads a scheduler's configuration; `place` names it in errors.
    ///
    /// Betas, zero-terminal-SNR rescaling, prediction type and `set_alpha_to_one` are used. Which sampler the folder was
    /// saved with, and its spacing, are not: the sampler is the caller's choice. The exception is flow matching, which is
    /// how a model was trained: with it, paths are straight, predictions are flow, and `shift` is used.
    pub fn parse(json: &Map<String, Json>, place: &str) -> Result<Self> {
        let f = Fields::new(json, place);
        f.unset("trained_betas")?;
        let steps = f.positive("num_train_timesteps", 1000)?;
        if !(2..=MAX_TIMESTEPS).contains(&steps) {
            return Err(f.error(
                "num_train_timesteps",
                format!("is {steps}, must be 2 to {MAX_TIMESTEPS}"),
            ));
        }
        let (start, end) = (f.f64("beta_start", 0.00085)?, f.f64("beta_end", 0.012)?);
        if !(0. < start && start <= end && end < 1.) {
            return Err(f.error(
                "beta_start",
                format!("and beta_end are {start} and {end}: must rise between 0 and 1"),
            ));
        }
        let betas = match f.str("beta_schedule", "scaled_linear")? {
            "scaled_linear" => scaled_linear(start, end, steps),
            "linear" => linspace(start, end, steps),
            other => {
                let reason = format!("`{other}` is not supported (`scaled_linear` and `linear` are)");
                return Err(f.error("beta_schedule", reason));
            }
        };
        let mut alphas_cumprod = cumulative_alphas(&betas);
        if f.bool("rescale_betas_zero_snr", false)? {
            alphas_cumprod = zero_terminal_snr(&alphas_cumprod);
        }
        let straight = f.str("_class_name", "")?.starts_with(FLOW_MATCHING);
        let flow_shift = f.f64(if straight { "shift" } else { "flow_shift" }, 1.)?;
        if !(flow_shift > 0. && flow_shift <= MAX_SHIFT) {
            return Err(f.error(
                "shift",
                format!("is {flow_shift}, must be above 0 and at most {MAX_SHIFT}"),
            ));
        }
        let name = f.str("prediction_type", if straight { "flow_prediction" } else { "epsilon" })?;
        let Some(prediction) = PredictionKind::from_name(name) else {
            let reason =
                format!("`{name}` is not supported (`epsilon`, `v_prediction`, `sample`, `flow_prediction` are)");
            return Err(f.error("prediction_type", reason));
        };
        Ok(Self {
            alphas_cumprod,
            prediction,
            set_alpha_to_one: f.bool("set_alpha_to_one", false)?,
            straight,
            flow_shift,
        })
    }

    /// ᾱ of every timestep, with diffusers' f32 values.
    pub fn alphas_cumprod(&self) -> &[f32] {
        &self.alphas_cumprod
    }

    /// Number of training timesteps.
    pub fn len(&self) -> usize {
        self.alphas_cumprod.len()
    }

    /// Never true: a schedule has at least two timesteps.
    pub fn is_empty(&self) -> bool {
        self.alphas_cumprod.is_empty()
    }

    /// What the model predicts.
    pub fn prediction(&self) -> PredictionKind {
        self.prediction
    }

    /// Whether the model was trained along straight paths `(1 − σ)·x0 + σ·ε`, where ᾱ has no meaning.
    pub fn is_straight(&self) -> bool {
        self.straight
    }

    /// By how much flow-matching samplers shift σ towards noise; 1 is not at all.
    pub fn flow_shift(&self) -> f64 {
        self.flow_shift
    }

    /// ᾱ after the last step of DDIM: 1 when the configuration says `set_alpha_to_one`, else ᾱ of timestep 0.
    pub fn final_alpha_bar(&self) -> f64 {
        if self.set_alpha_to_one {
            1.
        } else {
            f64::from(self.alphas_cumprod[0])
        }
    }

    /// ᾱ of a timestep.
    ///
    /// # Errors
    /// When the timestep is not a whole number within the schedule.
    pub fn alpha_bar(&self, timestep: f64) -> Result<f64> {
        let inside = timestep >= 0. && timestep < self.len() as f64 && timestep.fract() == 0.;
        match inside {
            true => Ok(f64::from(self.alphas_cumprod[timestep as usize])),
            false => {
                let reason = format!("{timestep} is not a whole number from 0 to {}", self.len() - 1);
                Err(ModelError::input("timestep", reason))
            }
        }
    }

    /// ᾱ of several timesteps.
    pub fn alpha_bars(&self, timesteps: &[f64]) -> Result<Vec<f64>> {
        timesteps.iter().map(|&t| self.alpha_bar(t)).collect()
    }
}

/// `torch.linspace(start, end, steps)` in f32 with its rounding: counted from the nearer end, each product fused with
/// its sum.
fn linspace(start: f64, end: f64, steps: usize) -> Vec<f32> {
    let (start, end) = (start as f32, end as f32);
    let step = (end - start) / (steps - 1) as f32;
    (0..steps)
        .map(|i| match i < steps / 2 {
            true => step.mul_add(i as f32, start),
            false => (-step).mul_add((steps - i - 1) as f32, end),
        })
        .collect()
}

fn scaled_linear(start: f64, end: f64, steps: usize) -> Vec<f32> {
    linspace(start.sqrt(), end.sqrt(), steps)
        .into_iter()
        .map(|b| b * b)
        .collect()
}

/// Running products of 1 − β. torch accumulates `cumprod` of f32 in f64 on the CPU.
fn cumulative_alphas(betas: &[f32]) -> Vec<f32> {
    betas
        .iter()
        .scan(1f64, |product, &beta| {
            *product *= f64::from(1. - beta);
            Some(*product as f32)
        })
        .collect()
}

/// Shifts and scales √ᾱ so that the last is 0 and the first stays (Lin et al. 2023, algorithm 1), in f32 as diffusers
/// does, through the betas and back.
fn zero_terminal_snr(alphas_cumprod: &[f32]) -> Vec<f32> {
    let roots: Vec<f32> = alphas_cumprod.iter().map(|a| a.sqrt()).collect();
    let (first, last) = (roots[0], roots[roots.len() - 1]);
    let bars: Vec<f32> = roots
        .iter()
        .map(|r| {
            let shifted = (r - last) * (first / (first - last));
            shifted * shifted
        })
        .collect();
    let betas: Vec<f32> = (0..bars.len())
        .map(|i| 1. - if i == 0 { bars[0] } else { bars[i] / bars[i - 1] })
        .collect();
    cumulative_alphas(&betas)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: Json) -> Result<Schedule> {
        Schedule::parse(value.as_object().expect("an object"), "scheduler_config.json")
    }

    #[test]
    fn sd_values_are_diffusers_f32() {
        let schedule = Schedule::sd(PredictionKind::Epsilon);
        for (t, value) in [
            (0, 0.999149978f64),
            (1, 0.998296022),
            (19, 0.982243955),
            (259, 0.658975244),
            (499, 0.27766943),
            (500, 0.276332468),
            (759, 0.0522128902),
            (981, 0.0057754959),
            (999, 0.00466009509),
        ] {
            assert_eq!(schedule.alphas_cumprod()[t], value as f32, "timestep {t}");
        }
        assert_eq!(parse(json!({})).unwrap(), schedule);
    }

    #[test]
    fn zero_terminal_snr_ends_at_zero() {
        let schedule = parse(json!({"rescale_betas_zero_snr": true, "prediction_type": "v_prediction"})).unwrap();
        assert_eq!(schedule.alphas_cumprod()[999], 0.);
        assert!((schedule.alphas_cumprod()[0] - 0.99915).abs() < 1e-6);
        assert_eq!(schedule.prediction(), PredictionKind::V);
    }

    #[test]
    fn impossible_schedules_are_refused_by_name() {
        for (field, value) in [
            ("beta_schedule", json!("squaredcos_cap_v2")),
            ("prediction_type", json!("score")),
            ("num_train_timesteps", json!(1)),
            ("beta_start", json!(-1)),
            ("trained_betas", json!([0.1])),
        ] {
            let error = parse(json!({field: value})).unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }

    #[test]
    fn timesteps_outside_are_errors() {
        let schedule = Schedule::sd(PredictionKind::Epsilon);
        for t in [-1., 1000., 3.5, f64::NAN] {
            assert!(schedule.alpha_bar(t).is_err());
        }
    }
}
