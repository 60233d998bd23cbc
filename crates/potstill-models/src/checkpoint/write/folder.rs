//! A diffusers folder: a folder per component, the scheduler, the tokenizers, and the index.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use potstill_io::{Dtype, IoError, TensorSpec, create_dir_durably, write_atomic, write_safetensors};
use serde_json::{Map, Value as Json, json};

use super::values::{bytes_as, dtype_of};
use super::weight_file;
use crate::checkpoint::config::ComponentConfig;
use crate::checkpoint::convert::{ConvertProgress, Job, WeightEdit};
use crate::checkpoint::kinds::Component;
use crate::checkpoint::opened::{KEPT_LOGIT_SCALE, KEPT_METADATA, Layout};
use crate::checkpoint::own_tokenizer::{padding, tokenizer_name};
use crate::checkpoint::part::Part;
use crate::checkpoint::single::CONFIG_METADATA;
use crate::clip::TextConfig;
use crate::clip_vocabulary::{self, CLIP_VOCABULARY};
use crate::error::{ModelError, Result};
use crate::model::ModelKind;

/// Files of a tokenizer that are copied from a folder.
const TOKENIZER_FILES: [&str; 5] = [
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
];
/// Entries of a file's metadata that are made anew for every file.
const NOT_KEPT: [&str; 3] = ["format", "modelspec.hash_sha256", CONFIG_METADATA];

/// Writes the folder: beside its place first, renamed when all is there.
pub(in crate::checkpoint) fn write_folder(
    job: &Job,
    target: &Path,
    progress: &mut ConvertProgress<'_>,
) -> Result<Vec<PathBuf>> {
    let beside = match (target.parent(), target.file_name()) {
        (Some(parent), Some(name)) => parent.join(format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id())),
        _ => return Err(ModelError::file(target, "is no name for a folder")),
    };
    let result = fill(job, &beside, progress).and_then(|files| {
        fs::rename(&beside, target).map_err(IoError::system("rename the finished folder to", target))?;
        Ok(files)
    });
    match result {
        Ok(files) => Ok(files
            .into_iter()
            .map(|file| target.join(file.strip_prefix(&beside).unwrap_or(&file)))
            .collect()),
        Err(error) => {
            let _ = fs::remove_dir_all(&beside); // what failed first is the error to report
            Err(error)
        }
    }
}

fn fill(job: &Job, folder: &Path, progress: &mut ConvertProgress<'_>) -> Result<Vec<PathBuf>> {
    create_dir_durably(folder)?;
    let mut plans = Vec::new();
    for part in &job.parts {
        plans.push((*part, specs(part, job.dtype)?));
    }
    let total = plans.iter().flat_map(|(_, specs)| specs).map(TensorSpec::bytes).sum();
    let mut done = 0;
    let mut files = Vec::new();
    for (part, specs) in plans {
        let place = folder.join(part.component.name());
        create_dir_durably(&place)?;
        files.push(write_json(&place.join("config.json"), &config_json(part, job.dtype))?);
        let path = place.join(weight_file(part.component));
        write_weights(part, &specs, &path, job.edit, &mut |bytes| {
            progress(done, total)?;
            done += bytes;
            Ok(())
        })?;
        files.push(path);
    }
    let Some(kind) = job.source.kind else { return Ok(files) };
    let scheduler = folder.join("scheduler");
    create_dir_durably(&scheduler)?;
    files.push(write_json(
        &scheduler.join("scheduler_config.json"),
        &job.source.scheduler,
    )?);
    for part in &job.parts {
        if let ComponentConfig::Text(config) = &part.config {
            files.extend(write_tokenizer(job, folder, part.component, config)?);
        }
    }
    files.push(write_json(
        &folder.join("model_index.json"),
        &model_index(job, kind, folder),
    )?);
    Ok(files)
}

fn specs(part: &Part, dtype: Option<Dtype>) -> Result<Vec<TensorSpec>> {
    let spec = |(name, shape): (String, Vec<usize>)| TensorSpec {
        dtype: dtype.unwrap_or_else(|| dtype_of(part, &name)),
        name,
        shape,
    };
    Ok(part.config.shapes()?.into_iter().map(spec).collect())
}

fn write_weights(
    part: &Part,
    specs: &[TensorSpec],
    path: &Path,
    edit: Option<&dyn WeightEdit>,
    step: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    let metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
    let mut failure = None;
    let written = write_safetensors(path, specs, &metadata, &mut |i, writer: &mut dyn Write| {
        let TensorSpec { name, dtype, .. } = &specs[i];
        let bytes = match step(specs[i].bytes()).and_then(|()| bytes_as(part, name, *dtype, edit)) {
            Ok(bytes) => bytes,
            Err(error) => {
                failure = Some(error);
                return Err(io::Error::other("the conversion ended"));
            }
        };
        writer.write_all(&bytes)?;
        drop(bytes);
        part.weights.release(name);
        Ok(())
    });
    match failure {
        Some(error) => Err(error),
        None => Ok(written?),
    }
}

