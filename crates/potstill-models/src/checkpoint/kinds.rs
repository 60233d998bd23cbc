//! What a checkpoint is made of and how it names things.

use std::fmt;

/// One of the networks of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Component {
    /// The denoiser.
    Unet,
    /// Pictures to latents and back.
    Vae,
    /// CLIP-L: SD1.5's text encoder, SDXL's first.
    TextEncoder,
    /// OpenCLIP bigG: SDXL's second text encoder.
    TextEncoder2,
}

impl Component {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 4] = [Self::Unet, Self::Vae, Self::TextEncoder, Self::TextEncoder2];

    /// The name of its folder in a diffusers model: `unet`, `vae`, `text_encoder`, `text_encoder_2`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unet => "unet",
            Self::Vae => "vae",
            Self::TextEncoder => "text_encoder",
            Self::TextEncoder2 => "text_encoder_2",
        }
    }

    /// The component of a folder's name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|component| component.name() == name)
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whose names a component's tensors have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// diffusers' (UNet, VAE) or transformers' (text encoders).
    Diffusers,
    /// The original code's (`input_blocks`, `middle_block` …), as single files have them.
    Ldm,
    /// OpenCLIP's, as single SDXL files have them for the second text encoder.
    OpenClip,
}

impl Dialect {
    /// `diffusers`, `ldm`, `openclip`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Diffusers => "diffusers",
            Self::Ldm => "ldm",
            Self::OpenClip => "openclip",
        }
    }
}

/// How a parameter is kept in the tensor that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Storage {
    /// As it is.
    Same,
    /// A matrix as a 1×1 convolution, `[out, in, 1, 1]`.
    Squeezed,
    /// A matrix as its transpose.
    Transposed,
    /// This third of the rows (query, key, value).
    Third(usize),
}

/// Latents are the VAE's mean times this in SD1.x.
pub(crate) const SD15_SCALING_FACTOR: f64 = 0.18215;
/// The same in SDXL.
pub(crate) const SDXL_SCALING_FACTOR: f64 = 0.13025;
