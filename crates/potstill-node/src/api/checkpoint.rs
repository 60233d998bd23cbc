//! Checkpoints as a whole: what they hold, and another layout or dtype of them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use potstill_adapters::AppliedTo;
use potstill_io::Dtype;
use potstill_models::{
    Checkpoint, Component, ConvertOptions, Layout, ModelError, QuantFormat, Quantize, QuantizedComponent,
    convert_checkpoint,
};

use super::adapters::{AdapterSummand, open as open_adapter};
use crate::core::{CancelToken, OpError, run_job};

/// What a conversion is to write.
#[napi(object)]
pub struct ConversionRequest {
    /// A single file, or a diffusers folder.
    #[napi(ts_type = "'file' | 'folder'")]
    pub layout: String,
    /// None keeps each tensor's own.
    #[napi(ts_type = "'f32' | 'f16' | 'bf16'")]
    pub dtype: Option<String>,
    /// What the file is to be called; none keeps the source's title or takes its name.
    pub title: Option<String>,
    /// Keys that belong to nothing known and may be left out; a final `*` stands for the rest.
    pub allow: Vec<String>,
    /// A file or folder whose VAE takes the place of the source's.
    pub vae: Option<String>,
    /// Adapters that are laid into the weights, in this order.
    pub adapters: Vec<AdapterSummand>,
    /// What is to be in fewer bits.
    pub quantize: Option<QuantizeRequest>,
}

/// Which matrices are to be quantized, and how.
#[napi(object)]
pub struct QuantizeRequest {
    /// In which codes.
    #[napi(ts_type = "'nf4' | 'int8' | 'fp8'")]
    pub format: String,
    /// Of which components.
    #[napi(ts_type = "Array<'unet' | 'text_encoder' | 'text_encoder_2'>")]
    pub components: Vec<String>,
}

/// What quantizing has done to a component.
#[napi(object)]
pub struct QuantizedPart {
    /// Which.
    #[napi(ts_type = "'unet' | 'text_encoder' | 'text_encoder_2'")]
    pub component: String,
    /// Matrices that are in codes now.
    pub tensors: u32,
    /// Values in them.
    pub parameters: f64,
    /// Bytes of their codes and scales.
    pub bytes: f64,
    /// Norm of the difference over the norm of the values, of all of them.
    pub error: f64,
    /// The matrix with the largest such error.
    pub worst: String,
    /// Its error.
    pub worst_error: f64,
}

/// What a conversion has written.
#[napi(object)]
pub struct ConvertedCheckpoint {
    /// The files.
    pub files: Vec<String>,
    /// Keys that were left out because they were allowed to be.
    pub left_out: Vec<String>,
    /// Components that neither has.
    pub absent: Vec<String>,
    /// What was quantized.
    pub quantized: Vec<QuantizedPart>,
}

/// How far a conversion is, in bytes; reading it costs nothing.
#[napi]
#[derive(Clone, Default)]
pub struct ConversionProgress {
    done: Arc<AtomicU64>,
    total: Arc<AtomicU64>,
}

#[napi]
impl ConversionProgress {
    /// Nothing done, of nothing known.
    #[napi(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes handled so far.
    #[napi(getter)]
    pub fn done(&self) -> f64 {
        self.done.load(Ordering::Relaxed) as f64
    }

    /// Bytes to handle in all; 0 until known.
    #[napi(getter)]
    pub fn total(&self) -> f64 {
        self.total.load(Ordering::Relaxed) as f64
    }
}

/// The report of a file or folder, a JSON document; headers and configurations are read, weights are not.
#[napi(ts_return_type = "Promise<Outcome<string>>", catch_unwind)]
pub fn inspect_checkpoint(env: &Env, path: String) -> napi::Result<Object<'_>> {
    run_job(env, "model", move || {
        Ok(Checkpoint::open(Path::new(&path))?.report()?.to_json().to_string())
    })
}

/// Writes a checkpoint in another layout or dtype to a place where nothing is yet.
#[napi(ts_return_type = "Promise<Outcome<ConvertedCheckpoint>>", catch_unwind)]
pub fn convert_checkpoint_to<'env>(
    env: &'env Env,
    source: String,
    target: String,
    request: ConversionRequest,
    progress: &ConversionProgress,
    cancel: &CancelToken,
) -> napi::Result<Object<'env>> {
    let (progress, cancel) = (progress.clone(), cancel.clone());
    run_job(env, "model", move || {
        let (model, source) = (source.clone(), Checkpoint::open(Path::new(&source))?);
        let vae = request
            .vae
            .map(|path| Checkpoint::open_as(Path::new(&path), source.kind()));
        let vae = vae.transpose()?;
        let adapters = request
            .adapters
            .into_iter()
            .map(|AdapterSummand { path, weight }| Ok((open_adapter(&path, Some(model.as_str()))?, weight)));
        let edit = AppliedTo::new(adapters.collect::<Result<_, OpError>>()?);
        let components = request.quantize.iter().flat_map(|quantize| &quantize.components);
        let components = components.map(|name| component(name)).collect::<Result<Vec<_>, _>>()?;
        let quantize = request.quantize.as_ref().map(|QuantizeRequest { format, .. }| {
            let found = QuantFormat::from_name(format)
                .ok_or_else(|| OpError::input("ERR_MODEL_INPUT", format!("there is no format {format:?}")))?;
            Ok::<_, OpError>(Quantize {
                format: found,
                components: &components,
            })
        });
        let options = ConvertOptions {
            layout: if request.layout == "file" {
                Layout::File
            } else {
                Layout::Folder
            },
            dtype: request.dtype.as_deref().map(dtype).transpose()?,
            title: request.title,
            allow: &request.allow,
            vae: vae.as_ref(),
            edit: Some(&edit),
            quantize: quantize.transpose()?,
        };
        let converted = convert_checkpoint(&source, Path::new(&target), &options, &mut |done, total| {
            progress.done.store(done, Ordering::Relaxed);
            progress.total.store(total, Ordering::Relaxed);
            // The error is replaced below: only this crate knows of interruptions.
            cancel.check().map_err(|_| ModelError::File {
                path: target.clone().into(),
                reason: "interrupted".to_owned(),
            })
        });
        if converted.is_err() {
            cancel.check()?;
        }
        let converted = converted?;
        Ok(ConvertedCheckpoint {
            files: converted.files.iter().map(|path| path.display().to_string()).collect(),
            left_out: converted.left_out,
            absent: converted.absent.iter().map(|c| c.name().to_owned()).collect(),
            quantized: converted.quantized.into_iter().map(QuantizedPart::from).collect(),
        })
    })
}

impl From<QuantizedComponent> for QuantizedPart {
    fn from(part: QuantizedComponent) -> Self {
        Self {
            component: part.component.name().to_owned(),
            tensors: part.tensors as u32,
            parameters: part.parameters as f64,
            bytes: part.bytes as f64,
            error: part.error,
            worst: part.worst,
            worst_error: part.worst_error,
        }
    }
}

fn component(name: &str) -> Result<Component, OpError> {
    Component::from_name(name)
        .ok_or_else(|| OpError::input("ERR_MODEL_INPUT", format!("there is no component {name:?}")))
}

fn dtype(name: &str) -> Result<Dtype, OpError> {
    Dtype::from_name(&name.to_uppercase())
        .ok_or_else(|| OpError::input("ERR_MODEL_INPUT", format!("there is no dtype {name:?}")))
}
