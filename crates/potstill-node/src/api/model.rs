//! Model folders and noise schedules.

use std::path::Path;

use napi::Env;
use napi::bindgen_prelude::{Float64Array, Object};
use napi_derive::napi;
use potstill_engine::ops;
use potstill_models::{Model, PredictionKind, Schedule, add_noise, convert};

use crate::core::{Engine, OpError, Result, id, tensor};

/// What a model says about itself.
#[napi(object)]
pub struct OpenedModel {
    /// The family.
    #[napi(ts_type = "'sd15' | 'sdxl'")]
    pub kind: String,
    /// What the UNet predicts.
    #[napi(ts_type = "PredictionKind")]
    pub prediction: String,
    /// Number of training timesteps.
    pub timesteps: u32,
    /// Channels of its latents.
    pub latent_channels: u32,
    /// Width of the text that conditions it.
    pub text_width: u32,
    /// SDXL: width of the pooled text.
    pub pooled_width: Option<u32>,
    /// Side of the latents it was made for, if stated.
    pub sample_size: Option<u32>,
}

#[napi]
impl Engine {
    /// Opens a diffusers folder or single file and fills `schedule` with its noise schedule.
    #[napi(ts_return_type = "Promise<Outcome<OpenedModel>>", catch_unwind)]
    pub fn open_model<'env>(&self, env: &'env Env, schedule: f64, folder: String) -> napi::Result<Object<'env>> {
        self.query(env, "openModel", move |state| {
            let model = Model::open(Path::new(&folder))?;
            let config = model.unet_config();
            let facts = OpenedModel {
                kind: model.kind().name().to_owned(),
                prediction: model.schedule().prediction().name().to_owned(),
                timesteps: model.schedule().len() as u32,
                latent_channels: config.in_channels as u32,
                text_width: config.cross_attention_dim as u32,
                pooled_width: config.text_time.map(|c| c.pooled_channels as u32),
                sample_size: config.sample_size.map(|s| s as u32),
            };
            state.put(id(schedule), Ok(model.schedule().clone()));
            Ok(facts)
        })
    }

    /// Noisy latents √ᾱ·x0 + √(1 − ᾱ)·noise at one timestep per row.
    #[napi(catch_unwind)]
    pub fn add_noise(&self, out: f64, schedule: f64, x0: f64, noise: f64, timesteps: Float64Array) {
        let timesteps = timesteps.to_vec();
        self.submit(out, "addNoise", move |state| {
            let levels = state.get::<Schedule>(id(schedule))?.alpha_bars(&timesteps)?;
            Ok(add_noise(&tensor(state, id(x0))?, &tensor(state, id(noise))?, &levels)?)
        });
    }

    /// The velocity √ᾱ·noise − √(1 − ᾱ)·x0 at one timestep per row.
    #[napi(catch_unwind)]
    pub fn velocity(&self, out: f64, schedule: f64, x0: f64, noise: f64, timesteps: Float64Array) {
        let timesteps = timesteps.to_vec();
        self.submit(out, "velocity", move |state| {
            let levels = state.get::<Schedule>(id(schedule))?.alpha_bars(&timesteps)?;
            // The rotation that makes noisy latents of (x0, noise) makes the velocity of (noise, −x0).
            Ok(add_noise(
                &tensor(state, id(noise))?,
                &ops::neg(&tensor(state, id(x0))?)?,
                &levels,
            )?)
        });
    }

    /// A prediction at noisy latents as another kind.
    #[napi(catch_unwind)]
    #[allow(clippy::too_many_arguments)] // a call from JavaScript, where an object would cost more than the operation
    pub fn convert(
        &self,
        out: f64,
        schedule: f64,
        prediction: f64,
        #[napi(ts_arg_type = "PredictionKind")] from: String,
        #[napi(ts_arg_type = "PredictionKind")] to: String,
        noisy: f64,
        timesteps: Float64Array,
    ) {
        let timesteps = timesteps.to_vec();
        self.submit(out, "convert", move |state| {
            let levels = state.get::<Schedule>(id(schedule))?.alpha_bars(&timesteps)?;
            let prediction = tensor(state, id(prediction))?;
            Ok(convert(
                &prediction,
                kind(&from)?,
                kind(&to)?,
                &tensor(state, id(noisy))?,
                &levels,
            )?)
        });
    }
}

pub(super) fn kind(name: &str) -> Result<PredictionKind> {
    PredictionKind::from_name(name).ok_or_else(|| {
        OpError::input(
            "ERR_PREDICTION_KIND",
            format!("there is no kind of prediction named {name:?}"),
        )
    })
}
