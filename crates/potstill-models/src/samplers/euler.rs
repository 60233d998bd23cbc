//! Euler's method in σ, as diffusers' `EulerDiscreteScheduler` and `EulerAncestralDiscreteScheduler`. x is x0 + σ·ε, and
//! the model takes x/√(σ² + 1).

use super::sigmas::{SigmaTable, in_f32, karras};
use super::step::{Combination, Level, Step};
use super::{Sampler, Spacing};
use crate::error::Result;
use crate::prediction::PredictionKind;
use crate::schedule::Schedule;

pub(super) fn steps(schedule: &Schedule, steps: usize, spacing: Spacing, with_karras: bool) -> Result<Sampler> {
    let table = SigmaTable::new(schedule);
    let mut points = spaced(&table, spacing, steps, schedule.len())?;
    if with_karras {
        let (largest, smallest) = (points[0].1, points[points.len() - 1].1);
        points = karras(smallest, largest, points.len())
            .into_iter()
            .map(|sigma| (table.timestep_of(sigma), sigma))
            .collect();
    }
    sampler(schedule, spacing, &points, |_, after| (after, 0.))
}

pub(super) fn ancestral_steps(schedule: &Schedule, steps: usize, spacing: Spacing) -> Result<Sampler> {
    let points = spaced(&SigmaTable::new(schedule), spacing, steps, schedule.len())?;
    // σ is lowered further than asked for, by as much as the fresh noise raises it again.
    sampler(schedule, spacing, &points, |before, after| {
        let up = (after * after * (before * before - after * after) / (before * before)).sqrt();
        ((after * after - up * up).sqrt(), up)
    })
}

/// (timestep, σ) of the steps.
fn spaced(table: &SigmaTable, spacing: Spacing, steps: usize, total: usize) -> Result<Vec<(f64, f64)>> {
    let timesteps = spacing.timesteps(steps, total)?;
    Ok(timesteps.into_iter().map(in_f32).map(|t| (t, table.at(t))).collect())
}

/// `split` gives the σ to go down to and the share of fresh noise, from the σ before a step and the one wanted after it.
fn sampler(
    schedule: &Schedule,
    spacing: Spacing,
    points: &[(f64, f64)],
    split: impl Fn(f64, f64) -> (f64, f64),
) -> Result<Sampler> {
    let sigma_at = |i: usize| points.get(i).map_or(0., |point| in_f32(point.1));
    let steps = points.iter().enumerate().map(|(i, &(timestep, _))| {
        let sigma = sigma_at(i);
        let (down, noise) = split(sigma, sigma_at(i + 1));
        let level = Level::of_sigma(sigma);
        let clean = Combination::of(PredictionKind::X0, schedule.prediction(), level)?.before(level.signal);
        // x + (x − x0)/σ·Δσ.
        let part = (down - sigma) / sigma;
        Ok(Step {
            timestep: in_f32(timestep),
            input: level.signal,
            level,
            clean,
            next: Combination::X.mix(1. + part, clean, -part),
            previous: 0.,
            noise,
        })
    });
    let largest = sigma_at(0);
    Ok(Sampler {
        steps: steps.collect::<Result<_>>()?,
        init_noise_sigma: match spacing {
            Spacing::Leading => (largest * largest + 1.).sqrt(),
            Spacing::Trailing | Spacing::Linspace => largest,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_noise_is_diffusers() {
        let schedule = Schedule::sd(PredictionKind::Epsilon);
        let leading = steps(&schedule, 20, Spacing::Leading, false).unwrap();
        assert!((leading.init_noise_sigma() - 11.0736).abs() < 1e-4);
        let trailing = steps(&schedule, 4, Spacing::Trailing, false).unwrap();
        assert!((trailing.init_noise_sigma() - 14.6146).abs() < 1e-4);
    }

    #[test]
    fn zero_terminal_snr_has_a_finite_sigma() {
        let json = serde_json::json!({"rescale_betas_zero_snr": true, "prediction_type": "v_prediction"});
        let schedule = Schedule::parse(json.as_object().expect("an object"), "test").unwrap();
        let euler = steps(&schedule, 4, Spacing::Trailing, false).unwrap();
        assert!((euler.init_noise_sigma() - 4096.).abs() < 1e-3);
    }

    #[test]
    fn an_ancestral_step_keeps_the_wanted_deviation() {
        let schedule = Schedule::sd(PredictionKind::Epsilon);
        let sampler = ancestral_steps(&schedule, 10, Spacing::Trailing).unwrap();
        let table = SigmaTable::new(&schedule);
        for pair in sampler.steps().windows(2) {
            // With ε known, x moves to x0 + σ_down·ε.
            let sigma = table.at(pair[0].timestep);
            let down = sigma + pair[0].next.prediction;
            let wanted = table.at(pair[1].timestep);
            assert!((down.hypot(pair[0].noise) - wanted).abs() < 1e-5);
        }
        assert_eq!(sampler.steps()[9].noise, 0.);
    }
}
