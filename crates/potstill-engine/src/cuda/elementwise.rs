//! Functions of one or two elements.

use candle_core::{DType, Tensor};

use super::{Arguments, Gpu, Kernel, check_one_dtype};
use crate::error::Result;

const FILE: &str = "elementwise";

/// A function of one number, in the order of `Function` in `kernels/elementwise.cu`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Function {
    Neg,
    Square,
    Sqrt,
    Log,
    Abs,
    Exp,
    /// x · mul + add
    Affine {
        mul: f64,
        add: f64,
    },
    Clamp {
        low: f64,
        high: f64,
    },
    /// x · sigmoid(factor · x)
    Swish {
        factor: f64,
    },
    Gelu,
}

impl Function {
    /// The kernel's number for it, and its two constants.
    fn code(self) -> (usize, f64, f64) {
        match self {
            Function::Neg => (0, 0., 0.),
            Function::Square => (1, 0., 0.),
            Function::Sqrt => (2, 0., 0.),
            Function::Log => (3, 0., 0.),
            Function::Abs => (4, 0., 0.),
            Function::Exp => (5, 0., 0.),
            Function::Affine { mul, add } => (6, mul, add),
            Function::Clamp { low, high } => (7, low, high),
            Function::Swish { factor } => (8, factor, 0.),
            Function::Gelu => (9, 0., 0.),
        }
    }
}

/// A function of two numbers, in the order of `Pairing` in `kernels/elementwise.cu`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pairing {
    Add,
    Sub,
    Mul,
    Div,
    /// The slope of a/b by b.
    DivSlope,
}

impl Gpu {
    /// The function of every element; with `grad` its derivative times that.
    pub(crate) fn unary(&self, op: &'static str, f: Function, x: &Tensor, grad: Option<&Tensor>) -> Result<Tensor> {
        let x = x.contiguous()?;
        let grad = grad.map(Tensor::contiguous).transpose()?;
        check_one_dtype(op, [&x, grad.as_ref().unwrap_or(&x)])?;
        let count = x.elem_count();
        let y = self.output(op, x.dtype(), count)?;
        let (code, a, b) = f.code();
        let arguments = Arguments::default()
            .read(&x)?
            .read_if(grad.as_ref())?
            .write(&y)?
            .ints([count, code])
            .real(a)
            .real(b);
        self.each(Kernel::new(FILE, "unary"), x.dtype(), count, arguments)?;
        Ok(y.tensor(x.dims()))
    }

    /// The function of every pair of elements of two tensors of one shape and type.
    pub(crate) fn binary(&self, op: &'static str, f: Pairing, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        check_one_dtype(op, [a, b])?;
        let (a, b) = (a.contiguous()?, b.contiguous()?);
        let count = a.elem_count();
        let y = self.output(op, a.dtype(), count)?;
        let arguments = Arguments::default()
            .read(&a)?
            .read(&b)?
            .write(&y)?
            .ints([count, f as usize]);
        self.each(Kernel::new(FILE, "binary"), a.dtype(), count, arguments)?;
        Ok(y.tensor(a.dims()))
    }

    /// `value · gelu(gate)` of rows `[value, gate]`, `half` wide each.
    pub(crate) fn geglu(&self, op: &'static str, half: usize, x: &Tensor, dims: &[usize]) -> Result<Tensor> {
        let rows = x.elem_count() / (2 * half);
        let y = self.output(op, x.dtype(), rows * half)?;
        let arguments = Arguments::default().read(x)?.write(&y)?.ints([rows, half]);
        self.each(Kernel::new(FILE, "geglu"), x.dtype(), rows * half, arguments)?;
        Ok(y.tensor(dims))
    }

    /// The gradient of [`Gpu::geglu`] by x.
    pub(crate) fn geglu_backward(&self, op: &'static str, half: usize, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
        check_one_dtype(op, [x, grad])?;
        let rows = x.elem_count() / (2 * half);
        let dx = self.output(op, x.dtype(), x.elem_count())?;
        let arguments = Arguments::default().read(x)?.read(grad)?.write(&dx)?.ints([rows, half]);
        self.each(Kernel::new(FILE, "geglu_backward"), x.dtype(), rows * half, arguments)?;
        Ok(dx.tensor(x.dims()))
    }

    /// Sines and cosines of f32 values times frequencies, `[values, 2 · frequencies]`.
    pub(crate) fn sinusoids(
        &self,
        op: &'static str,
        values: &Tensor,
        frequencies: &[f32],
        cosines_first: bool,
    ) -> Result<Tensor> {
        let (count, half) = (values.elem_count(), frequencies.len());
        let frequencies = Tensor::new(frequencies, &self.device())?;
        let y = self.output(op, DType::F32, count * 2 * half)?;
        let arguments = Arguments::default().read(values)?.read(&frequencies)?.write(&y)?.ints([
            count,
            half,
            usize::from(cosines_first),
        ]);
        self.each(Kernel::new(FILE, "sinusoids"), DType::F32, count * half, arguments)?;
        Ok(y.tensor(&[count, 2 * half]))
    }
}
