//! A diffusers folder: which components it has, what kind of model it is, and what its UNet predicts.

use std::fmt;
use std::path::{Path, PathBuf};

use candle_core::Device;

use crate::checkpoint::Component;
use crate::error::{ModelError, Result};
use crate::prediction::PredictionKind;
use crate::prompt::PromptEncoder;
use crate::schedule::Schedule;
use crate::unet::{Unet, UnetConfig};
use crate::vae::{Vae, VaeConfig};

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

/// Folder names of the components of a model.
pub const COMPONENTS: [&str; 4] = ["unet", "vae", "text_encoder", "text_encoder_2"];

/// A model's folder. Opening reads its small configurations only; each component is loaded on request, so that a
/// UNet can be used where the VAE's or the encoders' files are absent.
#[derive(Debug, Clone)]
pub struct Model {
    folder: PathBuf,
    kind: ModelKind,
    schedule: Schedule,
    unet: UnetConfig,
}

impl Model {
    /// Opens a diffusers folder: `unet/config.json` decides the kind, `scheduler/scheduler_config.json` (when there is
    /// one; else Stable Diffusion's schedule and epsilon) the noise levels and the prediction kind.
    pub fn open(folder: &Path) -> Result<Self> {
        if folder.is_file() {
            let reason = "is a file; convert single-file checkpoints to a diffusers folder first";
            return Err(ModelError::file(folder, reason));
        }
        let config = folder.join("unet").join("config.json");
        if !config.is_file() {
            let reason = "is not a diffusers model: it has no unet/config.json";
            return Err(ModelError::file(folder, reason));
        }
        let unet = UnetConfig::read(&config)?;
        let scheduler = folder.join("scheduler").join("scheduler_config.json");
        let schedule = match scheduler.is_file() {
            true => Schedule::read(&scheduler)?,
            false => Schedule::sd(PredictionKind::Epsilon),
        };
        Ok(Self {
            folder: folder.to_path_buf(),
            kind: ModelKind::of(&unet),
            schedule,
            unet,
        })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
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

    /// The VAE's architecture.
    pub fn vae_config(&self) -> Result<VaeConfig> {
        VaeConfig::read(&self.folder.join("vae").join("config.json"))
    }

    /// Loads the UNet.
    pub fn load_unet(&self, device: &Device) -> Result<Unet> {
        Unet::load(&self.folder.join("unet"), device)
    }

    /// Loads the VAE.
    pub fn load_vae(&self, device: &Device) -> Result<Vae> {
        Vae::load(&self.folder.join("vae"), device)
    }

    /// Loads the tokenizers and text encoders.
    pub fn load_prompt_encoder(&self, device: &Device) -> Result<PromptEncoder> {
        let encoder = PromptEncoder::load(&self.folder, self.kind, device)?;
        let (text, wanted) = (encoder.width(), self.unet.cross_attention_dim);
        match text == wanted {
            true => Ok(encoder),
            false => {
                let reason = format!("the text encoders' width {text} is not the UNet's cross_attention_dim {wanted}");
                Err(ModelError::file(&self.folder, reason))
            }
        }
    }

    /// The weight files of a component (one of [`COMPONENTS`]) in the order of their names, for digests.
    pub fn weight_files(&self, component: &str) -> Result<Vec<PathBuf>> {
        Ok(Component::open(&self.folder.join(component))?.into_files())
    }
}
