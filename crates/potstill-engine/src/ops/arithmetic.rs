//! Arithmetic of two values, with broadcasting.

use candle_core::Tensor;

use super::when;
use crate::cpu::{self, Real, dispatch};
use crate::error::{EngineError, Result};
use crate::profile::{Pass, span};
use crate::value::Value;

/// `a` and `b` expanded to their common shape (numpy's rules).
fn broadcast(op: &'static str, a: &Tensor, b: &Tensor) -> Result<(Tensor, Tensor)> {
    if a.dtype() != b.dtype() {
        return Err(EngineError::DType {
            op,
            dtype: b.dtype(),
            remedy: "cast both inputs to one dtype",
        });
    }
    if a.dims() == b.dims() {
        return Ok((a.clone(), b.clone()));
    }
    let rank = a.rank().max(b.rank());
    let padded = |t: &Tensor| [vec![1; rank - t.rank()], t.dims().to_vec()].concat();
    let dims: Option<Vec<usize>> = padded(a)
        .into_iter()
        .zip(padded(b))
        .map(|pair| match pair {
            (x, y) if x == y || y == 1 => Some(x),
            (1, y) => Some(y),
            _ => None,
        })
        .collect();
    let Some(dims) = dims else {
        return Err(EngineError::shape(
            op,
            format!("{:?} and {:?} cannot be broadcast together", a.dims(), b.dims()),
        ));
    };
    Ok((
        a.broadcast_as(dims.clone())?.contiguous()?,
        b.broadcast_as(dims)?.contiguous()?,
    ))
}

/// The gradient of an input of shape `dims`, summed over what was broadcast.
fn unbroadcast(grad: Tensor, dims: &[usize]) -> Result<Tensor> {
    if grad.dims() == dims {
        return Ok(grad);
    }
    let extra = grad.rank() - dims.len();
    let summed: Vec<usize> = (0..grad.rank())
        .filter(|&d| d < extra || (dims[d - extra] == 1 && grad.dims()[d] != 1))
        .collect();
    Ok(grad.contiguous()?.sum_keepdim(summed)?.reshape(dims)?)
}

fn binary<T: Real>(op: &'static str, a: &Tensor, b: &Tensor, f: impl Fn(T, T) -> T + Sync) -> Result<Tensor> {
    cpu::map2::<T>(op, a, b, f)
}

/// `a + b`.
pub fn add(a: &Value, b: &Value) -> Result<Value> {
    const OP: &str = "add";
    let _span = span(OP, Pass::Forward, a.dims());
    let (at, bt) = broadcast(OP, a.tensor(), b.tensor())?;
    let y = dispatch!(OP, at.dtype(), T => binary::<T>(OP, &at, &bt, |a, b| a + b))?;
    Ok(Value::from_op(OP, y, &[a, b], || {
        let (needs, dims) = ([a.tracked(), b.tracked()], [a.dims().to_vec(), b.dims().to_vec()]);
        move |grad: Tensor| {
            let da = when(needs[0], || unbroadcast(grad.clone(), &dims[0]))?;
            let db = when(needs[1], || unbroadcast(grad, &dims[1]))?;
            Ok(vec![da, db])
        }
    }))
}

/// `a − b`.
pub fn sub(a: &Value, b: &Value) -> Result<Value> {
    const OP: &str = "sub";
    let _span = span(OP, Pass::Forward, a.dims());
    let (at, bt) = broadcast(OP, a.tensor(), b.tensor())?;
    let y = dispatch!(OP, at.dtype(), T => binary::<T>(OP, &at, &bt, |a, b| a - b))?;
    Ok(Value::from_op(OP, y, &[a, b], || {
        let (needs, dims) = ([a.tracked(), b.tracked()], [a.dims().to_vec(), b.dims().to_vec()]);
        move |grad: Tensor| {
            let da = when(needs[0], || unbroadcast(grad.clone(), &dims[0]))?;
            let db = when(needs[1], || {
                let db = dispatch!(OP, grad.dtype(), T => cpu::map::<T>(OP, &grad, |g| -g))?;
                unbroadcast(db, &dims[1])
            })?;
            Ok(vec![da, db])
        }
    }))
}

