//! Adapters as files: what they are, and others made of them.

use std::path::Path;

use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use potstill_adapters::{
    Adapter, AdapterError, Dialect, Extracted, Factors, Family, MergeInput, Resize, Resized, WriteOptions, back_merge,
    extract, merge, report, resize, scale, write_adapter,
};
use potstill_io::Dtype;
use potstill_models::PredictionKind;

use crate::core::{CancelToken, OpError, of_file, run_job};

/// How many ranks of a layer are kept: at most `rank`, as few as keep `energy` (a share of the squared norm), or both.
#[napi(object)]
pub struct KeptRanks {
    pub rank: Option<u32>,
    pub energy: Option<f64>,
}

/// How an adapter is to be written, and for which model it is.
#[napi(object)]
pub struct AdapterTarget {
    /// The model that it is for; none takes the published one that its keys fit.
    pub model: Option<String>,
    /// None keeps the source's.
    #[napi(ts_type = "'kohya' | 'comfy' | 'peft' | 'diffusers'")]
    pub dialect: Option<String>,
    /// None keeps the source's.
    #[napi(ts_type = "'f32' | 'f16' | 'bf16'")]
    pub dtype: Option<String>,
    /// `modelspec.title`.
    pub title: Option<String>,
    /// What the model predicts with the adapter, where that changes.
    #[napi(ts_type = "'epsilon' | 'v' | 'x0' | 'flow'")]
    pub prediction: Option<String>,
}

/// An adapter in a sum.
#[napi(object)]
pub struct AdapterSummand {
    /// File or folder.
    pub path: String,
    /// Its weight.
    pub weight: f64,
}

/// A weight of the layers whose names start so.
#[napi(object)]
pub struct BlockWeight {
    /// Start of their names: `unet.up_blocks.1`.
    pub block: String,
    /// What the inputs' weights are multiplied by.
    pub weight: f64,
}

/// What a layer lost.
#[napi(object)]
pub struct ResizedLayer {
    /// Its name.
    pub name: String,
    /// Rank before.
    pub from: u32,
    /// Rank after.
    pub to: u32,
    /// Norm of what was left out over that of the whole.
    pub lost: f64,
}

/// What layers lost, for JavaScript.
fn lost(layers: Vec<Resized>) -> Vec<ResizedLayer> {
    let layer = |Resized { name, from, to, lost }| ResizedLayer {
        name,
        from: from as u32,
        to: to as u32,
        lost,
    };
    layers.into_iter().map(layer).collect()
}

/// What was found between two checkpoints.
#[napi(object)]
pub struct ExtractedAdapter {
    /// What every layer lost.
    pub layers: Vec<ResizedLayer>,
    /// Names of what differs and has no place in a LoRA.
    pub left_out: Vec<String>,
}

/// An adapter's ranks, scales and norms, a JSON document.
#[napi(ts_return_type = "Promise<Outcome<string>>", catch_unwind)]
pub fn inspect_adapter(env: &Env, path: String, model: Option<String>) -> napi::Result<Object<'_>> {
    run_job(env, "adapter", move || {
        let adapter = open(&path, model.as_deref())?;
        Ok(report(&adapter).map_err(|error| of_file(error, &path))?.to_string())
    })
}

/// Writes an adapter in another dialect or dtype; resolves to the files.
#[napi(ts_return_type = "Promise<Outcome<Array<string>>>", catch_unwind)]
pub fn convert_adapter(env: &Env, path: String, out: String, target: AdapterTarget) -> napi::Result<Object<'_>> {
    run_job(env, "adapter", move || {
        write(&open(&path, target.model.as_deref())?, &path, &out, &target)
    })
}

/// Makes an adapter as strong as the factors say, in comparison with what it was as made; resolves to the files.
#[napi(ts_return_type = "Promise<Outcome<Array<string>>>", catch_unwind)]
pub fn scale_adapter(
    env: &Env,
    path: String,
    out: String,
    unet: f64,
    text: f64,
    target: AdapterTarget,
) -> napi::Result<Object<'_>> {
    run_job(env, "adapter", move || {
        let mut adapter = open(&path, target.model.as_deref())?;
        scale(&mut adapter, Factors { unet, text }).map_err(|error| of_file(error, &path))?;
        write(&adapter, &path, &out, &target)
    })
}

/// Writes the weighted sum of adapters; resolves to the files.
#[napi(ts_return_type = "Promise<Outcome<Array<string>>>", catch_unwind)]
pub fn merge_adapters(
    env: &Env,
    summands: Vec<AdapterSummand>,
    blocks: Vec<BlockWeight>,
    out: String,
    target: AdapterTarget,
) -> napi::Result<Object<'_>> {
    run_job(env, "adapter", move || {
        let sum = merge(inputs(summands, &blocks, target.model.as_deref())?)?;
        write(&sum, &out, &out, &target)
    })
}

/// Writes what adapters together do to their model as a LoRA of fewer ranks; resolves to what every layer lost.
#[napi(ts_return_type = "Promise<Outcome<Array<ResizedLayer>>>", catch_unwind)]
pub fn back_merge_adapters<'env>(
    env: &'env Env,
    summands: Vec<AdapterSummand>,
    out: String,
    keep: KeptRanks,
    target: AdapterTarget,
    cancel: &CancelToken,
) -> napi::Result<Object<'env>> {
    let cancel = cancel.clone();
    run_job(env, "adapter", move || {
        let model = target.model.as_deref();
        let summands = inputs(summands, &[], model)?;
        let (adapter, layers) = unless_cancelled(&cancel, |go_on| {
            Ok(back_merge(summands, model.map(Path::new), keep.into(), go_on)?)
        })?;
        write(&adapter, &out, &out, &target)?;
        Ok(lost(layers))
    })
}

