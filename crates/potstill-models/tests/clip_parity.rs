//! The text encoders against transformers.

mod common;

use common::{assert_close, assert_weights, base_seed, fixture, json, tensors};
use potstill_engine::Device;
use potstill_models::{TextConfig, TextEncoder};
use serde_json::{Value as Json, json};

/// Largest error, of the reference's scale.
const TOLERANCE: f64 = 1e-4;

fn config(name: &str, change: &[(&str, Json)]) -> TextConfig {
    let Json::Object(mut map) = json(&format!("{name}/config.json")) else {
        panic!("an object")
    };
    map.extend(change.iter().map(|(field, value)| (field.to_string(), value.clone())));
    TextConfig::parse(map, &fixture(name).display().to_string()).unwrap()
}

fn check(name: &str, architecture: &str) {
    let expected = json(&format!("{name}/expected.json"));
    let reference = tensors(&format!("{name}/expected.safetensors"));
    let ids: Vec<Vec<u32>> = serde_json::from_value(expected["token_ids"].clone()).unwrap();
    for rule in ["argmax", "first"] {
        let eos = expected["eos_token_id"][rule].clone();
        let config = config(name, &[("architectures", json!([architecture])), ("eos_token_id", eos)]);
        let encoder = TextEncoder::random(config, base_seed(&expected), common::WEIGHTS, &Device::Cpu).unwrap();
        assert_weights(encoder.params(), &expected);
        let output = encoder.forward(&ids).unwrap();
        for (i, state) in output.hidden_states.iter().enumerate() {
            assert_close(
                &format!("{name} hidden state {i}"),
                state.tensor(),
                &reference[&format!("hidden_states.{i}")],
                TOLERANCE,
            );
        }
        let last = output.last_hidden_state.tensor();
        assert_close(
            &format!("{name} last hidden state"),
            last,
            &reference["last_hidden_state"],
            TOLERANCE,
        );
        let pooled = output.text_embeds.as_ref().unwrap_or(&output.pooled).tensor();
        assert_close(
            &format!("{name} pooled by {rule}"),
            pooled,
            &reference[&format!("pooled.{rule}")],
            TOLERANCE,
        );
    }
}

#[test]
fn clip_l_is_transformers() {
    check("clip_l_tiny", "CLIPTextModel");
}

#[test]
fn clip_g_is_transformers() {
    check("clip_g_tiny", "CLIPTextModelWithProjection");
}

#[test]
fn a_batch_equals_its_prompts_alone() {
    let expected = json("clip_l_tiny/expected.json");
    let ids: Vec<Vec<u32>> = serde_json::from_value(expected["token_ids"].clone()).unwrap();
    let encoder = TextEncoder::random(config("clip_l_tiny", &[]), 1, common::WEIGHTS, &Device::Cpu).unwrap();
    let together = encoder.forward(&ids).unwrap();
    for (i, row) in ids.iter().enumerate() {
        let alone = encoder.forward(std::slice::from_ref(row)).unwrap();
        let row = together.last_hidden_state.tensor().narrow(0, i, 1).unwrap();
        assert_close("alone", alone.last_hidden_state.tensor(), &row, 1e-5);
    }
}

#[test]
fn ids_that_do_not_fit_are_errors() {
    let encoder = TextEncoder::random(config("clip_l_tiny", &[]), 1, common::WEIGHTS, &Device::Cpu).unwrap();
    for ids in [
        vec![],
        vec![vec![]],
        vec![vec![1, 2], vec![1]],
        vec![vec![1; 78]],
        vec![vec![604]],
    ] {
        assert!(encoder.forward(&ids).err().unwrap().to_string().starts_with("ids"));
    }
}
