//! Small sound inputs that mutations start from: whole models of both families in every layout and code, written by potstill;
//! files of other programs' layouts; adapters, embeddings and configurations.

use std::path::Path;

use potstill_io::Dtype;
use potstill_models::{
    Checkpoint, Component, ConvertOptions, Layout, QuantFormat, Quantize, TextConfig, Unet, UnetConfig,
    convert_checkpoint,
};
use serde_json::{Map, Value as Json, json};

use super::{WEIGHTS, save};

/// Longest sequence of the text encoders.
pub(super) const TOKENS: usize = 7;
/// The file that sound indexes of shards name.
pub(super) const SHARD: &str = "a.safetensors";
pub(super) const PEFT_CONFIG: &str = r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "use_rslora": false, "bias": "none",
    "alpha_pattern": {"attn1.to_q": 2}, "target_modules": ["to_q"]}"#;
pub(super) const VOCABULARY: &str =
    r#"{"<|startoftext|>": 0, "<|endoftext|>": 1, "a": 2, "b": 3, "a</w>": 4, "b</w>": 5, "aa</w>": 6}"#;
pub(super) const MERGES: &str = "#version: 0.2\na a</w>\n";

/// An input and the reader that reads it; none for those that name what is refused, or headers alone.
pub struct Input {
    pub bytes: Vec<u8>,
    pub reader: Option<&'static str>,
}

fn object(value: Json) -> Map<String, Json> {
    value.as_object().expect("an object").clone()
}

/// One level, of 8 channels.
pub(super) fn unet_config(xl: bool) -> Map<String, Json> {
    let mut config = object(json!({
        "_class_name": "UNet2DConditionModel", "block_out_channels": [8], "layers_per_block": 1, "norm_num_groups": 4,
        "down_block_types": ["CrossAttnDownBlock2D"], "up_block_types": ["CrossAttnUpBlock2D"], "attention_head_dim": 2,
        "cross_attention_dim": 64, "sample_size": 8,
    }));
    if xl {
        config.extend(object(json!({
            "cross_attention_dim": 128, "use_linear_projection": true, "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 64 + 6 * 8,
        })));
    }
    config
}

pub(super) fn vae_config() -> Map<String, Json> {
    object(json!({
        "_class_name": "AutoencoderKL", "block_out_channels": [8], "layers_per_block": 1, "norm_num_groups": 4,
        "down_block_types": ["DownEncoderBlock2D"], "up_block_types": ["UpDecoderBlock2D"], "latent_channels": 4,
    }))
}

/// One layer. Its perceptron's matrices are just large enough to be read at every use once they are quantized.
pub(super) fn text_config(second: bool) -> Map<String, Json> {
    let class = if second {
        "CLIPTextModelWithProjection"
    } else {
        "CLIPTextModel"
    };
    object(json!({
        "architectures": [class], "hidden_size": 64, "intermediate_size": 264, "num_hidden_layers": 1,
        "num_attention_heads": 1, "vocab_size": 9, "max_position_embeddings": TOKENS, "projection_dim": 64,
        "hidden_act": if second { "gelu" } else { "quick_gelu" }, "eos_token_id": 2,
    }))
}

/// An index in which all of the UNet's tensors are in one shard.
pub(super) fn index(shard: &str) -> String {
    let config = UnetConfig::parse(unet_config(false), "unet").expect("a sound configuration");
    let names = Unet::shapes(&config).expect("a sound configuration");
    let map: Map<String, Json> = names.into_iter().map(|(name, _)| (name, shard.into())).collect();
    json!({"metadata": {}, "weight_map": map}).to_string()
}

/// The formats with the layouts that they are kept in.
const FORMATS: [(QuantFormat, Layout, &str); 3] = [
    (QuantFormat::Nf4, Layout::Folder, "nf4"),
    (QuantFormat::Int8, Layout::Folder, "int8"),
    (QuantFormat::Fp8, Layout::File, "fp8.safetensors"),
];

