//! Adapters from adapters.

mod back_merge;
mod extract;
mod merge;
mod resize;
mod scale;

pub use back_merge::back_merge;
pub use extract::{Extracted, extract};
pub use merge::{MergeInput, merge};
pub use resize::{Resize, Resized, resize};
pub use scale::{Factors, scale};

use crate::error::Result;

/// Asked before each layer of what takes minutes for a large model; its error ends the operation.
pub type GoOn<'a> = &'a mut dyn FnMut() -> Result<()>;
