//! A row of channels added at every position.

use candle_core::Tensor;

use super::{tensor, when};
use crate::cpu::{self, View, dispatch};
use crate::cuda::Gpu;
use crate::error::{EngineError, Result, ensure_shape};
use crate::profile::{Pass, span};
use crate::value::Value;

const OP: &str = "add_rows";

/// x `[B, …, C]` plus row `[B, C]` at every position: the time embedding over an image.
pub fn add_rows(x: &Value, row: &Value) -> Result<Value> {
    let _span = span(OP, Pass::Forward, x.dims());
    let [batch, positions @ .., channels] = x.dims() else {
        return Err(EngineError::shape(OP, format!("x {:?} must be [B, …, C]", x.dims())));
    };
    ensure_shape!(
        row.dims() == [*batch, *channels],
        OP,
        "x {:?} and row {:?} do not fit together",
        x.dims(),
        row.dims()
    );
    let (positions, channels): (usize, usize) = (positions.iter().product(), *channels);
    let (xt, rt) = (x.tensor().contiguous()?, row.tensor().contiguous()?);
    let y = match Gpu::of(&xt) {
        Some(gpu) => gpu.add_rows(OP, positions, channels, [&xt, &rt])?,
        None => dispatch!(OP, xt.dtype(), T => {
            let (x, row) = (View::<T>::of(OP, &xt)?, View::<T>::of(OP, &rt)?);
            tensor(cpu::add_rows(positions, channels, &x, &row), xt.dims())
        })?,
    };
    Ok(Value::from_op(OP, y, &[x, row], || {
        let needs = [x.tracked(), row.tracked()];
        let dims = row.dims().to_vec();
        move |grad: Tensor| {
            let drow = when(needs[1], || {
                let grad = grad.contiguous()?;
                if let Some(gpu) = Gpu::of(&grad) {
                    let sums = gpu.sum([dims[0], positions, channels], &grad)?;
                    return Ok(sums.reshape(&dims[..])?.to_dtype(grad.dtype())?);
                }
                dispatch!(OP, grad.dtype(), T => {
                    tensor(cpu::block_sums(positions, channels, &View::<T>::of(OP, &grad)?), &dims)
                })
            })?;
            Ok(vec![needs[0].then_some(grad), drow])
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn gradients() {
        check(&[random(&[2, 3, 2, 4], 1), random(&[2, 4], 2)], |v| {
            add_rows(&v[0], &v[1])
        });
        check(&[random(&[3, 2], 1), random(&[3, 2], 2)], |v| add_rows(&v[0], &v[1]));
    }

    #[test]
    fn tiles_agree() {
        agree(&[random(&[3, 40, 33, 20], 1), random(&[3, 20], 2)], |v| {
            add_rows(&v[0], &v[1])
        });
    }

    #[test]
    fn names_shapes_that_do_not_fit() {
        assert!(add_rows(&constant(&[2, 3, 4]), &constant(&[1, 4])).is_err());
    }
}
