//! The levels of the UNet: down, middle and up.

use std::sync::Arc;

use potstill_engine::ops;
use potstill_engine::{Result, Value};

use super::config::{MidBlockConfig, UnetConfig};
use super::segment;
use super::transformer::{Transformer, TransformerConfig};
use crate::nn::{Conv2d, Resnet, ResnetConfig, Scope};

/// What every block of one forward pass is given.
pub(crate) struct Conditioning {
    /// SiLU(time embedding), `[B, time channels]`.
    pub(crate) time: Value,
    /// The text, `[B, M, context channels]`.
    pub(crate) context: Value,
    /// Whether to recompute activations in the backward pass instead of keeping them.
    pub(crate) recompute: bool,
}

/// A resnet and, at levels with attention, the transformer after it.
struct Layer {
    resnet: Arc<Resnet>,
    attention: Option<Transformer>,
}

impl Layer {
    fn attend(&self, h: Value, c: &Conditioning) -> Result<Value> {
        match &self.attention {
            Some(transformer) => transformer.forward(&h, &c.context, c.recompute),
            None => Ok(h),
        }
    }

    fn forward(&self, x: &Value, c: &Conditioning) -> Result<Value> {
        let resnet = self.resnet.clone();
        let h = segment(c.recompute, &[x.clone(), c.time.clone()], move |v| {
            resnet.forward(&v[0], Some(&v[1]))
        })?;
        self.attend(h, c)
    }

    /// The same on `x` and a skip connection beside it on the channels.
    fn forward_with_skip(&self, x: &Value, skip: &Value, c: &Conditioning) -> Result<Value> {
        let resnet = self.resnet.clone();
        let inputs = [x.clone(), skip.clone(), c.time.clone()];
        let h = segment(c.recompute, &inputs, move |v| {
            resnet.forward(&ops::concat_last(&v[0], &v[1])?, Some(&v[2]))
        })?;
        self.attend(h, c)
    }
}

fn resnet(scope: &Scope, config: &UnetConfig, inputs: usize, outputs: usize) -> Arc<Resnet> {
    let time = Some(config.time_channels());
    Arc::new(Resnet::new(
        scope,
        ResnetConfig {
            inputs,
            outputs,
            time,
            groups: config.norm_groups,
            eps: config.norm_eps,
        },
    ))
}

fn transformer(scope: &Scope, config: &UnetConfig, level: usize, layers: usize) -> Transformer {
    let c = TransformerConfig {
        channels: config.block_out_channels[level],
        context: config.cross_attention_dim,
        heads: config.heads[level],
        layers,
        groups: config.norm_groups,
        linear_projection: config.linear_projection,
    };
    Transformer::new(scope, c)
}

/// `CrossAttnDownBlock2D` or `DownBlock2D`.
pub(crate) struct DownBlock {
    layers: Vec<Layer>,
    downsampler: Option<Conv2d>,
}

impl DownBlock {
    pub(crate) fn new(scope: &Scope, config: &UnetConfig, level: usize) -> Self {
        let outputs = config.block_out_channels[level];
        let inputs = config.block_out_channels[level.saturating_sub(1)];
        let layers = (0..config.layers_per_block[level])
            .map(|i| Layer {
                resnet: resnet(
                    &scope.enter("resnets").enter(i),
                    config,
                    if i == 0 { inputs } else { outputs },
                    outputs,
                ),
                attention: config.down_attention[level].then(|| {
                    let depth = config.down_transformer_layers[level][i];
                    transformer(&scope.enter("attentions").enter(i), config, level, depth)
                }),
            })
            .collect();
        let last = level + 1 == config.levels();
        let downsampler =
            (!last).then(|| Conv2d::new(&scope.enter("downsamplers.0.conv"), outputs, outputs, 3, 2, [1; 4]));
        Self { layers, downsampler }
    }

