//! What every reader is given in the fuzz target and in the replay of its corpus.

use std::path::Path;

use potstill_engine::Device;
use potstill_io::Dtype;
use potstill_models::{
    Checkpoint, Component, Model, Schedule, TextConfig, TextEncoder, Tokenizer, Unet, UnetConfig, VaeConfig,
};

/// Gives bytes to every reader that takes such: as a single file; and when they are text, as a configuration, an index of
/// shards and a tokenizer. Readers may refuse, they may not panic.
pub fn give_to_all_readers(bytes: &[u8], folder: &Path) {
    let file = folder.join("input.safetensors");
    std::fs::write(&file, bytes).expect("a writable folder");
    if let Ok(checkpoint) = Checkpoint::open(&file)
        && let Ok(report) = checkpoint.report()
    {
        let document = report.to_json().to_string();
        assert_eq!(document.contains("\"sound\":true"), report.mismatch().is_empty());
    }
    if let Ok(model) = Model::open(&file) {
        let _ = Unet::load(&file, &Device::Cpu).map(|unet| assert_eq!(unet.config(), model.unet_config()));
    }
    // Packed weights are read from folders, whose configuration has their sizes.
    let encoder = folder.join("text").join("text_encoder");
    std::fs::create_dir_all(&encoder).expect("a writable folder");
    std::fs::write(encoder.join("config.json"), TEXT_ENCODER).expect("a writable folder");
    std::fs::write(encoder.join("model.safetensors"), bytes).expect("a writable folder");
    let _ = Checkpoint::open(&folder.join("text")).and_then(|checkpoint| checkpoint.report());
    let _ = TextEncoder::load(&encoder, Component::TextEncoder, &Device::Cpu);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(serde_json::Value::Object(map)) = serde_json::from_str(text) {
        let _ = UnetConfig::parse(map.clone(), "config.json").map(|config| Unet::shapes(&config));
        let _ = VaeConfig::parse(map.clone(), "config.json");
        let _ = TextConfig::parse(map.clone(), "config.json");
        let _ = Schedule::parse(&map, "config.json");
    }
    for (name, inside) in [
        ("unet", "diffusion_pytorch_model.safetensors.index.json"),
        ("unet", "config.json"),
        ("scheduler", "scheduler_config.json"),
        (".", "model_index.json"),
        ("tokenizer", "tokenizer.json"),
    ] {
        let place = folder.join("model").join(name);
        std::fs::create_dir_all(&place).expect("a writable folder");
        std::fs::write(place.join(inside), bytes).expect("a writable folder");
    }
    let model = folder.join("model");
    let _ = Model::open(&model);
    let _ = Checkpoint::open(&model).and_then(|checkpoint| checkpoint.report());
    std::fs::write(model.join("unet").join("config.json"), "{}").expect("a writable folder");
    let _ = Unet::load(&model.join("unet"), &Device::Cpu);
    let _ = Tokenizer::load(&model.join("tokenizer"), None);
}

/// A text encoder of one layer.
const TEXT_ENCODER: &str = r#"{"architectures": ["CLIPTextModel"], "hidden_size": 64, "intermediate_size": 64,
    "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 9, "max_position_embeddings": 7}"#;

