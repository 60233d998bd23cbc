//! The same values in another shape or order.

use candle_core::Tensor;

use super::tensor;
use crate::cpu::{self, View, dispatch};
use crate::cuda::Gpu;
use crate::error::{EngineError, Result, ensure_shape};
use crate::profile::{Pass, span};
use crate::value::Value;

/// The same values, in row-major order, in another shape of as many elements.
pub fn reshape(x: &Value, dims: &[usize]) -> Result<Value> {
    const OP: &str = "reshape";
    let count = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    ensure_shape!(
        count == Some(x.tensor().elem_count()),
        OP,
        "{:?} into {dims:?}",
        x.dims()
    );
    let y = x.tensor().reshape(dims)?;
    Ok(Value::from_op(OP, y, &[x], || {
        let dims = x.dims().to_vec();
        move |grad: Tensor| Ok(vec![Some(grad.reshape(dims)?)])
    }))
}

/// `[B, C, H, W]` to `[B, H, W, C]`.
pub fn nchw_to_nhwc(x: &Value) -> Result<Value> {
    const OP: &str = "nchw_to_nhwc";
    let &[b, c, h, w] = x.dims() else {
        return Err(EngineError::shape(OP, format!("x {:?} must be [B, C, H, W]", x.dims())));
    };
    swap(OP, x, (c, h * w), [b, h, w, c])
}

/// `[B, H, W, C]` to `[B, C, H, W]`.
pub fn nhwc_to_nchw(x: &Value) -> Result<Value> {
    const OP: &str = "nhwc_to_nchw";
    let &[b, h, w, c] = x.dims() else {
        return Err(EngineError::shape(OP, format!("x {:?} must be [B, H, W, C]", x.dims())));
    };
    swap(OP, x, (h * w, c), [b, c, h, w])
}

fn swap(op: &'static str, x: &Value, matrix: (usize, usize), dims: [usize; 4]) -> Result<Value> {
    let _span = span(op, Pass::Forward, x.dims());
    let y = transpose(op, x.tensor(), matrix, &dims)?;
    Ok(Value::from_op(op, y, &[x], || {
        let dims = x.dims().to_vec();
        move |grad: Tensor| Ok(vec![Some(transpose(op, &grad, (matrix.1, matrix.0), &dims)?)])
    }))
}

fn transpose(op: &'static str, x: &Tensor, (rows, columns): (usize, usize), dims: &[usize]) -> Result<Tensor> {
    let x = x.contiguous()?;
    if let Some(gpu) = Gpu::of(&x) {
        return gpu.transpose_last(op, (rows, columns), &x, dims);
    }
    dispatch!(op, x.dtype(), T => tensor(cpu::transpose_last(rows, columns, &View::<T>::of(op, &x)?), dims))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn gradients() {
        check(&[random(&[2, 3, 2, 2], 1)], |v| nchw_to_nhwc(&v[0]));
        check(&[random(&[2, 3, 2, 2], 1)], |v| nhwc_to_nchw(&v[0]));
        check(&[random(&[2, 3, 4], 1)], |v| reshape(&v[0], &[6, 4]));
    }

    #[test]
    fn orders_are_inverse() {
        let x = random(&[2, 3, 4, 5], 1);
        let there = nchw_to_nhwc(&Value::constant(x.clone())).unwrap();
        assert_eq!(there.dims(), [2, 4, 5, 3]);
        let permuted = x
            .permute((0, 2, 3, 1))
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f64>()
            .unwrap();
        assert_eq!(
            there.tensor().flatten_all().unwrap().to_vec1::<f64>().unwrap(),
            permuted
        );
        let back = nhwc_to_nchw(&there).unwrap();
        assert_eq!(values(back.tensor()), values(&x));
    }

    #[test]
    fn names_shapes_that_do_not_fit() {
        assert!(
            reshape(&constant(&[2, 3]), &[4])
                .unwrap_err()
                .to_string()
                .contains("[2, 3]")
        );
        assert!(reshape(&constant(&[2, 3]), &[usize::MAX, 2]).is_err());
        assert!(nchw_to_nhwc(&constant(&[2, 3])).is_err());
    }
}
