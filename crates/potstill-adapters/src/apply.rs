//! Laying an adapter into a model's weights: all kinds of adapters, at no cost when the model runs.

use potstill_engine::{Device, Tensor};
use potstill_models::{Component, Params, to_file_layout, to_memory_layout};

use crate::adapter::Adapter;
use crate::error::{AdapterError, Result};
use crate::matrix::Matrix;
use crate::module::Module;
use crate::product::times_transposed;

/// Adds to a component's weights what an adapter does to it, `weight` times: computed in f64 and rounded once. Returns how
/// many layers were changed.
///
/// A DoRA replaces W by m·(W + Δ)/‖W + Δ‖ (norms of rows); with another weight than 1 the difference of the two counts.
///
/// # Errors
/// When the weights are of another family than the adapter; then some may have been changed already.
pub fn apply(params: &Params, adapter: &Adapter, component: Component, weight: f64) -> Result<usize> {
    let modules = adapter.modules.values().filter(|m| m.site.component == component);
    let mut count = 0;
    for module in modules {
        let path = &module.site.path;
        let param = |part: &str| {
            let found = params.get(&format!("{path}.{part}"));
            found.ok_or_else(|| AdapterError::input(path, format!("the model has no {part} there")))
        };
        if let Some(delta) = delta_of(module)? {
            let param = param("weight")?;
            let old = to_file_layout(&param.tensor())?;
            let shape = old.dims().to_vec();
            let old: Vec<f32> = old.flatten_all()?.to_vec1()?;
            if old.len() != delta.values.len() {
                let reason = format!("the change has {} values, the weight {}", delta.values.len(), old.len());
                return Err(AdapterError::input(path, reason));
            }
            let new = changed(&old, delta, module.magnitude.as_deref(), weight);
            let new = Tensor::from_vec(new, shape, &Device::Cpu)?;
            param.assign(&to_memory_layout(&new)?)?;
        }
        if let Some(change) = &module.bias {
            let param = param("bias")?;
            let old: Vec<f32> = param.tensor().to_vec1()?;
            let new = old
                .iter()
                .zip(change)
                .map(|(&b, &d)| (f64::from(b) + weight * f64::from(d)) as f32);
            param.assign(&Tensor::from_vec(new.collect::<Vec<_>>(), old.len(), &Device::Cpu)?)?;
        }
        count += 1;
    }
    Ok(count)
}

/// [`Module::delta`], with the engine's product where it is a LoRA's: the layers of a model are many and large.
fn delta_of(module: &Module) -> Result<Option<Matrix>> {
    let plain = Module {
        magnitude: None,
        ..module.clone()
    };
    if plain.kind() != "lora" {
        return Ok(plain.delta());
    }
    let (up, down) = plain.factors()?;
    times_transposed(&up, &down.transposed()).map(Some)
}

fn changed(old: &[f32], delta: Matrix, magnitude: Option<&[f32]>, weight: f64) -> Vec<f32> {
    let columns = delta.columns;
    let mut change = delta;
    for (i, &magnitude) in magnitude.into_iter().flatten().enumerate() {
        let before = old[i * columns..(i + 1) * columns].iter().map(|&w| f64::from(w));
        let row = &mut change.values[i * columns..(i + 1) * columns];
        let moved: Vec<f64> = before.clone().zip(&*row).map(|(w, d)| w + d).collect();
        let norm = moved.iter().map(|v| v * v).sum::<f64>().sqrt();
        let factor = f64::from(magnitude) / norm;
        row.iter_mut()
            .zip(before.zip(moved))
            .for_each(|(d, (w, v))| *d = v * factor - w);
    }
    let sum = |(&w, &d): (&f32, &f64)| (f64::from(w) + weight * d) as f32;
    old.iter().zip(&change.values).map(sum).collect()
}
