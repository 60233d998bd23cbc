//! The configuration of an `AutoencoderKL`, as diffusers writes it.

use std::path::Path;

use serde_json::{Map, Value as Json, json};

use crate::error::Result;
use crate::fields::{Fields, read_object};

/// The architecture of a VAE.
#[derive(Debug, Clone, PartialEq)]
pub struct VaeConfig {
    /// Channels of pictures.
    pub in_channels: usize,
    /// Channels of decoded pictures.
    pub out_channels: usize,
    /// Channels of latents.
    pub latent_channels: usize,
    /// Width of each level, from the finest to the coarsest.
    pub block_out_channels: Vec<usize>,
    /// Resnets per level of the encoder; the decoder has one more.
    pub layers_per_block: usize,
    /// Groups of every group normalisation.
    pub norm_groups: usize,
    /// Model latents are the mean times this: 0.18215 for SD1.x, 0.13025 for SDXL.
    pub scaling_factor: f64,
    /// Whether the moments pass a 1×1 convolution.
    pub quant_conv: bool,
    /// Whether latents pass a 1×1 convolution before decoding.
    pub post_quant_conv: bool,
    /// Whether the middle blocks have attention.
    pub mid_attention: bool,
    json: Map<String, Json>,
}

impl VaeConfig {
    /// Reads a `config.json`.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(read_object(path)?, &path.display().to_string())
    }

    /// Reads a configuration's JSON object; `place` names it in errors. Absent fields have diffusers' defaults; values
    /// that would need what is not implemented are errors that name the field.
    pub fn parse(json: Map<String, Json>, place: &str) -> Result<Self> {
        let f = Fields::new(&json, place);
        f.only("_class_name", "AutoencoderKL")?;
        f.only("act_fn", "silu")?;
        for field in ["latents_mean", "latents_std", "shift_factor"] {
            f.unset(field)?;
        }
        let block_out_channels = f.levels("block_out_channels", &[64])?;
        let norm_groups = f.positive("norm_num_groups", 32)?;
        if block_out_channels.iter().any(|&w| w % norm_groups != 0) {
            return Err(f.error(
                "block_out_channels",
                format!("must be positive multiples of norm_num_groups, {norm_groups}"),
            ));
        }
        for (field, kind) in [
            ("down_block_types", "DownEncoderBlock2D"),
            ("up_block_types", "UpDecoderBlock2D"),
        ] {
            let types = f.strings(field, &vec![kind; block_out_channels.len()])?;
            if types.len() != block_out_channels.len() {
                let reason = format!(
                    "has {} entries, block_out_channels has {}",
                    types.len(),
                    block_out_channels.len()
                );
                return Err(f.error(field, reason));
            }
            if let Some(other) = types.iter().find(|t| *t != kind) {
                return Err(f.error(field, format!("`{other}` is not supported (only `{kind}` is)")));
            }
        }
        let scaling_factor = f.f64("scaling_factor", 0.18215)?;
        if !(scaling_factor > 0. && scaling_factor.is_finite()) {
            return Err(f.error("scaling_factor", format!("is {scaling_factor}, must be positive")));
        }
        let config = Self {
            in_channels: f.positive("in_channels", 3)?,
            out_channels: f.positive("out_channels", 3)?,
            latent_channels: f.positive("latent_channels", 4)?,
            layers_per_block: f.layers("layers_per_block", 1)?,
            norm_groups,
            scaling_factor,
            quant_conv: f.bool("use_quant_conv", true)?,
            post_quant_conv: f.bool("use_post_quant_conv", true)?,
            mid_attention: f.bool("mid_block_add_attention", true)?,
            block_out_channels,
            json: Map::new(),
        };
        Ok(Self { json, ..config })
    }

    /// The VAE of Stable Diffusion 1.x; SDXL's differs in the scaling factor only.
    pub fn sd(scaling_factor: f64) -> Self {
        let json = json!({
            "_class_name": "AutoencoderKL",
            "block_out_channels": [128, 256, 512, 512],
            "down_block_types": vec!["DownEncoderBlock2D"; 4],
            "up_block_types": vec!["UpDecoderBlock2D"; 4],
            "layers_per_block": 2,
            "latent_channels": 4,
            "norm_num_groups": 32,
            "scaling_factor": scaling_factor,
        });
        let Json::Object(map) = json else {
            unreachable!("the literal above is an object")
        };
        Self::parse(map, "built-in configuration").expect("the built-in configuration is valid")
    }

    /// The JSON object that describes this configuration.
    pub fn json(&self) -> &Map<String, Json> {
        &self.json
    }

    /// Whether the other computes the same, however its JSON says so.
    pub(crate) fn same_architecture(&self, other: &Self) -> bool {
        let bare = |config: &Self| Self {
            json: Map::new(),
            ..config.clone()
        };
        bare(self) == bare(other)
    }

    /// Pixels per latent along each side: 8 with four levels.
    pub fn downscale(&self) -> usize {
        1 << (self.block_out_channels.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsupported_values_are_refused_by_name() {
        for (field, value) in [
            ("latents_mean", json!([0., 0., 0., 0.])),
            ("shift_factor", json!(0.1)),
            ("scaling_factor", json!(0)),
            ("down_block_types", json!(["DownBlock2D"])),
            ("block_out_channels", json!([33])),
            ("_class_name", json!("AutoencoderTiny")),
        ] {
            let map = json!({field: value}).as_object().expect("an object").clone();
            let error = VaeConfig::parse(map, "vae/config.json").unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }
}
