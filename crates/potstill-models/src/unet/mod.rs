//! `UNet2DConditionModel`: predicts the noise (or velocity) in latents, given a timestep and a text.

mod block;
mod config;
mod embedding;
mod memory;
mod transformer;

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use potstill_engine::devices::is_card;
use potstill_engine::{Gradients, Param, Value, Vjp, checkpoint, ops};

use crate::checkpoint::{Component, Part, Weights, write_params};
use crate::error::{ModelError, Result};
use crate::nn::{Conv2d, GroupNorm, Precision, Scope, Sockets, Source, build, shapes_of};
use crate::params::Params;
use crate::random::{Initialisation, RandomSource};
use block::{Conditioning, DownBlock, MidBlock, UpBlock};
pub use config::{MidBlockConfig, TextTimeConfig, UnetConfig};
use embedding::{TimestepEmbedding, sinusoids};
pub use memory::{MemoryRequest, Trained, UnetMemory, unet_memory};

/// Numbers in SDXL's `time_ids`: original height, original width, crop top, crop left, target height, target width.
pub const TIME_IDS: usize = 6;

/// What a UNet is asked to predict. Shapes use B for the batch.
pub struct UnetInputs<'a> {
    /// Noisy latents, `[B, in_channels, height, width]`.
    pub sample: Value,
    /// One timestep for all samples, or one per sample. May be fractional.
    pub timestep: &'a [f64],
    /// The text, `[B, tokens, cross_attention_dim]`.
    pub encoder_hidden_states: Value,
    /// SDXL: the pooled text, `[B, 1280]`.
    pub text_embeds: Option<Value>,
    /// SDXL: `[B, 6]`: original height and width, crop top and left, target height and width, in pixels.
    pub time_ids: Option<Value>,
}

/// How to run a forward pass.
#[derive(Debug, Clone, Copy, Default)]
pub struct ForwardOptions {
    /// Recompute the activations inside resnets and transformer blocks in the backward pass instead of keeping them:
    /// the same gradients for about a third more time and a fraction of the memory.
    pub recompute: bool,
}

/// A denoising UNet of the SD1.5 or SDXL family.
pub struct Unet {
    config: UnetConfig,
    device: Device,
    precision: Precision,
    params: Params,
    sockets: Sockets,
    layers: Layers,
}

struct Layers {
    conv_in: Conv2d,
    time_embedding: TimestepEmbedding,
    add_embedding: Option<TimestepEmbedding>,
    down_blocks: Vec<DownBlock>,
    mid_block: Option<MidBlock>,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Layers {
    fn new(scope: &Scope, config: &UnetConfig) -> Self {
        let first = config.block_out_channels[0];
        let time = config.time_channels();
        let levels = config.levels();
        Self {
            conv_in: Conv2d::same(&scope.enter("conv_in"), config.in_channels, first, 3),
            time_embedding: TimestepEmbedding::new(&scope.enter("time_embedding"), first, time),
            add_embedding: config
                .text_time
                .map(|c| TimestepEmbedding::new(&scope.enter("add_embedding"), c.input_channels(), time)),
            down_blocks: (0..levels)
                .map(|i| DownBlock::new(&scope.enter("down_blocks").enter(i), config, i))
                .collect(),
            mid_block: MidBlock::new(&scope.enter("mid_block"), config),
            up_blocks: (0..levels)
                .map(|i| UpBlock::new(&scope.enter("up_blocks").enter(i), config, i))
                .collect(),
            conv_norm_out: GroupNorm::new(
                &scope.enter("conv_norm_out"),
                first,
                config.norm_groups,
                config.norm_eps,
            ),
            conv_out: Conv2d::same(&scope.enter("conv_out"), first, config.out_channels, 3),
        }
    }
}

impl Unet {
    /// Reads a component folder (`config.json` and safetensors weights, sharded or not, of any float dtype) or the UNet in
    /// a single file (`FILE`, or `FILE/unet` as if the file were a folder).
    ///
    /// # Errors
    /// Names every missing, unexpected or misshapen key, and the first unsupported field of the configuration.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        Self::load_in(path, Precision::F32, device)
    }

    /// [`Unet::load`] in another precision: what the file holds is rounded to it.
    pub fn load_in(path: &Path, precision: Precision, device: &Device) -> Result<Self> {
        let (config, mut weights) = Part::unet(path)?;
        Self::build(config, &mut weights, precision, device)
    }

