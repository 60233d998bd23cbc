//! Does a device compute what the CPU does, and how fast?
//!
//! Every operation of the engine is run on a device and compared with the CPU in f64, whose gradients are those that the
//! engine's own tests compare with differences; then with PyTorch's recorded values, a UNet's predictions and gradients
//! with diffusers', ten steps of training with those of the CPU, noise to the bit, and noise that torch made on that device
//! with its emulation. On the CPU itself the same checks run in f32, and with feature `host` on the cards' kernels compiled
//! for it. Everything that is compared with is inside the executable.

pub mod checks;
mod compare;
mod embedded;
mod place;
mod random;
mod report;
pub mod timing;

pub use compare::{Tolerance, compare};
pub use place::Place;
pub use report::{Check, Outcome, Report, markdown};

/// What may go wrong besides a check.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure of what is checked, or of the suite.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operation failed.
    #[error(transparent)]
    Engine(#[from] potstill_engine::EngineError),
    /// A model failed.
    #[error(transparent)]
    Model(#[from] potstill_models::ModelError),
    /// An adapter failed.
    #[error(transparent)]
    Adapter(#[from] potstill_adapters::AdapterError),
    /// The tensor library failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// Something given is not as it should be.
    #[error("{0}")]
    Input(String),
}
