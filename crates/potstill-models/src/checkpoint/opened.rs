//! A whole checkpoint, opened: all components that are there, whichever layout they are in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use potstill_io::disk::is_dir;
use potstill_io::{Dtype, SafetensorsFile};
use serde_json::{Map, Value as Json};

use super::config::ComponentConfig;
use super::family::refuse_relatives;
use super::kinds::Component;
use super::part::Part;
use super::report::ComponentReport;
use super::scheduler::{Marks, scheduler_config};
use super::single::{SingleFile, open_file_as};
use super::sort::UnusedKey;
use crate::error::{KeyMismatch, ModelError, Result};
use crate::fields::read_object;
use crate::model::ModelKind;
use crate::schedule::Schedule;

/// How a checkpoint lies on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One safetensors file.
    File,
    /// A folder of components, as diffusers keeps it.
    Folder,
}

impl Layout {
    /// `file` or `folder`.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Folder => "folder",
        }
    }
}

/// A checkpoint whose headers and configurations have been read. No weight has.
pub struct Checkpoint {
    pub(super) path: PathBuf,
    pub(super) layout: Layout,
    pub(super) kind: Option<ModelKind>,
    pub(super) parts: Vec<Part>,
    pub(super) scheduler: Map<String, Json>,
    /// Metadata of a single file; of a folder, what potstill keeps of it in `model_index.json`.
    pub(super) metadata: BTreeMap<String, String>,
    /// OpenCLIP's scale of comparisons, which diffusers has no place for, and its dtype, which
    /// folders written by early versions do not say.
    pub(super) logit_scale: Option<(f32, Option<Dtype>)>,
    unused: Vec<UnusedKey>,
    unexpected: Vec<String>,
}

/// What a checkpoint holds, with every key accounted for.
#[derive(Debug, Clone)]
pub struct CheckpointReport {
    /// The file or folder.
    pub path: PathBuf,
    /// Which of the two it is.
    pub layout: Layout,
    /// The family; none without a UNet.
    pub kind: Option<ModelKind>,
    /// What the scheduler's configuration says, or the file's marks and family imply.
    pub schedule: Schedule,
    /// The scheduler's configuration.
    pub scheduler: Map<String, Json>,
    /// The components that are there.
    pub components: Vec<ComponentReport>,
    /// Keys of a single file that belong to no component and are known not to matter.
    pub unused: Vec<UnusedKey>,
    /// Keys of a single file that belong to nothing known.
    pub unexpected: Vec<String>,
    /// `__metadata__` of a single file.
    pub metadata: BTreeMap<String, String>,
    /// The files, with their sizes in bytes.
    pub files: Vec<(PathBuf, u64)>,
}

impl CheckpointReport {
    /// Everything that does not fit, of all components, under the stored names.
    pub fn mismatch(&self) -> KeyMismatch {
        let mut all = KeyMismatch {
            unexpected: self.unexpected.clone(),
            ..KeyMismatch::default()
        };
        for KeyMismatch {
            missing,
            unexpected,
            misshapen,
            wrong_dtype,
            not_finite,
        } in self.components.iter().map(|c| c.mismatch.clone())
        {
            all.missing.extend(missing);
            all.unexpected.extend(unexpected);
            all.misshapen.extend(misshapen);
            all.wrong_dtype.extend(wrong_dtype);
            all.not_finite.extend(not_finite);
        }
        all
    }
}

impl Checkpoint {
    /// Opens a single file, a diffusers model's folder, or the folder of one component.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_as(path, None)
    }

    /// [`Checkpoint::open`], where `kind` is the family that a VAE without a UNet is meant for.
    pub fn open_as(path: &Path, kind: Option<ModelKind>) -> Result<Self> {
        match path.is_file() {
            true => Ok(Self::of_file(path, open_file_as(path, kind)?)),
            false => Self::of_folder(path),
        }
    }

    fn of_file(path: &Path, file: SingleFile) -> Self {
        Self {
            path: path.to_path_buf(),
            layout: Layout::File,
            kind: file.kind,
            metadata: file.file.header().metadata().clone(),
            logit_scale: scalar(&file.file, LOGIT_SCALE_KEY),
            parts: file.parts,
            scheduler: file.scheduler,
            unused: file.unused,
            unexpected: file.unexpected,
        }
    }

    fn of_folder(path: &Path) -> Result<Self> {
        refuse_other_pipelines(path)?;
        let mut parts = Vec::new();
        if path.join("config.json").is_file() {
            parts.push(Part::in_folder(path, component_of(path)?)?);
        }
        for component in Component::ALL {
            let folder = path.join(component.name());
            if is_dir(&folder) {
                parts.push(Part::in_folder(&folder, component)?);
            }
        }
        if parts.is_empty() {
            return Err(not_a_model(path));
        }
        let kind = parts.iter().find_map(|part| match &part.config {
            ComponentConfig::Unet(config) => Some((ModelKind::of(config), config)),
            _ => None,
        });
        if let Some((_, config)) = kind {
            refuse_relatives(config, &path.display().to_string())?;
        }
        let kind = kind.map(|(kind, _)| kind);
        let scheduler = path.join("scheduler").join("scheduler_config.json");
        let scheduler = match scheduler.is_file() {
            true => read_object(&scheduler)?,
            false => scheduler_config(kind.unwrap_or(ModelKind::Sd15), Marks::default()),
        };
        let index = path.join("model_index.json");
        let mut metadata = match index.is_file() {
            true => kept_metadata(&read_object(&index)?),
            false => BTreeMap::new(),
        };
        let dtype = metadata
            .remove(KEPT_LOGIT_SCALE_DTYPE)
            .and_then(|name| Dtype::from_name(&name));
        let scale = metadata.remove(KEPT_LOGIT_SCALE).map(|text| {
            text.parse().map_err(|_| {
                ModelError::file(
                    &index,
                    format!("{KEPT_METADATA}.{KEPT_LOGIT_SCALE} is {text:?}, which is no number"),
                )
            })
        });
        let logit_scale = scale.transpose()?.map(|scale| (scale, dtype));
        Ok(Self {
            path: path.to_path_buf(),
            layout: Layout::Folder,
            kind,
            parts,
            scheduler,
            metadata,
            logit_scale,
            unused: Vec::new(),
            unexpected: Vec::new(),
        })
    }

    /// The family; none without a UNet.
    pub fn kind(&self) -> Option<ModelKind> {
        self.kind
    }

    /// The components that are there.
    pub fn components(&self) -> impl Iterator<Item = Component> {
        self.parts.iter().map(|part| part.component)
    }

    /// The components that are there, with their configurations: stated, or implied by keys and shapes.
    pub fn configs(&self) -> Vec<(Component, ComponentConfig)> {
        let pair = |part: &Part| (part.component, part.config.clone());
        self.parts.iter().map(pair).collect()
    }

    /// Compares what is there with what the components ask for. Reads headers only.
    pub fn report(&self) -> Result<CheckpointReport> {
        let place = self.path.display().to_string();
        let mut paths: Vec<PathBuf> = self.parts.iter().flat_map(|part| part.files.clone()).collect();
        paths.sort();
        paths.dedup();
        let files = paths
            .into_iter()
            .map(|path| match path.metadata() {
                Ok(facts) => Ok((path, facts.len())),
                Err(e) => Err(ModelError::file(path, format!("cannot be read: {e}"))),
            })
            .collect::<Result<_>>()?;
        Ok(CheckpointReport {
            path: self.path.clone(),
            layout: self.layout,
            kind: self.kind,
            schedule: Schedule::parse(&self.scheduler, &format!("{place} (scheduler)"))?,
            scheduler: self.scheduler.clone(),
            components: self.parts.iter().map(ComponentReport::new).collect::<Result<_>>()?,
            unused: self.unused.clone(),
            unexpected: self.unexpected.clone(),
            metadata: self.metadata.clone(),
            files,
        })
    }
}

