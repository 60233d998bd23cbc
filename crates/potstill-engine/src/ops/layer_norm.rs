//! Layer normalisation.

use candle_core::Tensor;

use super::tensor;
use crate::cpu::{self, View, dispatch};
use crate::cuda::Gpu;
use crate::error::{Result, ensure_shape};
use crate::profile::{Pass, span};
use crate::value::Value;

const OP: &str = "layer_norm";

/// x `[…, C]` normalised over its last dimension (biased variance), scaled by w `[C]`, shifted by b `[C]`.
pub fn layer_norm(x: &Value, w: &Value, b: &Value, eps: f64) -> Result<Value> {
    let _span = span(OP, Pass::Forward, x.dims());
    let channels = x.dims().last().copied().unwrap_or(0);
    ensure_shape!(
        channels > 0 && w.dims() == [channels] && b.dims() == [channels],
        OP,
        "x {:?}, w {:?}, b {:?}: w and b need one value per channel",
        x.dims(),
        w.dims(),
        b.dims()
    );
    let (xt, wt, bt) = (
        x.tensor().contiguous()?,
        w.tensor().contiguous()?,
        b.tensor().contiguous()?,
    );
    if let Some(gpu) = Gpu::of(&xt) {
        let (y, stats) = gpu.layer_norm(channels, eps, [&xt, &wt, &bt])?;
        return Ok(Value::from_op(OP, y, &[x, w, b], || {
            let needs = [x.tracked(), w.tracked(), b.tracked()];
            move |grad: Tensor| {
                let tensors = [&xt, &wt, &bt, &stats, &grad.contiguous()?];
                Ok(gpu.layer_norm_backward(channels, tensors, needs)?.into())
            }
        }));
    }
    let (y, stats) = dispatch!(OP, xt.dtype(), T => {
        let (x, w, b) = (View::<T>::of(OP, &xt)?, View::<T>::of(OP, &wt)?, View::<T>::of(OP, &bt)?);
        let (y, stats) = cpu::layer_norm_forward(channels, eps, &x, &w, &b);
        Ok((tensor(y, xt.dims())?, stats))
    })?;
    Ok(Value::from_op(OP, y, &[x, w, b], || {
        let needs = [x.tracked(), w.tracked(), b.tracked()];
        move |grad: Tensor| {
            let grad = grad.contiguous()?;
            dispatch!(OP, xt.dtype(), T => {
                let (x, w) = (View::<T>::of(OP, &xt)?, View::<T>::of(OP, &wt)?);
                let (dx, dw, db) = cpu::layer_norm_backward(channels, &x, &w, &stats, &View::<T>::of(OP, &grad)?);
                let dx = needs[0].then(|| tensor(dx, xt.dims())).transpose()?;
                let dw = needs[1].then(|| tensor(dw, &[channels])).transpose()?;
                let db = needs[2].then(|| tensor(db, &[channels])).transpose()?;
                Ok(vec![dx, dw, db])
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
        for dims in [vec![3, 5], vec![2, 3, 4]] {
            let c = dims[dims.len() - 1];
            check(&[random(&dims, 1), random(&[c], 2), random(&[c], 3)], |v| {
                layer_norm(&v[0], &v[1], &v[2], 1e-5)
            });
        }
    }

    #[test]
    fn tiles_agree() {
        for dims in [vec![2, 77, 64], vec![700, 96], vec![5, 1283]] {
            let c = dims[dims.len() - 1];
            agree(&[random(&dims, 1), random(&[c], 2), random(&[c], 3)], |v| {
                layer_norm(&v[0], &v[1], &v[2], 1e-5)
            });
        }
    }

    #[test]
    fn names_shapes_that_do_not_fit() {
        assert!(layer_norm(&constant(&[2, 3]), &constant(&[2]), &constant(&[3]), 1e-5).is_err());
    }
}
