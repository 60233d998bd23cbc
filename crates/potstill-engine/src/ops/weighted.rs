//! What operations with a weight and perhaps a bias share: convolutions and linear layers.

use candle_core::{DType, Tensor, WithDType};

use super::{tensor, when};
use crate::cpu::{Real, View, column_sums};
use crate::cuda::Gpu;
use crate::error::{EngineError, Result, ensure_shape};
use crate::value::Value;

/// An operation `y = f(x, w) + b` that ends in the channels of y.
pub(super) struct Weighted<'a> {
    pub(super) op: &'static str,
    pub(super) x: &'a Value,
    pub(super) w: &'a Value,
    pub(super) b: Option<&'a Value>,
}

impl<'a> Weighted<'a> {
    /// One value of the bias for each of the weight's outputs, its first dimension.
    pub(super) fn check_bias(&self) -> Result<()> {
        if let Some(b) = self.b {
            ensure_shape!(
                b.dims() == &self.w.dims()[..1],
                self.op,
                "bias {:?} for w {:?}: one value per output",
                b.dims(),
                self.w.dims()
            );
        }
        Ok(())
    }

    /// Whether the product is one of bf16 numbers: that of an f32 x by a bf16 w, which must be frozen.
    pub(super) fn is_bf16(&self) -> Result<bool> {
        let (op, dtype) = (self.op, self.w.tensor().dtype());
        if dtype != DType::BF16 || self.x.tensor().dtype() != DType::F32 {
            return Ok(false);
        }
        match self.w.tracked() {
            true => Err(EngineError::DType {
                op,
                dtype,
                remedy: "a weight is trained in f32; in bf16 it is frozen",
            }),
            false => Ok(true),
        }
    }

    /// The output, from contiguous inputs.
    pub(super) fn forward<T: Real, W: WithDType>(
        &self,
        dims: &[usize],
        f: impl FnOnce(&[T], &[W], Option<&[T]>) -> Vec<T>,
    ) -> Result<Tensor> {
        let (x, w) = (self.x.tensor().contiguous()?, self.w.tensor().contiguous()?);
        let b = self.b.map(|b| b.tensor().contiguous()).transpose()?;
        let (x, w) = (View::<T>::of(self.op, &x)?, View::<W>::of(self.op, &w)?);
        let b = b.as_ref().map(|b| View::<T>::of(self.op, b)).transpose()?;
        tensor(f(&x, &w, b.as_deref()), dims)
    }

    /// x and w.
    pub(super) fn factors(&self) -> [&Tensor; 2] {
        [self.x.tensor(), self.w.tensor()]
    }

    /// b.
    pub(super) fn bias(&self) -> Option<&Tensor> {
        self.b.map(Value::tensor)
    }

    /// The inputs, in the order of their gradients.
    pub(super) fn inputs(&self) -> Vec<&'a Value> {
        [self.x, self.w].into_iter().chain(self.b).collect()
    }

    /// What the backward pass needs: x for the gradient by w alone, w for the gradient by x alone.
    pub(super) fn save(&self) -> Saved {
        let [x, w] = [self.x, self.w].map(|v| v.dims().to_vec());
        Saved {
            op: self.op,
            x: self.w.tracked().then(|| self.x.tensor().clone()),
            w: self.x.tracked().then(|| self.w.tensor().clone()),
            shapes: [x, w],
            bias: self.b.map(Value::tracked),
            dtypes: [self.w, self.b.unwrap_or(self.w)].map(|v| v.tensor().dtype()),
        }
    }
}

/// See [`Weighted::save`].
pub(super) struct Saved {
    op: &'static str,
    x: Option<Tensor>,
    w: Option<Tensor>,
    shapes: [Vec<usize>; 2],
    /// Whether the bias needs a gradient, where there is one.
    bias: Option<bool>,
    /// Types of w and of the bias, which on a card may be others than x's.
    dtypes: [DType; 2],
}

impl Saved {
    /// [`Saved::backward`] on a card: `by_x([grad, w], shape)` and `by_w([grad, x], shape)`.
    pub(super) fn backward_on(
        self,
        gpu: &Gpu,
        grad: &Tensor,
        by_x: impl FnOnce([&Tensor; 2], &[usize]) -> Result<Tensor>,
        by_w: impl FnOnce([&Tensor; 2], &[usize]) -> Result<Tensor>,
    ) -> Result<Vec<Option<Tensor>>> {
        let grad = grad.contiguous()?;
        let [x_shape, w_shape] = &self.shapes;
        let dx = self.w.map(|w| by_x([&grad, &w], x_shape)).transpose()?;
        let dw = self
            .x
            .map(|x| Ok::<_, EngineError>(by_w([&grad, &x], w_shape)?.to_dtype(self.dtypes[0])?));
        let mut grads = vec![dx, dw.transpose()?];
        if let Some(needed) = self.bias {
            let outputs = w_shape[0];
            grads.push(when(needed, || {
                let rows = grad.elem_count() / outputs;
                let sums = gpu.sum([1, rows, outputs], &grad)?;
                Ok(sums.reshape(outputs)?.to_dtype(self.dtypes[1])?)
            })?);
        }
        Ok(grads)
    }

    /// The gradients of the inputs: `by_x(grad, w)` and `by_w(grad, x)`, and the sums of the gradient's columns.
    pub(super) fn backward<T: Real>(
        self,
        grad: &Tensor,
        by_x: impl FnOnce(&[T], &[T]) -> Vec<T>,
        by_w: impl FnOnce(&[T], &[T]) -> Vec<T>,
    ) -> Result<Vec<Option<Tensor>>> {
        let grad = grad.contiguous()?;
        let g = View::<T>::of(self.op, &grad)?;
        let dw = self.x.as_ref().map(|x| {
            let x = x.contiguous()?;
            tensor(by_w(&g, &View::<T>::of(self.op, &x)?), &self.shapes[1])
        });
        let dw = dw.transpose()?;
        Ok(vec![self.by_x(&g, by_x)?, dw]
            .into_iter()
            .chain(self.by_bias(&g)?)
            .collect())
    }

    /// The same for a weight of another type, which takes no gradient.
    pub(super) fn backward_frozen<T: Real, W: WithDType>(
        self,
        grad: &Tensor,
        by_x: impl FnOnce(&[T], &[W]) -> Vec<T>,
    ) -> Result<Vec<Option<Tensor>>> {
        let grad = grad.contiguous()?;
        let g = View::<T>::of(self.op, &grad)?;
        Ok(vec![self.by_x(&g, by_x)?, None]
            .into_iter()
            .chain(self.by_bias(&g)?)
            .collect())
    }

    fn by_x<T: Real, W: WithDType>(&self, grad: &[T], f: impl FnOnce(&[T], &[W]) -> Vec<T>) -> Result<Option<Tensor>> {
        let Some(w) = &self.w else { return Ok(None) };
        let w = w.contiguous()?;
        tensor(f(grad, &View::<W>::of(self.op, &w)?), &self.shapes[0]).map(Some)
    }

    /// The bias's gradient, where there is a bias.
    fn by_bias<T: Real>(&self, grad: &[T]) -> Result<Option<Option<Tensor>>> {
        let outputs = self.shapes[1][0];
        self.bias
            .map(|needed| when(needed, || tensor(column_sums(outputs, grad), &[outputs])))
            .transpose()
    }
}
