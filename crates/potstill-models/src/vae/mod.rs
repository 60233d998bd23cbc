//! `AutoencoderKL`: pictures to latents and back.

mod block;
mod config;
mod memory;
mod tiling;

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use potstill_engine::{Value, ops};

use crate::checkpoint::{Component, ComponentConfig, KeyRules, Part, write_params};
use crate::error::{ModelError, Result};
use crate::model::ModelKind;
use crate::nn::{Conv2d, GroupNorm, Precision, Scope, Source, build, shapes_of};
use crate::params::Params;
use crate::random::{Initialisation, RandomSource};
use block::{DownBlock, MidBlock, NORM_EPS, UpBlock};
pub use config::VaeConfig;
pub use memory::{Direction, vae_activations};
pub use tiling::Tiling;

/// Range that diffusers clamps the logarithm of the variance to.
const LOG_VARIANCE_RANGE: (f64, f64) = (-30., 20.);

/// Folders saved before diffusers 0.15 call the attention's layers `query`, `key`, `value` and `proj_attn`, and keep
/// some as 1×1 convolutions.
pub(crate) const KEY_RULES: KeyRules = KeyRules {
    rename: current_name,
    squeeze: true,
};

fn current_name(key: &str) -> Option<String> {
    const RENAMED: [(&str, &str); 4] = [
        (".query.", ".to_q."),
        (".key.", ".to_k."),
        (".value.", ".to_v."),
        (".proj_attn.", ".to_out.0."),
    ];
    let old = key
        .contains(".attentions.")
        .then(|| RENAMED.iter().find(|(old, _)| key.contains(old)))
        .flatten();
    Some(old.map_or_else(|| key.to_string(), |(old, new)| key.replace(old, new)))
}

/// The distribution of latents that a picture is encoded to.
pub struct Posterior {
    /// `[B, latent_channels, H/8, W/8]`, not scaled.
    pub mean: Value,
    /// Logarithm of the variance, clamped to −30 … 20, not scaled.
    pub log_variance: Value,
    scaling_factor: f64,
}

impl Posterior {
    /// The mean as model latents (times the scaling factor).
    pub fn mode(&self) -> Result<Value> {
        Ok(ops::affine(&self.mean, self.scaling_factor, 0.)?)
    }

    /// `mean + std · noise` as model latents; `noise` is standard normal, of the mean's shape.
    pub fn sample(&self, noise: &Value) -> Result<Value> {
        let std = ops::exp(&ops::affine(&self.log_variance, 0.5, 0.)?)?;
        let sample = ops::add(&self.mean, &ops::mul(&std, noise)?)?;
        Ok(ops::affine(&sample, self.scaling_factor, 0.)?)
    }
}

/// A variational autoencoder. Weights are f32.
pub struct Vae {
    config: VaeConfig,
    params: Params,
    layers: Layers,
}

struct Layers {
    encoder: Encoder,
    quant_conv: Option<Conv2d>,
    post_quant_conv: Option<Conv2d>,
    decoder: Decoder,
}