/// Writes the LoRA that leads from one checkpoint to another.
#[napi(ts_return_type = "Promise<Outcome<ExtractedAdapter>>", catch_unwind)]
pub fn extract_adapter<'env>(
    env: &'env Env,
    base: String,
    tuned: String,
    out: String,
    keep: KeptRanks,
    target: AdapterTarget,
    cancel: &CancelToken,
) -> napi::Result<Object<'env>> {
    let cancel = cancel.clone();
    run_job(env, "adapter", move || {
        let Extracted {
            adapter,
            layers,
            left_out,
        } = unless_cancelled(&cancel, |go_on| {
            Ok(extract(Path::new(&base), Path::new(&tuned), keep.into(), go_on)?)
        })?;
        write(&adapter, &out, &out, &target)?;
        Ok(ExtractedAdapter {
            layers: lost(layers),
            left_out,
        })
    })
}

fn inputs(
    summands: Vec<AdapterSummand>,
    blocks: &[BlockWeight],
    model: Option<&str>,
) -> Result<Vec<MergeInput>, OpError> {
    let input = |AdapterSummand { path, weight }| {
        Ok(MergeInput {
            adapter: open(&path, model)?,
            name: path,
            weight,
            blocks: blocks.iter().map(|b| (b.block.clone(), weight * b.weight)).collect(),
        })
    };
    summands.into_iter().map(input).collect()
}

impl From<KeptRanks> for Resize {
    fn from(KeptRanks { rank, energy }: KeptRanks) -> Self {
        Self {
            rank: rank.map(|rank| rank as usize),
            energy,
        }
    }
}

/// Runs what asks before each layer whether to go on, until the token is cancelled.
fn unless_cancelled<T>(
    cancel: &CancelToken,
    run: impl FnOnce(&mut dyn FnMut() -> Result<(), AdapterError>) -> Result<T, OpError>,
) -> Result<T, OpError> {
    let done = run(&mut || {
        // Replaced below: only this crate knows of interruptions.
        cancel.check().map_err(|error| AdapterError::Input {
            what: "adapter".to_owned(),
            reason: error.to_string(),
        })
    });
    if done.is_err() {
        cancel.check()?;
    }
    done
}

/// Writes an adapter with fewer ranks; resolves to what every layer lost.
#[napi(ts_return_type = "Promise<Outcome<Array<ResizedLayer>>>", catch_unwind)]
pub fn resize_adapter<'env>(
    env: &'env Env,
    path: String,
    out: String,
    keep: KeptRanks,
    target: AdapterTarget,
    cancel: &CancelToken,
) -> napi::Result<Object<'env>> {
    let cancel = cancel.clone();
    run_job(env, "adapter", move || {
        let mut adapter = open(&path, target.model.as_deref())?;
        let layers = unless_cancelled(&cancel, |go_on| {
            resize(&mut adapter, keep.into(), go_on).map_err(|error| of_file(error, &path))
        })?;
        write(&adapter, &path, &out, &target)?;
        Ok(lost(layers))
    })
}

/// Whether an adapter is at a path, rather than a model: by its keys, of a folder by peft's file names.
#[napi(ts_return_type = "Promise<Outcome<boolean>>", catch_unwind)]
pub fn is_adapter(env: &Env, path: String) -> napi::Result<Object<'_>> {
    run_job(env, "adapter", move || {
        Ok(potstill_adapters::is_adapter(Path::new(&path)))
    })
}

pub(super) fn open(path: &str, model: Option<&str>) -> Result<Adapter, OpError> {
    let family = model.map(|model| Family::of_model(Path::new(model))).transpose()?;
    let adapter = Adapter::open(Path::new(path), family.as_ref());
    adapter.map_err(|error| match (&error, model) {
        (AdapterError::Keys { .. }, None) => {
            OpError::from(error).remedy("If it is for a model of other widths or depth, name that model with --model.")
        }
        _ => error.into(),
    })
}

/// Writes an adapter; `about` is the file that an error about one of its layers is about.
fn write(adapter: &Adapter, about: &str, out: &str, target: &AdapterTarget) -> Result<Vec<String>, OpError> {
    let files = write_adapter(adapter, Path::new(out), &write_options(adapter, target)?)
        .map_err(|error| of_file(error, about))?;
    Ok(files.iter().map(|file| file.display().to_string()).collect())
}

/// What a target asks for, the rest as the adapter has it.
pub(super) fn write_options(adapter: &Adapter, target: &AdapterTarget) -> Result<WriteOptions, OpError> {
    let unknown = |what: &str, name: &str| OpError::input("ERR_ADAPTER_INPUT", format!("there is no {what} {name:?}"));
    let dialect = target.dialect.as_deref();
    let dialect = dialect.map(|name| Dialect::from_name(name).ok_or_else(|| unknown("dialect", name)));
    let dtype = target.dtype.as_deref();
    let dtype = dtype.map(|name| Dtype::from_name(&name.to_uppercase()).ok_or_else(|| unknown("dtype", name)));
    let prediction = target.prediction.as_deref();
    let prediction = prediction.map(|name| PredictionKind::from_name(name).ok_or_else(|| unknown("prediction", name)));
    Ok(WriteOptions {
        dialect: dialect.transpose()?.unwrap_or(adapter.dialect),
        dtype: dtype.transpose()?,
        title: target.title.clone(),
        prediction: prediction.transpose()?,
    })
}
