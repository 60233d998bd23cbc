//! Linear layers, and what they share with convolutions: weights that may be of another type than the activations.

use candle_core::{DType, Tensor};

use super::gemm::Matrix;
use super::{Arguments, Gpu, Kernel, Output, factors, in_dtype, wide};
use crate::error::Result;

impl Gpu {
    /// Memory for rows of outputs; filled with the bias where there is one, which products are then to be added to.
    pub(super) fn rows_of_bias(
        &self,
        op: &'static str,
        [rows, columns]: [usize; 2],
        dtype: DType,
        bias: Option<&Tensor>,
    ) -> Result<Output> {
        let y = self.output(op, dtype, rows * columns)?;
        if let Some(bias) = bias {
            let bias = in_dtype(bias, dtype)?;
            let arguments = Arguments::default().read(&bias)?.write(&y)?.ints([rows, columns]);
            self.each(Kernel::new("rows", "fill_rows"), dtype, rows * columns, arguments)?;
        }
        Ok(y)
    }

    /// `x·wᵀ + b` for x of m rows of k, and w `[n, k]`.
    pub(crate) fn linear(
        &self,
        op: &'static str,
        [m, n, k]: [usize; 3],
        [x, w]: [&Tensor; 2],
        bias: Option<&Tensor>,
        dims: &[usize],
    ) -> Result<Tensor> {
        let y = self.rows_of_bias(op, [m, n], x.dtype(), bias)?;
        let dtype = factors(x.dtype(), w.dtype());
        let (x, w) = (in_dtype(x, dtype)?, in_dtype(w, dtype)?);
        let (left, right) = (Matrix::rows(&x, k, 0)?, Matrix::rows(&w, k, 0)?.turned());
        self.gemm([m, n, k], left, right, Matrix::output(&y, n, 0)?, bias.is_some())?;
        Ok(y.tensor(dims))
    }

    /// The gradient of [`Gpu::linear`] by x.
    pub(crate) fn linear_backward_input(
        &self,
        op: &'static str,
        [m, n, k]: [usize; 3],
        [grad, w]: [&Tensor; 2],
        dims: &[usize],
    ) -> Result<Tensor> {
        let dx = self.output(op, grad.dtype(), m * k)?;
        let dtype = factors(grad.dtype(), w.dtype());
        let (grad, w) = (in_dtype(grad, dtype)?, in_dtype(w, dtype)?);
        let (left, right) = (Matrix::rows(&grad, n, 0)?, Matrix::rows(&w, k, 0)?);
        self.gemm([m, k, n], left, right, Matrix::output(&dx, k, 0)?, false)?;
        Ok(dx.tensor(dims))
    }

    /// The gradient of [`Gpu::linear`] by w, in the type that sums are kept in.
    pub(crate) fn linear_backward_weight(
        &self,
        op: &'static str,
        [m, n, k]: [usize; 3],
        [grad, x]: [&Tensor; 2],
        dims: &[usize],
    ) -> Result<Tensor> {
        let x = in_dtype(x, grad.dtype())?;
        let dw = self.output(op, wide(grad.dtype()), n * k)?;
        let (left, right) = (Matrix::rows(grad, n, 0)?.turned(), Matrix::rows(&x, k, 0)?);
        self.gemm([n, k, m], left, right, Matrix::output(&dw, k, 0)?, false)?;
        Ok(dw.tensor(dims))
    }
}