    /// From tensors in diffusers' layout (any float dtype); `place` names their origin in errors.
    pub fn from_tensors(
        config: UnetConfig,
        tensors: &HashMap<String, Tensor>,
        place: &str,
        device: &Device,
    ) -> Result<Self> {
        Self::build(
            config,
            &mut Weights::from_tensors(tensors, place),
            Precision::F32,
            device,
        )
    }

    /// With random weights: a function of the configuration and the seed.
    pub fn random(config: UnetConfig, seed: u64, initialisation: Initialisation, device: &Device) -> Result<Self> {
        Self::random_in(config, seed, initialisation, Precision::F32, device)
    }

    /// [`Unet::random`] in another precision: the same weights, rounded to it.
    pub fn random_in(
        config: UnetConfig,
        seed: u64,
        initialisation: Initialisation,
        precision: Precision,
        device: &Device,
    ) -> Result<Self> {
        let mut source = RandomSource::new(&Self::shapes(&config)?, seed, initialisation);
        Self::build(config, &mut source, precision, device)
    }

    fn build(config: UnetConfig, source: &mut dyn Source, precision: Precision, device: &Device) -> Result<Self> {
        let built = build(source, device, precision, |scope| Layers::new(scope, &config))?;
        Ok(Self {
            config,
            device: device.clone(),
            precision,
            params: built.params,
            sockets: built.sockets,
            layers: built.model,
        })
    }

    /// Names and diffusers' shapes of the parameters that a configuration has, without allocating them.
    pub fn shapes(config: &UnetConfig) -> Result<Vec<(String, Vec<usize>)>> {
        shapes_of(|scope| Layers::new(scope, config))
    }

    /// The architecture.
    pub fn config(&self) -> &UnetConfig {
        &self.config
    }

    /// Where the weights are, and the inputs must be.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The parameters; all of them are frozen after loading.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Where low-rank branches can be attached: none are after loading. They are no part of [`Unet::params`].
    pub fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// Writes a diffusers component folder, without what is attached: `config.json` and `diffusion_pytorch_model.safetensors` in `dtype`
    /// (f32 or f16). Each file appears whole or not at all.
    pub fn save(&self, folder: &Path, dtype: DType) -> Result<()> {
        write_params(folder, Component::Unet, self.config.json(), &self.params, dtype)
    }

    /// The prediction for `inputs.sample`, `[B, out_channels, height, width]`. What it means (epsilon, v, …) is said
    /// by the scheduler's configuration, not by the UNet. It is of the sample's dtype; on a card, a UNet in bf16 computes
    /// activations in bf16 as well.
    pub fn forward(&self, inputs: &UnetInputs, options: &ForwardOptions) -> Result<Value> {
        self.check(inputs)?;
        let dtype = self.activations(inputs)?;
        let layers = &self.layers;
        let c = Conditioning {
            time: ops::silu(&self.time_embedding(inputs, dtype)?)?,
            context: ops::cast(&inputs.encoder_hidden_states, dtype)?,
            recompute: options.recompute,
        };
        let sample = ops::cast(&inputs.sample, dtype)?;
        let mut x = layers.conv_in.forward(&ops::nchw_to_nhwc(&sample)?)?;
        let mut skips = vec![x.clone()];
        for block in &layers.down_blocks {
            x = block.forward(x, &c, &mut skips)?;
        }
        if let Some(block) = &layers.mid_block {
            x = block.forward(&x, &c)?;
        }
        for block in &layers.up_blocks {
            x = block.forward(x, &c, &mut skips)?;
        }
        let x = layers.conv_out.forward(&layers.conv_norm_out.forward_silu(&x)?)?;
        Ok(ops::cast(&ops::nhwc_to_nchw(&x)?, inputs.sample.tensor().dtype())?)
    }

    /// What activations are computed in.
    fn activations(&self, inputs: &UnetInputs) -> Result<DType> {
        if self.precision == Precision::F32 || !is_card(&self.device) {
            return Ok(inputs.sample.tensor().dtype());
        }
        let is_trained = |param: &&Param| param.trainable() && param.dtype() == DType::BF16;
        match self.params.iter().find(is_trained) {
            Some(param) => {
                let reason = format!(
                    "`{}` is in bf16, in which weights are frozen: they are trained in f32",
                    param.name()
                );
                Err(ModelError::input("precision", reason))
            }
            None => Ok(DType::BF16),
        }
    }

