//! The engine's thread, handles and errors.

mod adapter_errors;
mod cancel;
mod convert;
mod device;
mod engine;
mod error;
mod job;
mod outcome;
mod panic;
mod queue;
mod state;
mod tape;
mod tensor_file;
mod values;

pub use adapter_errors::of_file;
pub use cancel::CancelToken;
pub use device::open_device;
pub use engine::{Engine, Id, id};
pub use error::{OpError, Result};
pub use job::run_job;
pub use outcome::Outcome;
pub use state::State;
pub use tape::{Accumulator, Tape, module_input};
pub use tensor_file::{read_tensor, read_tensors, write_tensors};
pub use values::{tensor, tensors, values};