/// Both families as folders and files, SD1.x in every code too, and an adapter.
pub(super) fn write_models(folder: &Path) {
    for (name, xl) in [("sd15", false), ("sdxl", true)] {
        let text: Vec<TextConfig> = [false, true][..1 + usize::from(xl)]
            .iter()
            .map(|&second| TextConfig::parse(text_config(second), "text").expect("a sound configuration"))
            .collect();
        let unet = UnetConfig::parse(unet_config(xl), "unet").expect("a sound configuration");
        save(&folder.join(name), unet, &text);
        convert(folder, name, &format!("{name}.safetensors"), Layout::File, None);
    }
    for (format, layout, name) in FORMATS {
        let components: &[Component] = match format {
            QuantFormat::Fp8 => &[Component::Unet],
            _ => &[Component::Unet, Component::TextEncoder],
        };
        let quantize = Quantize { format, components };
        convert(folder, "sd15", name, layout, Some(quantize));
    }
    std::fs::write(folder.join("adapter.safetensors"), peft_adapter()).expect("a writable folder");
}

fn convert(folder: &Path, source: &str, target: &str, layout: Layout, quantize: Option<Quantize>) {
    let source = Checkpoint::open(&folder.join(source)).expect("a sound model");
    let options = ConvertOptions {
        layout,
        dtype: None,
        title: None,
        allow: &[],
        vae: None,
        edit: None,
        quantize,
    };
    convert_checkpoint(&source, &folder.join(target), &options, &mut |_, _| Ok(()))
        .unwrap_or_else(|error| panic!("{target}: {error}"));
}

/// All inputs, given the folder that [`write_models`] has filled.
pub(super) fn of(folder: &Path) -> Vec<Input> {
    let read = |name: String| {
        let path = folder.join(&name);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let mut inputs = Vec::new();
    let mut add = |reader: Option<&'static str>, bytes: Vec<u8>| inputs.push(Input { bytes, reader });
    for name in ["sd15.safetensors", "sdxl.safetensors", "fp8.safetensors"] {
        add(Some("UNet of a file"), read(name.to_string()));
    }
    for name in ["sd15", "nf4", "int8"] {
        add(Some("UNet's folder"), read(format!("{name}/unet/{WEIGHTS}")));
        let text = read(format!("{name}/text_encoder/model.safetensors"));
        add(Some("text encoder's folder"), text);
    }
    let second = read("sdxl/text_encoder_2/model.safetensors".to_string());
    add(Some("second text encoder's folder"), second);
    add(Some("VAE's folder"), read(format!("sd15/vae/{WEIGHTS}")));
    for header in HEADERS {
        add(None, file(header, SINGLE_FILE_METADATA));
    }
    add(None, file(&other_codes(), SINGLE_FILE_METADATA));
    add(Some("adapter"), file(KOHYA, "{}"));
    add(Some("adapter"), file(DIFFUSERS, DIFFUSERS_METADATA));
    add(Some("peft's folder"), peft_adapter());
    add(Some("embedding"), file("emb_params 2x64:F32; step 1:I64", "{}"));
    let vectors = file("clip_l 1x64:F32; clip_g 2x64:F32", "{}");
    add(Some("embedding of two encoders"), vectors);
    let mut document = |reader, text: &str| add(Some(reader), text.as_bytes().to_vec());
    document("UNet's configuration", UNET);
    for (reader, config) in [
        ("UNet's configuration", unet_config(true)),
        ("VAE's configuration", vae_config()),
        ("text encoder's configuration", text_config(true)),
    ] {
        document(reader, &Json::Object(config).to_string());
    }
    document("schedule", SCHEDULE);
    document("index of shards", &index(SHARD));
    document("vocabulary", VOCABULARY);
    document("merges", MERGES);
    document("peft's configuration", PEFT_CONFIG);
    document("tokenizer", TOKENIZER);
    add(None, PIPELINE.as_bytes().to_vec());
    inputs
}

/// Lists for every level, and depths on the way up.
const UNET: &str = r#"{"_class_name": "UNet2DConditionModel", "block_out_channels": [32, 64], "layers_per_block": [1, 2],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "attention_head_dim": [4, 8],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"], "transformer_layers_per_block": [[1], [2, 2]],
    "reverse_transformer_layers_per_block": [[1, 1, 2], 1], "mid_block_type": null, "norm_eps": 1e-5}"#;
