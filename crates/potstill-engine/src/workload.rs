//! Operations of a diffusion model on fixed sizes and inputs, so that machines, instruction sets and WASM can be compared:
//! what they compute, and how long it takes them.

use candle_core::{Device, Tensor};

use crate::error::{EngineError, Result};
use crate::ops::{self, Activation, Attention, Conv2d};
use crate::value::{Value, no_grad};

/// One operation with its inputs.
pub struct Workload {
    flops: f64,
    inputs: Vec<Value>,
    run: fn(&[Value]) -> Result<Value>,
}

/// Sizes of the inputs, floating-point operations of the matrix products, and the operation itself.
type Recipe = (
    &'static str,
    &'static [&'static [usize]],
    f64,
    fn(&[Value]) -> Result<Value>,
);

/// Heads of the attention, and the width of one: those of SD1.5's first level.
const HEADS: usize = 8;
const HEAD_WIDTH: usize = 40;
const GROUPS: usize = 32;
const EPS: f64 = 1e-5;

fn conv3x3(inputs: &[Value]) -> Result<Value> {
    let geometry = Conv2d {
        stride: 1,
        padding: [1; 4],
    };
    ops::conv2d(&inputs[0], &inputs[1], Some(&inputs[2]), &geometry)
}

fn linear(inputs: &[Value]) -> Result<Value> {
    ops::linear(&inputs[0], &inputs[1], None)
}

fn attention(inputs: &[Value]) -> Result<Value> {
    let options = Attention {
        heads: HEADS,
        scale: (HEAD_WIDTH as f64).powf(-0.5),
        causal: false,
        bf16: false,
    };
    ops::attention(&inputs[0], &inputs[1], &inputs[2], &options)
}

const RECIPES: [Recipe; 8] = [
    ("gemm-512", &[&[512, 512], &[512, 512]], 2. * 512. * 512. * 512., linear),
    (
        "gemm-1024",
        &[&[1024, 1024], &[1024, 1024]],
        2. * 1024. * 1024. * 1024.,
        linear,
    ),
    (
        "conv3x3-64",
        &[&[1, 64, 64, 320], &[320, 3, 3, 320], &[320]],
        2. * 64. * 64. * 320. * 320. * 9.,
        conv3x3,
    ),
    (
        "conv3x3-16",
        &[&[1, 16, 16, 320], &[320, 3, 3, 320], &[320]],
        2. * 16. * 16. * 320. * 320. * 9.,
        conv3x3,
    ),
    (
        "attention-1024",
        &[&[1, 1024, 320], &[1, 1024, 320], &[1, 1024, 320]],
        4. * 8. * 1024. * 1024. * 40.,
        attention,
    ),
    ("group-norm-silu", &[&[1, 64, 64, 320], &[320], &[320]], 0., |v| {
        ops::group_norm(&v[0], &v[1], &v[2], GROUPS, EPS, Activation::Silu)
    }),
    ("exp", &[&[1, 64, 64, 320]], 0., |v| ops::exp(&v[0])),
    ("gelu", &[&[1, 64, 64, 320]], 0., |v| ops::gelu(&v[0])),
];

impl Workload {
    /// The names of all.
    pub fn names() -> Vec<&'static str> {
        RECIPES.iter().map(|(name, ..)| *name).collect()
    }

    /// The one of a name, with its inputs made.
    ///
    /// # Errors
    /// [`EngineError::Shape`] for another name.
    pub fn of(name: &str) -> Result<Self> {
        let Some((_, shapes, flops, run)) = RECIPES.iter().find(|(own, ..)| *own == name) else {
            let detail = format!("there is no {name:?}; there are {}", Self::names().join(", "));
            return Err(EngineError::shape("workload", detail));
        };
        let inputs = shapes.iter().zip(1..).map(|(dims, seed)| uniform(dims, seed));
        Ok(Self {
            flops: *flops,
            inputs: inputs.collect::<Result<_>>()?,
            run: *run,
        })
    }

    /// Floating-point operations of its matrix products; 0 where there are none.
    pub fn flops(&self) -> f64 {
        self.flops
    }

    /// Computes it.
    pub fn run(&self) -> Result<Tensor> {
        Ok(no_grad(|| (self.run)(&self.inputs))?.tensor().clone())
    }
}

/// Multiples of 2⁻²³ between −1 and 1, the same everywhere.
fn uniform(dims: &[usize], seed: u32) -> Result<Value> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / (1u32 << 23) as f32 - 1.
    };
    let values: Vec<f32> = std::iter::repeat_with(next).take(dims.iter().product()).collect();
    Ok(Value::constant(Tensor::from_vec(values, dims, &Device::Cpu)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_computes_something_of_its_own() {
        for name in Workload::names() {
            let values = Workload::of(name).unwrap().run().unwrap();
            let values = values.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(values.iter().all(|v| v.is_finite()), "{name}");
            assert!(values.iter().any(|v| *v != values[0]), "{name}");
        }
        assert!(Workload::of("gemm-3").is_err_and(|e| e.to_string().contains("gemm-512")));
    }
}