struct Encoder {
    conv_in: Conv2d,
    down_blocks: Vec<DownBlock>,
    mid_block: MidBlock,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

struct Decoder {
    conv_in: Conv2d,
    mid_block: MidBlock,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Encoder {
    fn new(scope: &Scope, config: &VaeConfig) -> Self {
        let widths = &config.block_out_channels;
        let coarsest = widths[widths.len() - 1];
        let down_block = |i: usize| {
            let scope = scope.enter("down_blocks").enter(i);
            DownBlock::new(
                &scope,
                config,
                widths[i.saturating_sub(1)],
                widths[i],
                i + 1 == widths.len(),
            )
        };
        Self {
            conv_in: Conv2d::same(&scope.enter("conv_in"), config.in_channels, widths[0], 3),
            down_blocks: (0..widths.len()).map(down_block).collect(),
            mid_block: MidBlock::new(&scope.enter("mid_block"), config, coarsest),
            conv_norm_out: GroupNorm::new(&scope.enter("conv_norm_out"), coarsest, config.norm_groups, NORM_EPS),
            conv_out: Conv2d::same(&scope.enter("conv_out"), coarsest, 2 * config.latent_channels, 3),
        }
    }

    fn forward(&self, x: &Value) -> potstill_engine::Result<Value> {
        let mut x = self.conv_in.forward(x)?;
        for block in &self.down_blocks {
            x = block.forward(x)?;
        }
        let x = self.mid_block.forward(&x)?;
        self.conv_out.forward(&self.conv_norm_out.forward_silu(&x)?)
    }
}

impl Decoder {
    fn new(scope: &Scope, config: &VaeConfig) -> Self {
        let widths: Vec<usize> = config.block_out_channels.iter().rev().copied().collect();
        let finest = widths[widths.len() - 1];
        let up_block = |i: usize| {
            let scope = scope.enter("up_blocks").enter(i);
            UpBlock::new(
                &scope,
                config,
                widths[i.saturating_sub(1)],
                widths[i],
                i + 1 == widths.len(),
            )
        };
        Self {
            conv_in: Conv2d::same(&scope.enter("conv_in"), config.latent_channels, widths[0], 3),
            mid_block: MidBlock::new(&scope.enter("mid_block"), config, widths[0]),
            up_blocks: (0..widths.len()).map(up_block).collect(),
            conv_norm_out: GroupNorm::new(&scope.enter("conv_norm_out"), finest, config.norm_groups, NORM_EPS),
            conv_out: Conv2d::same(&scope.enter("conv_out"), finest, config.out_channels, 3),
        }
    }

    fn forward(&self, x: &Value) -> potstill_engine::Result<Value> {
        let mut x = self.mid_block.forward(&self.conv_in.forward(x)?)?;
        for block in &self.up_blocks {
            x = block.forward(x)?;
        }
        self.conv_out.forward(&self.conv_norm_out.forward_silu(&x)?)
    }
}

impl Layers {
    fn new(scope: &Scope, config: &VaeConfig) -> Self {
        let latent = config.latent_channels;
        let pointwise = |name: &str, channels: usize| Conv2d::same(&scope.enter(name), channels, channels, 1);
        Self {
            encoder: Encoder::new(&scope.enter("encoder"), config),
            quant_conv: config.quant_conv.then(|| pointwise("quant_conv", 2 * latent)),
            post_quant_conv: config.post_quant_conv.then(|| pointwise("post_quant_conv", latent)),
            decoder: Decoder::new(&scope.enter("decoder"), config),
        }
    }
}

impl Vae {
    /// Reads a component folder or the VAE in a single file.
    ///
    /// # Errors
    /// Names every missing, unexpected or misshapen key, and the first unsupported field of the configuration.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        Self::load_for(path, None, device)
    }

    /// [`Vae::load`] for a model of a family, which decides the scaling factor of a file that holds a VAE alone.
    pub fn load_for(path: &Path, kind: Option<ModelKind>, device: &Device) -> Result<Self> {
        let (config, mut weights) = Part::vae(path, kind)?;
        Self::build(config, &mut weights, device)
    }

    /// The architecture of a VAE and the weight files that it is loaded from, sorted, for digests; `path` and `kind` as for
    /// [`Vae::load_for`].
    pub fn on_disk(path: &Path, kind: Option<ModelKind>) -> Result<(VaeConfig, Vec<PathBuf>)> {
        match Part::open_as(path, Component::Vae, kind)? {
            Part {
                config: ComponentConfig::Vae(config),
                files,
                ..
            } => Ok((config, files)),
            _ => unreachable!("a VAE was asked for"),
        }
    }

    /// With random weights: a function of the configuration and the seed.
    pub fn random(config: VaeConfig, seed: u64, initialisation: Initialisation, device: &Device) -> Result<Self> {
        let mut source = RandomSource::new(&Self::shapes(&config)?, seed, initialisation);
        Self::build(config, &mut source, device)
    }

