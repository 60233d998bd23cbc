//! The gated feed-forward activation.

use candle_core::Tensor;

use super::tensor;
use crate::cpu::{self, View, dispatch};
use crate::cuda::Gpu;
use crate::error::{Result, ensure_shape};
use crate::profile::{Pass, span};
use crate::value::Value;

const OP: &str = "geglu";

/// x `[…, 2F]` = `[value, gate]`; the result, `[…, F]`, is `value · gelu(gate)` with the exact GELU.
pub fn geglu(x: &Value) -> Result<Value> {
    let _span = span(OP, Pass::Forward, x.dims());
    let width = x.dims().last().copied().unwrap_or(0);
    ensure_shape!(
        width > 0 && width % 2 == 0,
        OP,
        "x {:?}: the last dimension must be even",
        x.dims()
    );
    let half = width / 2;
    let xt = x.tensor().contiguous()?;
    let mut dims = xt.dims().to_vec();
    *dims.last_mut().expect("checked above") = half;
    let y = match Gpu::of(&xt) {
        Some(gpu) => gpu.geglu(OP, half, &xt, &dims)?,
        None => dispatch!(OP, xt.dtype(), T => tensor(cpu::geglu(half, &View::<T>::of(OP, &xt)?), &dims))?,
    };
    Ok(Value::from_op(OP, y, &[x], || {
        move |grad: Tensor| {
            let grad = grad.contiguous()?;
            if let Some(gpu) = Gpu::of(&grad) {
                return Ok(vec![Some(gpu.geglu_backward(OP, half, &xt, &grad)?)]);
            }
            let dx = dispatch!(OP, xt.dtype(), T => {
                let (x, grad) = (View::<T>::of(OP, &xt)?, View::<T>::of(OP, &grad)?);
                tensor(cpu::geglu_backward(half, &x, &grad), xt.dims())
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
        check(&[random(&[2, 3, 8], 1)], |v| geglu(&v[0]));
    }

    #[test]
    fn tiles_agree() {
        agree(&[random(&[300, 2 * 130], 1)], |v| geglu(&v[0]));
    }

    #[test]
    fn names_shapes_that_do_not_fit() {
        assert!(geglu(&constant(&[2, 3])).unwrap_err().to_string().contains("even"));
    }
}
