//! Devices by name. What a machine has, and why it cannot be used, is asked by `potstill-driver`, before CUDA is loaded.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;

use crate::cuda::Gpu;

/// A device by its name: `cpu`, `cuda` (the first card) or `cuda:N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// The CPU.
    Cpu,
    /// A card by its number.
    Cuda(usize),
}

impl FromStr for DeviceName {
    type Err = DeviceError;

    fn from_str(name: &str) -> std::result::Result<Self, DeviceError> {
        let unknown = || DeviceError::Name { given: name.into() };
        match name {
            "cpu" => Ok(DeviceName::Cpu),
            "cuda" => Ok(DeviceName::Cuda(0)),
            _ => {
                let number = name.strip_prefix("cuda:").ok_or_else(unknown)?;
                let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
                let number = digits.then(|| number.parse().ok()).flatten();
                number.map(DeviceName::Cuda).ok_or_else(unknown)
            }
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceName::Cpu => f.write_str("cpu"),
            DeviceName::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

/// Memory of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// What is free now.
    pub free_bytes: u64,
    /// All of it.
    pub total_bytes: u64,
}

/// Why a device cannot be used, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// A name that no device has.
    #[error("unknown device {given:?}; use \"cpu\", \"cuda\" or \"cuda:N\"")]
    Name {
        /// The name.
        given: String,
    },
    /// A build without CUDA.
    #[error("this build of potstill computes on the CPU only; install @potstill/native-cuda13-linux-x64-gnu beside it")]
    NotBuilt,
    /// What the driver or a library refused.
    #[error("the GPU cannot be used ({detail}); see `potstill doctor`")]
    Failed {
        /// What it said.
        detail: String,
    },
}

/// Opens a device. A card gets one stream, on which everything runs in order; it is to be opened once and used from one
/// thread.
pub fn open(name: DeviceName) -> std::result::Result<Device, DeviceError> {
    match name {
        DeviceName::Cpu => Ok(Device::Cpu),
        DeviceName::Cuda(ordinal) => card::open(ordinal),
    }
}

/// Whether a device computes with the cards' kernels, which take activations in bf16 too.
pub fn is_card(device: &Device) -> bool {
    Gpu::on(device).is_some()
}

/// Memory of a card; `None` for the CPU, and where the driver does not say.
pub fn memory(device: &Device) -> Option<DeviceMemory> {
    card::memory(device)
}

#[cfg(not(feature = "cuda"))]
mod card {
    use super::{Device, DeviceError, DeviceMemory};

    pub(super) fn open(_ordinal: usize) -> Result<Device, DeviceError> {
        Err(DeviceError::NotBuilt)
    }

    pub(super) fn memory(_device: &Device) -> Option<DeviceMemory> {
        None
    }
}

#[cfg(feature = "cuda")]
mod card {
    use candle_core::cuda_backend::cudarc::driver::{CudaContext, DriverError, result, sys};

    use super::{Device, DeviceError, DeviceMemory};

    fn failed(error: impl std::fmt::Display) -> DeviceError {
        DeviceError::Failed {
            detail: error.to_string(),
        }
    }

    pub(super) fn open(ordinal: usize) -> Result<Device, DeviceError> {
        let device = Device::new_cuda_with_stream(ordinal).map_err(failed)?;
        if let Device::Cuda(device) = &device {
            // SAFETY: one stream does everything, so that there is nothing to keep in order.
            unsafe { device.disable_event_tracking() };
            keep_freed_memory(device.cuda_stream().context()).map_err(failed)?;
        }
        Ok(device)
    }

    /// Lets the driver's pool keep what is freed: by default it gives everything back at each synchronisation, and the
    /// next step pays for all of it again.
    fn keep_freed_memory(context: &CudaContext) -> Result<(), DriverError> {
        let mut most = u64::MAX;
        context.bind_to_thread()?;
        // SAFETY: the context's own device and pool; the attribute is a 64-bit number.
        unsafe {
            let pool = result::device::get_default_mem_pool(context.cu_device())?;
            let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
            sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut most).cast()).result()
        }
    }

    pub(super) fn memory(device: &Device) -> Option<DeviceMemory> {
        let Device::Cuda(device) = device else { return None };
        let (free, total) = device.cuda_stream().context().mem_get_info().ok()?;
        Some(DeviceMemory {
            free_bytes: free as u64,
            total_bytes: total as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for (name, device) in [
            ("cpu", DeviceName::Cpu),
            ("cuda", DeviceName::Cuda(0)),
            ("cuda:3", DeviceName::Cuda(3)),
        ] {
            assert_eq!(name.parse(), Ok(device));
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        for name in [
            "",
            "gpu",
            "CUDA",
            "cuda:",
            "cuda:-1",
            "cuda:+1",
            "cuda:x",
            "cuda:99999999999999999999",
        ] {
            let error = name.parse::<DeviceName>().unwrap_err();
            assert!(error.to_string().contains("cuda:N"), "{error}");
        }
    }

    #[test]
    fn the_cpu_is_always_there() {
        assert!(open(DeviceName::Cpu).unwrap().is_cpu());
        assert_eq!(memory(&Device::Cpu), None);
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_build_without_cuda_says_so() {
        let error = open(DeviceName::Cuda(0)).unwrap_err();
        assert!(error.to_string().contains("@potstill/native-cuda13"), "{error}");
    }
}
