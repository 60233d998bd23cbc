//! Enlarging images.

use candle_core::Tensor;

use super::tensor;
use crate::cpu::{self, View, dispatch};
use crate::error::{EngineError, Result, ensure_shape};
use crate::value::Value;

const OP: &str = "upsample_nearest";

/// x `[B, H, W, C]` resized to `size` = (H', W'): pixel i of the result is pixel ⌊i·H/H'⌋ of x.
pub fn upsample_nearest(x: &Value, size: (usize, usize)) -> Result<Value> {
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
    let y = dispatch!(OP, xt.dtype(), T => {
        let y = cpu::upsample((h, w), size, channels, &View::<T>::of(OP, &xt)?);
        tensor(y, &[batch, size.0, size.1, channels])
    })?;
    Ok(Value::from_op(OP, y, &[x], || {
        move |grad: Tensor| {
            let grad = grad.contiguous()?;
            let dx = dispatch!(OP, grad.dtype(), T => {
                let dx = cpu::upsample_backward((h, w), size, channels, &View::<T>::of(OP, &grad)?);
                tensor(dx, &[batch, h, w, channels])
            })?;
            Ok(vec![Some(dx)])
        }
    }))
}