/// Entry of `model_index.json` in which a single file's metadata outlives its conversion; diffusers ignores names that
/// begin with an underscore.
pub(super) const KEPT_METADATA: &str = "_potstill_metadata";

/// Where it keeps [`Checkpoint::logit_scale`].
pub(super) const KEPT_LOGIT_SCALE: &str = "logit_scale";
/// And its dtype.
pub(super) const KEPT_LOGIT_SCALE_DTYPE: &str = "logit_scale_dtype";
/// The scale's key in single files.
pub(super) const LOGIT_SCALE_KEY: &str = "conditioner.embedders.1.model.logit_scale";

/// A tensor of one number.
fn scalar(file: &SafetensorsFile, key: &str) -> Option<(f32, Option<Dtype>)> {
    let view = file.tensor(key).ok()?;
    match view.to_f32().ok()?[..] {
        [value] => Some((value, Some(view.dtype))),
        _ => None,
    }
}

fn kept_metadata(index: &Map<String, Json>) -> BTreeMap<String, String> {
    let kept = index.get(KEPT_METADATA).and_then(Json::as_object);
    kept.into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_string())))
        .collect()
}

/// Which component a folder of its own is, by its configuration.
fn component_of(folder: &Path) -> Result<Component> {
    let config = read_object(&folder.join("config.json"))?;
    let class = config.get("_class_name").and_then(Json::as_str);
    let architecture = config
        .get("architectures")
        .and_then(|list| list.get(0))
        .and_then(Json::as_str);
    match (class, architecture) {
        (Some("UNet2DConditionModel"), _) => Ok(Component::Unet),
        (Some("AutoencoderKL"), _) => Ok(Component::Vae),
        (_, Some("CLIPTextModelWithProjection")) => Ok(Component::TextEncoder2),
        (_, Some("CLIPTextModel")) => Ok(Component::TextEncoder),
        (class, architecture) => Err(ModelError::Unsupported {
            place: folder.display().to_string(),
            what: class.or(architecture).map_or_else(
                || "a folder whose config.json names no class".to_string(),
                |name| format!("a {name}"),
            ),
        }),
    }
}

/// A folder without a UNet: another pipeline by name, or nothing of the kind.
pub(crate) fn not_a_model(folder: &Path) -> ModelError {
    if !is_dir(folder) {
        return ModelError::file(folder, "does not exist");
    }
    match refuse_other_pipelines(folder) {
        Err(error) => error,
        Ok(()) => ModelError::file(folder, "is not a diffusers model: it has no unet/config.json"),
    }
}

/// Refuses a folder without a UNet whose index names another pipeline: its VAE and text encoders may look like ours.
/// Where there is a UNet, its configuration decides: pipelines have many names.
fn refuse_other_pipelines(folder: &Path) -> Result<()> {
    if is_dir(&folder.join("unet")) {
        return Ok(());
    }
    let index = read_object(&folder.join("model_index.json")).ok();
    match index.as_ref().and_then(|i| i.get("_class_name")).and_then(Json::as_str) {
        Some(class)
            if !class.starts_with("StableDiffusionPipeline") && !class.starts_with("StableDiffusionXLPipeline") =>
        {
            let place = folder.display().to_string();
            let what = match class {
                "StableDiffusion3Pipeline" => format!("Stable Diffusion 3 ({class})"),
                _ => format!("a {class}"),
            };
            Err(ModelError::Unsupported { place, what })
        }
        _ => Ok(()),
    }
}
