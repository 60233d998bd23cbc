//! Levels of the encoder and the decoder.

use potstill_engine::ops;
use potstill_engine::{Result, Value};

use super::config::VaeConfig;
use crate::nn::{Conv2d, CrossAttention, GroupNorm, Resnet, ResnetConfig, Scope};

/// Epsilon of every group normalisation in the VAE.
pub(crate) const NORM_EPS: f64 = 1e-6;

fn resnet(scope: &Scope, config: &VaeConfig, inputs: usize, outputs: usize) -> Resnet {
    Resnet::new(
        scope,
        ResnetConfig {
            inputs,
            outputs,
            time: None,
            groups: config.norm_groups,
            eps: NORM_EPS,
        },
    )
}

fn resnets(scope: &Scope, config: &VaeConfig, count: usize, inputs: usize, outputs: usize) -> Vec<Resnet> {
    let scope = scope.enter("resnets");
    (0..count)
        .map(|i| resnet(&scope.enter(i), config, if i == 0 { inputs } else { outputs }, outputs))
        .collect()
}

/// `DownEncoderBlock2D`: resnets, then a strided convolution that pads right and bottom only.
pub(crate) struct DownBlock {
    resnets: Vec<Resnet>,
    downsampler: Option<Conv2d>,
}

impl DownBlock {
    pub(crate) fn new(scope: &Scope, config: &VaeConfig, inputs: usize, outputs: usize, last: bool) -> Self {
        let downsampler = || {
            Conv2d::new(
                &scope.enter("downsamplers.0.conv"),
                outputs,
                outputs,
                3,
                2,
                [0, 1, 0, 1],
            )
        };
        Self {
            resnets: resnets(scope, config, config.layers_per_block, inputs, outputs),
            downsampler: (!last).then(downsampler),
        }
    }

    pub(crate) fn forward(&self, mut x: Value) -> Result<Value> {
        for resnet in &self.resnets {
            x = resnet.forward(&x, None)?;
        }
        match &self.downsampler {
            Some(conv) => conv.forward(&x),
            None => Ok(x),
        }
    }
}

/// `UpDecoderBlock2D`: resnets, then nearest-neighbour doubling and a convolution.
pub(crate) struct UpBlock {
    resnets: Vec<Resnet>,
    upsampler: Option<Conv2d>,
}

impl UpBlock {
    pub(crate) fn new(scope: &Scope, config: &VaeConfig, inputs: usize, outputs: usize, last: bool) -> Self {
        let upsampler = || Conv2d::same(&scope.enter("upsamplers.0.conv"), outputs, outputs, 3);
        Self {
            resnets: resnets(scope, config, config.layers_per_block + 1, inputs, outputs),
            upsampler: (!last).then(upsampler),
        }
    }

    pub(crate) fn forward(&self, mut x: Value) -> Result<Value> {
        for resnet in &self.resnets {
            x = resnet.forward(&x, None)?;
        }
        let Some(conv) = &self.upsampler else { return Ok(x) };
        let (height, width) = (x.dims()[1], x.dims()[2]);
        conv.forward(&ops::upsample_nearest(&x, (2 * height, 2 * width))?)
    }
}

/// `UNetMidBlock2D`: resnet, single-headed attention over all positions, resnet.
pub(crate) struct MidBlock {
    first: Resnet,
    attention: Option<(GroupNorm, CrossAttention)>,
    second: Resnet,
}

impl MidBlock {
    pub(crate) fn new(scope: &Scope, config: &VaeConfig, width: usize) -> Self {
        let first = resnet(&scope.enter("resnets.0"), config, width, width);
        let attention = config.mid_attention.then(|| {
            let scope = scope.enter("attentions.0");
            (
                GroupNorm::new(&scope.enter("group_norm"), width, config.norm_groups, NORM_EPS),
                CrossAttention::new(&scope, width, width, 1, true),
            )
        });
        Self {
            first,
            attention,
            second: resnet(&scope.enter("resnets.1"), config, width, width),
        }
    }

    pub(crate) fn forward(&self, x: &Value) -> Result<Value> {
        let mut x = self.first.forward(x, None)?;
        if let Some((norm, attention)) = &self.attention {
            let image = x.dims().to_vec();
            let [batch, height, width, channels] = image[..] else {
                unreachable!("images have four dimensions")
            };
            let tokens = ops::reshape(&norm.forward(&x)?, &[batch, height * width, channels])?;
            let attended = ops::reshape(&attention.forward(&tokens, &tokens)?, &image)?;
            x = ops::add(&attended, &x)?;
        }
        self.second.forward(&x, None)
    }
}
