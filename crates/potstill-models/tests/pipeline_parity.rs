//! Prompts and guided sampling against diffusers' SD1.5 and SDXL pipelines.

mod common;
#[path = "common/prompts.rs"]
mod prompts;
#[path = "common/sampling.rs"]
mod sampling;

use common::{assert_close, json, randn, tensors};
use potstill_engine::{Device, Value};
use potstill_models::samplers::{Sampler, SamplerKind, SamplerOptions};
use potstill_models::{
    Conditioning, Guidance, PredictionKind, PromptEmbeddings, Sampling, Schedule, default_time_ids, sample,
};
use prompts::prompt_encoder;
use sampling::fixture_unet;

/// Largest error, of the reference's scale.
const TOLERANCE: f64 = 1e-4;

fn check(kind: &str) {
    let expected = json(&format!("pipelines/{kind}.json"));
    let reference = tensors(&format!("pipelines/{kind}.safetensors"));
    let number = |key: &str| expected[key].as_u64().unwrap() as usize;
    let encoder = prompt_encoder(kind);

    let prompts: Vec<String> = serde_json::from_value(expected["prompts"].clone()).unwrap();
    let cond = encoder.encode(&prompts, 0).unwrap();
    let uncond = encoder
        .encode(&vec![expected["negative"].as_str().unwrap(); prompts.len()], 0)
        .unwrap();
    for (name, encoded) in [("cond", &cond), ("uncond", &uncond)] {
        assert_close(
            name,
            encoded.encoder_hidden_states.tensor(),
            &reference[name],
            TOLERANCE,
        );
    }
    for (name, encoded) in [("pooled", &cond), ("uncond_pooled", &uncond)] {
        assert_eq!(encoded.pooled.is_some(), reference.contains_key(name));
        if let Some(pooled) = &encoded.pooled {
            assert_close(name, pooled.tensor(), &reference[name], TOLERANCE);
        }
    }

    let unet = fixture_unet(expected["unet"].as_str().unwrap());
    let (batch, height, width) = (prompts.len(), number("height"), number("width"));
    let told = |encoded: &PromptEmbeddings| Conditioning {
        encoder_hidden_states: encoded.encoder_hidden_states.tensor().clone(),
        text_embeds: encoded.pooled.as_ref().map(Value::tensor).cloned(),
        time_ids: unet
            .config()
            .text_time
            .map(|_| default_time_ids(batch, height, width, &Device::Cpu).unwrap()),
    };
    let schedule = Schedule::sd(PredictionKind::from_name(expected["prediction_type"].as_str().unwrap()).unwrap());
    let sampler = SamplerKind::from_name(expected["sampler"].as_str().unwrap()).unwrap();
    let sampler = Sampler::new(&schedule, &SamplerOptions::new(sampler, number("steps"))).unwrap();
    let uncond = told(&uncond);
    let guidance = Guidance {
        uncond: &uncond,
        scale: expected["guidance"].as_f64().unwrap(),
    };
    let noise = randn(
        expected["noise_seed"].as_u64().unwrap(),
        &[batch, 4, height / 8, width / 8],
    );
    let cond = told(&cond);
    let mut sampling = Sampling {
        sampler: &sampler,
        cond: &cond,
        guidance: Some(&guidance),
        noise: &noise,
        step_noise: None,
    };
    let latents = sample(&unet, &sampling, |_, _| true).unwrap();
    assert_close("latents", &latents, &reference["latents"], TOLERANCE);

    // Stopped after the first step, the result is what is there.
    let mut calls = 0;
    sampling.guidance = None;
    let stopped = sample(&unet, &sampling, |step, _| {
        calls = step;
        false
    });
    assert_eq!((stopped.unwrap().dims(), calls), (noise.dims(), 1));
}

#[test]
fn sd15_is_diffusers() {
    check("sd15");
}

#[test]
fn sdxl_is_diffusers() {
    check("sdxl");
}
