//! Kernels with their arguments and outputs.

use candle_core::op::BackpropOp;
use candle_core::{DType, Storage, Tensor};

use super::{Gpu, address, check_dtype};
use crate::error::{EngineError, Result};

/// Threads of every block, as in `kernels/device.cuh`.
const THREADS: usize = 256;
/// Blocks that a grid may have in its second and third dimension.
const MOST_BLOCKS_ACROSS: usize = 65_535;

/// A kernel: the file of `kernels/` that it is in, and its name without the type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel {
    pub(crate) file: &'static str,
    pub(crate) name: &'static str,
}

impl Kernel {
    pub(crate) const fn new(file: &'static str, name: &'static str) -> Self {
        Self { file, name }
    }

    /// The name of its instance for a type.
    pub(crate) fn instance(self, dtype: DType) -> Result<String> {
        check_dtype(self.name, dtype)?;
        Ok(format!("{}_{}", self.name, dtype.as_str()))
    }
}

/// Memory that a kernel reads or writes.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(all(any(test, feature = "host"), target_os = "linux")), allow(dead_code))] // tests on the host look at the bounds
pub(crate) struct Span {
    /// Which of the arguments it is.
    pub(crate) argument: usize,
    pub(crate) bytes: usize,
    pub(crate) written: bool,
}

/// A kernel's arguments, in order; each is eight bytes wide.
#[derive(Default)]
pub(crate) struct Arguments {
    pub(crate) words: Vec<u64>,
    pub(crate) spans: Vec<Span>,
}

impl Arguments {
    fn memory(mut self, address: u64, bytes: usize, written: bool) -> Self {
        self.spans.push(Span {
            argument: self.words.len(),
            bytes,
            written,
        });
        self.words.push(address);
        self
    }

    fn tensor(self, tensor: &Tensor, written: bool) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            return Err(EngineError::shape("kernel", "the tensor is not contiguous"));
        };
        let size = tensor.dtype().size_in_bytes();
        let first = address(&storage)? + (start * size) as u64;
        Ok(self.memory(first, (end - start) * size, written))
    }

    /// A contiguous tensor that is read.
    pub(crate) fn read(self, tensor: &Tensor) -> Result<Self> {
        self.tensor(tensor, false)
    }

    /// A contiguous tensor that is changed in place: what an optimizer owns, and nothing else is computing with.
    pub(crate) fn change(self, tensor: &Tensor) -> Result<Self> {
        self.tensor(tensor, true)
    }

    /// A tensor that is read where there is one; null where there is none.
    pub(crate) fn read_if(self, tensor: Option<&Tensor>) -> Result<Self> {
        match tensor {
            Some(tensor) => self.read(tensor),
            None => Ok(self.word(0)),
        }
    }

    /// Memory that is written.
    pub(crate) fn write(self, output: &Output) -> Result<Self> {
        let bytes = output.len * output.dtype.size_in_bytes();
        Ok(self.memory(output.address()?, bytes, true))
    }

    /// Memory given by its address: read, or read and written.
    pub(crate) fn buffer(self, buffer: super::Buffer, written: bool) -> Self {
        self.memory(buffer.address, buffer.len * buffer.dtype.size_in_bytes(), written)
    }

    /// Eight bytes as they are.
    pub(crate) fn word(mut self, value: u64) -> Self {
        self.words.push(value);
        self
    }

    /// An integer.
    pub(crate) fn int(self, value: usize) -> Self {
        self.word(value as u64)
    }

    /// Several integers.
    pub(crate) fn ints<const N: usize>(self, values: [usize; N]) -> Self {
        values.into_iter().fold(self, Self::int)
    }

    /// A number.
    pub(crate) fn real(self, value: f64) -> Self {
        self.word(value.to_bits())
    }

    /// Several numbers.
    pub(crate) fn reals<const N: usize>(self, values: [f64; N]) -> Self {
        values.into_iter().fold(self, Self::real)
    }
}

/// Memory under construction, not initialised: kernels write all of it before it becomes a tensor.
pub(crate) struct Output {
    pub(crate) dtype: DType,
    pub(crate) len: usize,
    pub(crate) storage: Storage,
}

impl Output {
    pub(crate) fn address(&self) -> Result<u64> {
        address(&self.storage)
    }

    /// The tensor.
    pub(crate) fn tensor(self, dims: &[usize]) -> Tensor {
        debug_assert_eq!(dims.iter().product::<usize>(), self.len);
        Tensor::from_storage(self.storage, dims, BackpropOp::none(), false)
    }
}

impl Gpu {
    /// Memory for `len` values.
    pub(crate) fn output(&self, op: &'static str, dtype: DType, len: usize) -> Result<Output> {
        self.allocate(op, dtype, len, false)
    }

    /// Memory for `len` zeros.
    pub(crate) fn zeros(&self, op: &'static str, dtype: DType, len: usize) -> Result<Output> {
        self.allocate(op, dtype, len, true)
    }

    fn allocate(&self, op: &'static str, dtype: DType, len: usize, zeros: bool) -> Result<Output> {
        check_dtype(op, dtype)?;
        let storage = match *self {
            #[cfg(feature = "cuda")]
            Gpu::Card(ref device) => Storage::Cuda(super::device::allocate(device, op, dtype, len, zeros)?),
            #[cfg(all(any(test, feature = "host"), target_os = "linux"))]
            Gpu::Host => Storage::Cpu(super::host::allocate(dtype, len, zeros)),
        };
        Ok(Output { dtype, len, storage })
    }

    /// Runs a kernel with one thread for each of `count` elements.
    pub(crate) fn each(&self, kernel: Kernel, dtype: DType, count: usize, arguments: Arguments) -> Result<()> {
        self.launch(kernel, dtype, [count.div_ceil(THREADS), 1, 1], arguments)
    }

    /// Runs a kernel in a grid of blocks; without blocks nothing is to be done.
    pub(crate) fn launch(&self, kernel: Kernel, dtype: DType, grid: [usize; 3], arguments: Arguments) -> Result<()> {
        if grid.contains(&0) {
            return Ok(());
        }
        if grid[0] > i32::MAX as usize || grid[1] > MOST_BLOCKS_ACROSS || grid[2] > MOST_BLOCKS_ACROSS {
            return Err(EngineError::shape(
                kernel.name,
                format!("a grid of {grid:?} blocks is too large"),
            ));
        }
        let grid = grid.map(|n| n as u32);
        let instance = kernel.instance(dtype)?;
        match *self {
            #[cfg(feature = "cuda")]
            Gpu::Card(ref device) => super::device::launch(device, kernel.file, &instance, grid, &arguments),
            #[cfg(all(any(test, feature = "host"), target_os = "linux"))]
            Gpu::Host => super::host::launch(kernel.file, &instance, grid, arguments),
        }
    }
}
