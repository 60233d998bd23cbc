//! Several adapters as one that does what their sum does.

use std::collections::BTreeMap;

use serde_json::json;

use crate::adapter::{Adapter, FACTORS, PROVENANCE};
use crate::error::{AdapterError, Result};
use crate::matrix::Matrix;
use crate::module::{Array, Module, Update};

/// An adapter and its weight in the sum.
pub struct MergeInput {
    /// The adapter.
    pub adapter: Adapter,
    /// What it is called in the provenance.
    pub name: String,
    /// Its weight.
    pub weight: f64,
    /// Weights of layers in place of the general one: (pattern, weight), the last that fits counts. A pattern is the
    /// start of a layer's name with its component (`unet.up_blocks.1`), whole up to a dot.
    pub blocks: Vec<(String, f64)>,
}

impl MergeInput {
    pub(super) fn weight_of(&self, name: &str) -> f64 {
        let special = self.blocks.iter().rev().find(|(pattern, _)| fits(pattern, name));
        special.map_or(self.weight, |(_, weight)| *weight)
    }
}

/// The weighted sum, rounded once, when it is written. Where all of a layer's changes are LoRAs it is a LoRA whose rank is
/// the sum of theirs, with scale 1; else a whole difference.
///
/// # Errors
/// For no input, inputs for different families, a weight pattern that fits no layer, and a DoRA.
pub fn merge(inputs: Vec<MergeInput>) -> Result<Adapter> {
    let Some(first) = inputs.first() else {
        return Err(AdapterError::input("merge", "there is nothing to merge"));
    };
    let mut merged = first.adapter.clone();
    merged.modules = BTreeMap::new();
    merged
        .metadata
        .retain(|key, _| key != FACTORS && key != PROVENANCE && !key.starts_with("ss_"));
    for input in &inputs {
        if input.adapter.kind != merged.kind {
            let reason = format!(
                "is for {}, the first for {}",
                input.adapter.kind.name(),
                merged.kind.name()
            );
            return Err(AdapterError::input(&input.name, reason));
        }
        let fits_none = |pattern: &String| !inputs.iter().any(|input| fits_any(&input.adapter, pattern));
        if let Some((pattern, _)) = input.blocks.iter().find(|(pattern, _)| fits_none(pattern)) {
            let reason = format!("no layer's name starts with {pattern:?}; names begin as in `lora inspect --json`");
            return Err(AdapterError::input(&input.name, reason));
        }
        merged.dtype = if merged.dtype == input.adapter.dtype {
            merged.dtype
        } else {
            potstill_io::Dtype::F32
        };
    }
    let names: std::collections::BTreeSet<&String> = inputs.iter().flat_map(|i| i.adapter.modules.keys()).collect();
    for name in names {
        let parts: Vec<(&Module, f64)> = inputs
            .iter()
            .filter_map(|input| Some((input.adapter.modules.get(name)?, input.weight_of(name))))
            .collect();
        let dora = |input: &&MergeInput| input.adapter.modules.get(name).is_some_and(|m| m.magnitude.is_some());
        if let Some(input) = inputs.iter().find(dora) {
            return Err(AdapterError::input(
                format!("{}, {name}", input.name),
                "a DoRA's change depends on the weight that it is applied to; leave it out, and use it beside the sum",
            ));
        }
        merged.modules.insert(name.clone(), sum(&parts)?);
    }
    let sources: Vec<_> = inputs
        .iter()
        .map(
            |i| json!({ "name": i.name, "weight": i.weight, "blocks": i.blocks, "provenance": i.adapter.provenance() }),
        )
        .collect();
    merged.note("merge", json!({ "inputs": sources }));
    Ok(merged)
}

fn fits_any(adapter: &Adapter, pattern: &str) -> bool {
    adapter.modules.keys().any(|name| fits(pattern, name))
}

/// Whether a name is the pattern, or goes on after it with a dot.
fn fits(pattern: &str, name: &str) -> bool {
    let rest = name.strip_prefix(pattern);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn sum(parts: &[(&Module, f64)]) -> Result<Module> {
    let mut module = parts[0].0.clone();
    module.bias = sum_biases(parts);
    let updates: Vec<_> = parts.iter().filter(|(m, _)| m.update.is_some()).collect();
    if updates.iter().all(|(m, _)| m.kind() == "lora") {
        let mut factors = updates.iter().map(|(m, weight)| m.shared_factors(*weight));
        if let Some(first) = factors.next().transpose()? {
            let (up, down) = factors.try_fold(first, |(up, down), next| {
                let (more_up, more_down) = next?;
                Ok::<_, AdapterError>((up.beside(&more_up), down.above(&more_down)))
            })?;
            module.set_factors(&up, &down);
        }
        return Ok(module);
    }
    let mut total: Option<Matrix> = None;
    for (m, weight) in updates {
        let Some(delta) = m.delta().map(|delta| delta.scaled(*weight)) else {
            continue;
        };
        match &mut total {
            None => total = Some(delta),
            Some(total) => total.values.iter_mut().zip(&delta.values).for_each(|(x, y)| *x += y),
        }
    }
    module.update = total.map(|total| Update::Full(Array::of(&total, &module.site.shape)));
    Ok(module)
}

fn sum_biases(parts: &[(&Module, f64)]) -> Option<Vec<f32>> {
    let mut total: Option<Vec<f64>> = None;
    for (module, weight) in parts {
        let Some(bias) = &module.bias else { continue };
        let total = total.get_or_insert_with(|| vec![0.0; bias.len()]);
        total
            .iter_mut()
            .zip(bias)
            .for_each(|(x, y)| *x += weight * f64::from(*y));
    }
    total.map(|values| values.into_iter().map(|v| v as f32).collect())
}