    /// The time embedding with SDXL's added conditioning, `[B, time channels]`.
    fn time_embedding(&self, inputs: &UnetInputs, dtype: DType) -> Result<Value> {
        let batch = inputs.sample.dims()[0];
        let timesteps: Vec<f32> = match inputs.timestep {
            [one] => vec![*one as f32; batch],
            each => each.iter().map(|&t| t as f32).collect(),
        };
        let timesteps = Tensor::new(timesteps, &self.device)?;
        let sines = self.sinusoids(&timesteps, self.config.block_out_channels[0], dtype)?;
        let embedding = self.layers.time_embedding.forward(&sines)?;
        let (Some(add_embedding), Some(c)) = (&self.layers.add_embedding, self.config.text_time) else {
            return Ok(embedding);
        };
        let (Some(text), Some(ids)) = (&inputs.text_embeds, &inputs.time_ids) else {
            unreachable!("checked before")
        };
        let sines = self.sinusoids(&ids.tensor().to_dtype(DType::F32)?, c.time_id_channels, dtype)?;
        let sizes = ops::reshape(&sines, &[batch, TIME_IDS * c.time_id_channels])?;
        let added = add_embedding.forward(&ops::concat_last(&ops::cast(text, dtype)?, &sizes)?)?;
        Ok(ops::add(&embedding, &added)?)
    }

    fn sinusoids(&self, values: &Tensor, channels: usize, dtype: DType) -> Result<Value> {
        let config = &self.config;
        let rows = sinusoids(values, channels, config.flip_sin_to_cos, config.freq_shift)?;
        Ok(ops::cast(&Value::constant(rows), dtype)?)
    }

    fn check(&self, inputs: &UnetInputs) -> Result<()> {
        let config = &self.config;
        let &[batch, channels, height, width] = inputs.sample.dims() else {
            return Err(ModelError::input(
                "sample",
                format!("has shape {:?}, must be [B, C, H, W]", inputs.sample.dims()),
            ));
        };
        if channels != config.in_channels {
            let reason = format!(
                "has {channels} channels, the UNet takes {} (in_channels)",
                config.in_channels
            );
            return Err(ModelError::input("sample", reason));
        }
        if batch == 0 || height == 0 || width == 0 {
            return Err(ModelError::input(
                "sample",
                format!("is empty: shape {:?}", inputs.sample.dims()),
            ));
        }
        if inputs.timestep.len() != 1 && inputs.timestep.len() != batch {
            let reason = format!(
                "has {} values for a batch of {batch}: give one, or one per sample",
                inputs.timestep.len()
            );
            return Err(ModelError::input("timestep", reason));
        }
        let text = config.cross_attention_dim;
        match inputs.encoder_hidden_states.dims() {
            &[b, tokens, d] if b == batch && d == text && tokens > 0 => {}
            dims => {
                let reason = format!("has shape {dims:?}, must be [{batch}, tokens, {text}] (cross_attention_dim)");
                return Err(ModelError::input("encoder_hidden_states", reason));
            }
        }
        let Some(c) = config.text_time else { return Ok(()) };
        for (what, value, wanted) in [
            ("text_embeds", &inputs.text_embeds, [batch, c.pooled_channels]),
            ("time_ids", &inputs.time_ids, [batch, TIME_IDS]),
        ] {
            match value.as_ref().map(Value::dims) {
                Some(dims) if dims == wanted => {}
                Some(dims) => {
                    return Err(ModelError::input(
                        what,
                        format!("has shape {dims:?}, this UNet takes {wanted:?}"),
                    ));
                }
                None => {
                    let reason = "is required: this UNet has SDXL's added conditioning (addition_embed_type)";
                    return Err(ModelError::input(what, reason));
                }
            }
        }
        Ok(())
    }
}

/// Runs a part of the network, kept or recomputed in the backward pass.
///
/// Kept, its inputs are aliases, so that their gradients are summed within the segment first: the order of a recomputed
/// segment, and thereby the same bits.
fn segment(
    recompute: bool,
    inputs: &[Value],
    f: impl Fn(&[Value]) -> potstill_engine::Result<Value> + Send + Sync + 'static,
) -> potstill_engine::Result<Value> {
    match recompute {
        true => checkpoint(inputs, f),
        false => f(&inputs.iter().map(alias).collect::<Vec<_>>()),
    }
}

/// The same tensor as a node of its own.
fn alias(value: &Value) -> Value {
    Value::from_vjp(value.tensor().clone(), &[value], || Box::new(Alias))
}

struct Alias;

impl Vjp for Alias {
    fn name(&self) -> &'static str {
        "alias"
    }

    fn backward(
        self: Box<Self>,
        gradient: Tensor,
        _sink: &mut Gradients,
    ) -> potstill_engine::Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(gradient)])
    }
}
