//! NVIDIA's driver and CUDA's libraries, asked and loaded without being linked to them.

use napi_derive::napi;
use potstill_driver::{free_memory, inspect_driver, preload};

use crate::core::{OpError, Outcome, Result};

/// A driver.
#[napi(object)]
pub struct CudaDriver {
    /// The newest CUDA that it runs, such as 13.2.
    pub cuda: String,
    /// Its devices, in its order.
    pub devices: Vec<CudaDevice>,
    /// Why it has no devices.
    pub reason: Option<String>,
}

/// A device of the driver.
#[napi(object)]
pub struct CudaDevice {
    /// As the vendor calls it.
    pub name: String,
    /// Compute capability, such as 8.6.
    pub capability: String,
    /// Bytes of memory that it has.
    pub total_bytes: f64,
}

/// Opens a driver's library and asks it.
#[napi(ts_return_type = "Outcome<CudaDriver>", catch_unwind)]
pub fn inspect_cuda_driver(library: String) -> Outcome<CudaDriver> {
    Outcome(inspect(&library))
}

/// Bytes that are free on a device of the driver. Makes a context on it for a moment.
#[napi(ts_return_type = "Outcome<number>", catch_unwind)]
pub fn free_cuda_memory(library: String, device: u32) -> Outcome<f64> {
    Outcome(
        free_memory(&library, device)
            .map(|bytes| bytes as f64)
            .map_err(|error| OpError::machine("ERR_CUDA_DEVICE", error).at(format!("cuda:{device}"))),
    )
}

fn inspect(library: &str) -> Result<CudaDriver> {
    let driver = inspect_driver(library).map_err(|error| OpError::machine("ERR_CUDA_DRIVER", error).at(library))?;
    let (devices, reason) = match driver.devices {
        Ok(devices) => (devices, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let version = |(major, minor): (u32, u32)| format!("{major}.{minor}");
    let devices = devices.into_iter().map(|device| CudaDevice {
        name: device.name,
        capability: version(device.capability),
        total_bytes: device.total_bytes as f64,
    });
    Ok(CudaDriver {
        cuda: version(driver.cuda),
        devices: devices.collect(),
        reason,
    })
}

/// Loads a shared library for good, by path, or by name in the loader's places; what is loaded later finds it by its
/// name. Gives the loader's words when it cannot.
#[napi(catch_unwind)]
pub fn preload_library(file: String) -> Option<String> {
    preload(&file).err()
}
