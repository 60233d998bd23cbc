//! DPM-Solver++ (2M), as diffusers' `DPMSolverMultistepScheduler` with its midpoint rule and a last σ of 0. x is
//! `√ᾱ·x0 + √(1 − ᾱ)·ε` throughout.

use super::sigmas::{SigmaTable, in_f32, karras};
use super::step::{Combination, Level, Step};
use super::{Sampler, Spacing};
use crate::error::Result;
use crate::prediction::PredictionKind;
use crate::schedule::Schedule;

pub(super) fn steps(schedule: &Schedule, steps: usize, spacing: Spacing, with_karras: bool) -> Result<Sampler> {
    let table = SigmaTable::new(schedule);
    let timesteps = spacing.timesteps_above_zero(steps, schedule.len())?;
    // (what the model is told, σ): with Karras' levels the timestep is the nearest whole one.
    let points: Vec<(f64, f64)> = if with_karras {
        let (smallest, largest) = table.range();
        let sigmas = karras(smallest, largest, timesteps.len()).into_iter();
        sigmas
            .map(|s| (table.timestep_of(s).round_ties_even(), in_f32(s)))
            .collect()
    } else {
        timesteps.into_iter().map(|t| (t, in_f32(table.at(t)))).collect()
    };
    let step = |(i, &(timestep, sigma)): (usize, &(f64, f64))| {
        let level = Level::of_sigma(sigma);
        let next = Level::of_sigma(points.get(i + 1).map_or(0., |point| point.1));
        let clean = Combination::of(PredictionKind::X0, schedule.prediction(), level)?;
        // λ = ln(signal/noise); h is infinite in the last step.
        let lambda = |level: Level| level.signal.ln() - level.noise.ln();
        let h = lambda(next) - lambda(level);
        let of_clean = -next.signal * (-h).exp_m1();
        // The first step has no history, and the last one's h has no finite ratio: both are of first order.
        let is_first_order = i == 0 || i + 1 == points.len();
        let extrapolated = match is_first_order {
            true => 0.,
            false => 0.5 * h / (lambda(level) - lambda(Level::of_sigma(points[i - 1].1))),
        };
        Ok(Step {
            timestep,
            input: 1.,
            level,
            clean,
            next: clean.mix(of_clean * (1. + extrapolated), Combination::X, next.noise / level.noise),
            previous: -of_clean * extrapolated,
            noise: 0.,
        })
    };
    Ok(Sampler::unscaled(
        points.iter().enumerate().map(step).collect::<Result<_>>()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_inner_steps_have_a_history() {
        let schedule = Schedule::sd(PredictionKind::Epsilon);
        for steps in [1, 2, 5, 20] {
            let sampler = super::steps(&schedule, steps, Spacing::Linspace, false).unwrap();
            for (i, step) in sampler.steps().iter().enumerate() {
                assert_eq!(step.previous != 0., i > 0 && i + 1 < steps, "{steps} {i}");
            }
        }
    }
}
