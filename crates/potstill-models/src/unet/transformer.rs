//! `Transformer2DModel`: an image attends to itself and to the text.

use std::sync::Arc;

use potstill_engine::ops;
use potstill_engine::{Result, Value};

use super::segment;
use crate::nn::{Conv2d, CrossAttention, FeedForward, GroupNorm, LayerNorm, Linear, Scope};

/// Epsilon of the transformer's group normalisation (the resnets use the configuration's `norm_eps`).
const GROUP_NORM_EPS: f64 = 1e-6;
/// Epsilon of the transformer blocks' layer normalisations.
const LAYER_NORM_EPS: f64 = 1e-5;

/// Widths of a [`Transformer`].
#[derive(Clone, Copy)]
pub(crate) struct TransformerConfig {
    pub(crate) channels: usize,
    pub(crate) context: usize,
    pub(crate) heads: usize,
    pub(crate) layers: usize,
    pub(crate) groups: usize,
    pub(crate) linear_projection: bool,
}

/// How the image enters and leaves the transformer. Both are the same product of matrices in channels-last memory;
/// they differ in the shape of their weights.
enum Projection {
    Convolution(Conv2d),
    Linear(Linear),
}

impl Projection {
    fn new(scope: &Scope, channels: usize, linear: bool) -> Self {
        match linear {
            true => Projection::Linear(Linear::new(scope, channels, channels)),
            false => Projection::Convolution(Conv2d::same(scope, channels, channels, 1)),
        }
    }

    fn forward(&self, x: &Value) -> Result<Value> {
        match self {
            Projection::Convolution(conv) => conv.forward(x),
            Projection::Linear(linear) => linear.forward(x),
        }
    }
}

/// norm → proj_in → transformer blocks over the tokens → proj_out, plus the input.
pub(crate) struct Transformer {
    norm: GroupNorm,
    proj_in: Projection,
    blocks: Vec<Arc<TransformerBlock>>,
    proj_out: Projection,
}

impl Transformer {
    pub(crate) fn new(scope: &Scope, c: TransformerConfig) -> Self {
        let blocks = scope.enter("transformer_blocks");
        Self {
            norm: GroupNorm::new(&scope.enter("norm"), c.channels, c.groups, GROUP_NORM_EPS),
            proj_in: Projection::new(&scope.enter("proj_in"), c.channels, c.linear_projection),
            blocks: (0..c.layers)
                .map(|i| Arc::new(TransformerBlock::new(&blocks.enter(i), c)))
                .collect(),
            proj_out: Projection::new(&scope.enter("proj_out"), c.channels, c.linear_projection),
        }
    }

    /// `x` `[B, H, W, C]`, `context` `[B, M, context channels]`. With `recompute` each block is a segment of its own.
    pub(crate) fn forward(&self, x: &Value, context: &Value, recompute: bool) -> Result<Value> {
        let image = x.dims().to_vec();
        let [batch, height, width, channels] = image[..] else {
            unreachable!("images have four dimensions")
        };
        let h = self.proj_in.forward(&self.norm.forward(x)?)?;
        let mut tokens = ops::reshape(&h, &[batch, height * width, channels])?;
        for block in &self.blocks {
            let block = block.clone();
            tokens = segment(recompute, &[tokens, context.clone()], move |v| {
                block.forward(&v[0], &v[1])
            })?;
        }
        let h = self.proj_out.forward(&ops::reshape(&tokens, &image)?)?;
        ops::add(&h, x)
    }
}

/// `BasicTransformerBlock`: self-attention, cross-attention and feed-forward, each on normalised input with a residual.
struct TransformerBlock {
    norm1: LayerNorm,
    attn1: CrossAttention,
    norm2: LayerNorm,
    attn2: CrossAttention,
    norm3: LayerNorm,
    ff: FeedForward,
}

impl TransformerBlock {
    fn new(scope: &Scope, c: TransformerConfig) -> Self {
        let norm = |name: &str| LayerNorm::new(&scope.enter(name), c.channels, LAYER_NORM_EPS);
        Self {
            norm1: norm("norm1"),
            attn1: CrossAttention::new(&scope.enter("attn1"), c.channels, c.channels, c.heads, false),
            norm2: norm("norm2"),
            attn2: CrossAttention::new(&scope.enter("attn2"), c.channels, c.context, c.heads, false),
            norm3: norm("norm3"),
            ff: FeedForward::new(&scope.enter("ff"), c.channels),
        }
    }

    fn forward(&self, x: &Value, context: &Value) -> Result<Value> {
        let h = self.norm1.forward(x)?;
        let x = ops::add(&self.attn1.forward(&h, &h)?, x)?;
        let x = ops::add(&self.attn2.forward(&self.norm2.forward(&x)?, context)?, &x)?;
        ops::add(&self.ff.forward(&self.norm3.forward(&x)?)?, &x)
    }
}
