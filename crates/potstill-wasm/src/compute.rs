//! What needs the engine and the models.

use std::path::Path;

use js_sys::{Error, Function};
use potstill_cache::Level;
use potstill_engine::{Device, Tensor, Value, no_grad};
use potstill_io::disk::provide_files;
use potstill_models::{ForwardOptions, ModelError, RecomputeError, RecomputeRequest, UnetInputs};
use wasm_bindgen::prelude::*;

use super::{JsFiles, JsSource, failed, failure, report, teller, text};

/// Verifies a cache and computes entries of it again from weights: `request` is `{ entries, nonce, models, images }` as JSON,
/// with paths that `files` knows. `progress(done, total)` is told bytes, `entries(done, total)` entries.
///
/// # Errors
/// As [`super::verify`]; `foreign-model` for a model that the cache was not made of, `model` for one that cannot be used.
#[wasm_bindgen]
pub fn recompute(
    source: JsSource,
    files: JsFiles,
    request: &str,
    progress: Option<Function>,
    entries: Option<Function>,
) -> Result<String, Error> {
    let request = RecomputeRequest::parse(request).map_err(failed)?;
    let report = report(&source, Level::Determinism, progress, None)?;
    provide_files(Box::new(files));
    let tell = entries.map(teller);
    let tell = |done, total| {
        if let Some(tell) = &tell {
            tell(done, total);
        }
    };
    let report = potstill_models::recompute(report, Box::new(source), &request, &Device::Cpu, &tell, &|| false);
    let report = report.map_err(recompute_failed)?;
    text(&report)
}

fn recompute_failed(error: RecomputeError) -> Error {
    match error {
        RecomputeError::Cache(error) => failed(error),
        RecomputeError::Model(error) => model_failed(error),
        error @ RecomputeError::Foreign { .. } => failure("foreign-model", &error.to_string(), None),
        error @ RecomputeError::Interrupted => failure("interrupted", &error.to_string(), None),
        error @ RecomputeError::NoPlan => failure("no-plan", &error.to_string(), None),
    }
}

fn model_failed(error: impl Into<ModelError>) -> Error {
    failure("model", &error.into().to_string(), None)
}

/// Changes how many bytes of f32 weights a component may have that is held in memory; of a larger one, the weights are read
/// from the host at every use. 1 GiB unless changed.
#[wasm_bindgen(js_name = holdWeightsUpTo)]
pub fn hold_weights_up_to(bytes: f64) {
    potstill_models::hold_weights_up_to(bytes as u64);
}

/// Which instructions the kernels use: `wasm`, or `portable` after [`use_kernels`].
#[wasm_bindgen(js_name = kernelClass)]
#[must_use]
pub fn kernel_class() -> String {
    potstill_engine::kernel_class().to_owned()
}

/// Uses a class of kernels; false when there is none of this name, or another is in use already.
#[wasm_bindgen(js_name = useKernels)]
#[must_use]
pub fn use_kernels(name: &str) -> bool {
    potstill_engine::use_kernels(name)
}

/// The operations of fixed sizes that there are, for benchmarks.
#[wasm_bindgen]
#[must_use]
pub fn workloads() -> Vec<String> {
    potstill_engine::Workload::names()
        .into_iter()
        .map(str::to_owned)
        .collect()
}

/// An operation on fixed inputs.
#[wasm_bindgen]
pub struct Workload {
    workload: potstill_engine::Workload,
    output: Option<Tensor>,
}

#[wasm_bindgen]
impl Workload {
    /// The one of a name.
    ///
    /// # Errors
    /// Another name.
    #[wasm_bindgen(constructor)]
    pub fn new(name: &str) -> Result<Self, Error> {
        let workload = potstill_engine::Workload::of(name).map_err(model_failed)?;
        Ok(Self { workload, output: None })
    }

    /// Computes it.
    ///
    /// # Errors
    /// None that is expected.
    pub fn run(&mut self) -> Result<(), Error> {
        self.output = Some(self.workload.run().map_err(model_failed)?);
        Ok(())
    }

    /// What was computed last.
    ///
    /// # Errors
    /// None that is expected.
    pub fn values(&self) -> Result<Vec<f32>, Error> {
        self.output.as_ref().map_or_else(|| Ok(Vec::new()), values)
    }
}

fn values(tensor: &Tensor) -> Result<Vec<f32>, Error> {
    let flat = tensor.flatten_all().and_then(|tensor| tensor.to_vec1());
    flat.map_err(|error| model_failed(ModelError::from(error)))
}

fn value(values: Vec<f32>, shape: &[usize]) -> Result<Value, Error> {
    let tensor = Tensor::from_vec(values, shape, &Device::Cpu);
    Ok(Value::constant(
        tensor.map_err(|error| model_failed(ModelError::from(error)))?,
    ))
}

/// A UNet of the SD1.5 family.
#[wasm_bindgen]
pub struct Unet(potstill_models::Unet);

#[wasm_bindgen]
impl Unet {
    /// Loads a model's UNet.
    ///
    /// # Errors
    /// A model that cannot be used.
    #[wasm_bindgen(constructor)]
    pub fn new(files: JsFiles, model: &str) -> Result<Self, Error> {
        provide_files(Box::new(files));
        let unet = potstill_models::Unet::load(&Path::new(model).join("unet"), &Device::Cpu);
        Ok(Self(unet.map_err(model_failed)?))
    }

    /// The prediction for latents of shape `[1, channels, side, side]` and a text of `tokens` rows.
    ///
    /// # Errors
    /// Shapes that the UNet does not take.
    pub fn forward(
        &self,
        latents: Vec<f32>,
        side: usize,
        timestep: f64,
        hidden_states: Vec<f32>,
        tokens: usize,
    ) -> Result<Vec<f32>, Error> {
        let channels = latents.len().checked_div(side * side).unwrap_or(0);
        let width = hidden_states.len().checked_div(tokens).unwrap_or(0);
        let inputs = UnetInputs {
            sample: value(latents, &[1, channels, side, side])?,
            timestep: &[timestep],
            encoder_hidden_states: value(hidden_states, &[1, tokens, width])?,
            text_embeds: None,
            time_ids: None,
        };
        let prediction = no_grad(|| self.0.forward(&inputs, &ForwardOptions::default())).map_err(model_failed)?;
        values(prediction.tensor())
    }
}
