//! Arithmetic of two values, with broadcasting.

use candle_core::Tensor;

use super::when;
use crate::cpu::{self, Real, dispatch};
use crate::error::{EngineError, Result};
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
