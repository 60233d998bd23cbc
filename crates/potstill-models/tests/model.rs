//! A whole diffusers folder: its kind, its prediction type, its prompts.

mod common;

use std::fs;
use std::path::Path;

use common::{fixture, unet_config, values};
use potstill_engine::{DType, Device};
use potstill_models::{
    Component, Model, ModelKind, Precision, PredictionKind, TextConfig, TextEncoder, Unet, default_time_ids,
};
use serde_json::{Value as Json, json};

fn write_json(path: &Path, value: &Json) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, value.to_string()).unwrap();
}

fn write_unet(folder: &Path, name: &str, change: Json) {
    let Json::Object(mut config) = common::json(&format!("{name}/config.json")) else {
        panic!("an object")
    };
    config.extend(change.as_object().unwrap().clone());
    write_json(&folder.join("unet/config.json"), &Json::Object(config));
}

fn write_text(folder: &Path, suffix: &str, architecture: &str, width: usize, pad: &str) {
    let config = json!({
        "architectures": [architecture], "hidden_size": width, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "projection_dim": 40, "vocab_size": 3300,
    });
    let config = TextConfig::parse(config.as_object().unwrap().clone(), "test").unwrap();
    let encoder = TextEncoder::random(config, 5, common::WEIGHTS, &Device::Cpu).unwrap();
    encoder
        .save(&folder.join(format!("text_encoder{suffix}")), DType::F32)
        .unwrap();
    let target = folder.join(format!("tokenizer{suffix}"));
    fs::create_dir_all(&target).unwrap();
    for name in ["vocab.json", "merges.txt"] {
        fs::copy(
            fixture("../../configs/demo/base/tokenizer").join(name),
            target.join(name),
        )
        .unwrap();
    }
    write_json(&target.join("tokenizer_config.json"), &json!({"pad_token": pad}));
}

#[test]
fn sd15_prompts_are_the_last_hidden_state() {
    let folder = tempfile::tempdir().unwrap();
    write_unet(folder.path(), "unet_sd15_tiny", json!({"cross_attention_dim": 24}));
    write_text(folder.path(), "", "CLIPTextModel", 24, "<|endoftext|>");
    let scheduler = json!({"prediction_type": "v_prediction", "beta_schedule": "scaled_linear"});
    write_json(&folder.path().join("scheduler/scheduler_config.json"), &scheduler);
    let model = Model::open(folder.path()).unwrap();
    assert_eq!(
        (model.kind(), model.schedule().prediction()),
        (ModelKind::Sd15, PredictionKind::V)
    );
    let encoder = model.load_prompt_encoder(&Device::Cpu).unwrap();
    let encoded = encoder.encode(&["a dog", ""], 0).unwrap();
    assert_eq!(encoded.encoder_hidden_states.dims(), [2, 77, 24]);
    assert!(encoded.pooled.is_none() && encoded.token_ids_2.is_none());
    let direct = encoder.encoders().next().unwrap().forward(&encoded.token_ids).unwrap();
    assert_eq!(
        values(encoded.encoder_hidden_states.tensor()),
        values(direct.last_hidden_state.tensor())
    );
    // Skipping nothing is the same; skipping a layer is another state, normalised; too many is an error.
    let skipped = encoder.encode(&["a dog", ""], 1).unwrap();
    assert_ne!(
        values(skipped.encoder_hidden_states.tensor()),
        values(direct.last_hidden_state.tensor())
    );
    assert!(
        encoder
            .encode(&["a dog"], 3)
            .err()
            .unwrap()
            .to_string()
            .contains("clip_skip")
    );
    assert_eq!(model.component(Component::TextEncoder).unwrap().1.len(), 1);
}

#[test]
fn sdxl_prompts_are_both_second_last_states_and_the_pooled_text() {
    let folder = tempfile::tempdir().unwrap();
    write_unet(folder.path(), "unet_sdxl_tiny", json!({"cross_attention_dim": 40}));
    write_text(folder.path(), "", "CLIPTextModel", 24, "<|endoftext|>");
    write_text(folder.path(), "_2", "CLIPTextModelWithProjection", 16, "!");
    let model = Model::open(folder.path()).unwrap();
    assert_eq!(
        (model.kind(), model.schedule().prediction()),
        (ModelKind::Sdxl, PredictionKind::Epsilon)
    );
    let encoder = model.load_prompt_encoder(&Device::Cpu).unwrap();
    let encoded = encoder.encode(&["a dog"], 0).unwrap();
    assert_eq!(encoded.encoder_hidden_states.dims(), [1, 77, 40]);
    assert_eq!(encoded.pooled.as_ref().unwrap().dims(), [1, 40]);
    assert_eq!(encoded.token_ids_2.as_ref().unwrap()[0][76], 0);
    let second = encoder
        .encoders()
        .nth(1)
        .unwrap()
        .forward(encoded.token_ids_2.as_ref().unwrap())
        .unwrap();
    let right = encoded.encoder_hidden_states.tensor().narrow(2, 24, 16).unwrap();
    assert_eq!(values(&right), values(second.hidden_states[1].tensor()));
    assert_eq!(
        values(encoded.pooled.as_ref().unwrap().tensor()),
        values(second.text_embeds.unwrap().tensor())
    );
    let zeroed = encoded.zeroed().unwrap();
    assert!(values(zeroed.encoder_hidden_states.tensor()).iter().all(|v| *v == 0.));
    let ids = default_time_ids(2, 64, 96, &Device::Cpu).unwrap();
    assert_eq!(ids.to_vec2::<f32>().unwrap()[1], [64., 96., 0., 0., 64., 96.]);
}

#[test]
fn components_that_do_not_belong_together_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(
        Model::open(folder.path())
            .unwrap_err()
            .to_string()
            .contains("unet/config.json")
    );
    write_unet(folder.path(), "unet_sd15_tiny", json!({}));
    write_text(folder.path(), "", "CLIPTextModel", 24, "<|endoftext|>");
    let model = Model::open(folder.path()).unwrap();
    let error = model.load_prompt_encoder(&Device::Cpu).err().unwrap().to_string();
    assert!(error.contains("cross_attention_dim") && error.contains("24"), "{error}");
    let error = model.load_vae(&Device::Cpu).err().unwrap().to_string();
    assert!(error.contains("vae"), "{error}");
    let file = folder.path().join("model.safetensors");
    fs::write(&file, "").unwrap();
    assert!(Model::open(&file).unwrap_err().to_string().contains("fewer than the 8"));
}

#[test]
fn a_loaded_unet_predicts_what_the_saved_one_did() {
    use potstill_engine::{Tensor, Value};
    use potstill_models::Conditioning;
    let unet = Unet::random(unet_config("unet_sd15_tiny"), 1, common::WEIGHTS, &Device::Cpu).unwrap();
    let folder = tempfile::tempdir().unwrap();
    unet.save(&folder.path().join("unet"), DType::F32).unwrap();
    let loaded = Model::open(folder.path())
        .unwrap()
        .load_unet(Precision::F32, &Device::Cpu)
        .unwrap();
    let cond = Conditioning {
        encoder_hidden_states: common::randn(1, &[1, 77, 48]),
        text_embeds: None,
        time_ids: None,
    };
    let sample = common::randn(2, &[1, 4, 8, 8]);
    let predict = |unet: &Unet| -> Tensor { cond.predict(unet, sample.clone(), 500.).unwrap() };
    assert_eq!(values(&predict(&unet)), values(&predict(&loaded)));
    assert!(!Value::constant(predict(&unet)).tracked());
}