/// `a · b`, elementwise.
pub fn mul(a: &Value, b: &Value) -> Result<Value> {
    const OP: &str = "mul";
    let _span = span(OP, Pass::Forward, a.dims());
    let (at, bt) = broadcast(OP, a.tensor(), b.tensor())?;
    let y = dispatch!(OP, at.dtype(), T => binary::<T>(OP, &at, &bt, |a, b| a * b))?;
    Ok(Value::from_op(OP, y, &[a, b], || {
        let (needs, dims) = ([a.tracked(), b.tracked()], [a.dims().to_vec(), b.dims().to_vec()]);
        move |grad: Tensor| {
            dispatch!(OP, grad.dtype(), T => {
                let da = when(needs[0], || unbroadcast(binary::<T>(OP, &grad, &bt, |g, b| g * b)?, &dims[0]))?;
                let db = when(needs[1], || unbroadcast(binary::<T>(OP, &grad, &at, |g, a| g * a)?, &dims[1]))?;
                Ok(vec![da, db])
            })
        }
    }))
}

/// `a / b`, elementwise.
pub fn div(a: &Value, b: &Value) -> Result<Value> {
    const OP: &str = "div";
    let _span = span(OP, Pass::Forward, a.dims());
    let (at, bt) = broadcast(OP, a.tensor(), b.tensor())?;
    let y = dispatch!(OP, at.dtype(), T => binary::<T>(OP, &at, &bt, |a, b| a / b))?;
    Ok(Value::from_op(OP, y, &[a, b], || {
        let (needs, dims) = ([a.tracked(), b.tracked()], [a.dims().to_vec(), b.dims().to_vec()]);
        move |grad: Tensor| {
            dispatch!(OP, grad.dtype(), T => {
                let da = binary::<T>(OP, &grad, &bt, |g, b| g / b)?;
                let db = when(needs[1], || {
                    // d(a/b)/db = −(a/b)/b
                    let slope = binary::<T>(OP, &at, &bt, |a, b| -(a / b) / b)?;
                    unbroadcast(binary::<T>(OP, &grad, &slope, |g, s| g * s)?, &dims[1])
                })?;
                Ok(vec![when(needs[0], || unbroadcast(da, &dims[0]))?, db])
            })
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    type Operation = fn(&Value, &Value) -> Result<Value>;

    #[test]
    fn gradients_with_broadcasting() {
        let positive = |dims: &[usize], seed| random(dims, seed).abs().unwrap().affine(1., 0.5).unwrap();
        let shapes: [(&[usize], &[usize]); 6] = [
            (&[2, 3], &[2, 3]),
            (&[2, 3], &[3]),
            (&[2, 1, 3], &[4, 1]),
            (&[1], &[2, 2]),
            (&[], &[3]),
            (&[2, 1], &[2, 3]),
        ];
        for (a, b) in shapes {
            for f in [add as Operation, sub, mul, div] {
                check(&[random(a, 1), positive(b, 2)], |v| f(&v[0], &v[1]));
            }
        }
    }

    #[test]
    fn a_value_used_twice_gets_both_gradients() {
        check(&[random(&[2, 3], 1)], |v| mul(&v[0], &v[0]));
        check(&[random(&[2, 3], 1)], |v| add(&add(&v[0], &v[0])?, &mul(&v[0], &v[0])?));
    }

    #[test]
    fn many_elements_agree() {
        agree(&[random(&[3, 9001], 1), random(&[3, 9001], 2)], |v| mul(&v[0], &v[1]));
        agree(&[random(&[300, 90], 1), random(&[90], 2)], |v| mul(&v[0], &v[1]));
    }

    #[test]
    fn names_shapes_that_do_not_fit() {
        assert!(
            add(&constant(&[2, 3]), &constant(&[2]))
                .unwrap_err()
                .to_string()
                .contains("[2, 3]")
        );
        let f32 = Value::constant(random(&[2], 1).to_dtype(crate::DType::F32).unwrap());
        assert!(mul(&constant(&[2]), &f32).is_err());
    }
}
