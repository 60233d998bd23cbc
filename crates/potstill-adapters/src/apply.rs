//! Laying an adapter into a model's weights: all kinds of adapters, at no cost when the model runs.

use potstill_engine::{DType, Tensor};
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
/// When the weights are of another family than the adapter, or quantized; then some may have been changed already.
pub fn apply(params: &Params, adapter: &Adapter, component: Component, weight: f64) -> Result<usize> {
    let modules = adapter.modules.values().filter(|m| m.site.component == component);
    let mut count = 0;
    for module in modules {
        for part in [Part::Weight, Part::Bias] {
            if !part.is_changed_by(module) {
                continue;
            }
            let path = &module.site.path;
            let Some(param) = params.get(&format!("{path}.{}", part.name())) else {
                let reason = format!("the model has no {} there", part.name());
                return Err(AdapterError::input(path, reason));
            };
            if param.is_stored() {
                let reason = "the model's weights are quantized and cannot be changed: lay the adapter into the checkpoint \
                    that they were made from (`model convert --lora`) and quantize that";
                return Err(AdapterError::input(path, reason));
            }
            let tensor = to_file_layout(&param.tensor())?.to_dtype(DType::F32)?;
            let shape = tensor.dims().to_vec();
            let mut values = tensor.flatten_all()?.to_vec1()?;
            change(module, part, weight, &mut values)?;
            let changed = Tensor::from_vec(values, shape, param.tensor().device())?;
            param.assign(&to_memory_layout(&changed)?)?;
        }
        count += 1;
    }
    Ok(count)
}

/// Which of a layer's parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Weight,
    Bias,
}

impl Part {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Weight => "weight",
            Self::Bias => "bias",
        }
    }

    pub(crate) fn is_changed_by(self, module: &Module) -> bool {
        match self {
            Self::Weight => module.update.is_some(),
            Self::Bias => module.bias.is_some(),
        }
    }
}

/// Adds to a parameter's values, in diffusers' order, what a module does to them.
pub(crate) fn change(module: &Module, part: Part, weight: f64, values: &mut [f32]) -> Result<()> {
    let change = match part {
        Part::Weight => difference(module, values)?.map(|change| change.values),
        Part::Bias => module
            .bias
            .as_ref()
            .map(|bias| bias.iter().map(|&b| f64::from(b)).collect()),
    };
    let Some(change) = change else { return Ok(()) };
    if change.len() != values.len() {
        let reason = format!(
            "the change has {} values, the {} {}",
            change.len(),
            part.name(),
            values.len()
        );
        return Err(AdapterError::input(&module.site.path, reason));
    }
    let add = |(v, d): (&mut f32, &f64)| *v = (f64::from(*v) + weight * d) as f32;
    values.iter_mut().zip(&change).for_each(add);
    Ok(())
}

/// What a module adds to a weight of these values, in full strength; a DoRA's depends on them.
pub(crate) fn difference(module: &Module, weight: &[f32]) -> Result<Option<Matrix>> {
    let Some(mut change) = delta_of(module)? else {
        return Ok(None);
    };
    let columns = change.columns;
    for (i, &magnitude) in module.magnitude.iter().flatten().enumerate() {
        let Some(before) = weight.get(i * columns..(i + 1) * columns) else {
            return Err(AdapterError::input(&module.site.path, "the weight has another shape"));
        };
        let row = &mut change.values[i * columns..(i + 1) * columns];
        let moved = || before.iter().zip(&*row).map(|(&w, d)| f64::from(w) + d);
        let factor = f64::from(magnitude) / moved().map(|v| v * v).sum::<f64>().sqrt();
        let new: Vec<f64> = moved().zip(before).map(|(v, &w)| v * factor - f64::from(w)).collect();
        row.copy_from_slice(&new);
    }
    Ok(Some(change))
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
