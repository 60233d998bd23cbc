//! Samplers, one step at a time: the loop is TypeScript's.

use napi::Env;
use napi::bindgen_prelude::{Float64Array, Object};
use napi_derive::napi;
use potstill_engine::Value;
use potstill_models::Schedule;
use potstill_models::samplers::{Sampler, SamplerKind, Spacing};

use crate::core::{Engine, OpError, id, tensor};

/// A sampler's plan.
#[napi(object)]
pub struct CreatedSampler {
    /// What the UNet is told at each step.
    pub timesteps: Float64Array,
    /// Factor from unit noise to the first latents.
    pub init_noise_sigma: f64,
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
        #[napi(ts_arg_type = "SamplerKind")] name: String,
        steps: u32,
        #[napi(ts_arg_type = "Spacing")] spacing: String,
    ) -> napi::Result<Object<'env>> {
        self.query(env, "sampler", move |state| {
            let schedule = state.get::<Schedule>(id(schedule))?;
            let unknown = |what| OpError::input("ERR_SAMPLER", what);
            let kind = SamplerKind::from_name(&name).ok_or_else(|| unknown(format!("there is no sampler {name:?}")))?;
            let spacing =
                Spacing::from_name(&spacing).ok_or_else(|| unknown(format!("there is no spacing {spacing:?}")))?;
            let sampler = kind
                .create(&schedule, steps as usize, spacing)
                .map_err(|error| OpError::from(error).remedy("Take fewer steps or another spacing."))?;
            let facts = CreatedSampler {
                timesteps: Float64Array::new(sampler.timesteps().to_vec()),
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
            let sampler = state.get::<Box<dyn Sampler>>(id(sampler))?;
            let input = sampler.scale_model_input(step as usize, tensor(state, id(latents))?.tensor())?;
            Ok(Value::constant(input))
        });
    }

    /// Latents after a step, from the prediction at it.
    #[napi(catch_unwind)]
    pub fn sampler_step(&self, out: f64, sampler: f64, step: u32, prediction: f64, latents: f64) {
        self.submit(out, "sampler.step", move |state| {
            let sampler = state.get::<Box<dyn Sampler>>(id(sampler))?;
            let (prediction, latents) = (tensor(state, id(prediction))?, tensor(state, id(latents))?);
            Ok(Value::constant(sampler.step(
                step as usize,
                prediction.tensor(),
                latents.tensor(),
            )?))
        });
    }
}
