//! `ResnetBlock2D`: two normalised convolutions around the time embedding, with a residual.

use potstill_engine::ops;
use potstill_engine::{Result, Value};

use super::{Conv2d, GroupNorm, Linear, Scope};

/// Widths and normalisation of a [`Resnet`].
#[derive(Clone, Copy)]
pub(crate) struct ResnetConfig {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// Width of the time embedding; none in the VAE.
    pub(crate) time: Option<usize>,
    pub(crate) groups: usize,
    pub(crate) eps: f64,
}

/// norm1 → SiLU → conv1 → + time → norm2 → SiLU → conv2, plus the input (through `conv_shortcut` when widths differ).
pub(crate) struct Resnet {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
}

impl Resnet {
    pub(crate) fn new(scope: &Scope, c: ResnetConfig) -> Self {
        Self {
            norm1: GroupNorm::new(&scope.enter("norm1"), c.inputs, c.groups, c.eps),
            conv1: Conv2d::same(&scope.enter("conv1"), c.inputs, c.outputs, 3),
            time_emb_proj: c
                .time
                .map(|time| Linear::new(&scope.enter("time_emb_proj"), time, c.outputs)),
            norm2: GroupNorm::new(&scope.enter("norm2"), c.outputs, c.groups, c.eps),
            conv2: Conv2d::same(&scope.enter("conv2"), c.outputs, c.outputs, 3),
            conv_shortcut: (c.inputs != c.outputs)
                .then(|| Conv2d::same(&scope.enter("conv_shortcut"), c.inputs, c.outputs, 1)),
        }
    }

    /// `x` is `[B, H, W, inputs]`; `time` is SiLU(time embedding), `[B, time]`, when the block takes one.
    pub(crate) fn forward(&self, x: &Value, time: Option<&Value>) -> Result<Value> {
        let mut h = self.conv1.forward(&self.norm1.forward_silu(x)?)?;
        if let (Some(proj), Some(time)) = (&self.time_emb_proj, time) {
            h = ops::add_rows(&h, &proj.forward(time)?)?;
        }
        let h = self.conv2.forward(&self.norm2.forward_silu(&h)?)?;
        match &self.conv_shortcut {
            Some(shortcut) => ops::add(&shortcut.forward(x)?, &h),
            None => ops::add(x, &h),
        }
    }
}
