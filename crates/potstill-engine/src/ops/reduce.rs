//! Sums and means.

use candle_core::Tensor;

use crate::cuda::Gpu;
use crate::error::{Result, ensure_shape};
use crate::value::Value;

/// The sum over dimensions; `keep` leaves them with size one.
pub fn sum(x: &Value, dims: &[usize], keep: bool) -> Result<Value> {
    reduce("sum", x, dims, keep, |_| 1.)
}

/// The mean over dimensions; `keep` leaves them with size one.
pub fn mean(x: &Value, dims: &[usize], keep: bool) -> Result<Value> {
    reduce("mean", x, dims, keep, |count| 1. / count as f64)
}

fn reduce(op: &'static str, x: &Value, dims: &[usize], keep: bool, factor: impl Fn(usize) -> f64) -> Result<Value> {
    let distinct = dims
        .iter()
        .enumerate()
        .all(|(i, d)| *d < x.dims().len() && !dims[..i].contains(d));
    ensure_shape!(distinct, op, "dimensions {dims:?} of {:?}", x.dims());
    let factor = factor(dims.iter().map(|&d| x.dims()[d]).product());
    let scaled = |t: Tensor| -> Result<Tensor> { if factor == 1. { Ok(t) } else { Ok(t.affine(factor, 0.)?) } };
    let kept: Vec<usize> = x
        .dims()
        .iter()
        .enumerate()
        .map(|(d, &n)| if dims.contains(&d) { 1 } else { n })
        .collect();
    let total = if dims.is_empty() {
        x.tensor().clone()
    } else {
        sum_keepdim(x.tensor(), dims)?
    };
    let mut y = scaled(total)?;
    if !keep {
        let left: Vec<usize> = x
            .dims()
            .iter()
            .enumerate()
            .filter(|(d, _)| !dims.contains(d))
            .map(|(_, &n)| n)
            .collect();
        y = y.reshape(left)?;
    }
    Ok(Value::from_op(op, y, &[x], || {
        let shape = x.dims().to_vec();
        move |grad: Tensor| {
            Ok(vec![Some(
                scaled_to(&grad, factor)?
                    .reshape(kept)?
                    .broadcast_as(shape)?
                    .contiguous()?,
            )])
        }
    }))
}

/// The sums over dimensions, which stay with size one.
pub(super) fn sum_keepdim(x: &Tensor, dims: &[usize]) -> Result<Tensor> {
    match Gpu::of(x) {
        Some(gpu) => gpu.sum_keepdim(x, dims),
        None => Ok(x.contiguous()?.sum_keepdim(dims)?),
    }
}

fn scaled_to(grad: &Tensor, factor: f64) -> Result<Tensor> {
    if factor == 1. {
        Ok(grad.clone())
    } else {
        Ok(grad.affine(factor, 0.)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn gradients() {
        let x = random(&[2, 3, 4], 1);
        for dims in [vec![], vec![0], vec![1, 2], vec![0, 1, 2]] {
            for keep in [false, true] {
                check(std::slice::from_ref(&x), |v| sum(&v[0], &dims, keep));
                check(std::slice::from_ref(&x), |v| mean(&v[0], &dims, keep));
            }
        }
    }

    #[test]
    fn tiles_agree() {
        let x = random(&[3, 5003, 4], 1);
        for dims in [vec![0], vec![1], vec![0, 1, 2], vec![1, 2]] {
            agree(std::slice::from_ref(&x), |v| mean(&v[0], &dims, false));
        }
    }

    #[test]
    fn names_shapes_that_do_not_fit() {
        assert!(sum(&constant(&[3]), &[1], false).is_err());
        assert!(mean(&constant(&[3]), &[0, 0], false).is_err());
    }
}
