//! One component of a checkpoint: its configuration and where its weights are. Headers have been read, weights not.

use std::path::{Path, PathBuf};

use potstill_io::disk::is_file;
use serde_json::{Map, Value as Json};

use super::config::ComponentConfig;
use super::folder::ComponentFolder;
use super::kinds::{Component, Dialect};
use super::single::open_file_as;
use super::sort::UnusedKey;
use super::weights::{KeyRules, Weights};
use crate::clip::{self, TextConfig};
use crate::error::{ModelError, Result};
use crate::model::ModelKind;
use crate::unet::UnetConfig;
use crate::vae::{self, VaeConfig};

/// One component of a checkpoint.
pub(crate) struct Part {
    pub(crate) component: Component,
    pub(crate) dialect: Dialect,
    pub(crate) config: ComponentConfig,
    pub(crate) weights: Weights<'static>,
    /// Weight files, sorted.
    pub(crate) files: Vec<PathBuf>,
    /// What its files hold besides, and why it is not used.
    pub(crate) unused: Vec<UnusedKey>,
}

impl Part {
    /// The component of a diffusers component folder or of a single file. `MODEL/unet` is the UNet of a model whichever
    /// of the two MODEL is.
    pub(crate) fn open(path: &Path, component: Component) -> Result<Self> {
        Self::open_as(path, component, None)
    }

    /// [`Part::open`], where `kind` is the family that a VAE's file without a UNet is meant for.
    pub(crate) fn open_as(path: &Path, component: Component, kind: Option<ModelKind>) -> Result<Self> {
        let path = match path.parent() {
            Some(model) if is_file(model) && path.ends_with(component.name()) => model,
            _ => path,
        };
        if !is_file(path) {
            return Self::in_folder(path, component);
        }
        open_file_as(path, kind)?.take(component)?.ok_or_else(|| {
            let reason = format!("holds no {component}; give a file or folder that has one");
            ModelError::file(path, reason)
        })
    }

    /// The component of a diffusers component folder.
    pub(crate) fn in_folder(path: &Path, component: Component) -> Result<Self> {
        let folder = ComponentFolder::open(path)?;
        let place = folder.config_path().display().to_string();
        let (rules, config) = match component {
            Component::Unet => {
                let config = UnetConfig::read(folder.config_path())?;
                (KeyRules::EXACT, ComponentConfig::Unet(config))
            }
            Component::Vae => {
                let config = VaeConfig::read(folder.config_path())?;
                (vae::KEY_RULES, ComponentConfig::Vae(config))
            }
            Component::TextEncoder | Component::TextEncoder2 => {
                let config = TextConfig::read(folder.config_path())?;
                (clip::KEY_RULES, ComponentConfig::Text(config))
            }
        };
        let (weights, dropped) = folder.weights(rules)?;
        let config = match config {
            ComponentConfig::Text(text) if weights.contains("text_projection.weight") => {
                ComponentConfig::Text(text.with_projection(&place)?)
            }
            config => config,
        };
        let unused = dropped
            .into_iter()
            .map(|key| UnusedKey {
                key,
                reason: "the numbers from 0 to 76",
            })
            .collect();
        Ok(Self {
            component,
            dialect: Dialect::Diffusers,
            config,
            weights,
            files: folder.into_files(),
            unused,
        })
    }

    /// A UNet's configuration and weights.
    pub(crate) fn unet(path: &Path) -> Result<(UnetConfig, Weights<'static>)> {
        match Self::open(path, Component::Unet)? {
            Part {
                config: ComponentConfig::Unet(config),
                weights,
                ..
            } => Ok((config, weights)),
            _ => unreachable!("a UNet was asked for"),
        }
    }

    /// A VAE's; `kind` as in [`Part::open_as`].
    pub(crate) fn vae(path: &Path, kind: Option<ModelKind>) -> Result<(VaeConfig, Weights<'static>)> {
        match Self::open_as(path, Component::Vae, kind)? {
            Part {
                config: ComponentConfig::Vae(config),
                weights,
                ..
            } => Ok((config, weights)),
            _ => unreachable!("a VAE was asked for"),
        }
    }

    /// A text encoder's.
    pub(crate) fn text(path: &Path, component: Component) -> Result<(TextConfig, Weights<'static>)> {
        match Self::open(path, component)? {
            Part {
                config: ComponentConfig::Text(config),
                weights,
                ..
            } => Ok((config, weights)),
            _ => unreachable!("a text encoder was asked for"),
        }
    }

    /// The configuration's JSON object.
    pub(crate) fn json(&self) -> &Map<String, Json> {
        self.config.json()
    }
}
