//! Whole tiny models of the true families' shape, their weights drawn from seeds.

use std::path::Path;

use potstill_engine::{DType, Device};
use potstill_models::{TextConfig, TextEncoder, Unet, UnetConfig, Vae, VaeConfig};
use serde_json::{Value as Json, json};

use crate::common::{WEIGHTS, json as fixture_json};

fn object(value: Json) -> serde_json::Map<String, Json> {
    value.as_object().expect("an object").clone()
}

/// The UNet of a fixture with some fields changed.
pub fn unet_config(name: &str, changes: Json) -> UnetConfig {
    let mut map = object(fixture_json(&format!("{name}/config.json")));
    map.extend(object(changes));
    UnetConfig::parse(map, name).unwrap()
}

/// A text encoder of three layers; `second` is OpenCLIP's, with a projection to `width`.
pub fn text_config(width: usize, second: bool) -> TextConfig {
    let architecture = if second {
        "CLIPTextModelWithProjection"
    } else {
        "CLIPTextModel"
    };
    let json = json!({
        "architectures": [architecture], "hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": 3,
        "num_attention_heads": (width / 64).max(1), "hidden_act": if second { "gelu" } else { "quick_gelu" },
        "projection_dim": width, "vocab_size": 604, "eos_token_id": 2,
    });
    TextConfig::parse(object(json), "tiny").unwrap()
}

pub fn vae_config(scaling_factor: f64) -> VaeConfig {
    let mut map = object(fixture_json("vae_tiny/config.json"));
    map.insert("scaling_factor".into(), json!(scaling_factor));
    VaeConfig::parse(map, "tiny").unwrap()
}

/// A diffusers folder of an SD1.5 model whose shapes imply its configuration.
pub fn write_sd15(folder: &Path, dtype: DType, scheduler: Json) {
    // The published families' UNets have 8 heads on every level, or heads of 64 channels.
    let heads = json!({"attention_head_dim": 8, "sample_size": 64, "cross_attention_dim": 64});
    write(
        folder,
        unet_config("unet_sd15_tiny", heads),
        0.18215,
        &[text_config(64, false)],
        dtype,
        scheduler,
    );
}

/// The same of an SDXL model.
pub fn write_sdxl(folder: &Path, dtype: DType, scheduler: Json) {
    let shape = json!({
        "attention_head_dim": [1, 1, 2], "sample_size": 128, "cross_attention_dim": 128, "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 64 + 6 * 256,
    });
    let text = [text_config(64, false), text_config(64, true)];
    write(
        folder,
        unet_config("unet_sdxl_tiny", shape),
        0.13025,
        &text,
        dtype,
        scheduler,
    );
}

fn write(folder: &Path, unet: UnetConfig, factor: f64, text: &[TextConfig], dtype: DType, scheduler: Json) {
    let cpu = Device::Cpu;
    let unet = Unet::random(unet, 1, WEIGHTS, &cpu).unwrap();
    unet.save(&folder.join("unet"), dtype).unwrap();
    let vae = Vae::random(vae_config(factor), 5000, WEIGHTS, &cpu).unwrap();
    vae.save(&folder.join("vae"), dtype).unwrap();
    for (i, (config, name)) in text.iter().zip(["text_encoder", "text_encoder_2"]).enumerate() {
        let encoder = TextEncoder::random(config.clone(), 10_000 + 1000 * i as u64, WEIGHTS, &cpu).unwrap();
        encoder.save(&folder.join(name), dtype).unwrap();
    }
    let path = folder.join("scheduler");
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(path.join("scheduler_config.json"), scheduler.to_string()).unwrap();
}
