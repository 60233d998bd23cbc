//! What a single file says about itself: the model specification's entries (modelspec 1.0.0), and what its shapes do not.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value as Json};

use super::single::{Plan, prefix};
use crate::checkpoint::config::ComponentConfig;
use crate::checkpoint::convert::Job;
use crate::checkpoint::kinds::{Component, Dialect, SD15_SCALING_FACTOR, SDXL_SCALING_FACTOR};
use crate::checkpoint::quantize::QUANTIZATION;
use crate::checkpoint::scheduler::{Marks, PREDICTION_METADATA, scheduler_config};
use crate::checkpoint::shapes::{Keys, text_config, unet_config, vae_config};
use crate::checkpoint::single::{CONFIG_METADATA, SCHEDULER};
use crate::error::Result;
use crate::model::ModelKind;
use crate::prediction::PredictionKind;
use crate::schedule::Schedule;

const ARCHITECTURE: &str = "modelspec.architecture";
const HASH: &str = "modelspec.hash_sha256";
const IMPLEMENTATION: &str = "modelspec.implementation";
const RESOLUTION: &str = "modelspec.resolution";
const SPECIFICATION: &str = "modelspec.sai_model_spec";
const TITLE: &str = "modelspec.title";

/// The metadata of the file of a plan, whose data have this SHA-256.
pub(super) fn file_metadata(job: &Job, plan: &Plan, sha256: &str) -> Result<BTreeMap<String, String>> {
    let mut metadata = job.source.metadata.clone();
    let mut set = |key: &str, value: String| metadata.insert(key.to_string(), value);
    set("format", "pt".to_string());
    set(SPECIFICATION, "1.0.0".to_string());
    set(TITLE, job.title.clone());
    set(HASH, format!("0x{sha256}"));
    let schedule = Schedule::parse(&job.source.scheduler, "scheduler")?;
    if let Some(kind) = job.source.kind {
        let (architecture, side) = match kind {
            ModelKind::Sd15 => ("stable-diffusion-v1", 512),
            ModelKind::Sdxl => ("stable-diffusion-xl-v1-base", 1024),
        };
        let side = sample_size(job).map_or(side, |size| 8 * size);
        set(ARCHITECTURE, architecture.to_string());
        set(
            IMPLEMENTATION,
            "https://github.com/Stability-AI/generative-models".to_string(),
        );
        set(RESOLUTION, format!("{side}x{side}"));
        match schedule.prediction() {
            PredictionKind::Epsilon => set(PREDICTION_METADATA, "epsilon".to_string()),
            PredictionKind::V => set(PREDICTION_METADATA, "v".to_string()),
            // The specification has no word for the others; potstill's entry below states them.
            PredictionKind::X0 | PredictionKind::Flow => metadata.remove(PREDICTION_METADATA),
        };
    }
    match config_entry(job, plan) {
        config if config.is_empty() => metadata.remove(CONFIG_METADATA),
        config => metadata.insert(CONFIG_METADATA.to_string(), Json::Object(config).to_string()),
    };
    Ok(metadata)
}

fn sample_size(job: &Job) -> Option<usize> {
    job.parts.iter().find_map(|part| match &part.config {
        ComponentConfig::Unet(config) => config.sample_size,
        _ => None,
    })
}

/// The configurations that a reader would not conclude from the file.
fn config_entry(job: &Job, plan: &Plan) -> Map<String, Json> {
    let mut entry = Map::new();
    let kind = job.source.kind;
    let pooled = job.parts.iter().find_map(|part| match &part.config {
        ComponentConfig::Text(config) if part.component == Component::TextEncoder2 => config.projection,
        _ => None,
    });
    for part in &job.parts {
        let prefix = prefix(kind, part.component);
        let shapes: HashMap<&str, &[usize]> = plan
            .specs
            .iter()
            .filter_map(|spec| Some((spec.name.strip_prefix(prefix)?, spec.shape.as_slice())))
            .collect();
        let implied = implied(part.component, &Keys::new(shapes), kind, pooled);
        if !implied.is_some_and(|implied| implied.same_architecture(&part.config)) {
            let mut config = part.json().clone();
            config.remove(QUANTIZATION);
            entry.insert(part.component.name().to_string(), Json::Object(config));
        }
    }
    if let Some(kind) = kind {
        let mut marks = Marks::of_config(&job.source.scheduler);
        // Only SDXL files have a mark for this.
        marks.zero_terminal_snr &= kind == ModelKind::Sdxl && marks.v_prediction;
        // All of it, not only what the schedule is made of: diffusers samples with the class, the spacing and the offset.
        if scheduler_config(kind, marks) != job.source.scheduler {
            entry.insert(SCHEDULER.to_string(), Json::Object(job.source.scheduler.clone()));
        }
    }
    entry
}

/// What a reader would conclude from a component's shapes; none when it would refuse them.
fn implied(
    component: Component,
    keys: &Keys,
    kind: Option<ModelKind>,
    pooled: Option<usize>,
) -> Option<ComponentConfig> {
    let place = "the file to be written";
    let factor = match kind {
        Some(ModelKind::Sdxl) => SDXL_SCALING_FACTOR,
        Some(ModelKind::Sd15) | None => SD15_SCALING_FACTOR,
    };
    match component {
        Component::Unet => unet_config(keys, Dialect::Ldm, pooled, place)
            .ok()
            .map(ComponentConfig::Unet),
        Component::Vae => vae_config(keys, Dialect::Ldm, factor, place)
            .ok()
            .map(ComponentConfig::Vae),
        Component::TextEncoder => text_config(keys, Dialect::Diffusers, component, place)
            .ok()
            .map(ComponentConfig::Text),
        Component::TextEncoder2 => text_config(keys, Dialect::OpenClip, component, place)
            .ok()
            .map(ComponentConfig::Text),
    }
}
