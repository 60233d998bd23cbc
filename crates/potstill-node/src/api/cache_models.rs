//! What a cache's plan must know of a model's components: files to digest, and facts from their configurations.

use std::path::{Path, PathBuf};

use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use potstill_models::{Component, ComponentConfig, Model, ModelKind, SEQUENCE_LENGTH, Vae};

use crate::core::{OpError, Result, run_job};

/// Files of one component.
#[napi(object)]
pub struct ComponentFiles {
    /// The configuration as JSON: that of `config.json`, or what a single file's keys and shapes imply.
    pub config: String,
    /// What the loader reads: one file, or the shards that an index names, sorted.
    pub weights: Vec<String>,
}

/// A UNet with its noise schedule.
#[napi(object)]
pub struct UnetOnDisk {
    /// Files to digest.
    pub files: ComponentFiles,
    /// `sd15` or `sdxl`.
    #[napi(ts_type = "'sd15' | 'sdxl'")]
    pub kind: String,
    /// What it predicts.
    #[napi(ts_type = "'epsilon' | 'v' | 'x0' | 'flow'")]
    pub prediction: String,
    /// Length of the schedule.
    pub timesteps: u32,
    /// ᾱ of every timestep as little-endian f32, in hex.
    pub alphas_cumprod: String,
    /// Side of the latents that the model was made for, if its configuration says so.
    pub sample_size: Option<u32>,
}

/// A VAE.
#[napi(object)]
pub struct VaeOnDisk {
    /// Files to digest.
    pub files: ComponentFiles,
    /// Latents are the VAE's output times this.
    pub scaling_factor: f64,
    /// Channels of the latents.
    pub channels: u32,
    /// Pixels per latent, along each side.
    pub downscale: u32,
}

/// A text encoder with its tokenizer.
#[napi(object)]
pub struct EncoderOnDisk {
    /// Files to digest.
    pub files: ComponentFiles,
    /// Files to digest.
    pub tokenizer: Vec<String>,
}

/// Everything that encodes prompts for a model.
#[napi(object)]
pub struct TextOnDisk {
    /// One for SD1.5, two for SDXL.
    pub encoders: Vec<EncoderOnDisk>,
    /// Tokens of an encoded prompt.
    pub tokens: u32,
    /// Width of an encoded prompt.
    pub width: u32,
    /// Width of SDXL's pooled text.
    pub pooled: Option<u32>,
}

/// The UNet of a model.
#[napi(ts_return_type = "Promise<Outcome<UnetOnDisk>>", catch_unwind)]
pub fn inspect_unet(env: &Env, folder: String) -> napi::Result<Object<'_>> {
    run_job(env, "model", move || {
        let model = Model::open(Path::new(&folder))?;
        let schedule = model.schedule();
        let hex = schedule
            .alphas_cumprod()
            .iter()
            .flat_map(|a| a.to_le_bytes())
            .map(|byte| format!("{byte:02x}"));
        Ok(UnetOnDisk {
            files: files(&model, Component::Unet)?.1,
            kind: model.kind().name().to_owned(),
            prediction: schedule.prediction().name().to_owned(),
            timesteps: narrow(schedule.len())?,
            alphas_cumprod: hex.collect(),
            sample_size: model.unet_config().sample_size.map(narrow).transpose()?,
        })
    })
}

/// A VAE: `MODEL/vae`, a VAE's own folder, or a file that holds one. `kind` is the family of the model that it is for, which
/// decides the scaling factor of a file that holds a VAE alone.
#[napi(ts_return_type = "Promise<Outcome<VaeOnDisk>>", catch_unwind)]
pub fn inspect_vae(
    env: &Env,
    path: String,
    #[napi(ts_arg_type = "'sd15' | 'sdxl' | undefined")] kind: Option<String>,
) -> napi::Result<Object<'_>> {
    run_job(env, "model", move || {
        let kind = kind.as_deref().and_then(ModelKind::from_name);
        let (config, weights) = Vae::on_disk(Path::new(&path), kind)?;
        Ok(VaeOnDisk {
            files: component_files(config.json(), weights),
            scaling_factor: config.scaling_factor,
            channels: narrow(config.latent_channels)?,
            downscale: narrow(config.downscale())?,
        })
    })
}

/// The text encoders of a model.
#[napi(ts_return_type = "Promise<Outcome<TextOnDisk>>", catch_unwind)]
pub fn inspect_text(env: &Env, folder: String) -> napi::Result<Object<'_>> {
    run_job(env, "model", move || {
        let model = Model::open(Path::new(&folder))?;
        let encoders: &[Component] = match model.kind() {
            ModelKind::Sd15 => &[Component::TextEncoder],
            ModelKind::Sdxl => &[Component::TextEncoder, Component::TextEncoder2],
        };
        let mut facts = TextOnDisk {
            encoders: Vec::new(),
            tokens: narrow(SEQUENCE_LENGTH)?,
            width: 0,
            pooled: None,
        };
        for component in encoders {
            let (config, files) = files(&model, *component)?;
            let ComponentConfig::Text(config) = config else {
                return Err(OpError::bug("a text encoder was asked for"));
            };
            facts.width += narrow(config.hidden_size)?;
            // SDXL pools the second encoder; SD1.5 has none.
            facts.pooled = match component {
                Component::TextEncoder2 => config.projection.map(narrow).transpose()?,
                _ => None,
            };
            let tokenizer = model.tokenizer_files(*component).into_iter().map(text).collect();
            facts.encoders.push(EncoderOnDisk { files, tokenizer });
        }
        Ok(facts)
    })
}

fn files(model: &Model, component: Component) -> Result<(ComponentConfig, ComponentFiles)> {
    let (config, weights) = model.component(component)?;
    let files = component_files(config.json(), weights);
    Ok((config, files))
}

fn component_files(config: &serde_json::Map<String, serde_json::Value>, weights: Vec<PathBuf>) -> ComponentFiles {
    ComponentFiles {
        config: serde_json::Value::Object(config.clone()).to_string(),
        weights: weights.into_iter().map(text).collect(),
    }
}

fn text(path: PathBuf) -> String {
    path.display().to_string()
}

fn narrow(number: usize) -> Result<u32> {
    u32::try_from(number).map_err(|_| OpError::input("ERR_MODEL_CONFIG", format!("{number} is no size of a model")))
}
