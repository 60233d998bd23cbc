//! Checkpoints as a whole: what they hold, and another layout or dtype of them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use potstill_adapters::AppliedTo;
use potstill_io::Dtype;
use potstill_models::{Checkpoint, ConvertOptions, Layout, ModelError, convert_checkpoint};

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
        })
    })
}

fn dtype(name: &str) -> Result<Dtype, OpError> {
    Dtype::from_name(&name.to_uppercase())
        .ok_or_else(|| OpError::input("ERR_MODEL_INPUT", format!("there is no dtype {name:?}")))
}
