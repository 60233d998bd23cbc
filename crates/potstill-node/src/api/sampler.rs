//! Samplers, one step at a time: the loop is TypeScript's.

use napi::Env;
use napi::bindgen_prelude::{Float64Array, Object};
use napi_derive::napi;
use potstill_engine::Value;
use potstill_models::samplers::{Sampler, SamplerKind, SamplerOptions, Spacing, StepInputs};
use potstill_models::{Schedule, convert_at};

use super::model::kind;
use crate::core::{Engine, OpError, Result, id, tensor};

/// Which steps a sampler makes.
#[napi(object)]
pub struct SamplerRequest {
    /// Which sampler.
    #[napi(ts_type = "SamplerKind")]
    pub kind: String,
    /// Number of steps.
    pub steps: u32,
    /// How the timesteps are spread, where it is not the sampler's own way.
    #[napi(ts_type = "Spacing")]
    pub spacing: Option<String>,
    /// Noise levels of Karras et al.?
    pub karras: Option<bool>,
    /// Share of fresh noise, 0 to 1.
    pub eta: Option<f64>,
    /// What the predictions are, where it is not what the schedule says.
    #[napi(ts_type = "PredictionKind")]
    pub prediction: Option<String>,
}

/// A sampler's plan. Lists have an entry for every step.
#[napi(object)]
pub struct CreatedSampler {
    /// What the UNet is told.
    pub timesteps: Float64Array,
    /// What the UNet takes is `signals`·x0 + `noises`·ε.
    pub signals: Float64Array,
    /// See `signals`.
    pub noises: Float64Array,
    /// Whether fresh noise is taken.
    pub takes_noise: Vec<bool>,
    /// Whether the clean latents of the step before are taken.
    pub takes_previous: Vec<bool>,
    /// Factor from unit noise to the first latents.
    pub init_noise_sigma: f64,
}

/// Handles of what a step is made of.
#[napi(object)]
pub struct StepHandles {
    /// Latents before the step.
    pub latents: f64,
    /// The prediction at them.
    pub prediction: f64,
    /// Clean latents of the step before, where they are taken.
    pub previous: Option<f64>,
    /// Fresh unit noise, where it is taken.
    pub noise: Option<f64>,
}

#[napi]
impl Engine {
    /// Fills `out` with a sampler.
    #[napi(ts_return_type = "Promise<Outcome<CreatedSampler>>", catch_unwind)]
    pub fn create_sampler<'env>(
        &self,
        env: &'env Env,
        out: f64,
        schedule: f64,
        request: SamplerRequest,
    ) -> napi::Result<Object<'env>> {
        self.query(env, "sampler", move |state| {
            let mut schedule = (*state.get::<Schedule>(id(schedule))?).clone();
            if let Some(prediction) = &request.prediction {
                schedule = schedule.predicting(kind(prediction)?);
            }
            let sampler = Sampler::new(&schedule, &options(&request)?).map_err(|error| {
                OpError::from(error)
                    .remedy("Take another number of steps, sampler or spacing, or leave the choice out.")
            })?;
            let each = |value: fn(&potstill_models::samplers::Step) -> f64| {
                Float64Array::new(sampler.steps().iter().map(value).collect())
            };
            let facts = CreatedSampler {
                timesteps: each(|step| step.timestep),
                signals: each(|step| step.level.signal),
                noises: each(|step| step.level.noise),
                takes_noise: sampler.steps().iter().map(|step| step.noise != 0.).collect(),
                takes_previous: sampler.steps().iter().map(|step| step.previous != 0.).collect(),
                init_noise_sigma: sampler.init_noise_sigma(),
            };
            state.put(id(out), Ok(sampler));
            Ok(facts)
        })
    }

    /// Latents as the model takes them at a step.
    #[napi(catch_unwind)]
    pub fn sampler_input(&self, out: f64, sampler: f64, step: u32, latents: f64) {
        self.submit(out, "sampler.input", move |state| {
            let sampler = state.get::<Sampler>(id(sampler))?;
            let input = sampler.input(step as usize, tensor(state, id(latents))?.tensor())?;
            Ok(Value::constant(input))
        });
    }

    /// The model's estimate of the clean latents at a step.
    #[napi(catch_unwind)]
    pub fn sampler_clean(&self, out: f64, sampler: f64, step: u32, prediction: f64, latents: f64) {
        self.submit(out, "sampler.clean", move |state| {
            let sampler = state.get::<Sampler>(id(sampler))?;
            let (prediction, latents) = (tensor(state, id(prediction))?, tensor(state, id(latents))?);
            Ok(Value::constant(sampler.clean(
                step as usize,
                prediction.tensor(),
                latents.tensor(),
            )?))
        });
    }

    /// Latents after a step.
    #[napi(catch_unwind)]
    pub fn sampler_step(&self, out: f64, sampler: f64, step: u32, inputs: StepHandles) {
        self.submit(out, "sampler.step", move |state| {
            let sampler = state.get::<Sampler>(id(sampler))?;
            let optional = |handle: Option<f64>| handle.map(|handle| tensor(state, id(handle))).transpose();
            let (latents, prediction) = (
                tensor(state, id(inputs.latents))?,
                tensor(state, id(inputs.prediction))?,
            );
            let (previous, noise) = (optional(inputs.previous)?, optional(inputs.noise)?);
            Ok(Value::constant(sampler.step(
                step as usize,
                &StepInputs {
                    x: latents.tensor(),
                    prediction: prediction.tensor(),
                    previous: previous.as_ref().map(|value| value.tensor()),
                    noise: noise.as_ref().map(|value| value.tensor()),
                },
            )?))
        });
    }

    /// A prediction at noisy latents `signal·x0 + noise·ε` as another kind.
    #[napi(catch_unwind)]
    #[allow(clippy::too_many_arguments)] // a call from JavaScript, where an object would cost more than the operation
    pub fn convert_at(
        &self,
        out: f64,
        prediction: f64,
        #[napi(ts_arg_type = "PredictionKind")] from: String,
        #[napi(ts_arg_type = "PredictionKind")] to: String,
        noisy: f64,
        signal: f64,
        noise: f64,
    ) {
        self.submit(out, "convert", move |state| {
            let (prediction, noisy) = (tensor(state, id(prediction))?, tensor(state, id(noisy))?);
            Ok(convert_at(
                &prediction,
                kind(&from)?,
                kind(&to)?,
                &noisy,
                (signal, noise),
            )?)
        });
    }
}

fn options(request: &SamplerRequest) -> Result<SamplerOptions> {
    let unknown = |what: &str, name: &str| OpError::input("ERR_SAMPLER", format!("there is no {what} {name:?}"));
    let spacing = |name: &String| Spacing::from_name(name).ok_or_else(|| unknown("spacing", name));
    Ok(SamplerOptions {
        kind: SamplerKind::from_name(&request.kind).ok_or_else(|| unknown("sampler", &request.kind))?,
        steps: request.steps as usize,
        spacing: request.spacing.as_ref().map(spacing).transpose()?,
        karras: request.karras.unwrap_or(false),
        eta: request.eta,
    })
}
