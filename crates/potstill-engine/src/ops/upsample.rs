//! Enlarging images.

use candle_core::Tensor;

use super::tensor;
use crate::cpu::{self, View, dispatch};
use crate::cuda::Gpu;
use crate::error::{EngineError, Result, ensure_shape};
use crate::profile::{Pass, span};
use crate::value::Value;

const OP: &str = "upsample_nearest";

/// x `[B, H, W, C]` resized to `size` = (H', W'): pixel i of the result is pixel ⌊i·H/H'⌋ of x.
pub fn upsample_nearest(x: &Value, size: (usize, usize)) -> Result<Value> {
    let _span = span(OP, Pass::Forward, x.dims());
    let &[batch, h, w, channels] = x.dims() else {
        return Err(EngineError::shape(OP, format!("x {:?} must be [B, H, W, C]", x.dims())));
    };
    ensure_shape!(
        h > 0 && w > 0 && channels > 0 && size.0 > 0 && size.1 > 0,
        OP,
        "x {:?} cannot be resized to {size:?}",
        x.dims()
    );
    let xt = x.tensor().contiguous()?;
    let y = match Gpu::of(&xt) {
        Some(gpu) => gpu.upsample(OP, [(h, w), size], &xt, &[batch, size.0, size.1, channels], false)?,
        None => dispatch!(OP, xt.dtype(), T => {
            let y = cpu::upsample((h, w), size, channels, &View::<T>::of(OP, &xt)?);
            tensor(y, &[batch, size.0, size.1, channels])
        })?,
    };
    Ok(Value::from_op(OP, y, &[x], || {
        move |grad: Tensor| {
            let grad = grad.contiguous()?;
            if let Some(gpu) = Gpu::of(&grad) {
                let dx = gpu.upsample(OP, [(h, w), size], &grad, &[batch, h, w, channels], true)?;
                return Ok(vec![Some(dx)]);
            }
            let dx = dispatch!(OP, grad.dtype(), T => {
                let dx = cpu::upsample_backward((h, w), size, channels, &View::<T>::of(OP, &grad)?);
                tensor(dx, &[batch, h, w, channels])
            })?;
            Ok(vec![Some(dx)])
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn gradients() {
        for size in [(4, 6), (5, 7), (2, 3), (1, 2)] {
            check(&[random(&[2, 2, 3, 2], 1)], |v| upsample_nearest(&v[0], size));
        }
    }

    #[test]
    fn tiles_agree() {
        agree(&[random(&[2, 16, 17, 40], 1)], |v| upsample_nearest(&v[0], (33, 34)));
    }

    #[test]
    fn names_shapes_that_do_not_fit() {
        assert!(upsample_nearest(&constant(&[2, 2, 3]), (4, 4)).is_err());
        assert!(upsample_nearest(&constant(&[1, 2, 2, 3]), (0, 4)).is_err());
    }
}
