//! Adapters laid over a model, and the difference to it as one LoRA of few ranks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use potstill_models::{Component, Params};

use super::GoOn;
use super::extract::{COMPONENTS, approximate, load, most_ranks, values_of};
use super::merge::{MergeInput, merge};
use super::resize::{Resize, Resized, resize};
use crate::adapter::Adapter;
use crate::apply::difference;
use crate::error::{AdapterError, Result};
use crate::matrix::Matrix;
use crate::module::Module;

/// What `inputs` together do to their model, as a LoRA of fewer ranks. In exact arithmetic this is what merging them into
/// the model and taking the difference gives, for the model's own weights cancel; where all are LoRAs no rounding of those
/// weights comes in either. Other kinds are taken whole, a DoRA as what it does to the weights of `model`, which only it
/// needs.
///
/// # Errors
/// As [`merge`]; when a DoRA comes without its model; and for an impossible rank or energy.
pub fn back_merge(
    inputs: Vec<MergeInput>,
    model: Option<&Path>,
    how: Resize,
    go_on: GoOn<'_>,
) -> Result<(Adapter, Vec<Resized>)> {
    how.check()?;
    let is_plain = |module: &Module| module.update.is_none() || module.kind() == "lora";
    if inputs.iter().all(|input| input.adapter.modules.values().all(is_plain)) {
        let mut adapter = merge(inputs)?;
        let layers = resize(&mut adapter, how, go_on)?;
        return Ok((adapter, layers));
    }
    let rank = most_ranks(how)?;
    let weights = weights(&inputs, model)?;
    let names: BTreeSet<String> = inputs.iter().flat_map(|i| i.adapter.modules.keys().cloned()).collect();
    let mut layers = Vec::new();
    let mut approximated = BTreeMap::new();
    for name in names {
        go_on()?;
        let mut total: Option<Matrix> = None;
        let mut site = None;
        for input in &inputs {
            let Some(module) = input.adapter.modules.get(&name) else {
                continue;
            };
            site = Some(&module.site);
            let Some(change) = change_of(module, &weights)? else {
                continue;
            };
            let change = change.scaled(input.weight_of(&name));
            match &mut total {
                None => total = Some(change),
                Some(total) => total.values.iter_mut().zip(&change.values).for_each(|(x, y)| *x += y),
            }
        }
        let Some((site, total)) = site.zip(total) else { continue };
        if site.shape.len() < 2 {
            let reason = "changes a norm, which a LoRA has no place for; merge it into its model instead";
            return Err(AdapterError::input(&site.path, reason));
        }
        let (module, lost) = approximate(site, &total, rank, how)?;
        approximated.insert(name, module);
        layers.push(lost);
    }
    // The sum of the biases, the metadata and the provenance are those of a merge of what is left.
    let mut adapter = merge(without_updates(inputs))?;
    for (name, module) in approximated {
        let bias = adapter.modules.get(&name).and_then(|m| m.bias.clone());
        adapter.modules.insert(name, Module { bias, ..module });
    }
    adapter
        .modules
        .retain(|_, module| module.update.is_some() || module.bias.is_some());
    adapter.note("resize", serde_json::json!({ "rank": how.rank, "energy": how.energy }));
    Ok((adapter, layers))
}

type Weights = BTreeMap<&'static str, Params>;

/// The weights that DoRAs sit on.
fn weights(inputs: &[MergeInput], model: Option<&Path>) -> Result<Weights> {
    let doras = |component: Component| {
        let all = inputs.iter().flat_map(|input| input.adapter.modules.values());
        all.filter(move |m| m.magnitude.is_some() && m.site.component == component)
    };
    let mut weights = Weights::new();
    for component in COMPONENTS {
        let Some(module) = doras(component).next() else {
            continue;
        };
        let Some(model) = model else {
            let reason = "a DoRA's change depends on the weight that it is applied to; name the model with --model";
            return Err(AdapterError::input(&module.site.path, reason));
        };
        weights.insert(component.name(), load(model, component)?);
    }
    Ok(weights)
}

fn change_of(module: &Module, weights: &Weights) -> Result<Option<Matrix>> {
    let weight = match (&module.magnitude, weights.get(module.site.component.name())) {
        (Some(_), Some(params)) => values_of(params, &format!("{}.weight", module.site.path))?.1,
        _ => Vec::new(),
    };
    difference(module, &weight)
}

fn without_updates(mut inputs: Vec<MergeInput>) -> Vec<MergeInput> {
    for module in inputs.iter_mut().flat_map(|input| input.adapter.modules.values_mut()) {
        (module.update, module.magnitude) = (None, None);
    }
    inputs
}
