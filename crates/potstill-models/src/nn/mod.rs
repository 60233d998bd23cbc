//! Layers with parameters: what the architectures are built of.

mod attention;
mod branch;
mod layers;
mod packing;
mod resnet;
mod scope;

pub(crate) use attention::{CrossAttention, FeedForward};
pub use branch::{Branch, Sockets, Switch};
pub(crate) use layers::{Conv2d, Embedding, GroupNorm, LayerNorm, Linear};
pub(crate) use packing::{is_packable, out_of_range};
pub(crate) use resnet::{Resnet, ResnetConfig};
pub use scope::Precision;
pub(crate) use scope::{Found, NamedShapes, Scope, Source, build, shapes_of};
