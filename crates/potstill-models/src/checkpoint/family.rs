//! Files that are no SD1.5 or SDXL model: named, so that nobody has to guess from a list of keys.

use potstill_io::TensorInfo;

use super::coded::{ROW_SCALES, STATE};
use crate::error::{ModelError, Result};
use crate::unet::UnetConfig;

/// What single files prefix a denoiser's keys with.
const DENOISER: [&str; 3] = ["", "model.diffusion_model.", "diffusion_model."];

/// A denoiser's key that only this family has.
const DENOISERS: [(&str, &str); 18] = [
    (
        "joint_blocks.0.context_block.adaLN_modulation.1.bias",
        "Stable Diffusion 3",
    ),
    ("double_blocks.0.img_attn.qkv.weight", "Flux (or a relative of it)"),
    (
        "single_transformer_blocks.0.attn.to_q.weight",
        "Flux (or a relative of it)",
    ),
    // Flux has this as well: what is Flux has been found above.
    ("transformer_blocks.0.norm1_context.linear.weight", "Stable Diffusion 3"),
    ("double_layers.0.attn.w1q.weight", "AuraFlow"),
    ("cap_embedder.0.weight", "Lumina"),
    ("adaln_single.linear.weight", "PixArt"),
    ("t_block.1.weight", "PixArt"),
    ("clip_txt_mapper.weight", "Stable Cascade"),
    ("down_blocks.1.0.channelwise.0.weight", "Stable Cascade"),
    (
        "txt_in.individual_token_refiner.blocks.0.adaLN_modulation.1.bias",
        "HunyuanVideo",
    ),
    ("head.modulation", "Wan"),
    ("patchify_proj.weight", "LTX-Video"),
    ("txt_in.text_norm.weight", "Qwen-Image"),
    (
        "input_blocks.1.0.time_stack.in_layers.0.weight",
        "Stable Video Diffusion",
    ),
    ("control_model.time_embed.0.weight", "a ControlNet"),
    ("controlnet_cond_embedding.conv_in.weight", "a ControlNet"),
    ("input_hint_block.0.weight", "a ControlNet"),
];
/// A whole file's key that only this kind of file has.
const FILES: [(&str, &str); 6] = [
    ("cond_stage_model.model.token_embedding.weight", "Stable Diffusion 2"),
    (
        "conditioner.embedders.0.model.token_embedding.weight",
        "the SDXL refiner",
    ),
    ("control_model.time_embed.0.weight", "a ControlNet"),
    ("edm_mean", "Playground v2.5 (EDM)"),
    ("edm_vpred.sigma_max", "an EDM model with v-prediction"),
    ("emb_params", "a textual-inversion embedding"),
];
/// Endings of an adapter's keys.
const ADAPTER: [&str; 7] = [
    ".lora_down.weight",
    ".lora_up.weight",
    ".lora_A.weight",
    ".lora.down.weight",
    ".hada_w1_a",
    ".lokr_w1",
    ".lokr_w1_a",
];

/// Refuses a file whose keys are those of something else.
pub(super) fn refuse_others(tensors: &[TensorInfo], place: &str) -> Result<()> {
    let refused = |what: &str| Err(unsupported(place, what.to_string()));
    let has = |key: &str| tensors.iter().any(|t| t.name == key);
    for (key, what) in DENOISERS {
        if DENOISER.iter().any(|prefix| has(&format!("{prefix}{key}"))) {
            return refused(what);
        }
    }
    for (key, what) in FILES {
        if has(key) {
            return refused(what);
        }
    }
    if tensors.iter().any(|t| t.name.contains(".motion_modules.")) {
        return refused("AnimateDiff's motion modules");
    }
    if tensors
        .iter()
        .any(|t| ADAPTER.iter().any(|ending| t.name.ends_with(ending)))
    {
        return refused("a LoRA, which is no model but goes with one (`--lora`)");
    }
    if !tensors.is_empty() && tensors.iter().all(|t| ["clip_l", "clip_g"].contains(&t.name.as_str())) {
        return refused("a textual-inversion embedding");
    }
    // A folder's configuration has the sizes that packed weights do not show.
    if tensors
        .iter()
        .any(|t| t.name.contains(STATE) || t.name.ends_with(ROW_SCALES))
    {
        return refused(
            "a single file of weights that bitsandbytes quantized, which are read from diffusers folders: convert the original file",
        );
    }
    Ok(())
}

/// Refuses a UNet of the right build for another task.
pub(crate) fn refuse_relatives(config: &UnetConfig, place: &str) -> Result<()> {
    let base = match (config.text_time.is_some(), config.cross_attention_dim) {
        (true, _) => "SDXL",
        (false, 1024) => "SD2",
        (false, _) => "SD1.5",
    };
    let what = match (config.in_channels, config.cross_attention_dim) {
        (9, _) => format!("an inpainting model ({base}): its UNet takes 9 channels"),
        (8, _) => format!("an InstructPix2Pix model ({base}): its UNet takes 8 channels"),
        (7, _) => "an upscaler: its UNet takes 7 channels".to_string(),
        (5, _) => "a depth-to-image model: its UNet takes 5 channels".to_string(),
        (_, 1024) => "Stable Diffusion 2: its UNet is conditioned by 1024 channels of text".to_string(),
        (_, 1280) if config.text_time.is_some() => {
            "the SDXL refiner: its UNet is conditioned by the second text encoder alone".to_string()
        }
        _ => return Ok(()),
    };
    Err(unsupported(place, what))
}

fn unsupported(place: &str, what: String) -> ModelError {
    let place = place.to_string();
    ModelError::Unsupported { place, what }
}
