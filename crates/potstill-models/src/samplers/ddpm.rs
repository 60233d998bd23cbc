//! Ancestral sampling, as diffusers' `DDPMScheduler` (`fixed_small`) without clipping.

use super::step::{Combination, Level, Step};
use super::{Sampler, Spacing};
use crate::error::Result;
use crate::prediction::PredictionKind;
use crate::schedule::Schedule;

/// Smallest variance of a step (diffusers' value).
const MIN_VARIANCE: f64 = 1e-20;

pub(super) fn steps(schedule: &Schedule, steps: usize, spacing: Spacing) -> Result<Sampler> {
    let timesteps = spacing.whole_timesteps(steps, schedule.len())?;
    let step = |(i, &timestep): (usize, &f64)| {
        let before = schedule.alpha_bar(timestep)?;
        let after = match timesteps.get(i + 1) {
            Some(&next) => schedule.alpha_bar(next)?,
            None => 1.,
        };
        // The posterior of x at the next level given x and x0 (Ho et al. 2020, equations 6 and 7).
        let alpha = before / after;
        let of_clean = after.sqrt() * (1. - alpha) / (1. - before);
        let of_x = alpha.sqrt() * (1. - after) / (1. - before);
        let variance = ((1. - after) / (1. - before) * (1. - alpha)).max(MIN_VARIANCE);
        let level = Level::of_alpha_bar(before);
        let clean = Combination::of(PredictionKind::X0, schedule.prediction(), level)?;
        Ok(Step {
            timestep,
            input: 1.,
            level,
            clean,
            next: clean.mix(of_clean, Combination::X, of_x),
            previous: 0.,
            noise: if timestep > 0. { variance.sqrt() } else { 0. },
        })
    };
    Ok(Sampler::unscaled(
        timesteps.iter().enumerate().map(step).collect::<Result<_>>()?,
    ))
}
