//! Updates of a tensor in place.

use candle_core::{DType, Tensor};

use super::{Arguments, Gpu, Kernel};
use crate::error::Result;

const FILE: &str = "elementwise";

/// Memory by its address, for the length of an update.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffer {
    pub(crate) address: u64,
    pub(crate) dtype: DType,
    pub(crate) len: usize,
}

impl Buffer {
    /// Part of a storage on a card, which is held for as long as the buffer is used.
    #[cfg(feature = "cuda")]
    pub(crate) fn on_card(storage: &candle_core::CudaStorage, (start, end): (usize, usize)) -> Result<Self> {
        use candle_core::backend::BackendStorage;

        let dtype = storage.dtype();
        Ok(Self {
            address: super::device::address(storage)? + (start * dtype.size_in_bytes()) as u64,
            dtype,
            len: end - start,
        })
    }

    /// The same on the host.
    #[cfg(all(any(test, feature = "host"), target_os = "linux"))]
    pub(crate) fn on_host(storage: &candle_core::CpuStorage, (start, end): (usize, usize)) -> Self {
        use candle_core::backend::BackendStorage;

        let dtype = storage.dtype();
        Self {
            address: super::host::address(storage) + (start * dtype.size_in_bytes()) as u64,
            dtype,
            len: end - start,
        }
    }
}

/// What becomes of every element, in the order of `Change` in `kernels/elementwise.cu`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Accumulate,
    Copy,
    /// By this fraction of the way.
    Move(f64),
}

impl Gpu {
    /// Changes every element of one buffer by one of another.
    pub(crate) fn update(&self, change: Change, to: Buffer, from: Buffer) -> Result<()> {
        let (code, fraction) = match change {
            Change::Accumulate => (0, 0.),
            Change::Copy => (1, 0.),
            Change::Move(fraction) => (2, fraction),
        };
        let arguments = Arguments::default()
            .buffer(to, true)
            .buffer(from, false)
            .ints([to.len, code])
            .real(fraction);
        self.each(Kernel::new(FILE, "update"), to.dtype, to.len, arguments)
    }

    /// x scaled so that a norm, whose square is one f64 on the device, comes to at most `most`.
    pub(crate) fn clip(&self, x: &Tensor, squares: &Tensor, most: f64, eps: f64) -> Result<Tensor> {
        let x = x.contiguous()?;
        let count = x.elem_count();
        let y = self.output("clip", x.dtype(), count)?;
        let arguments = Arguments::default()
            .read(&x)?
            .read(squares)?
            .write(&y)?
            .int(count)
            .real(most)
            .real(eps);
        self.each(Kernel::new(FILE, "clip"), x.dtype(), count, arguments)?;
        Ok(y.tensor(x.dims()))
    }
}