const SCHEDULE: &str = r#"{"prediction_type": "v_prediction", "beta_start": 0.00085, "num_train_timesteps": 100,
    "rescale_betas_zero_snr": true}"#;
const PIPELINE: &str = r#"{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"],
    "_potstill_metadata": {"logit_scale": "4.6", "logit_scale_dtype": "F16"}}"#;
const TOKENIZER: &str = r#"{"model": {"vocab": {"<|startoftext|>": 0, "<|endoftext|>": 1, "a": 2, "b": 3, "ab": 4},
    "merges": [["a", "b"]]}}"#;

const SINGLE_FILE_METADATA: &str = r#"{"modelspec.prediction_type":"v","potstill.config":"{\"scheduler\":{}}"}"#;
const DIFFUSERS_METADATA: &str = r#"{"lora_adapter_metadata":"{\"unet.r\":2,\"unet.lora_alpha\":4}"}"#;

/// Headers of the layouts that are recognised.
const HEADERS: [&str; 3] = [
    "input_blocks.0.0.weight 32x4x3x3; input_blocks.1.0.in_layers.2.weight 32x32x3x3;
    input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight 32x32;
    input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight 32x16; input_blocks.1.1.proj_in.weight 32x32x1x1;
    middle_block.0.in_layers.2.weight 32x32x3x3; middle_block.1.transformer_blocks.0.attn1.to_q.weight 32x32;
    output_blocks.0.0.in_layers.2.weight 32x64x3x3; output_blocks.0.1.transformer_blocks.0.attn1.to_q.weight 32x32;
    output_blocks.1.0.in_layers.2.weight 32x64x3x3; output_blocks.1.1.transformer_blocks.0.attn1.to_q.weight 32x32;
    out.2.weight 4x32x3x3",
    "first_stage_model.encoder.down.0.block.0.conv1.weight 32x32x3x3; first_stage_model.encoder.conv_in.weight 32x3x3x3;
    first_stage_model.decoder.conv_in.weight 32x4x3x3; first_stage_model.decoder.conv_out.weight 3x32x3x3;
    first_stage_model.encoder.mid.attn_1.q.weight 32x32x1x1; first_stage_model.quant_conv.weight 8x8x1x1;
    v_pred 0; model_ema.decay 1",
    "conditioner.embedders.1.model.token_embedding.weight 9x64; conditioner.embedders.1.model.positional_embedding 7x64;
    conditioner.embedders.1.model.transformer.resblocks.0.mlp.c_fc.weight 256x64;
    conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight 192x64;
    conditioner.embedders.1.model.text_projection 64x64;
    cond_stage_model.transformer.text_model.embeddings.token_embedding.weight 9x64;
    cond_stage_model.transformer.text_model.embeddings.position_embedding.weight 7x64;
    cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight 256x64",
];

