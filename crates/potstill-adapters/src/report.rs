//! What an adapter is, as a JSON document.

use std::collections::BTreeMap;

use potstill_models::Component;
use serde_json::{Value as Json, json};

use crate::adapter::Adapter;
use crate::error::Result;
use crate::module::Module;
use crate::norm::norm;

/// Ranks, scales and norms of every layer and block, and what the file says that it was trained on.
///
/// `norm` is the Frobenius norm of the scaled change, of a block the root of the sum of squares. A DoRA's is that of its
/// direction's change, before the magnitude.
///
/// # Errors
/// When the arithmetic fails.
pub fn report(adapter: &Adapter) -> Result<Json> {
    let mut modules = Vec::new();
    let mut blocks: BTreeMap<String, (usize, f64)> = BTreeMap::new();
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, module) in &adapter.modules {
        let norm = norm(module)?;
        let (count, square) = blocks.entry(block(module)).or_default();
        *count += 1;
        *square += norm * norm;
        *kinds.entry(module.kind()).or_default() += 1;
        modules.push(json!({
            "name": name,
            "kind": module.kind(),
            "shape": module.site.shape,
            "rank": module.rank(),
            "alpha": module.rank().map(|_| module.alpha),
            "scale": module.scale(),
            "norm": norm,
            "bias": module.bias.is_some(),
        }));
    }
    let blocks: Vec<Json> = blocks
        .into_iter()
        .map(|(name, (modules, square))| json!({ "name": name, "modules": modules, "norm": square.sqrt() }))
        .collect();
    Ok(json!({
        "kind": adapter.kind.name(),
        "dialect": adapter.dialect.name(),
        "dtype": adapter.dtype.name(),
        "kinds": kinds,
        "blocks": blocks,
        "modules": modules,
        "provenance": adapter.provenance(),
        "metadata": adapter.metadata,
    }))
}

/// The block that a layer counts to: `unet.down_blocks.1`, `unet.mid_block`, `text_encoder.layers.3`.
fn block(module: &Module) -> String {
    let component = module.site.component;
    let path = module.site.path.as_str();
    let (path, parts) = match (component, path.strip_prefix("text_model.encoder.")) {
        (Component::Unet, _) if path.starts_with("down_blocks.") || path.starts_with("up_blocks.") => (path, 2),
        (_, Some(layer)) => (layer, 2),
        _ => (path, 1),
    };
    let short: Vec<&str> = path.split('.').take(parts).collect();
    format!("{}.{}", component.name(), short.join("."))
}
