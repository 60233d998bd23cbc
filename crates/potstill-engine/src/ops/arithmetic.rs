//! Arithmetic of two values, with broadcasting.

use candle_core::Tensor;

use super::reduce::sum_keepdim;
use super::when;
use crate::cpu::{self, dispatch};
use crate::cuda::{Function, Gpu, Pairing};
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
    Ok(sum_keepdim(&grad, &summed)?.reshape(dims)?)
}

/// The function of every pair of elements of two tensors of one shape and type.
fn binary(op: &'static str, f: Pairing, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if let Some(gpu) = Gpu::of(a) {
        return gpu.binary(op, f, a, b);
    }
    dispatch!(op, a.dtype(), T => match f {
        Pairing::Add => cpu::map2::<T>(op, a, b, |a, b| a + b),
        Pairing::Sub => cpu::map2::<T>(op, a, b, |a, b| a - b),
        Pairing::Mul => cpu::map2::<T>(op, a, b, |a, b| a * b),
        Pairing::Div => cpu::map2::<T>(op, a, b, |a, b| a / b),
        Pairing::DivSlope => cpu::map2::<T>(op, a, b, |a, b| -(a / b) / b),
    })
}

/// The sum of two tensors of one shape and type, in a storage of its own.
pub(crate) fn sum_of(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    binary("add", Pairing::Add, a, b)
}

/// `a + b`.
pub fn add(a: &Value, b: &Value) -> Result<Value> {
    const OP: &str = "add";
    let _span = span(OP, Pass::Forward, a.dims());
    let (at, bt) = broadcast(OP, a.tensor(), b.tensor())?;
    let y = binary(OP, Pairing::Add, &at, &bt)?;
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
    let y = binary(OP, Pairing::Sub, &at, &bt)?;
    Ok(Value::from_op(OP, y, &[a, b], || {
        let (needs, dims) = ([a.tracked(), b.tracked()], [a.dims().to_vec(), b.dims().to_vec()]);
        move |grad: Tensor| {
            let da = when(needs[0], || unbroadcast(grad.clone(), &dims[0]))?;
            let db = when(needs[1], || {
                let db = match Gpu::of(&grad) {
                    Some(gpu) => gpu.unary(OP, Function::Neg, &grad, None)?,
                    None => dispatch!(OP, grad.dtype(), T => cpu::map::<T>(OP, &grad, |g| -g))?,
                };
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
    let y = binary(OP, Pairing::Mul, &at, &bt)?;
    Ok(Value::from_op(OP, y, &[a, b], || {
        let (needs, dims) = ([a.tracked(), b.tracked()], [a.dims().to_vec(), b.dims().to_vec()]);
        move |grad: Tensor| {
            let by = |other: &Tensor| binary(OP, Pairing::Mul, &grad, other);
            let da = when(needs[0], || unbroadcast(by(&bt)?, &dims[0]))?;
            let db = when(needs[1], || unbroadcast(by(&at)?, &dims[1]))?;
            Ok(vec![da, db])
        }
    }))
}

/// `a / b`, elementwise.
pub fn div(a: &Value, b: &Value) -> Result<Value> {
    const OP: &str = "div";
    let _span = span(OP, Pass::Forward, a.dims());
    let (at, bt) = broadcast(OP, a.tensor(), b.tensor())?;
    let y = binary(OP, Pairing::Div, &at, &bt)?;
    Ok(Value::from_op(OP, y, &[a, b], || {
        let (needs, dims) = ([a.tracked(), b.tracked()], [a.dims().to_vec(), b.dims().to_vec()]);
        move |grad: Tensor| {
            let da = when(needs[0], || {
                unbroadcast(binary(OP, Pairing::Div, &grad, &bt)?, &dims[0])
            })?;
            let db = when(needs[1], || {
                let slope = binary(OP, Pairing::DivSlope, &at, &bt)?;
                unbroadcast(binary(OP, Pairing::Mul, &grad, &slope)?, &dims[1])
            })?;
            Ok(vec![da, db])
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
