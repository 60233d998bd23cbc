//! UNet, VAE, CLIP, tokenizer, noise schedules and samplers of the SD1.5 and SDXL families, read from diffusers folders and
//! single files.
//!
//! Images and latents are NCHW at this crate's boundary and channels-last inside; weights are f32 in memory and in
//! diffusers' layout in everything that is exported.

mod checkpoint;
mod clip;
mod clip_vocabulary;
mod error;
mod fields;
mod layout;
mod model;
mod nn;
mod params;
mod prediction;
mod prompt;
mod random;
mod recompute;
pub mod samplers;
mod sampling;
mod schedule;
mod tokenizer;
mod unet;
mod vae;

pub use checkpoint::{
    Checkpoint, CheckpointReport, Component, ComponentConfig, ComponentReport, Conversions, ConvertOptions, Converted,
    Dialect, Layout, QuantFormat, Quantize, Quantized, QuantizedComponent, Site, UnusedKey, WeightEdit,
    convert_checkpoint, hold_weights_up_to,
};
pub use clip::{ClipActivation, TextConfig, TextEncoder, TextOutput};
pub use error::{KeyMismatch, ModelError, Result};
pub use layout::{to_file_layout, to_memory_layout};
pub use model::{Model, ModelKind};
pub use nn::{Branch, Precision, Sockets, Switch};
pub use params::Params;
pub use prediction::{PredictionKind, add_noise, conversion, convert, convert_at, guide};
pub use prompt::{PromptEmbeddings, PromptEncoder, default_time_ids};
pub use random::Initialisation;
pub use recompute::{RecomputeError, RecomputeRequest, recompute, view_planes};
pub use sampling::{Conditioning, Guidance, Sampling, sample};
pub use schedule::Schedule;
pub use tokenizer::{SEQUENCE_LENGTH, Tokenizer};
pub use unet::{
    ForwardOptions, MemoryRequest, MidBlockConfig, TIME_IDS, TextTimeConfig, Trained, Unet, UnetConfig, UnetInputs,
    UnetMemory, unet_memory,
};
pub use vae::{Direction, Posterior, Tiling, Vae, VaeConfig, vae_activations};
