//! Where the checked side computes.

use potstill_engine::{DType, Device};

/// A device, or what stands in for one.
#[derive(Debug, Clone)]
pub enum Place {
    /// The CPU with its own kernels: shows that the suite is right.
    Cpu,
    /// The CPU with the cards' kernels, compiled for it: shows that those are right, but for the driver and cuBLAS. Slow.
    #[cfg(feature = "host")]
    Host,
    /// An NVIDIA device.
    Card(Device),
}

impl Place {
    /// The device of its tensors.
    pub fn device(&self) -> &Device {
        match self {
            Place::Card(device) => device,
            #[cfg(feature = "host")]
            Place::Host => &Device::Cpu,
            Place::Cpu => &Device::Cpu,
        }
    }

    /// Runs what belongs to the checked side; everything else is the reference's.
    pub fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        match self {
            #[cfg(feature = "host")]
            Place::Host => potstill_engine::on_host(f),
            _ => f(),
        }
    }

    /// Whether the cards' kernels compute.
    pub fn is_card(&self) -> bool {
        !matches!(self, Place::Cpu)
    }

    /// Number formats that operations are checked in. The CPU's f64 is what everything is compared with; activations in
    /// bf16 it has none.
    pub(crate) fn formats(&self) -> &'static [DType] {
        match self.is_card() {
            true => &[DType::F64, DType::F32, DType::BF16],
            false => &[DType::F32],
        }
    }
}