/// The configuration, with the dtype that transformers keeps in it brought up to date.
fn config_json(part: &Part, dtype: Option<Dtype>) -> Map<String, Json> {
    let mut config = part.json().clone();
    let name = match dtype {
        Some(Dtype::F32) => "float32",
        Some(Dtype::F16) => "float16",
        Some(Dtype::Bf16) => "bfloat16",
        _ => return config,
    };
    for field in ["dtype", "torch_dtype"] {
        if let Some(value) = config.get_mut(field) {
            *value = json!(name);
        }
    }
    config
}

/// A folder's own tokenizer, or CLIP's. None for a vocabulary that is not CLIP's, which a file does not hold.
fn write_tokenizer(job: &Job, folder: &Path, component: Component, config: &TextConfig) -> Result<Vec<PathBuf>> {
    let name = tokenizer_name(component);
    let target = folder.join(name);
    let mut files = Vec::new();
    if job.source.layout == Layout::Folder {
        let from = job.source.path.join(name);
        for file in TOKENIZER_FILES.iter().filter(|file| from.join(file).is_file()) {
            create_dir_durably(&target)?;
            let path = target.join(file);
            let bytes = fs::read(from.join(file)).map_err(IoError::system("read", &from.join(file)))?;
            write_atomic(&path, |writer| {
                writer.write_all(&bytes).map_err(IoError::system("write", &path))
            })?;
            files.push(path);
        }
    } else if config.vocabulary == CLIP_VOCABULARY {
        create_dir_durably(&target)?;
        let pad = padding(component).unwrap_or("<|endoftext|>");
        for (file, text) in clip_vocabulary::tokenizer_files(pad) {
            let path = target.join(file);
            write_atomic(&path, |writer| {
                writer
                    .write_all(text.as_bytes())
                    .map_err(IoError::system("write", &path))
            })?;
            files.push(path);
        }
    }
    Ok(files)
}

/// Which class of which library each folder is.
fn model_index(job: &Job, kind: ModelKind, folder: &Path) -> Map<String, Json> {
    let mut index = Map::new();
    let mut set = |name: &str, value: Json| index.insert(name.to_string(), value);
    let entry = |there: bool, library: &str, class: &str| match there {
        true => json!([library, class]),
        false => json!([null, null]),
    };
    let has = |component: Component| job.parts.iter().any(|part| part.component == component);
    let sdxl = kind == ModelKind::Sdxl;
    set(
        "_class_name",
        json!(if sdxl {
            "StableDiffusionXLPipeline"
        } else {
            "StableDiffusionPipeline"
        }),
    );
    set("unet", entry(has(Component::Unet), "diffusers", "UNet2DConditionModel"));
    set("vae", entry(has(Component::Vae), "diffusers", "AutoencoderKL"));
    let scheduler = job.source.scheduler.get("_class_name").and_then(Json::as_str);
    set("scheduler", json!(["diffusers", scheduler.unwrap_or("DDIMScheduler")]));
    set(
        "text_encoder",
        entry(has(Component::TextEncoder), "transformers", "CLIPTextModel"),
    );
    set(
        "tokenizer",
        entry(folder.join("tokenizer").is_dir(), "transformers", "CLIPTokenizer"),
    );
    set("feature_extractor", json!([null, null]));
    set("image_encoder", json!([null, null]));
    if sdxl {
        let second = has(Component::TextEncoder2);
        set(
            "text_encoder_2",
            entry(second, "transformers", "CLIPTextModelWithProjection"),
        );
        set(
            "tokenizer_2",
            entry(folder.join("tokenizer_2").is_dir(), "transformers", "CLIPTokenizer"),
        );
        set("force_zeros_for_empty_prompt", json!(true));
    } else {
        set("safety_checker", json!([null, null]));
        set("requires_safety_checker", json!(false));
    }
    let mut kept = job.source.metadata.clone();
    kept.retain(|key, _| !NOT_KEPT.contains(&key.as_str()));
    kept.insert("modelspec.title".to_string(), job.title.clone());
    if let Some(scale) = job.source.logit_scale {
        kept.insert(KEPT_LOGIT_SCALE.to_string(), scale.to_string());
    }
    set(KEPT_METADATA, json!(kept));
    index
}

fn write_json(path: &Path, object: &Map<String, Json>) -> Result<PathBuf> {
    let text = serde_json::to_string_pretty(object).expect("a JSON object can be printed");
    write_atomic(path, |writer| {
        writeln!(writer, "{text}").map_err(IoError::system("write", path))
    })?;
    Ok(path.to_path_buf())
}
