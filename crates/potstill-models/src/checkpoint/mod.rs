//! Checkpoints as diffusers and transformers keep them: a folder per component, `config.json` beside safetensors files.

mod component;
mod weights;
mod write;

pub(crate) use component::Component;
pub(crate) use weights::{KeyRules, Weights};
pub(crate) use write::write_component;
