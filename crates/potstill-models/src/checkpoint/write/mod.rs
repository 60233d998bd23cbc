//! Writing checkpoints.

mod folder;
mod metadata;
mod params;
mod single;
mod values;

pub(super) use folder::write_folder;
pub(crate) use params::write_params;
pub(super) use single::write_single;

use super::kinds::Component;

/// Name of a component's weight file: diffusers' for its own classes, transformers' for text encoders.
pub(crate) fn weight_file(component: Component) -> &'static str {
    match component {
        Component::Unet | Component::Vae => "diffusion_pytorch_model.safetensors",
        Component::TextEncoder | Component::TextEncoder2 => "model.safetensors",
    }
}
