//! Concatenation of channels.

use candle_core::Tensor;

use super::{tensor, when};
use crate::cpu::{self, View, dispatch};
use crate::cuda::Gpu;
use crate::error::{Result, ensure_shape};
use crate::profile::{Pass, span};
use crate::value::Value;

const OP: &str = "concat_last";

/// a `[…, A]` beside b `[…, B]`; the result is `[…, A + B]`.
pub fn concat_last(a: &Value, b: &Value) -> Result<Value> {
    let _span = span(OP, Pass::Forward, a.dims());
    let fits = matches!((a.dims(), b.dims()), ([p @ .., x], [q @ .., y]) if p == q && *x > 0 && *y > 0);
    ensure_shape!(
        fits,
        OP,
        "a {:?} and b {:?} must agree in all but the last dimension",
        a.dims(),
        b.dims()
    );
    let mut dims = a.dims().to_vec();
    let (wa, wb) = (dims[dims.len() - 1], b.dims()[dims.len() - 1]);
    *dims.last_mut().expect("checked above") = wa + wb;
    let (at, bt) = (a.tensor().contiguous()?, b.tensor().contiguous()?);
    let y = match Gpu::of(&at) {
        Some(gpu) => gpu.concat(OP, [&at, &bt], [wa, wb], &dims)?,
        None => dispatch!(OP, at.dtype(), T => {
            let (a, b) = (View::<T>::of(OP, &at)?, View::<T>::of(OP, &bt)?);
            tensor(cpu::concat((&a, wa), (&b, wb)), &dims)
        })?,
    };
    Ok(Value::from_op(OP, y, &[a, b], || {
        let needs = [a.tracked(), b.tracked()];
        let dims = [a.dims().to_vec(), b.dims().to_vec()];
        move |grad: Tensor| {
            let grad = grad.contiguous()?;
            if let Some(gpu) = Gpu::of(&grad) {
                let part = |start, width, dims: &[usize]| gpu.split(OP, wa + wb, start, width, &grad, dims);
                let da = when(needs[0], || part(0, wa, &dims[0]))?;
                return Ok(vec![da, when(needs[1], || part(wa, wb, &dims[1]))?]);
            }
            dispatch!(OP, grad.dtype(), T => {
                let g = View::<T>::of(OP, &grad)?;
                let da = when(needs[0], || tensor(cpu::split(wa + wb, 0, wa, &g), &dims[0]))?;
                let db = when(needs[1], || tensor(cpu::split(wa + wb, wa, wb, &g), &dims[1]))?;
                Ok(vec![da, db])
            })
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn gradients() {
        check(&[random(&[2, 3, 2], 1), random(&[2, 3, 4], 2)], |v| {
            concat_last(&v[0], &v[1])
        });
    }

    #[test]
    fn tiles_agree() {
        agree(&[random(&[900, 70], 1), random(&[900, 31], 2)], |v| {
            concat_last(&v[0], &v[1])
        });
    }

    #[test]
    fn names_shapes_that_do_not_fit() {
        assert!(concat_last(&constant(&[2, 3]), &constant(&[3, 3])).is_err());
    }
}
