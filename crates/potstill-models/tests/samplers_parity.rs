//! Every sampler against diffusers' scheduler of the same name. `--nocapture` prints the table of README.md.

mod common;
#[path = "common/sampling.rs"]
mod sampling;

use common::{assert_close, json, numbers, randn, relative_error, tensors, values};
use potstill_engine::Tensor;
use potstill_models::samplers::{Sampler, SamplerKind, SamplerOptions, Spacing, StepInputs};
use potstill_models::{Guidance, PredictionKind, Sampling, Schedule, sample};
use sampling::{GUIDED_SHAPE, analytic, fixture_unet, guided_inputs};
use serde_json::{Value as Json, json};

/// Largest error of a trajectory's states, of their scale: f32 rounding over some steps, on both sides.
const TOLERANCE: f64 = 5e-5;
/// The same where the schedule ends without signal: diffusers' own f32 coefficients lose digits there (its σ of the last
/// timestep is 4096, and x0 the difference of numbers that are so much larger).
const ZERO_SNR_TOLERANCE: f64 = 5e-4;
/// Largest difference of any latent after ten guided steps with a UNet.
const GUIDED_TOLERANCE: f64 = 1e-3;

fn schedule(run: &Json) -> Schedule {
    let class = match run["sampler"].as_str() {
        Some("flow-euler") => "FlowMatchEulerDiscreteScheduler",
        _ => "DDIMScheduler",
    };
    let fields = json!({
        "_class_name": class,
        "prediction_type": run.get("prediction_type").cloned().unwrap_or(match class {
            "DDIMScheduler" => "epsilon".into(),
            _ => "flow_prediction".into(),
        }),
        "rescale_betas_zero_snr": run.get("zsnr").cloned().unwrap_or(false.into()),
        "shift": run.get("shift").cloned().unwrap_or(1.into()),
    });
    Schedule::parse(fields.as_object().unwrap(), "scheduler_config.json").unwrap()
}

fn options(run: &Json, steps: u64) -> SamplerOptions {
    SamplerOptions {
        kind: SamplerKind::from_name(run["sampler"].as_str().unwrap()).unwrap(),
        steps: steps as usize,
        spacing: run.get("spacing").and_then(Json::as_str).and_then(Spacing::from_name),
        karras: run["karras"].as_bool().unwrap(),
        eta: run.get("eta").and_then(Json::as_f64),
    }
}

#[test]
fn trajectories_are_diffusers() {
    let expected = json("samplers/expected.json");
    let reference = tensors("samplers/expected.safetensors");
    let noise = randn(expected["noise"]["seed"].as_u64().unwrap(), &[1, 4, 4, 6]);
    let step_seed = expected["step_seed"].as_u64().unwrap();
    let runs = expected["runs"].as_array().unwrap();
    for run in runs {
        let what = format!(
            "{} {} {} karras {} zsnr {} eta {} shift {} steps {}",
            run["sampler"],
            run["prediction_type"],
            run["spacing"],
            run["karras"],
            run["zsnr"],
            run["eta"],
            run["shift"],
            run["steps"]
        );
        let sampler = Sampler::new(&schedule(run), &options(run, run["steps"].as_u64().unwrap())).unwrap();
        let timesteps = numbers(&run["timesteps"]);
        assert_eq!(sampler.steps().len(), timesteps.len(), "{what}");
        let mut x = (&noise * sampler.init_noise_sigma()).unwrap();
        let mut previous: Option<Tensor> = None;
        let mut states = Vec::new();
        for (i, step) in sampler.steps().iter().enumerate() {
            // diffusers finds fractional timesteps of Karras' levels in f32.
            assert!(
                (step.timestep - timesteps[i]).abs() < 2e-3,
                "{what} step {i}: {}",
                step.timestep
            );
            let prediction = analytic(&sampler.input(i, &x).unwrap(), step.timestep);
            let fresh = randn(step_seed + i as u64, &[1, 4, 4, 6]);
            let inputs = StepInputs {
                x: &x,
                prediction: &prediction,
                previous: previous.as_ref(),
                noise: Some(&fresh),
            };
            let next = sampler.step(i, &inputs).unwrap();
            previous = Some(sampler.clean(i, &prediction, &x).unwrap());
            x = next;
            states.push(x.clone());
        }
        let wanted = &reference[run["x"].as_str().unwrap()];
        let tolerance = match run["zsnr"] == true {
            true => ZERO_SNR_TOLERANCE,
            false => TOLERANCE,
        };
        for (row, i) in [(0, 0), (1, states.len() / 2), (2, states.len() - 1)] {
            assert_close(
                &format!("{what} state {i}"),
                &states[i],
                &wanted.narrow(0, row, 1).unwrap(),
                tolerance,
            );
        }
    }
    for kind in SamplerKind::ALL {
        assert!(runs.iter().any(|run| run["sampler"] == kind.name()), "{}", kind.name());
    }
}

#[test]
fn ten_guided_steps_are_diffusers() {
    let expected = json("samplers/expected.json");
    let guided = &expected["guided"];
    let reference = tensors("samplers/expected.safetensors");
    let unet = fixture_unet("unet_sd15_tiny");
    let (uncond, cond, noise) = guided_inputs(guided);
    let guidance = Guidance {
        uncond: &uncond,
        scale: guided["guidance"].as_f64().unwrap(),
    };
    let steps = guided["steps"].as_u64().unwrap();
    let step_seed = guided["step_seed"].as_u64().unwrap();
    let fresh: Vec<Tensor> = (0..steps).map(|i| randn(step_seed + i, &GUIDED_SHAPE)).collect();
    let step_noise = Tensor::stack(&fresh, 0).unwrap();
    println!("| sampler | largest difference | of the latents' scale |\n|---|---|---|");
    for run in guided["runs"].as_array().unwrap() {
        let sampler = Sampler::new(&schedule(run), &options(run, steps)).unwrap();
        let sampling = Sampling {
            sampler: &sampler,
            cond: &cond,
            guidance: Some(&guidance),
            noise: &noise,
            step_noise: Some(&step_noise),
        };
        let found = sample(&unet, &sampling, |_, _| true).unwrap();
        let wanted = &reference[run["x"].as_str().unwrap()];
        let difference = values(&found)
            .iter()
            .zip(values(wanted))
            .fold(0f32, |most, (a, b)| most.max((a - b).abs()));
        let name = format!(
            "{}{}",
            run["sampler"].as_str().unwrap(),
            if run["karras"] == true { " --karras" } else { "" }
        );
        println!("| {name} | {difference:.1e} | {:.1e} |", relative_error(&found, wanted));
        assert!(f64::from(difference) <= GUIDED_TOLERANCE, "{name}: {difference}");
    }
}

#[test]
fn a_flow_model_takes_flow_euler_alone() {
    let json = json!({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0});
    let schedule = Schedule::parse(json.as_object().unwrap(), "test").unwrap();
    assert_eq!(schedule.prediction(), PredictionKind::Flow);
    for kind in SamplerKind::ALL {
        let made = Sampler::new(&schedule, &SamplerOptions::new(kind, 4));
        assert_eq!(made.is_ok(), kind == SamplerKind::FlowEuler, "{}", kind.name());
    }
}
