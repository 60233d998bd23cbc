//! What a written file says about itself.

use std::collections::BTreeMap;

use potstill_models::{Component, ModelKind};
use serde_json::{Map, Value as Json};

use super::Dialect;
use super::peft::{LayerScale, config_of};
use super::write::WriteOptions;
use crate::adapter::Adapter;

/// Where diffusers keeps peft's configuration, each key with its component before it.
pub(super) const PEFT_METADATA: &str = "lora_adapter_metadata";

/// Digests of tensors that are no longer the ones that were hashed, and what only another dialect means.
const STALE: [&str; 5] = [
    "modelspec.hash_sha256",
    "sshs_model_hash",
    "sshs_legacy_hash",
    "ss_network_args",
    PEFT_METADATA,
];

/// The metadata of a file: the adapter's own, with what tools show brought up to date.
pub(super) fn file_metadata(adapter: &Adapter, options: &WriteOptions) -> BTreeMap<String, String> {
    let mut metadata = adapter.metadata.clone();
    STALE.iter().for_each(|key| drop(metadata.remove(*key)));
    let (architecture, base) = match adapter.kind {
        ModelKind::Sd15 => ("stable-diffusion-v1/lora", "sd_v1"),
        ModelKind::Sdxl => ("stable-diffusion-xl-v1-base/lora", "sdxl_base_v1-0"),
    };
    let mut set = |key: &str, value: &str| drop(metadata.insert(key.to_string(), value.to_string()));
    set("format", "pt");
    set("modelspec.sai_model_spec", "1.0.0");
    set("modelspec.architecture", architecture);
    set(
        "modelspec.implementation",
        "https://github.com/Stability-AI/generative-models",
    );
    set("ss_base_model_version", base);
    set("ss_v2", "False");
    set("ss_network_module", network_module(adapter));
    set(
        "ss_network_dim",
        &shared(adapter.modules.values().filter_map(|m| Some(m.rank()?.to_string()))),
    );
    let alphas = adapter.modules.values().filter(|m| m.rank().is_some());
    set("ss_network_alpha", &shared(alphas.map(|m| m.alpha.to_string())));
    if let Some(title) = &options.title {
        set("modelspec.title", title);
    }
    if let Some(prediction) = options.prediction {
        set("modelspec.prediction_type", prediction.name());
    }
    if options.dialect == Dialect::Diffusers {
        set(PEFT_METADATA, &Json::Object(peft_metadata(adapter)).to_string());
    }
    metadata
}

fn network_module(adapter: &Adapter) -> &'static str {
    match adapter.modules.values().all(|module| module.kind() == "lora") {
        true => "networks.lora",
        false => "lycoris.kohya",
    }
}

/// The value when all have the same, else the word that tools show for mixtures.
fn shared(mut values: impl Iterator<Item = String>) -> String {
    match values.next() {
        None => "None".to_string(),
        Some(first) if values.all(|other| other == first) => first,
        Some(_) => "Dynamic".to_string(),
    }
}

/// peft's configuration of every component.
fn peft_metadata(adapter: &Adapter) -> Map<String, Json> {
    let mut all = Map::new();
    for component in [Component::Unet, Component::TextEncoder, Component::TextEncoder2] {
        for (key, value) in component_config(adapter, component).into_iter().flatten() {
            all.insert(format!("{}.{key}", component.name()), value);
        }
    }
    all
}

/// The metadata that states the scales of networks' factors in a file of bare paths, as diffusers states them.
pub(crate) fn stated_scales(networks: &[(Component, Vec<LayerScale>)]) -> BTreeMap<String, String> {
    let config = networks.iter().flat_map(|(component, layers)| {
        let config = config_of(layers).into_iter();
        config.map(|(key, value)| (format!("{}.{key}", component.name()), value))
    });
    let text = Json::Object(config.collect()).to_string();
    BTreeMap::from([(PEFT_METADATA.to_string(), text)])
}

/// peft's configuration of one component; none when the adapter does nothing to it.
pub(super) fn component_config(adapter: &Adapter, component: Component) -> Option<Map<String, Json>> {
    let modules: Vec<_> = adapter
        .modules
        .values()
        .filter(|m| m.site.component == component)
        .filter_map(|m| {
            Some(LayerScale {
                path: &m.site.path,
                rank: m.rank()?,
                alpha: m.alpha,
                dora: m.magnitude.is_some(),
            })
        })
        .collect();
    (!modules.is_empty()).then(|| config_of(&modules))
}
