//! The ways in which files say the same: names, shapes, and where alpha is.

mod keys;
mod metadata;
mod peft;
mod read;
mod tensors;
mod write;

pub(crate) use metadata::stated_scales;
pub(crate) use peft::LayerScale;
pub use read::is_adapter;
pub(crate) use read::read_adapter;
pub use write::{WriteOptions, write_adapter};

/// Whose names and conventions a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// kohya's sd-scripts: underscores, `lora_down` and `lora_up`, alpha as a tensor. Read by all.
    Kohya,
    /// ComfyUI's own: the paths of its loaded model.
    Comfy,
    /// A folder as peft saves it, for one component or with a folder for each.
    Peft,
    /// diffusers: dotted names, `lora_A` and `lora_B`, alpha in the metadata.
    Diffusers,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Kohya, Self::Comfy, Self::Peft, Self::Diffusers];

    /// `kohya`, `comfy`, `peft`, `diffusers`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kohya => "kohya",
            Self::Comfy => "comfy",
            Self::Peft => "peft",
            Self::Diffusers => "diffusers",
        }
    }

    /// The dialect of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.name() == name)
    }
}
