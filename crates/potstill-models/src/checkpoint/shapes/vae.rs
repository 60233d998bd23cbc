//! A VAE's configuration from its tensors, under LDM's names or diffusers'.

use serde_json::{Map, Value as Json, json};

use super::Keys;
use crate::checkpoint::kinds::Dialect;
use crate::error::{ModelError, Result};
use crate::vae::VaeConfig;

/// The configuration that the keys imply; `scaling_factor` is the model's, since all of them have the same shapes.
pub(in crate::checkpoint) fn vae_config(
    keys: &Keys,
    dialect: Dialect,
    scaling_factor: f64,
    place: &str,
) -> Result<VaeConfig> {
    let config = implied(keys, dialect, scaling_factor).ok_or_else(|| ModelError::Unsupported {
        place: place.to_string(),
        what: "a VAE whose blocks are arranged as in no model of the SD1.5 and SDXL families".to_string(),
    })?;
    let config = VaeConfig::parse(config, place)?;
    match config.latent_channels {
        4 => Ok(config),
        channels => Err(ModelError::Unsupported {
            place: place.to_string(),
            what: format!("a VAE with {channels} latent channels (SD3's and Flux's have 16; SD1.5's and SDXL's, 4)"),
        }),
    }
}

fn implied(keys: &Keys, dialect: Dialect, scaling_factor: f64) -> Option<Map<String, Json>> {
    let (level, block, attention) = match dialect {
        Dialect::Ldm => ("encoder.down", "block", "encoder.mid.attn_1.norm.weight"),
        _ => (
            "encoder.down_blocks",
            "resnets",
            "encoder.mid_block.attentions.0.group_norm.weight",
        ),
    };
    let widths: Vec<usize> = (0..)
        .map_while(|i| keys.size(&format!("{level}.{i}.{block}.0.conv1.weight"), 0))
        .collect();
    let layers = |i: usize| keys.count(|j| format!("{level}.{i}.{block}.{j}.conv1.weight"));
    let count = layers(0);
    if widths.is_empty() || !(0..widths.len()).all(|i| layers(i) == count) {
        return None;
    }
    let value = json!({
        "_class_name": "AutoencoderKL",
        "act_fn": "silu",
        "block_out_channels": widths,
        "down_block_types": vec!["DownEncoderBlock2D"; widths.len()],
        "force_upcast": true,
        "in_channels": keys.size("encoder.conv_in.weight", 1)?,
        "latent_channels": keys.size("decoder.conv_in.weight", 1)?,
        "layers_per_block": count,
        "mid_block_add_attention": keys.has(attention),
        "norm_num_groups": 32,
        "out_channels": keys.size("decoder.conv_out.weight", 0)?,
        "sample_size": if scaling_factor == super::super::kinds::SDXL_SCALING_FACTOR { 1024 } else { 512 },
        "scaling_factor": scaling_factor,
        "up_block_types": vec!["UpDecoderBlock2D"; widths.len()],
        "use_post_quant_conv": keys.has("post_quant_conv.weight"),
        "use_quant_conv": keys.has("quant_conv.weight"),
    });
    value.as_object().cloned()
}