/// Small sound inputs that mutations start from: headers of the layouts that are recognised, and configurations.
pub fn sound_inputs() -> Vec<Vec<u8>> {
    let ldm_unet = r#"
        input_blocks.0.0.weight 32x4x3x3; input_blocks.1.0.in_layers.2.weight 32x32x3x3;
        input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight 32x32;
        input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight 32x16; input_blocks.1.1.proj_in.weight 32x32x1x1;
        middle_block.0.in_layers.2.weight 32x32x3x3; middle_block.1.transformer_blocks.0.attn1.to_q.weight 32x32;
        output_blocks.0.0.in_layers.2.weight 32x64x3x3; output_blocks.0.1.transformer_blocks.0.attn1.to_q.weight 32x32;
        output_blocks.1.0.in_layers.2.weight 32x64x3x3; output_blocks.1.1.transformer_blocks.0.attn1.to_q.weight 32x32;
        out.2.weight 4x32x3x3"#;
    let ldm_vae = r#"
        first_stage_model.encoder.down.0.block.0.conv1.weight 32x32x3x3; first_stage_model.encoder.conv_in.weight 32x3x3x3;
        first_stage_model.decoder.conv_in.weight 32x4x3x3; first_stage_model.decoder.conv_out.weight 3x32x3x3;
        first_stage_model.encoder.mid.attn_1.q.weight 32x32x1x1; first_stage_model.quant_conv.weight 8x8x1x1;
        v_pred 0; model_ema.decay 1"#;
    let text = r#"
        conditioner.embedders.1.model.token_embedding.weight 9x64; conditioner.embedders.1.model.positional_embedding 7x64;
        conditioner.embedders.1.model.transformer.resblocks.0.mlp.c_fc.weight 256x64;
        conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight 192x64;
        conditioner.embedders.1.model.text_projection 64x64;
        cond_stage_model.transformer.text_model.embeddings.token_embedding.weight 9x64;
        cond_stage_model.transformer.text_model.embeddings.position_embedding.weight 7x64;
        cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight 256x64"#;
    let layer = "encoder.layers.0.self_attn";
    let state = r#"={"quant_type": "nf4", "blocksize": 64, "dtype": "float16", "shape": [64, 64]"#;
    let nested = r#", "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.5}"#;
    let packed = format!(
        "{layer}.q_proj.weight 2048x1:U8; {layer}.q_proj.weight.absmax 64:F32; {layer}.q_proj.weight.quant_map 16:F32;
        {layer}.q_proj.weight.quant_state.bitsandbytes__nf4 {state}}};
        {layer}.k_proj.weight 2048x1:U8; {layer}.k_proj.weight.absmax 64:U8; {layer}.k_proj.weight.quant_map 16:F32;
        {layer}.k_proj.weight.nested_absmax 1:F32; {layer}.k_proj.weight.nested_quant_map 256:F32;
        {layer}.k_proj.weight.quant_state.bitsandbytes__nf4 {state}{nested};
        {layer}.v_proj.weight 64x64:I8; {layer}.v_proj.SCB 64:F32; {layer}.v_proj.weight_format 1:U8;
        {layer}.out_proj.weight 64x64:F8_E4M3; {layer}.out_proj.scale_weight 1:F32; scaled_fp8 2:F8_E4M3"
    );
    let configurations = [
        r#"{"_class_name": "UNet2DConditionModel", "block_out_channels": [32, 64], "layers_per_block": [1, 2],
            "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "attention_head_dim": [4, 8],
            "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"], "transformer_layers_per_block": [[1], [2, 2]],
            "reverse_transformer_layers_per_block": [[1, 1, 2], 1], "mid_block_type": null, "norm_eps": 1e-5}"#,
        r#"{"architectures": ["CLIPTextModel"], "hidden_size": 64, "num_attention_heads": 1, "vocab_size": 9}"#,
        r#"{"prediction_type": "v_prediction", "beta_start": 0.00085, "num_train_timesteps": 100,
            "rescale_betas_zero_snr": true}"#,
        r#"{"metadata": {}, "weight_map": {"conv_in.weight": "a.safetensors"}}"#,
        r#"{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}"#,
        r#"{"model": {"vocab": {"<|startoftext|>": 0, "<|endoftext|>": 1, "a": 2}, "merges": [["a", "b"]]}}"#,
    ];
    let files = [ldm_unet, ldm_vae, text, &packed].map(file);
    files
        .into_iter()
        .chain(configurations.map(|c| c.as_bytes().to_vec()))
        .collect()
}

/// A safetensors file of zeros from `key sizes;` or `key sizes:dtype;` entries, and of texts from `key =text;`.
fn file(entries: &str) -> Vec<u8> {
    let mut data = Vec::new();
    let tensors: Vec<String> = entries
        .split(';')
        .map(|entry| {
            let (key, sizes) = entry.trim().split_once(' ').expect("key and sizes");
            let start = data.len();
            let (dtype, shape) = match sizes.strip_prefix('=') {
                Some(text) => {
                    data.extend(text.bytes());
                    (Dtype::U8, vec![text.len()])
                }
                None => {
                    let (sizes, dtype) = sizes.split_once(':').unwrap_or((sizes, "F16"));
                    let dtype = Dtype::from_name(dtype).expect("a dtype");
                    let shape: Vec<usize> = sizes.split('x').map(|n| n.parse().expect("a size")).collect();
                    data.resize(start + dtype.size() * shape.iter().product::<usize>(), 0);
                    (dtype, shape)
                }
            };
            let (dtype, end) = (dtype.name(), data.len());
            format!(r#""{key}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{end}]}}"#)
        })
        .collect();
    let metadata = r#""__metadata__":{"modelspec.prediction_type":"v","potstill.config":"{\"scheduler\":{}}"}"#;
    let header = format!("{{{metadata},{}}}", tensors.join(","));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}
