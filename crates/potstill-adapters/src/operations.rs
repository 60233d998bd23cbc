//! Adapters from adapters.

mod merge;
mod resize;
mod scale;

pub use merge::{MergeInput, merge};
pub use resize::{Resize, Resized, resize};
pub use scale::{Factors, scale};
