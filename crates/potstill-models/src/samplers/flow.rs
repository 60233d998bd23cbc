//! Euler's method along straight paths, as diffusers' `FlowMatchEulerDiscreteScheduler`. x is `(1 − σ)·x0 + σ·ε`, and the
//! model is told 1000·σ.

use super::Sampler;
use super::sigmas::in_f32;
use super::step::{Combination, Level, Step};
use crate::error::{ModelError, Result};
use crate::prediction::PredictionKind;
use crate::schedule::Schedule;

pub(super) fn steps(schedule: &Schedule, steps: usize) -> Result<Sampler> {
    if schedule.prediction() != PredictionKind::Flow {
        let reason = format!(
            "flow-euler takes a model that predicts flow along straight paths; this one predicts {}",
            schedule.prediction()
        );
        return Err(ModelError::input("sampler", reason));
    }
    let total = schedule.len();
    if steps == 0 || steps > total {
        return Err(ModelError::input(
            "steps",
            format!("{steps} must be between 1 and {total}"),
        ));
    }
    let shift = schedule.flow_shift();
    let shifted = |sigma: f64| shift * sigma / (1. + (shift - 1.) * sigma);
    // diffusers takes the ends from the table that is shifted already, and shifts what it spreads between them again.
    let total = total as f64;
    let (first, last) = (in_f32(shifted(1.)) * total, in_f32(shifted(1. / total)) * total);
    let spread = |i: usize| match i {
        0 => first,
        i => first + i as f64 * ((last - first) / (steps - 1) as f64),
    };
    let sigma_at = |i: usize| match i < steps {
        true => in_f32(shifted(spread(i) / total)),
        false => 0.,
    };
    let step = |i: usize| {
        let sigma = sigma_at(i);
        let level = Level {
            signal: 1. - sigma,
            noise: sigma,
        };
        Ok(Step {
            timestep: in_f32(sigma * total),
            input: 1.,
            level,
            clean: Combination::of(PredictionKind::X0, PredictionKind::Flow, level)?,
            next: Combination {
                x: 1.,
                prediction: sigma_at(i + 1) - sigma,
            },
            previous: 0.,
            noise: 0.,
        })
    };
    Ok(Sampler::unscaled((0..steps).map(step).collect::<Result<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timesteps_are_diffusers() {
        let timesteps = |shift: f64| {
            let json = serde_json::json!({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": shift});
            let schedule = Schedule::parse(json.as_object().expect("an object"), "test").unwrap();
            let sampler = steps(&schedule, 4).unwrap();
            sampler.steps().iter().map(|s| s.timestep).collect::<Vec<_>>()
        };
        let close = |found: Vec<f64>, wanted: [f64; 4]| found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-3);
        assert!(close(timesteps(1.), [1000., 667., 334., 1.]));
        assert!(close(timesteps(3.), [1000., 857.692, 602.151, 8.929]));
    }
}
