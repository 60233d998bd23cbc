//! What operations with a weight and perhaps a bias share: convolutions and linear layers.

use candle_core::Tensor;

use super::{tensor, when};
use crate::cpu::{Real, View, column_sums};
use crate::error::{Result, ensure_shape};
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

    /// The output, from contiguous inputs.
    pub(super) fn forward<T: Real>(
        &self,
        dims: &[usize],
        f: impl FnOnce(&[T], &[T], Option<&[T]>) -> Vec<T>,
    ) -> Result<Tensor> {
        let (x, w) = (self.x.tensor().contiguous()?, self.w.tensor().contiguous()?);
        let b = self.b.map(|b| b.tensor().contiguous()).transpose()?;
        let (x, w) = (View::<T>::of(self.op, &x)?, View::<T>::of(self.op, &w)?);
        let b = b.as_ref().map(|b| View::<T>::of(self.op, b)).transpose()?;
        tensor(f(&x, &w, b.as_deref()), dims)
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
}

impl Saved {
    /// The gradients of the inputs: `by_x(grad, w)` and `by_w(grad, x)`, and the sums of the gradient's columns.
    pub(super) fn backward<T: Real>(
        self,
        grad: &Tensor,
        by_x: impl FnOnce(&[T], &[T]) -> Vec<T>,
        by_w: impl FnOnce(&[T], &[T]) -> Vec<T>,
    ) -> Result<Vec<Option<Tensor>>> {
        let grad = grad.contiguous()?;
        let g = View::<T>::of(self.op, &grad)?;
        let dx = self.w.map(|w| {
            let w = w.contiguous()?;
            tensor(by_x(&g, &View::<T>::of(self.op, &w)?), &self.shapes[0])
        });
        let dw = self.x.map(|x| {
            let x = x.contiguous()?;
            tensor(by_w(&g, &View::<T>::of(self.op, &x)?), &self.shapes[1])
        });
        let mut grads = vec![dx.transpose()?, dw.transpose()?];
        if let Some(needed) = self.bias {
            let outputs = self.shapes[1][0];
            grads.push(when(needed, || tensor(column_sums(outputs, &g), &[outputs]))?);
        }
        Ok(grads)
    }
}