    /// Pushes the output of every layer, and of the down-sampling, on the stack of skip connections.
    pub(crate) fn forward(&self, mut x: Value, c: &Conditioning, skips: &mut Vec<Value>) -> Result<Value> {
        for layer in &self.layers {
            x = layer.forward(&x, c)?;
            skips.push(x.clone());
        }
        if let Some(conv) = &self.downsampler {
            x = conv.forward(&x)?;
            skips.push(x.clone());
        }
        Ok(x)
    }
}

/// `UNetMidBlock2DCrossAttn`: resnet, transformer, resnet at the coarsest level; depth-pruned models keep the first
/// resnet only.
pub(crate) struct MidBlock {
    layers: Vec<Layer>,
}

impl MidBlock {
    /// The block, when the configuration has one.
    pub(crate) fn new(scope: &Scope, config: &UnetConfig) -> Option<Self> {
        let level = config.levels() - 1;
        let width = config.block_out_channels[level];
        let layer = |i: usize, attention: Option<Transformer>| Layer {
            resnet: resnet(&scope.enter("resnets").enter(i), config, width, width),
            attention,
        };
        let layers = match config.mid_block {
            MidBlockConfig::None => return None,
            MidBlockConfig::Resnet => vec![layer(0, None)],
            MidBlockConfig::CrossAttention(depth) => {
                let attention = transformer(&scope.enter("attentions.0"), config, level, depth);
                vec![layer(0, Some(attention)), layer(1, None)]
            }
        };
        Some(Self { layers })
    }

    pub(crate) fn forward(&self, x: &Value, c: &Conditioning) -> Result<Value> {
        let mut x = x.clone();
        for layer in &self.layers {
            x = layer.forward(&x, c)?;
        }
        Ok(x)
    }
}

/// `CrossAttnUpBlock2D` or `UpBlock2D`.
pub(crate) struct UpBlock {
    layers: Vec<Layer>,
    upsampler: Option<Conv2d>,
}

impl UpBlock {
    /// The up block at position `index`; position 0 is the coarsest level.
    pub(crate) fn new(scope: &Scope, config: &UnetConfig, index: usize) -> Self {
        let widths = &config.block_out_channels;
        let level = config.levels() - 1 - index;
        let outputs = widths[level];
        // Width of the block before this one, and of the skip that the down blocks pushed last at this level's entry.
        let previous = widths[(level + 1).min(config.levels() - 1)];
        let entry = widths[level.saturating_sub(1)];
        let count = config.layers_per_block[level] + 1;
        let layers = (0..count)
            .map(|i| {
                let hidden = if i == 0 { previous } else { outputs };
                let skip = if i + 1 == count { entry } else { outputs };
                Layer {
                    resnet: resnet(&scope.enter("resnets").enter(i), config, hidden + skip, outputs),
                    attention: config.up_attention[index].then(|| {
                        let depth = config.up_transformer_layers[index][i];
                        transformer(&scope.enter("attentions").enter(i), config, level, depth)
                    }),
                }
            })
            .collect();
        let upsampler = (level > 0).then(|| Conv2d::same(&scope.enter("upsamplers.0.conv"), outputs, outputs, 3));
        Self { layers, upsampler }
    }

    /// Pops one skip connection per layer.
    pub(crate) fn forward(&self, mut x: Value, c: &Conditioning, skips: &mut Vec<Value>) -> Result<Value> {
        for layer in &self.layers {
            let skip = skips.pop().expect("down blocks push one skip per up layer");
            x = layer.forward_with_skip(&x, &skip, c)?;
        }
        let (Some(conv), Some(next)) = (&self.upsampler, skips.last()) else {
            return Ok(x);
        };
        // The size of the next skip, which is twice this one's unless a down-sampling rounded up.
        let size = (next.dims()[1], next.dims()[2]);
        let conv_input = ops::upsample_nearest(&x, size)?;
        conv.forward(&conv_input)
    }
}
