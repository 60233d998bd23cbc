//! The configuration of a component, whichever it is.

use serde_json::{Map, Value as Json};

use crate::clip::{TextConfig, TextEncoder};
use crate::error::Result;
use crate::nn::NamedShapes;
use crate::unet::{Unet, UnetConfig};
use crate::vae::{Vae, VaeConfig};

/// The architecture of a component.
#[derive(Debug, Clone, PartialEq)]
pub enum ComponentConfig {
    /// A UNet's.
    Unet(UnetConfig),
    /// A VAE's.
    Vae(VaeConfig),
    /// A text encoder's.
    Text(TextConfig),
}

impl ComponentConfig {
    /// Its JSON object, as in `config.json`.
    pub fn json(&self) -> &Map<String, Json> {
        match self {
            Self::Unet(config) => config.json(),
            Self::Vae(config) => config.json(),
            Self::Text(config) => config.json(),
        }
    }

    /// Whether the other is the same architecture, however its JSON says so.
    pub(crate) fn same_architecture(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unet(a), Self::Unet(b)) => a.same_architecture(b),
            (Self::Vae(a), Self::Vae(b)) => a.same_architecture(b),
            (Self::Text(a), Self::Text(b)) => a.same_architecture(b),
            _ => false,
        }
    }

    /// Names and shapes of its parameters, in diffusers' order and layout.
    pub(crate) fn shapes(&self) -> Result<NamedShapes> {
        match self {
            Self::Unet(config) => Unet::shapes(config),
            Self::Vae(config) => Vae::shapes(config),
            Self::Text(config) => TextEncoder::shapes(config),
        }
    }
}
