//! Schedules, conversions and samplers against diffusers.

mod common;
#[path = "common/sampling.rs"]
mod sampling;

use common::{assert_close, json, numbers, randn, tensors, values};
use potstill_engine::{Tensor, Value};
use potstill_models::samplers::{Sampler, SamplerKind, SamplerOptions, Spacing, StepInputs};
use potstill_models::{Guidance, PredictionKind, Sampling, Schedule, add_noise, convert, sample};
use sampling::{analytic, fixture_unet, guided_inputs};
use serde_json::{Value as Json, json};

/// Largest error of a trajectory's states, of their scale: f32 rounding over some steps.
const TOLERANCE: f64 = 2e-5;
/// The same where σ starts at 4096: the first step takes the difference of numbers that are so much larger.
const ZERO_SNR_TOLERANCE: f64 = 2e-4;

fn schedule(change: Json) -> Schedule {
    let mut map = json!({"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"});
    let target = map.as_object_mut().unwrap();
    target.extend(change.as_object().unwrap().clone());
    Schedule::parse(target, "scheduler_config.json").unwrap()
}

#[test]
fn tables_are_diffusers() {
    let reference = tensors("schedules/expected.safetensors");
    let zero = json!({"rescale_betas_zero_snr": true, "prediction_type": "v_prediction"});
    let linear = json!({"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"});
    // To the bit, but for the rescaling: torch's f32 square root is not correctly rounded, and its end cancels.
    for (key, change, tolerance) in [
        ("alphas_cumprod", json!({}), 0.),
        ("alphas_cumprod_linear", linear, 0.),
        ("alphas_cumprod_zsnr", zero, 5e-7),
    ] {
        let schedule = schedule(change);
        for (t, (found, expected)) in schedule
            .alphas_cumprod()
            .iter()
            .zip(values(&reference[key]))
            .enumerate()
        {
            assert!(
                (found - expected).abs() <= tolerance,
                "{key} at {t}: {found}, diffusers has {expected}"
            );
        }
    }
}

#[test]
fn noise_and_velocity_are_diffusers() {
    let expected = json("schedules/expected.json");
    let reference = tensors("schedules/expected.safetensors");
    let schedule = schedule(json!({}));
    let levels = schedule
        .alpha_bars(&numbers(&expected["add_noise"]["timesteps"]))
        .unwrap();
    let x0 = Value::constant(randn(80_001, &[4, 4, 4, 6]));
    let noise = Value::constant(randn(80_002, &[4, 4, 4, 6]));
    let x = add_noise(&x0, &noise, &levels).unwrap();
    assert_close("add_noise", x.tensor(), &reference["add_noise"], 1e-6);
    let v = convert(&noise, PredictionKind::Epsilon, PredictionKind::V, &x, &levels).unwrap();
    assert_close("velocity", v.tensor(), &reference["velocity"], 1e-5);
}

#[test]
fn trajectories_are_diffusers() {
    let expected = json("schedules/expected.json");
    let reference = tensors("schedules/expected.safetensors");
    let noise = randn(80_000, &[1, 4, 4, 6]);
    for run in expected["runs"].as_array().unwrap() {
        let text = |key: &str| run[key].as_str().unwrap();
        let schedule =
            schedule(json!({"prediction_type": text("prediction_type"), "rescale_betas_zero_snr": run["zsnr"]}));
        let kind = SamplerKind::from_name(text("sampler")).unwrap();
        let spacing = Spacing::from_name(text("spacing")).unwrap();
        let options = SamplerOptions::new(kind, run["steps"].as_u64().unwrap() as usize).spaced(spacing);
        let sampler = Sampler::new(&schedule, &options).unwrap();
        let timesteps: Vec<f64> = sampler.steps().iter().map(|step| step.timestep).collect();
        // Read back in f32, which they are: parsing decimals may miss an f64 by its last bit.
        let in_f32 = |list: &[f64]| list.iter().map(|t| *t as f32).collect::<Vec<_>>();
        assert_eq!(
            in_f32(&timesteps),
            in_f32(&numbers(&run["timesteps"])),
            "{}",
            text("name")
        );
        let sigma = run["init_noise_sigma"].as_f64().unwrap();
        assert!(
            (sampler.init_noise_sigma() / sigma - 1.).abs() < 1e-6,
            "{}",
            text("name")
        );
        let mut x = (&noise * sampler.init_noise_sigma()).unwrap();
        let mut states = Vec::new();
        for (i, &t) in timesteps.iter().enumerate() {
            let prediction = analytic(&sampler.input(i, &x).unwrap(), t);
            let inputs = StepInputs {
                x: &x,
                prediction: &prediction,
                previous: None,
                noise: None,
            };
            x = sampler.step(i, &inputs).unwrap();
            states.push(x.clone());
        }
        // Each state against its own scale: with σ = 4096 at the start, one scale for all would hide the end.
        let wanted = &reference[&format!("{}.x", text("name"))];
        let tolerance = if run["zsnr"] == true {
            ZERO_SNR_TOLERANCE
        } else {
            TOLERANCE
        };
        for (i, state) in states.iter().enumerate() {
            let wanted = wanted.narrow(0, i, 1).unwrap();
            assert_close(&format!("{} step {i}", text("name")), state, &wanted, tolerance);
        }
    }
}

#[test]
fn guided_sampling_is_diffusers() {
    let expected = json("schedules/expected.json");
    let guided = &expected["guided"];
    let reference = tensors("schedules/expected.safetensors");
    let unet = fixture_unet("unet_sd15_tiny");
    let (uncond, cond, noise) = guided_inputs(guided);
    for name in ["ddim", "euler"] {
        let options = SamplerOptions::new(SamplerKind::from_name(name).unwrap(), 5);
        let sampler = Sampler::new(&schedule(json!({})), &options).unwrap();
        let guidance = Guidance {
            uncond: &uncond,
            scale: guided["guidance"].as_f64().unwrap(),
        };
        let mut states: Vec<Tensor> = Vec::new();
        let sampling = Sampling {
            sampler: &sampler,
            cond: &cond,
            guidance: Some(&guidance),
            noise: &noise,
            step_noise: None,
        };
        let last = sample(&unet, &sampling, |_, x| {
            states.push(x.clone());
            true
        });
        let wanted = &reference[&format!("guided.{name}.x")];
        for (i, state) in states.iter().enumerate() {
            assert_close(
                &format!("guided {name} step {i}"),
                state,
                &wanted.narrow(0, i, 1).unwrap(),
                1e-4,
            );
        }
        assert_eq!(values(&last.unwrap()), values(&states[4]));
    }
}
