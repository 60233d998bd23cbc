//! Asks NVIDIA's driver what it can do, and loads CUDA's libraries, without being linked to either.
//!
//! Code that uses CUDA is linked to its libraries and cannot even be loaded where one of them is missing. This crate
//! opens them at run time, so that a program finds out first, and can say what is missing. Linux only: elsewhere
//! everything is [`DriverError::Missing`].

mod driver;
#[cfg(target_os = "linux")]
mod library;
#[cfg(not(target_os = "linux"))]
#[path = "no_library.rs"]
mod library;

pub use driver::{CudaDevice, Driver, DriverError, free_memory, inspect_driver};

/// The driver's library, by the name under which the system's loader finds it.
pub const DRIVER_LIBRARY: &str = "libcuda.so.1";

/// Loads a shared library for good, with its symbols visible to all that is loaded later: a library that needs one of
/// this name takes this one, wherever it lies.
///
/// # Errors
/// The loader's words.
pub fn preload(file: &str) -> Result<(), String> {
    library::Library::open(file).map(library::Library::keep)
}
