//! Checkpoints: diffusers folders (`config.json` beside safetensors files) and single files, read, reported and written.
//!
//! A component ([`Part`]) is its configuration and its [`Weights`]: where every parameter is, under whichever name and in
//! whichever shape. [`names`] has the one table of names that reading and writing share; [`shapes`] finds the
//! configuration of files that have none; [`family`] names what is not read.

mod coded;
mod config;
mod convert;
mod document;
mod family;
mod folder;
mod kinds;
mod names;
mod opened;
mod own_tokenizer;
mod part;
mod quantize;
mod report;
mod scheduler;
mod shapes;
mod single;
mod sites;
mod sort;
mod weights;
mod write;

pub use config::ComponentConfig;
pub use convert::{ConvertOptions, Converted, WeightEdit, convert_checkpoint};
pub(crate) use family::refuse_relatives;
pub use kinds::{Component, Dialect};
pub(crate) use opened::not_a_model;
pub use opened::{Checkpoint, CheckpointReport, Layout};
pub(crate) use own_tokenizer::{tokenizer_files, tokenizer_name};
pub(crate) use part::Part;
pub use quantize::{QuantFormat, Quantize, QuantizedComponent};
pub use report::{ComponentReport, Conversions, Quantized};
pub(crate) use single::open_file;
pub use sites::Site;
pub use sort::UnusedKey;
pub use weights::hold_weights_up_to;
pub(crate) use weights::{KeyRules, Weights};
pub(crate) use write::write_params;
