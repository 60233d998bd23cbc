//! DDIM, as diffusers' `DDIMScheduler` without clipping. x is `√ᾱ·x0 + √(1 − ᾱ)·ε` throughout.

use super::step::{Combination, Level, Step};
use super::{Sampler, Spacing};
use crate::error::Result;
use crate::prediction::PredictionKind;
use crate::schedule::Schedule;

pub(super) fn steps(schedule: &Schedule, steps: usize, spacing: Spacing, eta: f64) -> Result<Sampler> {
    let total = schedule.len();
    let timesteps = spacing.whole_timesteps(steps, total)?;
    // A step ends a fixed stride below its timestep, not at the next one of the list.
    let stride = (total / steps) as f64;
    let step = |timestep: f64| {
        let before = schedule.alpha_bar(timestep)?;
        let after = if timestep < stride {
            schedule.final_alpha_bar()
        } else {
            schedule.alpha_bar(timestep - stride)?
        };
        // σ of the fresh noise: at η = 1 what DDPM would add.
        let noise = eta * ((1. - after) / (1. - before) * (1. - before / after)).max(0.).sqrt();
        let level = Level::of_alpha_bar(before);
        let clean = Combination::of(PredictionKind::X0, schedule.prediction(), level)?;
        let epsilon = Combination::of(PredictionKind::Epsilon, schedule.prediction(), level)?;
        Ok(Step {
            timestep,
            input: 1.,
            level,
            clean,
            next: clean.mix(after.sqrt(), epsilon, (1. - after - noise * noise).max(0.).sqrt()),
            previous: 0.,
            noise,
        })
    };
    Ok(Sampler::unscaled(
        timesteps.into_iter().map(step).collect::<Result<_>>()?,
    ))
}
