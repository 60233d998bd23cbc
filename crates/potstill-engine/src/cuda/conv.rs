//! Convolutions as matrix products of gathered rows, a part of the rows at a time.

use candle_core::Tensor;

use super::gemm::Matrix;
use super::{Arguments, Gpu, Kernel, factors, in_dtype, wide};
use crate::cpu::ConvShape;
use crate::error::Result;

const FILE: &str = "conv";
const OP: &str = "conv2d";
/// Bytes of gathered rows: enough for products that fill a card, little against a model.
const GATHERED: usize = 256 << 20;

/// Whether each output pixel reads its own input pixel and no other: then the image is its own rows of windows.
fn pointwise(shape: &ConvShape) -> bool {
    let ConvShape {
        in_h,
        in_w,
        out_h,
        out_w,
        kernel_h,
        kernel_w,
        stride,
        top,
        left,
        ..
    } = *shape;
    (kernel_h, kernel_w, stride, top, left) == (1, 1, 1, 0, 0) && (in_h, in_w) == (out_h, out_w)
}

/// Which rows are gathered.
#[derive(Clone, Copy)]
enum Gather {
    /// Of the input, the window of each output pixel.
    Windows,
    /// Of the output's gradient, the pixels that read each input pixel.
    Readers,
}

impl Gpu {
    /// Calls `f(rows, first, count)` with parts of the gathered rows of `from`, until all `total` rows have been seen.
    fn gathered(
        &self,
        shape: &ConvShape,
        gather: Gather,
        from: &Tensor,
        total: usize,
        mut f: impl FnMut(Matrix, usize, usize) -> Result<()>,
    ) -> Result<()> {
        let (name, channels) = match gather {
            Gather::Windows => ("windows", shape.inputs),
            Gather::Readers => ("readers", shape.outputs),
        };
        if pointwise(shape) {
            return f(Matrix::rows(from, channels, 0)?, 0, total);
        }
        let depth = shape.kernel_h * shape.kernel_w * channels;
        let dtype = from.dtype();
        let step = (self.gathered_bytes() / (depth * dtype.size_in_bytes()).max(1)).clamp(1, total.max(1));
        let rows = self.output(OP, dtype, step * depth)?;
        for first in (0..total).step_by(step) {
            let count = step.min(total - first);
            let arguments = Arguments::default().read(from)?.write(&rows)?.ints([
                first,
                count,
                shape.in_h,
                shape.in_w,
                channels,
                shape.out_h,
                shape.out_w,
                shape.kernel_h,
                shape.kernel_w,
                shape.stride,
                shape.top,
                shape.left,
            ]);
            self.each(Kernel::new(FILE, name), dtype, count * depth, arguments)?;
            f(Matrix::output(&rows, depth, 0)?, first, count)?;
        }
        Ok(())
    }

    /// Bytes that gathered rows may take; few on the host, so that tests see several parts.
    fn gathered_bytes(&self) -> usize {
        match *self {
            #[cfg(feature = "cuda")]
            Gpu::Card(_) => GATHERED,
            #[cfg(all(any(test, feature = "host"), target_os = "linux"))]
            Gpu::Host => GATHERED >> 14,
        }
    }

    /// x `[B, H, W, I]` with w `[O, kh, kw, I]` and bias `[O]`.
    pub(crate) fn conv(&self, shape: &ConvShape, [x, w]: [&Tensor; 2], bias: Option<&Tensor>) -> Result<Tensor> {
        let (rows, outputs) = (shape.batch * shape.out_h * shape.out_w, shape.outputs);
        let depth = shape.kernel_h * shape.kernel_w * shape.inputs;
        let dtype = factors(x.dtype(), w.dtype());
        let y = self.rows_of_bias(OP, [rows, outputs], x.dtype(), bias)?;
        let (x, w) = (in_dtype(x, dtype)?, in_dtype(w, dtype)?);
        let weights = Matrix::rows(&w, depth, 0)?.turned();
        self.gathered(shape, Gather::Windows, &x, rows, |windows, first, count| {
            let to = Matrix::output(&y, outputs, first)?;
            self.gemm([count, outputs, depth], windows, weights, to, bias.is_some())
        })?;
        Ok(y.tensor(&[shape.batch, shape.out_h, shape.out_w, outputs]))
    }

    /// The gradient of [`Gpu::conv`] by x: each input pixel gathers the outputs that read it.
    pub(crate) fn conv_backward_data(&self, shape: &ConvShape, [grad, w]: [&Tensor; 2]) -> Result<Tensor> {
        let (taps, inputs, outputs) = (shape.kernel_h * shape.kernel_w, shape.inputs, shape.outputs);
        let rows = shape.batch * shape.in_h * shape.in_w;
        let dx = self.output(OP, grad.dtype(), rows * inputs)?;
        let dtype = factors(grad.dtype(), w.dtype());
        let grad = in_dtype(grad, dtype)?;
        // [O, taps, I] to [taps, O, I]: rows as they are gathered.
        let w = in_dtype(w, dtype)?
            .reshape((outputs, taps, inputs))?
            .transpose(0, 1)?
            .contiguous()?;
        let weights = Matrix::rows(&w, inputs, 0)?;
        self.gathered(shape, Gather::Readers, &grad, rows, |readers, first, count| {
            let to = Matrix::output(&dx, inputs, first)?;
            self.gemm([count, inputs, taps * outputs], readers, weights, to, false)
        })?;
        Ok(dx.tensor(&[shape.batch, shape.in_h, shape.in_w, inputs]))
    }

    /// The gradient of [`Gpu::conv`] by w, in the type that sums are kept in.
    pub(crate) fn conv_backward_filter(&self, shape: &ConvShape, [grad, x]: [&Tensor; 2]) -> Result<Tensor> {
        let x = in_dtype(x, grad.dtype())?;
        let (rows, outputs) = (shape.batch * shape.out_h * shape.out_w, shape.outputs);
        let depth = shape.kernel_h * shape.kernel_w * shape.inputs;
        let dw = self.zeros(OP, wide(grad.dtype()), outputs * depth)?;
        self.gathered(shape, Gather::Windows, &x, rows, |windows, first, count| {
            let by = Matrix::rows(grad, outputs, first)?.turned();
            let to = Matrix::output(&dw, depth, 0)?;
            self.gemm([outputs, depth, count], by, windows, to, true)
        })?;
        Ok(dw.tensor(&[outputs, shape.kernel_h, shape.kernel_w, shape.inputs]))
    }
}
