//! What the fixtures of samplers and schedules are made of.

#![allow(dead_code)] // each test binary uses a part

use potstill_engine::{Device, Tensor};
use potstill_models::{Conditioning, Unet};
use serde_json::Value as Json;

use crate::common::{WEIGHTS, base_seed, json, randn, unet_config};

/// The UNet of a fixture's folder.
pub fn fixture_unet(name: &str) -> Unet {
    let seed = base_seed(&json(&format!("{name}/expected.json")));
    Unet::random(unet_config(name), seed, WEIGHTS, &Device::Cpu).unwrap()
}

/// What trajectories without a UNet predict.
pub fn analytic(input: &Tensor, timestep: f64) -> Tensor {
    input.affine(0.3, 0.1 * (timestep / 100.).sin()).unwrap()
}

/// Shape of the latents of guided runs.
pub const GUIDED_SHAPE: [usize; 4] = [1, 4, 8, 16];

/// The unconditional and conditional inputs and the noise of guided runs of the tiny SD1.5 UNet.
pub fn guided_inputs(guided: &Json) -> (Conditioning, Conditioning, Tensor) {
    let seed = |key: &str| guided[key].as_u64().unwrap();
    let context = randn(seed("context_seed"), &[2, 77, 48]);
    let part = |start: usize| Conditioning {
        encoder_hidden_states: context.narrow(0, start, 1).unwrap(),
        text_embeds: None,
        time_ids: None,
    };
    (part(0), part(1), randn(seed("noise_seed"), &GUIDED_SHAPE))
}
