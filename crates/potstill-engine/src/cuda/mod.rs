//! Operations on NVIDIA's cards: the kernels of `kernels/` and cuBLAS's matrix products.
//!
//! Everything here works on a [`Gpu`], which is a card, or in tests and with feature `host` the host: there the same
//! kernels, compiled for it, run in the same grids with the same arguments, so that all but the calls of the driver and of
//! cuBLAS is tested without a card. Work is queued on the device's one stream in the order of the calls; nothing here waits for it.

mod attention;
mod conv;
#[cfg(feature = "cuda")]
mod device;
mod elementwise;
mod gemm;
#[cfg(all(any(test, feature = "host"), target_os = "linux"))]
mod host;
mod launch;
mod noise;
mod norm;
mod optimizer;
mod reduce;
mod rows;
#[cfg(all(test, target_os = "linux"))]
pub(crate) mod tests;
mod update;
mod weighted;

use candle_core::{DType, Storage, Tensor};

pub(crate) use attention::Saved as SavedAttention;
pub(crate) use elementwise::{Function, Pairing};
#[cfg(all(any(test, feature = "host"), target_os = "linux"))]
pub use host::on_host;
pub(crate) use launch::{Arguments, Kernel, Output};
pub(crate) use optimizer::{Matrices, ProdigySlot};
pub(crate) use update::{Buffer, Change};

use crate::error::{EngineError, Result};

/// Where kernels run.
#[derive(Clone)]
pub(crate) enum Gpu {
    #[cfg(feature = "cuda")]
    Card(candle_core::CudaDevice),
    #[cfg(all(any(test, feature = "host"), target_os = "linux"))]
    Host,
}

impl Gpu {
    /// The card that a tensor lies on; `None` for the CPU, whose kernels are elsewhere.
    pub(crate) fn of(tensor: &Tensor) -> Option<Self> {
        Self::on(tensor.device())
    }

    /// The card that a device is; `None` for the CPU.
    pub(crate) fn on(device: &candle_core::Device) -> Option<Self> {
        match device {
            #[cfg(feature = "cuda")]
            candle_core::Device::Cuda(device) => Some(Gpu::Card(device.clone())),
            #[cfg(all(any(test, feature = "host"), target_os = "linux"))]
            candle_core::Device::Cpu => Self::host(),
            _ => None,
        }
    }

    /// The host as a card, where it is taken for one.
    #[cfg(all(any(test, feature = "host"), target_os = "linux"))]
    pub(crate) fn host() -> Option<Self> {
        host::enabled().then_some(Gpu::Host)
    }

    /// The device for tensors.
    pub(crate) fn device(&self) -> candle_core::Device {
        match *self {
            #[cfg(feature = "cuda")]
            Gpu::Card(ref device) => candle_core::Device::Cuda(device.clone()),
            #[cfg(all(any(test, feature = "host"), target_os = "linux"))]
            Gpu::Host => candle_core::Device::Cpu,
        }
    }
}

/// What sums and statistics of a type are kept in: f64 for f64, f32 for all others.
pub(crate) fn wide(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// Refuses what no kernel computes in.
pub(crate) fn check_dtype(op: &'static str, dtype: DType) -> Result<()> {
    match dtype {
        DType::F32 | DType::F64 | DType::BF16 => Ok(()),
        dtype => Err(EngineError::DType {
            op,
            dtype,
            remedy: "cast to f32, bf16 or f64",
        }),
    }
}

/// Refuses tensors of several types.
pub(crate) fn check_one_dtype<const N: usize>(op: &'static str, tensors: [&Tensor; N]) -> Result<DType> {
    let dtype = tensors[0].dtype();
    check_dtype(op, dtype)?;
    match tensors.iter().find(|tensor| tensor.dtype() != dtype) {
        Some(other) => Err(EngineError::DType {
            op,
            dtype: other.dtype(),
            remedy: "all inputs must be of one dtype",
        }),
        None => Ok(dtype),
    }
}

/// What activations of one type and a weight of another are multiplied in: bf16 where either is (sums are f32 in any
/// case), else the activations' type.
fn factors(activations: DType, weight: DType) -> DType {
    if weight == DType::BF16 { weight } else { activations }
}

/// A contiguous tensor in another float type; the tensor itself where it is of that type.
pub(crate) fn in_dtype(tensor: &Tensor, dtype: DType) -> Result<Tensor> {
    Ok(tensor.contiguous()?.to_dtype(dtype)?)
}

/// Address of the first value of a storage.
pub(crate) fn address(storage: &Storage) -> Result<u64> {
    match storage {
        #[cfg(feature = "cuda")]
        Storage::Cuda(storage) => device::address(storage),
        #[cfg(all(any(test, feature = "host"), target_os = "linux"))]
        Storage::Cpu(storage) => Ok(host::address(storage)),
        _ => Err(EngineError::Device {
            op: "kernel",
            device: "a device without kernels".into(),
        }),
    }
}
