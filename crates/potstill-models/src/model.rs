//! A model, be it a diffusers folder or a single file: which components it has, what kind it is, what its UNet predicts.

use std::fmt;
use std::path::{Path, PathBuf};

use candle_core::Device;
use potstill_io::disk::{is_dir, is_file};

use crate::checkpoint::{
    Component, ComponentConfig, Part, not_a_model, open_file, refuse_relatives, tokenizer_files, tokenizer_name,
};
use crate::error::{ModelError, Result};
use crate::nn::Precision;
use crate::prediction::PredictionKind;
use crate::prompt::PromptEncoder;
use crate::schedule::Schedule;
use crate::unet::{Unet, UnetConfig};
use crate::vae::Vae;

/// The family of a model, which decides how prompts condition it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ModelKind {
    /// One text encoder, its last hidden state.
    Sd15,
    /// Two text encoders, their second-last hidden states side by side, a pooled text and sizes.
    Sdxl,
}

impl ModelKind {
    /// The kind of a UNet: SDXL's has the added conditioning.
    pub fn of(config: &UnetConfig) -> Self {
        if config.text_time.is_some() {
            Self::Sdxl
        } else {
            Self::Sd15
        }
    }

    /// The kind of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Sd15, Self::Sdxl].into_iter().find(|kind| kind.name() == name)
    }

    /// The components of a whole model.
    pub fn components(self) -> &'static [Component] {
        match self {
            Self::Sd15 => &Component::ALL[..3],
            Self::Sdxl => &Component::ALL,
        }
    }

    /// `sd15` or `sdxl`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sd15 => "sd15",
            Self::Sdxl => "sdxl",
        }
    }
}

impl fmt::Display for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A model's folder or single file. Opening reads its small configurations and headers only; each component is loaded on
/// request, so that a UNet can be used where the VAE's or the encoders' files are absent.
#[derive(Debug, Clone)]
pub struct Model {
    path: PathBuf,
    kind: ModelKind,
    schedule: Schedule,
    unet: UnetConfig,
}

impl Model {
    /// Opens a diffusers folder or a single file.
    ///
    /// In a folder, `unet/config.json` decides the kind, `scheduler/scheduler_config.json` (when there is one; else Stable
    /// Diffusion's schedule and epsilon) the noise levels and the prediction kind; in a file, keys, shapes and marks do.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] names what is of another family or for another task.
    pub fn open(path: &Path) -> Result<Self> {
        match is_file(path) {
            true => Self::open_file(path),
            false => Self::open_folder(path),
        }
    }

    fn open_file(path: &Path) -> Result<Self> {
        let file = open_file(path)?;
        let schedule = Schedule::parse(&file.scheduler, &format!("{} (scheduler)", path.display()))?;
        match file.take(Component::Unet)?.map(|part| part.config) {
            Some(ComponentConfig::Unet(unet)) => Ok(Self::new(path, schedule, unet)),
            _ => Err(ModelError::file(path, "holds no unet; give a whole model")),
        }
    }

    fn open_folder(path: &Path) -> Result<Self> {
        let config = path.join("unet").join("config.json");
        if !is_file(&config) {
            return Err(not_a_model(path));
        }
        let unet = UnetConfig::read(&config)?;
        refuse_relatives(&unet, &path.display().to_string())?;
        let scheduler = path.join("scheduler").join("scheduler_config.json");
        let schedule = match is_file(&scheduler) {
            true => Schedule::read(&scheduler)?,
            false => Schedule::sd(PredictionKind::Epsilon),
        };
        Ok(Self::new(path, schedule, unet))
    }

    fn new(path: &Path, schedule: Schedule, unet: UnetConfig) -> Self {
        Self {
            path: path.to_path_buf(),
            kind: ModelKind::of(&unet),
            schedule,
            unet,
        }
    }

    /// The folder or file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a component is loaded from: its folder, or the single file with the component's name after it.
    fn component_path(&self, component: Component) -> PathBuf {
        self.path.join(component.name())
    }

    /// The family.
    pub fn kind(&self) -> ModelKind {
        self.kind
    }

    /// The noise schedule and prediction kind.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The UNet's architecture.
    pub fn unet_config(&self) -> &UnetConfig {
        &self.unet
    }

    /// Whether a component is there, be it sound or not.
    ///
    /// # Errors
    /// When a single file cannot be read.
    pub fn has(&self, component: Component) -> Result<bool> {
        match is_file(&self.path) {
            true => Ok(open_file(&self.path)?.take(component)?.is_some()),
            false => Ok(is_dir(&self.component_path(component))),
        }
    }

    /// A component's architecture and the weight files that it is loaded from, sorted, for digests.
    pub fn component(&self, component: Component) -> Result<(ComponentConfig, Vec<PathBuf>)> {
        let part = Part::open_as(&self.component_path(component), component, Some(self.kind))?;
        Ok((part.config, part.files))
    }

    /// The files that a text encoder's tokenizer is loaded from, those that are there of all that are looked at, for
    /// digests. A single file goes with CLIP's own tokenizer, which is built in.
    pub fn tokenizer_files(&self, encoder: Component) -> Vec<PathBuf> {
        tokenizer_files(&self.path.join(tokenizer_name(encoder)))
    }

    /// Loads the UNet.
    pub fn load_unet(&self, precision: Precision, device: &Device) -> Result<Unet> {
        Unet::load_in(&self.component_path(Component::Unet), precision, device)
    }

    /// Loads the VAE.
    pub fn load_vae(&self, device: &Device) -> Result<Vae> {
        Vae::load_for(&self.component_path(Component::Vae), Some(self.kind), device)
    }

    /// Loads the tokenizers and text encoders.
    pub fn load_prompt_encoder(&self, device: &Device) -> Result<PromptEncoder> {
        let encoder = PromptEncoder::load(&self.path, self.kind, device)?;
        let (text, wanted) = (encoder.width(), self.unet.cross_attention_dim);
        match text == wanted {
            true => Ok(encoder),
            false => {
                let reason = format!("the text encoders' width {text} is not the UNet's cross_attention_dim {wanted}");
                Err(ModelError::file(&self.path, reason))
            }
        }
    }
}
