//! Layers with parameters: what the architectures are built of.

mod attention;
mod branch;
mod layers;
mod resnet;
mod scope;

pub(crate) use attention::{CrossAttention, FeedForward};
pub use branch::{Branch, Sockets};
pub(crate) use layers::{Conv2d, Embedding, GroupNorm, LayerNorm, Linear};
pub(crate) use resnet::{Resnet, ResnetConfig};
pub(crate) use scope::{Found, NamedShapes, Scope, Source, build, shapes_of};
