//! Linear layers.

use candle_core::Tensor;

use super::{tensor, when};
use crate::cpu::{self, View, dispatch};
use crate::error::{Result, ensure_shape};
use crate::value::Value;

const OP: &str = "linear";

/// `x·wᵀ + b`: x `[…, in]`, w `[out, in]`, b `[out]`; the result is `[…, out]`.
pub fn linear(x: &Value, w: &Value, b: Option<&Value>) -> Result<Value> {
    let fits = matches!((x.dims(), w.dims()), ([.., i], [_, j]) if i == j);
    ensure_shape!(
        fits,
        OP,
        "x {:?} by w {:?}: the last dimensions must agree",
        x.dims(),
        w.dims()
    );
    let (n, k) = (w.dims()[0], w.dims()[1]);
    if let Some(b) = b {
        ensure_shape!(
            b.dims() == [n],
            OP,
            "bias {:?} for w {:?}: one value per output",
            b.dims(),
            w.dims()
        );
    }
    let mut dims = x.dims().to_vec();
    *dims.last_mut().expect("at least one dimension") = n;
    let m = x.tensor().elem_count() / k.max(1);
    let product = (m, n, k);
    let (xt, wt) = (x.tensor().contiguous()?, w.tensor().contiguous()?);
    let bt = b.map(|b| b.tensor().contiguous()).transpose()?;
    let y = dispatch!(OP, xt.dtype(), T => {
        let (x, w) = (View::<T>::of(OP, &xt)?, View::<T>::of(OP, &wt)?);
        let b = bt.as_ref().map(|b| View::<T>::of(OP, b)).transpose()?;
        tensor(cpu::linear_forward(product, &x, &w, b.as_deref()), &dims)
    })?;
    let mut inputs = vec![x, w];
    inputs.extend(b);
    Ok(Value::from_op(OP, y, &inputs, || {
        // x is kept for the gradient by w alone, w for the gradient by x alone.
        let saved = (w.tracked().then_some(xt), x.tracked().then_some(wt));
        let shapes = (x.dims().to_vec(), w.dims().to_vec());
        let bias = b.map(Value::tracked);
        move |grad: Tensor| backward(product, saved, shapes, bias, &grad.contiguous()?)
    }))
}

fn backward(
    product: (usize, usize, usize),
    (x, w): (Option<Tensor>, Option<Tensor>),
    shapes: (Vec<usize>, Vec<usize>),
    bias: Option<bool>,
    grad: &Tensor,
) -> Result<Vec<Option<Tensor>>> {
    dispatch!(OP, grad.dtype(), T => {
        let g = View::<T>::of(OP, grad)?;
        let by_x = |w: Tensor| tensor(cpu::linear_backward_input(product, &g, &View::<T>::of(OP, &w)?), &shapes.0);
        let by_w = |x: Tensor| tensor(cpu::linear_backward_weight(product, &g, &View::<T>::of(OP, &x)?), &shapes.1);
        let mut grads = vec![w.map(by_x).transpose()?, x.map(by_w).transpose()?];
        if let Some(needed) = bias {
            grads.push(when(needed, || tensor(cpu::column_sums(product.1, &g), &[product.1]))?);
        }
        Ok(grads)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn gradients() {
        for dims in [vec![5, 3], vec![2, 4, 3], vec![3]] {
            check(&[random(&dims, 1), random(&[4, 3], 2), random(&[4], 3)], |v| {
                linear(&v[0], &v[1], Some(&v[2]))
            });
            check(&[random(&dims, 1), random(&[4, 3], 2)], |v| linear(&v[0], &v[1], None));
        }
    }

    #[test]
    fn tiles_agree() {
        for (m, n, k) in [
            (1, 300, 700),
            (130, 65, 33),
            (517, 130, 260),
            (2048, 24, 17),
            (77, 1, 64),
            (3, 7, 1),
        ] {
            agree(&[random(&[m, k], 1), random(&[n, k], 2), random(&[n], 3)], |v| {
                linear(&v[0], &v[1], Some(&v[2]))
            });
        }
    }

    #[test]
    fn names_shapes_that_do_not_fit() {
        let (x, w) = (constant(&[2, 3]), constant(&[4, 5]));
        let message = linear(&x, &w, None).unwrap_err().to_string();
        assert!(
            message.contains("linear") && message.contains("[2, 3]") && message.contains("[4, 5]"),
            "{message}"
        );
        assert!(linear(&x, &constant(&[4, 3]), Some(&constant(&[3]))).is_err());
    }
}
