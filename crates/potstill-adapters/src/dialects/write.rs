//! Writing in a dialect. Alpha is always there: as a tensor, or in the configuration that the dialect keeps it in.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use potstill_io::{Dtype, IoError, TensorSpec, create_dir_durably, f32_to_bytes, write_atomic, write_safetensors};
use potstill_models::{Component, PredictionKind};
use serde_json::Value as Json;

use super::Dialect;
use super::metadata::{component_config, file_metadata};
use super::read::{PEFT_CONFIG, PEFT_PREFIX, PEFT_WEIGHTS};
use super::tensors::{LoraEndings, all_tensors, lora_tensors};
use crate::adapter::Adapter;
use crate::error::{AdapterError, Result};
use crate::family::{comfy_name, dotted, kohya_name};
use crate::module::{Array, Module, Update};

/// How to write an adapter.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// Names and conventions.
    pub dialect: Dialect,
    /// f32, f16 or bf16; none keeps the adapter's. Alpha is f32 always.
    pub dtype: Option<Dtype>,
    /// `modelspec.title`; none keeps what the metadata has.
    pub title: Option<String>,
    /// What the model predicts with the adapter, where the adapter changes that.
    pub prediction: Option<PredictionKind>,
}

/// A tensor to be written.
struct Tensor {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// Writes an adapter to a place where nothing is yet: a file, of [`Dialect::Peft`] a folder with one for each component.
/// Returns the files.
///
/// # Errors
/// When something is there, when the dialect cannot express a module, or when a value does not fit the dtype: each by name.
pub fn write_adapter(adapter: &Adapter, path: &Path, options: &WriteOptions) -> Result<Vec<PathBuf>> {
    if path.exists() {
        return Err(AdapterError::file(
            path,
            "exists already; remove it or choose another name",
        ));
    }
    let dtype = options.dtype.unwrap_or(adapter.dtype);
    if !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::Bf16) {
        return Err(AdapterError::input(
            "dtype",
            format!("{} is none of f32, f16 and bf16", dtype.name()),
        ));
    }
    if matches!(options.dialect, Dialect::Peft | Dialect::Diffusers) {
        refuse_mixed_doras(adapter, options.dialect)?;
    }
    if options.dialect == Dialect::Peft {
        return write_peft(adapter, path, dtype, &file_metadata(adapter, options));
    }
    let mut tensors = Vec::new();
    for module in adapter.modules.values() {
        tensors.extend(module_tensors(adapter, module, options.dialect, dtype)?);
    }
    write_tensors(path, &tensors, &file_metadata(adapter, options))?;
    Ok(vec![path.to_path_buf()])
}

/// Layers named in a message.
const MOST_NAMED: usize = 5;

/// peft has one `use_dora` for all layers of a network: it would give those without a magnitude one of its own.
fn refuse_mixed_doras(adapter: &Adapter, dialect: Dialect) -> Result<()> {
    for component in [Component::Unet, Component::TextEncoder, Component::TextEncoder2] {
        let modules = adapter.modules.iter().filter(|(_, m)| m.site.component == component);
        let (doras, others): (Vec<_>, Vec<_>) = modules.partition(|(_, m)| m.magnitude.is_some());
        if !doras.is_empty() && !others.is_empty() {
            let named: Vec<&str> = others.iter().take(MOST_NAMED).map(|(name, _)| name.as_str()).collect();
            let more = if others.len() > named.len() { ", …" } else { "" };
            let reason = format!(
                "{} of its {} layers are DoRAs, and the {} dialect makes all of them so: {}{more} would do something else; \
                 write kohya's or ComfyUI's",
                doras.len(),
                doras.len() + others.len(),
                dialect.name(),
                named.join(", "),
            );
            return Err(AdapterError::input(component.name(), reason));
        }
    }
    Ok(())
}

