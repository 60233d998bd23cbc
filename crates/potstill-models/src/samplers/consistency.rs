//! Samplers of consistency models, as diffusers' `LCMScheduler` and `TCDScheduler`. x is `√ᾱ·x0 + √(1 − ᾱ)·ε` throughout.

use super::Sampler;
use super::step::{Combination, Level, Step};
use crate::error::{ModelError, Result};
use crate::prediction::PredictionKind;
use crate::schedule::Schedule;

/// Timesteps that consistency models are trained at (`original_inference_steps` of all published ones).
const TRAINED_TIMESTEPS: usize = 50;

/// σ_data and the scale of the timestep in LCM's boundary condition.
const SIGMA_DATA: f64 = 0.5;
const TIMESTEP_SCALING: f64 = 10.;

/// `steps` of the trained timesteps, falling from the last: 999, 759, 499, 259.
fn timesteps(schedule: &Schedule, steps: usize) -> Result<Vec<f64>> {
    let stride = schedule.len() / TRAINED_TIMESTEPS;
    if steps == 0 || steps > TRAINED_TIMESTEPS || stride == 0 {
        let reason = format!(
            "{steps} must be between 1 and {TRAINED_TIMESTEPS}, the timesteps that consistency models are trained at, \
             of at least {TRAINED_TIMESTEPS} (there are {})",
            schedule.len()
        );
        return Err(ModelError::input("steps", reason));
    }
    let spread = TRAINED_TIMESTEPS as f64 / steps as f64;
    let skipped = (0..steps).map(|i| (i as f64 * spread) as usize);
    Ok(skipped
        .map(|skipped| ((TRAINED_TIMESTEPS - skipped) * stride - 1) as f64)
        .collect())
}

pub(super) fn lcm_steps(schedule: &Schedule, steps: usize) -> Result<Sampler> {
    let timesteps = timesteps(schedule, steps)?;
    let step = |(i, &timestep): (usize, &f64)| {
        let level = Level::of_alpha_bar(schedule.alpha_bar(timestep)?);
        let x0 = Combination::of(PredictionKind::X0, schedule.prediction(), level)?;
        let scaled = timestep * TIMESTEP_SCALING;
        let square = scaled * scaled + SIGMA_DATA * SIGMA_DATA;
        let clean = x0.mix(scaled / square.sqrt(), Combination::X, SIGMA_DATA * SIGMA_DATA / square);
        let next = match timesteps.get(i + 1) {
            Some(&next) => Level::of_alpha_bar(schedule.alpha_bar(next)?),
            None => Level { signal: 1., noise: 0. },
        };
        Ok(Step {
            timestep,
            input: 1.,
            level,
            clean,
            next: clean.mix(next.signal, Combination::X, 0.),
            previous: 0.,
            noise: next.noise,
        })
    };
    Ok(Sampler::unscaled(
        timesteps.iter().enumerate().map(step).collect::<Result<_>>()?,
    ))
}

/// `eta` is the paper's γ: the share by which each step overshoots its end, to come back with fresh noise.
pub(super) fn tcd_steps(schedule: &Schedule, steps: usize, eta: f64) -> Result<Sampler> {
    let timesteps = timesteps(schedule, steps)?;
    let step = |(i, &timestep): (usize, &f64)| {
        let next = timesteps.get(i + 1).copied();
        // diffusers computes it in f32.
        let aim = f64::from(((1. - eta) as f32 * next.unwrap_or(0.) as f32).floor());
        let level = Level::of_alpha_bar(schedule.alpha_bar(timestep)?);
        let at_aim = schedule.alpha_bar(aim)?;
        let clean = Combination::of(PredictionKind::X0, schedule.prediction(), level)?;
        let epsilon = Combination::of(PredictionKind::Epsilon, schedule.prediction(), level)?;
        let aimed = clean.mix(at_aim.sqrt(), epsilon, (1. - at_aim).sqrt());
        let ratio = match next {
            Some(next) if eta > 0. => schedule.alpha_bar(next)? / at_aim,
            _ => 1.,
        };
        Ok(Step {
            timestep,
            input: 1.,
            level,
            clean,
            next: aimed.mix(ratio.sqrt(), Combination::X, 0.),
            previous: 0.,
            noise: (1. - ratio).sqrt(),
        })
    };
    Ok(Sampler::unscaled(
        timesteps.iter().enumerate().map(step).collect::<Result<_>>()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timesteps_are_diffusers() {
        let schedule = Schedule::sd(PredictionKind::Epsilon);
        let found = |steps| timesteps(&schedule, steps).unwrap();
        assert_eq!(found(1), [999.]);
        assert_eq!(found(2), [999., 499.]);
        assert_eq!(found(4), [999., 759., 499., 259.]);
        assert_eq!(found(8), [999., 879., 759., 639., 499., 379., 259., 139.]);
        assert_eq!((found(50)[0], found(50)[49]), (999., 19.));
        assert!(timesteps(&schedule, 51).is_err());
    }
}
