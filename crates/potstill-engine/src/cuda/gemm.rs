//! Matrix products of row-major matrices by cuBLAS, which knows column-major ones only.

use candle_core::{DType, Tensor};

use super::{Gpu, Output, address};
use crate::error::{EngineError, Result};
use crate::profile::count_flops;

const OP: &str = "gemm";

/// A matrix in memory, its rows contiguous; used as it is or transposed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix {
    address: u64,
    dtype: DType,
    /// Values of a row in memory.
    row: usize,
    /// Whether the product takes the transpose of what lies in memory.
    turned: bool,
}

impl Matrix {
    /// The rows from `first` on of a contiguous tensor, seen as rows of `row` values.
    pub(crate) fn rows(tensor: &Tensor, row: usize, first: usize) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let Some((start, _)) = layout.contiguous_offsets() else {
            return Err(EngineError::shape(OP, "the tensor is not contiguous"));
        };
        let offset = (start + first * row) * tensor.dtype().size_in_bytes();
        Ok(Self {
            address: address(&storage)? + offset as u64,
            dtype: tensor.dtype(),
            row,
            turned: false,
        })
    }

    /// The rows of memory under construction.
    pub(crate) fn output(output: &Output, row: usize, first: usize) -> Result<Self> {
        Ok(Self {
            address: output.address()? + (first * row * output.dtype.size_in_bytes()) as u64,
            dtype: output.dtype,
            row,
            turned: false,
        })
    }

    /// The transpose.
    pub(crate) fn turned(self) -> Self {
        Self {
            turned: !self.turned,
            ..self
        }
    }
}

/// A call of `cublasGemmEx`: `c = op(a)·op(b) + beta·c`, all column-major.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) a: Factor,
    pub(crate) b: Factor,
    pub(crate) c: u64,
    pub(crate) c_dtype: DType,
    pub(crate) c_stride: usize,
    pub(crate) beta: f64,
}

/// A factor of a [`Call`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Factor {
    pub(crate) address: u64,
    /// Values from one column to the next.
    pub(crate) stride: usize,
    pub(crate) transpose: bool,
}

impl Gpu {
    /// `c = a·b`, or `c += a·b` with `add`: a is m × k, b k × n, c m × n. Both factors are of one type; products are summed
    /// up in f32 (f64 for f64) and rounded once to c's type.
    pub(crate) fn gemm(&self, [m, n, k]: [usize; 3], a: Matrix, b: Matrix, c: Matrix, add: bool) -> Result<()> {
        if m == 0 || n == 0 {
            return Ok(());
        }
        if a.dtype != b.dtype {
            return Err(EngineError::DType {
                op: OP,
                dtype: b.dtype,
                remedy: "both factors must be of one dtype",
            });
        }
        count_flops(2 * m * n * k);
        // A row-major matrix is the transpose of the column-major one in the same memory, and cᵀ = bᵀ·aᵀ.
        let factor = |x: Matrix| Factor {
            address: x.address,
            stride: x.row,
            transpose: x.turned,
        };
        let call = Call {
            m: n,
            n: m,
            k,
            a: factor(b),
            b: factor(a),
            c: c.address,
            c_dtype: c.dtype,
            c_stride: c.row,
            beta: if add { 1. } else { 0. },
        };
        match *self {
            #[cfg(feature = "cuda")]
            Gpu::Card(ref device) => super::device::gemm(device, a.dtype, &call),
            #[cfg(all(any(test, feature = "host"), target_os = "linux"))]
            Gpu::Host => super::host::gemm(a.dtype, &call),
        }
    }
}
