//! Noise from seeds.

use std::str::FromStr;

use napi::bindgen_prelude::BigUint64Array;
use napi_derive::napi;
use potstill_engine::{Tensor, Value};
use potstill_noise::Generator;

use crate::core::{Engine, OpError, Result};

/// Most values of one noise tensor: 8 GiB of f32, more than any batch of latents.
const MAX_VALUES: usize = 1 << 31;

#[napi]
impl Engine {
    /// Standard normal noise: one row of `shape` for each seed, `[seeds, …shape]`.
    #[napi(catch_unwind)]
    pub fn noise(&self, out: f64, generator: String, seeds: BigUint64Array, shape: Vec<u32>) {
        let seeds = seeds.to_vec();
        self.submit(out, "noise", move |state| {
            let generator =
                Generator::from_str(&generator).map_err(|error| OpError::input("ERR_NOISE_GENERATOR", error))?;
            let mut dims = vec![seeds.len()];
            dims.extend(shape.iter().map(|&size| size as usize));
            let mut values = zeros(&dims)?;
            let row = values.len() / seeds.len().max(1);
            for (seed, row) in seeds.iter().zip(values.chunks_mut(row.max(1))) {
                generator.fill_noise(*seed, row);
            }
            Ok(Value::constant(Tensor::from_vec(values, dims, state.device()?)?))
        });
    }
}

fn zeros(dims: &[usize]) -> Result<Vec<f32>> {
    let count = dims
        .iter()
        .try_fold(1usize, |product, &size| product.checked_mul(size))
        .filter(|&n| n <= MAX_VALUES);
    let Some(count) = count else {
        return Err(OpError::input(
            "ERR_TENSOR_SHAPE",
            format!("shape {dims:?} has more than {MAX_VALUES} values"),
        ));
    };
    let mut values = Vec::new();
    values
        .try_reserve_exact(count)
        .map_err(|_| OpError::machine("ERR_MEMORY", format!("no memory for a tensor of shape {dims:?}")))?;
    values.resize(count, 0.);
    Ok(values)
}
