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
