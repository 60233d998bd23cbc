//! LoRA and its relatives (rsLoRA, DoRA, LoHa, LoKr, full differences): one representation, the dialects of kohya, ComfyUI,
//! peft and diffusers in and out of it, and what they do to a model.
//!
//! * [`Family`]: the layers that an adapter can sit on, and their names in every dialect.
//! * [`Adapter`]: what an adapter does, layer by layer ([`Module`]), read by [`Adapter::open`] with every key accounted
//!   for, written by [`write_adapter`].
//! * [`TrainedLora`]: a LoRA beside a UNet's layers, to be trained; [`apply`]: any adapter laid into the weights,
//!   [`AppliedTo`]: into those of a checkpoint as it is written.
//! * [`scale`], [`merge`], [`resize`], [`back_merge`]: adapters from adapters; [`extract`]: from two checkpoints; products are computed in f64 and rounded once.

mod adapter;
mod apply;
mod dialects;
mod error;
mod family;
mod into_checkpoint;
mod low_rank;
mod matrix;
mod module;
mod norm;
mod operations;
mod product;
mod report;
mod targets;
mod trained;

pub use adapter::{Adapter, Provenance};
pub use apply::apply;
pub use dialects::{Dialect, WriteOptions, is_adapter, write_adapter};
pub use error::{AdapterError, KeyProblem, Result};
pub use family::Family;
pub use into_checkpoint::AppliedTo;
pub use matrix::{Matrix, Svd, qr, svd};
pub use module::{Array, Kronecker, Module, Update};
pub use operations::{
    Extracted, Factors, GoOn, MergeInput, Resize, Resized, back_merge, extract, merge, resize, scale,
};
pub use report::report;
pub use targets::{PRESETS, choose_layers, is_chosen};
pub use trained::{BlockOptions, LoraOptions, TrainedLora};