/// Codes that potstill reads and does not write: FP4, scales that are quantized themselves, e5m2, and the newer scales of
/// ComfyUI.
fn other_codes() -> String {
    let layer = "encoder.layers.0.self_attn";
    let state =
        |code: &str| format!(r#"={{"quant_type": "{code}", "blocksize": 64, "dtype": "float16", "shape": [64, 64]"#);
    let nested = r#", "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.5}"#;
    let (fp4, nf4) = (state("fp4"), state("nf4"));
    format!(
        "{layer}.q_proj.weight 2048x1:U8; {layer}.q_proj.weight.absmax 64:F32; {layer}.q_proj.weight.quant_map 16:F32;
        {layer}.q_proj.weight.quant_state.bitsandbytes__fp4 {fp4}}};
        {layer}.k_proj.weight 2048x1:U8; {layer}.k_proj.weight.absmax 64:U8; {layer}.k_proj.weight.quant_map 16:F32;
        {layer}.k_proj.weight.nested_absmax 1:F32; {layer}.k_proj.weight.nested_quant_map 256:F32;
        {layer}.k_proj.weight.quant_state.bitsandbytes__nf4 {nf4}{nested};
        {layer}.v_proj.weight 64x64:F8_E5M2; {layer}.v_proj.weight_scale 1:F32; {layer}.v_proj.input_scale 1:F32;
        {layer}.out_proj.weight 64x64:F8_E4M3; {layer}.out_proj.scale_weight 1:F32; scaled_fp8 2:F8_E4M3"
    )
}

/// Every kind of module, under kohya's names.
const KOHYA: &str = "
    lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight 2x8:F32;
    lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.lora_up.weight 8x2:F32;
    lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.alpha 1:F32;
    lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_k.lora_down.weight 2x8:F32;
    lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_k.lora_up.weight 8x2:F32;
    lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_k.dora_scale 8x1:F32;
    lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_v.hada_w1_a 8x2:F32;
    lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_v.hada_w1_b 2x8:F32;
    lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_v.hada_w2_a 8x2:F32;
    lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_v.hada_w2_b 2x8:F32;
    lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_out_0.lokr_w1 2x2:F32;
    lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_out_0.lokr_w2 4x4:F32;
    lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_out_0.diff 8x8:F32;
    lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_out_0.diff_b 8:F32;
    lora_unet_mid_block_resnets_0_conv1.lora_down.weight 2x8x3x3:F32;
    lora_unet_mid_block_resnets_0_conv1.lora_up.weight 8x2x1x1:F32;
    lora_unet_mid_block_resnets_1_conv1.lora_down.weight 2x8x1x1:F32;
    lora_unet_mid_block_resnets_1_conv1.lora_mid.weight 2x2x3x3:F32;
    lora_unet_mid_block_resnets_1_conv1.lora_up.weight 8x2x1x1:F32;
    lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight 2x64:F32;
    lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight 264x2:F32";

/// diffusers' names, new and old.
const DIFFUSERS: &str = "
    unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight 2x8:F32;
    unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_B.weight 8x2:F32;
    unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_k.lora.down.weight 2x8:F16;
    unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_k.lora.up.weight 8x2:F16;
    unet.mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_q_lora.down.weight 2x8:F32;
    unet.mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_q_lora.up.weight 8x2:F32";

/// peft's names.
fn peft_adapter() -> Vec<u8> {
    let layer = "base_model.model.mid_block.attentions.0.transformer_blocks.0.attn1.to_q";
    let entries = format!("{layer}.lora_A.weight 2x8:F32; {layer}.lora_B.weight 8x2:F32");
    file(&entries, "{}")
}

/// A safetensors file of ones (f32) and zeros from `key sizes;` or `key sizes:dtype;` entries, and of texts from `key =text;`.
fn file(entries: &str, metadata: &str) -> Vec<u8> {
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
                    // Adapters with an alpha of 0 are refused.
                    let one = match dtype {
                        Dtype::F32 => 1f32.to_le_bytes().to_vec(),
                        _ => vec![0; dtype.size()],
                    };
                    data.extend(one.repeat(shape.iter().product()));
                    (dtype, shape)
                }
            };
            let (dtype, end) = (dtype.name(), data.len());
            format!(r#""{key}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{end}]}}"#)
        })
        .collect();
    let header = format!(r#"{{"__metadata__":{metadata},{}}}"#, tensors.join(","));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}