fn module_tensors(adapter: &Adapter, module: &Module, dialect: Dialect, dtype: Dtype) -> Result<Vec<Tensor>> {
    let (base, named) = match dialect {
        Dialect::Kohya => (kohya_name(adapter.kind, &module.site), all_tensors(module)),
        Dialect::Comfy => (comfy_name(&module.site), all_tensors(module)),
        Dialect::Diffusers | Dialect::Peft => {
            let endings = LoraEndings {
                up: "lora_B.weight",
                down: "lora_A.weight",
                magnitude: "lora_magnitude_vector",
            };
            let base = match dialect {
                Dialect::Peft => format!("{PEFT_PREFIX}{}", module.site.path),
                _ => dotted(module.site.component, &module.site.path),
            };
            (base, lora_tensors(&plain(module, dialect)?, &endings))
        }
    };
    let tensor = |(ending, shape, values): (&str, Vec<usize>, Vec<f32>)| Tensor {
        name: format!("{base}.{ending}"),
        dtype: if ending == "alpha" { Dtype::F32 } else { dtype },
        shape: if ending == "lora_magnitude_vector" {
            peft_magnitude(module, &values)
        } else {
            shape
        },
        values,
    };
    Ok(named.into_iter().map(tensor).collect())
}

/// peft's shape of DoRA's magnitude: `[out]`, of a convolution `[1, out, 1, 1]`.
fn peft_magnitude(module: &Module, values: &[f32]) -> Vec<usize> {
    match module.site.shape.len() {
        4 => vec![1, values.len(), 1, 1],
        _ => vec![values.len()],
    }
}

/// A module that peft's classes can hold: a LoRA without a core.
fn plain(module: &Module, dialect: Dialect) -> Result<Module> {
    let mut plain = module.clone();
    let refused = |what: &str| {
        let dialect = dialect.name();
        let reason = format!("the {dialect} dialect holds LoRA and DoRA only, and {what}; write kohya's or ComfyUI's");
        Err(AdapterError::input(&module.site.path, reason))
    };
    match &mut plain.update {
        _ if module.bias.is_some() => return refused("this changes a bias"),
        Some(Update::Lora { down, mid, .. }) => {
            // The scale stays in alpha, so that both factors keep their sizes.
            if let Some(core) = mid.take() {
                let shape = [&[core.shape[0]], &module.site.shape[1..]].concat();
                *down = Array::of(&Module::down(down, Some(&core)), &shape);
            }
        }
        _ => return refused(&format!("this is of the kind {}", module.kind())),
    }
    Ok(plain)
}

fn write_peft(
    adapter: &Adapter,
    path: &Path,
    dtype: Dtype,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<PathBuf>> {
    // All tensors first: an error must leave no folder behind.
    let mut folders = Vec::new();
    for component in [Component::Unet, Component::TextEncoder, Component::TextEncoder2] {
        let Some(config) = component_config(adapter, component) else {
            continue;
        };
        let mut tensors = Vec::new();
        for module in adapter.modules.values().filter(|m| m.site.component == component) {
            tensors.extend(module_tensors(adapter, module, Dialect::Peft, dtype)?);
        }
        folders.push((component, config, tensors));
    }
    let mut files = Vec::new();
    for (component, config, tensors) in folders {
        let folder = path.join(component.name());
        create_dir_durably(&folder)?;
        let (weights, document) = (folder.join(PEFT_WEIGHTS), folder.join(PEFT_CONFIG));
        write_tensors(&weights, &tensors, metadata)?;
        let text = serde_json::to_string_pretty(&Json::Object(config)).expect("a JSON object can be printed");
        write_atomic(&document, |writer| {
            writeln!(writer, "{text}").map_err(IoError::system("write", &document))
        })?;
        files.extend([weights, document]);
    }
    Ok(files)
}

fn write_tensors(path: &Path, tensors: &[Tensor], metadata: &BTreeMap<String, String>) -> Result<()> {
    for Tensor {
        name, dtype, values, ..
    } in tensors
    {
        let fits = |v: &f32| *dtype != Dtype::F16 || v.abs() < F16_OVERFLOW;
        if let Some(value) = values.iter().find(|v| !fits(v)) {
            return Err(AdapterError::input(
                name,
                format!("holds {value}, which f16 has no value for: write bf16 or f32"),
            ));
        }
    }
    let specs: Vec<TensorSpec> = tensors
        .iter()
        .map(|tensor| TensorSpec {
            name: tensor.name.clone(),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
        })
        .collect();
    write_safetensors(path, &specs, metadata, &mut |i, writer: &mut dyn Write| {
        let bytes = f32_to_bytes(&tensors[i].values, tensors[i].dtype).map_err(io::Error::other)?;
        writer.write_all(&bytes)
    })?;
    Ok(())
}

/// What rounds to infinity in f16: half a step above its largest value, 65504.
const F16_OVERFLOW: f32 = 65520.0;
