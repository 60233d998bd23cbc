//! Operations against PyTorch's recorded outputs and gradients (`test/fixtures/make_ops.py`).

use std::collections::HashMap;

use potstill_engine::ops::{self, Activation, Attention, Conv2d};
use potstill_engine::{DType, Result as EngineResult, Tensor, Value, backward};

use super::{Size, caught};
use crate::compare::{Tolerance, compare};
use crate::embedded::{OPS, tensors};
use crate::place::Place;
use crate::report::Check;
use crate::{Error, Result};

const GROUP: &str = "torch";
/// The inputs are f32 values: in f64 only the order of sums differs.
const F64: f64 = 1e-10;
const F32: f64 = 1e-4;
const FLOOR: f64 = 1e-2;

type Run = fn(&[Value]) -> EngineResult<Value>;

/// A fixture's name, its inputs and the operation, in torch's layout.
const CASES: [(&str, &[&str], Run); 21] = [
    ("conv3x3", &["x", "w", "b"], |v| conv(v, 1, [1; 4])),
    ("conv3x3_stride2", &["x", "w", "b"], |v| conv(v, 2, [1; 4])),
    ("conv3x3_asymmetric", &["x", "w", "b"], |v| conv(v, 2, [0, 1, 0, 1])),
    ("conv1x1", &["x", "w", "b"], |v| conv(v, 1, [0; 4])),
    ("conv3x3_wide", &["x", "w", "b"], |v| conv(v, 1, [1; 4])),
    ("linear", &["x", "w", "b"], |v| ops::linear(&v[0], &v[1], Some(&v[2]))),
    ("linear_no_bias", &["x", "w"], |v| ops::linear(&v[0], &v[1], None)),
    ("group_norm", &["x", "w", "b"], |v| {
        group_norm(v, 1e-5, Activation::None)
    }),
    ("group_norm_silu", &["x", "w", "b"], |v| {
        group_norm(v, 1e-6, Activation::Silu)
    }),
    ("layer_norm", &["x", "w", "b"], |v| {
        ops::layer_norm(&v[0], &v[1], &v[2], 1e-5)
    }),
    ("attention_self", &["q", "k", "v"], |v| attention(v, 3, false)),
    ("attention_cross", &["q", "k", "v"], |v| attention(v, 2, false)),
    ("attention_causal", &["q", "k", "v"], |v| attention(v, 2, true)),
    ("attention_long", &["q", "k", "v"], |v| attention(v, 1, false)),
    ("geglu", &["x"], |v| ops::geglu(&v[0])),
    ("silu", &["x"], |v| ops::silu(&v[0])),
    ("gelu", &["x"], |v| ops::gelu(&v[0])),
    ("quick_gelu", &["x"], |v| ops::quick_gelu(&v[0])),
    ("upsample", &["x"], |v| upsample(v, (8, 10))),
    ("upsample_to_size", &["x"], |v| upsample(v, (7, 9))),
    ("softplus_chain", &["x", "y"], |v| {
        let chain = ops::affine(&ops::exp(&ops::mul(&v[0], &v[1])?)?, 1., 1.)?;
        let mean = ops::mean(&ops::sqrt(&ops::log(&chain)?)?, &[1], true)?;
        ops::div(&mean, &ops::affine(&ops::square(&v[1])?, 1., 1.)?)
    }),
];

fn conv(v: &[Value], stride: usize, padding: [usize; 4]) -> EngineResult<Value> {
    // Weights [O, I, kh, kw] go to [O, kh, kw, I] as images do.
    let (x, w) = (ops::nchw_to_nhwc(&v[0])?, ops::nchw_to_nhwc(&v[1])?);
    ops::nhwc_to_nchw(&ops::conv2d(&x, &w, Some(&v[2]), &Conv2d { stride, padding })?)
}

fn group_norm(v: &[Value], eps: f64, activation: Activation) -> EngineResult<Value> {
    let y = ops::group_norm(&ops::nchw_to_nhwc(&v[0])?, &v[1], &v[2], 4, eps, activation)?;
    ops::nhwc_to_nchw(&y)
}

fn attention(v: &[Value], heads: usize, causal: bool) -> EngineResult<Value> {
    let width = v[0].dims()[2] / heads;
    let options = Attention {
        heads,
        scale: 1. / (width as f64).sqrt(),
        causal,
        bf16: false,
    };
    ops::attention(&v[0], &v[1], &v[2], &options)
}

fn upsample(v: &[Value], size: (usize, usize)) -> EngineResult<Value> {
    ops::nhwc_to_nchw(&ops::upsample_nearest(&ops::nchw_to_nhwc(&v[0])?, size)?)
}

/// Every recorded operation, in f64 and f32.
pub(super) fn check(place: &Place, _size: Size) -> Result<Vec<Check>> {
    let recorded = tensors(OPS)?;
    // What PyTorch recorded in f64 is exact enough for the CPU's f64 as well.
    let dtypes = [DType::F64, DType::F32];
    let checks = CASES.iter().flat_map(|(name, inputs, run)| {
        let recorded = &recorded;
        dtypes.iter().map(move |&dtype| {
            let relative = if dtype == DType::F64 { F64 } else { F32 };
            let error = caught(|| error_of(place, dtype, recorded, (name, inputs, *run), relative));
            Check::of(GROUP, (*name).to_owned(), dtype.as_str(), relative, error)
        })
    });
    Ok(checks.collect())
}

fn error_of(
    place: &Place,
    dtype: DType,
    recorded: &HashMap<String, Tensor>,
    (name, inputs, run): (&str, &[&str], Run),
    relative: f64,
) -> Result<f64> {
    let find = |key: &str| {
        let found = recorded.get(&format!("{name}.{key}"));
        found.ok_or_else(|| Error::Input(format!("there is no {name}.{key}")))
    };
    let there = |key: &str| -> Result<Tensor> { Ok(find(key)?.to_dtype(dtype)?.to_device(place.device())?) };
    let leaves: Vec<Value> = inputs
        .iter()
        .map(|key| Ok(Value::leaf(there(key)?)))
        .collect::<Result<_>>()?;
    let seed = there("grad_out")?;
    let (output, gradients) = place.run(|| -> Result<_> {
        let y = run(&leaves)?;
        Ok((y.tensor().clone(), backward(&[(y, seed)])?))
    })?;
    let tolerance = Tolerance { relative, floor: FLOOR };
    let mut worst = compare(&output, find("out")?, tolerance)?;
    for (key, leaf) in inputs.iter().zip(&leaves) {
        let gradient = gradients
            .get(leaf)
            .ok_or_else(|| Error::Input(format!("{key} has no gradient")))?;
        worst = worst.max(compare(gradient, find(&format!("grad.{key}"))?, tolerance)?);
    }
    Ok(worst)
}
