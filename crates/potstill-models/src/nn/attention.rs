//! The attention and feed-forward layers of diffusers' transformers.

use potstill_engine::ops::{self, Attention};
use potstill_engine::{Result, Value};

use super::{Linear, Scope};

/// Multi-head attention with a biased output projection (`to_q`, `to_k`, `to_v`, `to_out.0`).
pub(crate) struct CrossAttention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    kernel: Attention,
}

impl CrossAttention {
    /// Queries from `channels`, keys and values from `context` channels. `qkv_bias` as in the VAE; the UNet has none.
    pub(crate) fn new(scope: &Scope, channels: usize, context: usize, heads: usize, qkv_bias: bool) -> Self {
        let linear = |name: &str, inputs: usize| match qkv_bias {
            true => Linear::new(&scope.enter(name), inputs, channels),
            false => Linear::without_bias(&scope.enter(name), inputs, channels),
        };
        let to_q = linear("to_q", channels);
        let bf16 = to_q.is_bf16();
        Self {
            to_q,
            to_k: linear("to_k", context),
            to_v: linear("to_v", context),
            to_out: Linear::new(&scope.enter("to_out.0"), channels, channels),
            kernel: Attention {
                heads,
                scale: ((channels / heads) as f64).powf(-0.5),
                causal: false,
                bf16,
            },
        }
    }

    /// `x` `[B, N, C]` attends to `context` `[B, M, context channels]`.
    pub(crate) fn forward(&self, x: &Value, context: &Value) -> Result<Value> {
        let q = self.to_q.forward(x)?;
        let k = self.to_k.forward(context)?;
        let v = self.to_v.forward(context)?;
        self.to_out.forward(&ops::attention(&q, &k, &v, &self.kernel)?)
    }
}

/// The gated feed-forward layer: `net.0.proj` to value and gate, GEGLU, `net.2` back.
pub(crate) struct FeedForward {
    proj: Linear,
    out: Linear,
}

impl FeedForward {
    pub(crate) fn new(scope: &Scope, channels: usize) -> Self {
        let hidden = 4 * channels;
        Self {
            proj: Linear::new(&scope.enter("net.0.proj"), channels, 2 * hidden),
            out: Linear::new(&scope.enter("net.2"), hidden, channels),
        }
    }

    pub(crate) fn forward(&self, x: &Value) -> Result<Value> {
        self.out.forward(&ops::geglu(&self.proj.forward(x)?)?)
    }
}
