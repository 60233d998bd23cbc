//! A LoRA from two checkpoints: the best product of few ranks for what one has over the other.

use std::collections::BTreeMap;
use std::path::Path;

use potstill_engine::Device;
use potstill_io::Dtype;
use potstill_models::{Checkpoint, Component, Params, Site, TextEncoder, Unet, to_file_layout};
use serde_json::json;

use super::GoOn;
use super::resize::{Resize, Resized, energy, keep};
use crate::adapter::Adapter;
use crate::dialects::Dialect;
use crate::error::{AdapterError, Result};
use crate::family::{Family, dotted};
use crate::low_rank::truncated_svd;
use crate::matrix::Matrix;
use crate::module::Module;

/// What was found between two checkpoints.
pub struct Extracted {
    /// The LoRA that leads from the first to the second.
    pub adapter: Adapter,
    /// What every layer lost.
    pub layers: Vec<Resized>,
    /// Names of what differs and has no place in a LoRA: norms, biases, embeddings.
    pub left_out: Vec<String>,
}

/// The components whose layers adapters can sit on.
pub(super) const COMPONENTS: [Component; 3] = [Component::Unet, Component::TextEncoder, Component::TextEncoder2];

/// The LoRA that, laid over `base`, comes nearest to `tuned`, layer by layer: at most `how.rank` ranks, which must be given,
/// as few of them as keep `how.energy`. Layers that are equal get none.
///
/// # Errors
/// When a checkpoint cannot be read, when they are of different families or widths, when no layer differs, and for an
/// impossible rank or energy.
pub fn extract(base: &Path, tuned: &Path, how: Resize, go_on: GoOn<'_>) -> Result<Extracted> {
    let rank = most_ranks(how)?;
    let family = Family::of_model(base)?;
    let has = |path: &Path| Ok::<_, AdapterError>(Checkpoint::open(path)?.components().collect::<Vec<_>>());
    let (first, second) = (has(base)?, has(tuned)?);
    let mut adapter = empty(&family);
    let (mut layers, mut left_out) = (Vec::new(), Vec::new());
    for component in COMPONENTS {
        if !first.contains(&component) || !second.contains(&component) {
            continue;
        }
        let (old, new) = (load(base, component)?, load(tuned, component)?);
        if old.shapes() != new.shapes() {
            let reason = format!("its {component} has other layers than that of {}", base.display());
            return Err(AdapterError::file(tuned, reason));
        }
        for (name, _) in old.shapes() {
            go_on()?;
            let Some(change) = between(&old, &new, &name)? else {
                continue;
            };
            let site = name
                .strip_suffix(".weight")
                .and_then(|path| family.site_at(component, path));
            let Some(site) = site.filter(|site| site.shape.len() > 1) else {
                left_out.push(dotted(component, &name));
                continue;
            };
            let (module, lost) = approximate(site, &change, rank, how)?;
            adapter.insert(module);
            layers.push(lost);
        }
    }
    if layers.is_empty() {
        let reason = format!("has the same linear layers and convolutions as {}", base.display());
        return Err(AdapterError::file(tuned, reason));
    }
    adapter.note(
        "extract",
        json!({ "rank": how.rank, "energy": how.energy, "leftOut": left_out.len() }),
    );
    Ok(Extracted {
        adapter,
        layers,
        left_out,
    })
}

/// The rank that an approximation of a whole matrix needs.
pub(super) fn most_ranks(how: Resize) -> Result<usize> {
    how.check()?;
    let rank = how.rank;
    rank.ok_or_else(|| AdapterError::input("rank", "give the most ranks of a layer, at least 1"))
}

/// An adapter that does nothing yet.
fn empty(family: &Family) -> Adapter {
    Adapter {
        kind: family.kind,
        dialect: Dialect::Kohya,
        modules: BTreeMap::new(),
        metadata: BTreeMap::new(),
        dtype: Dtype::F32,
    }
}

/// A component's weights.
pub(super) fn load(model: &Path, component: Component) -> Result<Params> {
    let place = model.join(component.name());
    Ok(match component {
        Component::Unet => Unet::load(&place, &Device::Cpu)?.params().clone(),
        _ => TextEncoder::load(&place, component, &Device::Cpu)?.params().clone(),
    })
}

/// A parameter's values in diffusers' order, and its first dimension.
pub(super) fn values_of(params: &Params, name: &str) -> Result<(usize, Vec<f32>)> {
    let Some(param) = params.get(name) else {
        return Err(AdapterError::input(name, "is no parameter of the model"));
    };
    let tensor = to_file_layout(&param.tensor())?;
    let rows = tensor.dims().first().copied().unwrap_or(1);
    Ok((rows, tensor.flatten_all()?.to_vec1()?))
}

/// What a parameter has in one model over another, as `[out, in·height·width]`; none where they are equal.
fn between(old: &Params, new: &Params, name: &str) -> Result<Option<Matrix>> {
    let ((rows, old), (_, new)) = (values_of(old, name)?, values_of(new, name)?);
    if old == new {
        return Ok(None);
    }
    let change = old.iter().zip(&new).map(|(&o, &n)| f64::from(n) - f64::from(o));
    Ok(Some(Matrix {
        rows,
        columns: old.len() / rows.max(1),
        values: change.collect(),
    }))
}

/// The best LoRA of at most `rank` ranks for a layer's change, and what it loses.
pub(super) fn approximate(site: &Site, change: &Matrix, rank: usize, how: Resize) -> Result<(Module, Resized)> {
    let mut module = Module {
        site: site.clone(),
        update: None,
        alpha: 1.0,
        magnitude: None,
        bias: None,
    };
    let found = truncated_svd(change, rank)?;
    let beyond = (change.norm().powi(2) - energy(&found.s)).max(0.0);
    let mut lost = keep(&dotted(site.component, &site.path), &mut module, found, beyond, how);
    lost.from = change.rows.min(change.columns);
    Ok((module, lost))
}