    fn build(config: VaeConfig, source: &mut dyn Source, device: &Device) -> Result<Self> {
        let built = build(source, device, Precision::F32, |scope| Layers::new(scope, &config))?;
        Ok(Self {
            config,
            params: built.params,
            layers: built.model,
        })
    }

    /// Names and diffusers' shapes of the parameters that a configuration has, without allocating them.
    pub fn shapes(config: &VaeConfig) -> Result<Vec<(String, Vec<usize>)>> {
        shapes_of(|scope| Layers::new(scope, config))
    }

    /// The architecture.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// The parameters; all of them are frozen after loading.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Writes a diffusers component folder.
    pub fn save(&self, folder: &Path, dtype: DType) -> Result<()> {
        write_params(folder, Component::Vae, self.config.json(), &self.params, dtype)
    }

    /// The posterior of pictures `[B, 3, H, W]` in −1 … 1; H and W are multiples of [`VaeConfig::downscale`].
    pub fn encode(&self, pixels: &Value) -> Result<Posterior> {
        let config = &self.config;
        let multiple = config.downscale();
        match *pixels.dims() {
            [_, c, h, w] if c == config.in_channels && h > 0 && w > 0 && h % multiple == 0 && w % multiple == 0 => {}
            _ => {
                let (dims, channels) = (pixels.dims(), config.in_channels);
                let reason =
                    format!("has shape {dims:?}, must be [B, {channels}, H, W] with sides divisible by {multiple}");
                return Err(ModelError::input("pixels", reason));
            }
        }
        let mut moments = self.layers.encoder.forward(&ops::nchw_to_nhwc(pixels)?)?;
        if let Some(conv) = &self.layers.quant_conv {
            moments = conv.forward(&moments)?;
        }
        let moments = ops::nhwc_to_nchw(&moments)?;
        let latent = config.latent_channels;
        let mean = ops::narrow(&moments, 1, 0, latent)?;
        let log_variance = ops::narrow(&moments, 1, latent, latent)?;
        let log_variance = ops::clamp(&log_variance, LOG_VARIANCE_RANGE.0, LOG_VARIANCE_RANGE.1)?;
        Ok(Posterior {
            mean,
            log_variance,
            scaling_factor: config.scaling_factor,
        })
    }

    /// Pictures `[B, 3, 8H, 8W]` of model latents `[B, latent_channels, H, W]`, nominally in −1 … 1, not clamped.
    pub fn decode(&self, latents: &Value) -> Result<Value> {
        let config = &self.config;
        if !matches!(*latents.dims(), [_, c, h, w] if c == config.latent_channels && h > 0 && w > 0) {
            let reason = format!(
                "has shape {:?}, must be [B, {}, H, W]",
                latents.dims(),
                config.latent_channels
            );
            return Err(ModelError::input("latents", reason));
        }
        let mut x = ops::nchw_to_nhwc(&ops::affine(latents, 1. / config.scaling_factor, 0.)?)?;
        if let Some(conv) = &self.layers.post_quant_conv {
            x = conv.forward(&x)?;
        }
        Ok(ops::nhwc_to_nchw(&self.layers.decoder.forward(&x)?)?)
    }

    /// [`Vae::encode`]'s mode for a tensor without gradients: the latents that caches store.
    pub fn encode_mode(&self, pixels: &Tensor) -> Result<Tensor> {
        Ok(self.encode(&Value::constant(pixels.clone()))?.mode()?.tensor().clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_attention_names_are_current_ones() {
        let name = |key: &str| current_name(key).expect("every key has a name");
        assert_eq!(
            name("decoder.mid_block.attentions.0.proj_attn.bias"),
            "decoder.mid_block.attentions.0.to_out.0.bias"
        );
        assert_eq!(
            name("encoder.mid_block.attentions.0.key.weight"),
            "encoder.mid_block.attentions.0.to_k.weight"
        );
        assert_eq!(name("encoder.conv_in.weight"), "encoder.conv_in.weight");
    }
}
