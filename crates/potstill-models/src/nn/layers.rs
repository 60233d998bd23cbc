//! Layers with parameters of their own. Shapes: images `[B, H, W, C]`, tokens `[B, N, C]`, rows `[B, C]`.

use potstill_engine::ops::{self, Activation};
use potstill_engine::{DType, Param, Result, Value};

use super::Scope;
use super::branch::Socket;

/// `y = x · weightᵀ + bias`.
pub(crate) struct Linear {
    weight: Param,
    bias: Option<Param>,
    socket: Socket,
}

impl Linear {
    /// With bias.
    pub(crate) fn new(scope: &Scope, inputs: usize, outputs: usize) -> Self {
        let weight = scope.param("weight", &[outputs, inputs]);
        Self {
            weight,
            bias: Some(scope.param("bias", &[outputs])),
            socket: scope.socket(&[outputs, inputs]),
        }
    }

    pub(crate) fn without_bias(scope: &Scope, inputs: usize, outputs: usize) -> Self {
        Self {
            weight: scope.param("weight", &[outputs, inputs]),
            bias: None,
            socket: scope.socket(&[outputs, inputs]),
        }
    }

    /// Whether it multiplies in bf16.
    pub(crate) fn is_bf16(&self) -> bool {
        self.weight.dtype() == DType::BF16
    }

    pub(crate) fn forward(&self, x: &Value) -> Result<Value> {
        let bias = self.bias.as_ref().map(Param::value);
        self.socket.linear(x, &self.weight, bias.as_ref())
    }
}

/// A two-dimensional convolution with bias.
pub(crate) struct Conv2d {
    weight: Param,
    bias: Param,
    geometry: ops::Conv2d,
    socket: Socket,
}

impl Conv2d {
    /// `kernel` × `kernel` with the padding that keeps the size at stride 1.
    pub(crate) fn same(scope: &Scope, inputs: usize, outputs: usize, kernel: usize) -> Self {
        Self::new(scope, inputs, outputs, kernel, 1, [kernel / 2; 4])
    }

    /// Any stride; padding is top, bottom, left, right.
    pub(crate) fn new(
        scope: &Scope,
        inputs: usize,
        outputs: usize,
        kernel: usize,
        stride: usize,
        padding: [usize; 4],
    ) -> Self {
        let shape = [outputs, inputs, kernel, kernel];
        Self {
            weight: scope.param("weight", &shape),
            bias: scope.param("bias", &[outputs]),
            geometry: ops::Conv2d { stride, padding },
            socket: scope.socket(&shape),
        }
    }

    pub(crate) fn forward(&self, x: &Value) -> Result<Value> {
        self.socket.conv2d(x, &self.weight, &self.bias.value(), &self.geometry)
    }
}

/// Normalisation over groups of channels, with the activation that follows it fused in.
pub(crate) struct GroupNorm {
    weight: Param,
    bias: Param,
    groups: usize,
    eps: f64,
}

impl GroupNorm {
    pub(crate) fn new(scope: &Scope, channels: usize, groups: usize, eps: f64) -> Self {
        Self {
            weight: scope.param("weight", &[channels]),
            bias: scope.param("bias", &[channels]),
            groups,
            eps,
        }
    }

    pub(crate) fn forward(&self, x: &Value) -> Result<Value> {
        self.run(x, Activation::None)
    }

    /// Followed by SiLU.
    pub(crate) fn forward_silu(&self, x: &Value) -> Result<Value> {
        self.run(x, Activation::Silu)
    }

    fn run(&self, x: &Value, activation: Activation) -> Result<Value> {
        ops::group_norm(
            x,
            &self.weight.value(),
            &self.bias.value(),
            self.groups,
            self.eps,
            activation,
        )
    }
}

/// Normalisation over the channels of each token.
pub(crate) struct LayerNorm {
    weight: Param,
    bias: Param,
    eps: f64,
}

impl LayerNorm {
    pub(crate) fn new(scope: &Scope, channels: usize, eps: f64) -> Self {
        Self {
            weight: scope.param("weight", &[channels]),
            bias: scope.param("bias", &[channels]),
            eps,
        }
    }

    pub(crate) fn forward(&self, x: &Value) -> Result<Value> {
        ops::layer_norm(x, &self.weight.value(), &self.bias.value(), self.eps)
    }
}

/// A table of vectors.
pub(crate) struct Embedding {
    weight: Param,
}

impl Embedding {
    pub(crate) fn new(scope: &Scope, rows: usize, channels: usize) -> Self {
        Self {
            weight: scope.param("weight", &[rows, channels]),
        }
    }

    /// The rows of `ids`, `[ids.len(), C]`.
    pub(crate) fn forward(&self, ids: &[u32]) -> Result<Value> {
        ops::embedding(&self.weight.value(), ids)
    }
}
