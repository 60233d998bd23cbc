//! A diffusers folder: a folder per component, the scheduler, the tokenizers, and the index.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use potstill_io::{Dtype, IoError, TensorSpec, create_dir_durably, write_atomic, write_safetensors};
use serde_json::{Map, Value as Json, json};

use super::values::{bytes_as, dtype_of, piece_bytes};
use super::weight_file;
use crate::checkpoint::config::ComponentConfig;
use crate::checkpoint::convert::{ConvertProgress, Job};
use crate::checkpoint::kinds::Component;
use crate::checkpoint::opened::{KEPT_LOGIT_SCALE, KEPT_LOGIT_SCALE_DTYPE, KEPT_METADATA, Layout};
use crate::checkpoint::own_tokenizer::{padding, tokenizer_files, tokenizer_name};
use crate::checkpoint::part::Part;
use crate::checkpoint::quantize::{Piece, PieceSpec, QUANTIZATION};
use crate::checkpoint::single::CONFIG_METADATA;
use crate::clip::TextConfig;
use crate::clip_vocabulary::{self, CLIP_VOCABULARY};
use crate::error::{ModelError, Result};
use crate::model::ModelKind;

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
        plans.push((*part, plan(job, part)?));
    }
    let total = plans
        .iter()
        .flat_map(|(_, plan)| &plan.specs)
        .map(TensorSpec::bytes)
        .sum();
    let mut done = 0;
    let mut files = Vec::new();
    for (part, plan) in plans {
        let place = folder.join(part.component.name());
        create_dir_durably(&place)?;
        files.push(write_json(&place.join("config.json"), &config_json(job, part))?);
        let path = place.join(weight_file(part.component));
        write_weights(job, part, &plan, &path, &mut |bytes| {
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

/// The tensors of a component's file, and what each is made of.
#[derive(Default)]
struct Plan {
    specs: Vec<TensorSpec>,
    contents: Vec<Content>,
}

enum Content {
    /// The parameter of the tensor's name.
    Parameter,
    /// A piece of a quantized parameter of this name and shape.
    Piece(String, Vec<usize>, Piece),
}

fn plan(job: &Job, part: &Part) -> Result<Plan> {
    let mut plan = Plan::default();
    for (name, shape) in part.config.shapes()? {
        let quantizer = job.quantizer.filter(|q| q.takes(part.component, &name, &shape));
        let dtype = job.dtype.unwrap_or_else(|| dtype_of(part, &name));
        let Some(quantizer) = quantizer else {
            plan.specs.push(TensorSpec { name, dtype, shape });
            plan.contents.push(Content::Parameter);
            continue;
        };
        for PieceSpec {
            piece,
            key,
            dtype,
            shape: stored,
        } in quantizer.pieces(&name, &shape, dtype)
        {
            plan.specs.push(TensorSpec {
                name: key,
                dtype,
                shape: stored,
            });
            plan.contents.push(Content::Piece(name.clone(), shape.clone(), piece));
        }
    }
    Ok(plan)
}

/// The bytes of tensor `i` of a plan.
fn bytes_of<'a>(job: &Job, part: &'a Part, plan: &Plan, i: usize) -> Result<Cow<'a, [u8]>> {
    match (&plan.contents[i], job.quantizer) {
        (Content::Piece(name, shape, piece), Some(quantizer)) => {
            piece_bytes(job, quantizer, part, (name, shape), *piece).map(Cow::Owned)
        }
        _ => bytes_as(part, &plan.specs[i].name, plan.specs[i].dtype, job.edit),
    }
}

fn write_weights(
    job: &Job,
    part: &Part,
    plan: &Plan,
    path: &Path,
    step: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    let metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
    let mut failure = None;
    let written = write_safetensors(path, &plan.specs, &metadata, &mut |i, writer: &mut dyn Write| {
        let bytes = match step(plan.specs[i].bytes()).and_then(|()| bytes_of(job, part, plan, i)) {
            Ok(bytes) => bytes,
            Err(error) => {
                failure = Some(error);
                return Err(io::Error::other("the conversion ended"));
            }
        };
        writer.write_all(&bytes)?;
        drop(bytes);
        match &plan.contents[i] {
            Content::Parameter => part.weights.release(&plan.specs[i].name),
            Content::Piece(name, ..) => part.weights.release(name),
        }
        Ok(())
    });
    match failure {
        Some(error) => Err(error),
        None => Ok(written?),
    }
}

/// The configuration, with the dtype that transformers keeps in it brought up to date, and how the weights are quantized.
fn config_json(job: &Job, part: &Part) -> Map<String, Json> {
    let mut config = part.json().clone();
    config.remove(QUANTIZATION);
    let rest = job.dtype.unwrap_or_else(|| {
        let first = part.weights.names().next().unwrap_or_default();
        dtype_of(part, first)
    });
    if let Some(quantization) = job.quantizer.and_then(|q| q.config(part.component, rest)) {
        config.insert(QUANTIZATION.to_string(), Json::Object(quantization));
    }
    let name = match job.dtype {
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
        for file in tokenizer_files(&job.source.path.join(name)) {
            create_dir_durably(&target)?;
            let path = target.join(file.file_name().unwrap_or_default());
            let bytes = fs::read(&file).map_err(IoError::system("read", &file))?;
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
    if let Some((scale, dtype)) = job.source.logit_scale {
        kept.insert(KEPT_LOGIT_SCALE.to_string(), scale.to_string());
        if let Some(dtype) = job.dtype.or(dtype) {
            kept.insert(KEPT_LOGIT_SCALE_DTYPE.to_string(), dtype.name().to_string());
        }
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
