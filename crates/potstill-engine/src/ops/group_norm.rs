//! Group normalisation, with the activation that follows it.

use candle_core::Tensor;

use super::tensor;
use crate::cpu::{self, NormShape, View, dispatch};
use crate::cuda::Gpu;
use crate::error::{EngineError, Result, ensure_shape};
use crate::profile::{Pass, span};
use crate::value::Value;

const OP: &str = "group_norm";

/// What follows a normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// `x · sigmoid(x)`.
    Silu,
}

/// x `[B, …, C]` normalised over each image's groups of `C / groups` channels (biased variance), then scaled by w `[C]`,
/// shifted by b `[C]`, and passed through the activation.
pub fn group_norm(x: &Value, w: &Value, b: &Value, groups: usize, eps: f64, activation: Activation) -> Result<Value> {
    let _span = span(OP, Pass::Forward, x.dims());
    let [batch, positions @ .., channels] = x.dims() else {
        return Err(EngineError::shape(OP, format!("x {:?} must be [B, …, C]", x.dims())));
    };
    let (batch, channels) = (*batch, *channels);
    ensure_shape!(
        groups > 0 && channels > 0 && channels % groups == 0,
        OP,
        "{channels} channels cannot be cut into {groups} groups"
    );
    ensure_shape!(
        w.dims() == [channels] && b.dims() == [channels],
        OP,
        "w {:?} and b {:?} for x {:?}: one value per channel",
        w.dims(),
        b.dims(),
        x.dims()
    );
    let positions = positions.iter().product();
    let shape = NormShape {
        batch,
        positions,
        channels,
        groups,
        eps,
        silu: activation == Activation::Silu,
    };
    let (xt, wt, bt) = (
        x.tensor().contiguous()?,
        w.tensor().contiguous()?,
        b.tensor().contiguous()?,
    );
    if let Some(gpu) = Gpu::of(&xt) {
        let (y, stats) = gpu.group_norm(&shape, &xt, &wt, &bt)?;
        return Ok(Value::from_op(OP, y, &[x, w, b], || {
            let needs = [x.tracked(), w.tracked(), b.tracked()];
            move |grad: Tensor| {
                let tensors = [&xt, &wt, &bt, &stats, &grad.contiguous()?];
                Ok(gpu.group_norm_backward(&shape, tensors, needs)?.into())
            }
        }));
    }
    let (y, stats) = dispatch!(OP, xt.dtype(), T => {
        let (x, w, b) = (View::<T>::of(OP, &xt)?, View::<T>::of(OP, &wt)?, View::<T>::of(OP, &bt)?);
        let (y, stats) = cpu::group_norm_forward(&shape, &x, &w, &b);
        Ok((tensor(y, xt.dims())?, stats))
    })?;
    Ok(Value::from_op(OP, y, &[x, w, b], || {
        let needs = [x.tracked(), w.tracked(), b.tracked()];
        move |grad: Tensor| {
            let grad = grad.contiguous()?;
            dispatch!(OP, xt.dtype(), T => {
                let (x, w, b) = (View::<T>::of(OP, &xt)?, View::<T>::of(OP, &wt)?, View::<T>::of(OP, &bt)?);
                let (dx, dw, db) = cpu::group_norm_backward(&shape, &x, &w, &b, &stats, &View::<T>::of(OP, &grad)?);
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
        for activation in [Activation::None, Activation::Silu] {
            for (dims, groups) in [
                (vec![2, 3, 2, 6], 3),
                (vec![2, 5, 4], 1),
                (vec![3, 4], 2),
                (vec![1, 7, 3], 3),
            ] {
                let c = dims[dims.len() - 1];
                let inputs = [random(&dims, 1), random(&[c], 2), random(&[c], 3)];
                check(&inputs, |v| group_norm(&v[0], &v[1], &v[2], groups, 1e-5, activation));
            }
        }
    }

    #[test]
    fn tiles_agree() {
        for (dims, groups) in [
            (vec![2, 33, 31, 96], 32),
            (vec![1, 64, 64, 64], 32),
            (vec![2, 300, 20], 5),
        ] {
            let c = dims[dims.len() - 1];
            let inputs = [random(&dims, 1), random(&[c], 2), random(&[c], 3)];
            for activation in [Activation::None, Activation::Silu] {
                agree(&inputs, |v| group_norm(&v[0], &v[1], &v[2], groups, 1e-5, activation));
            }
        }
    }

    #[test]
    fn keeps_small_deviations_from_a_large_mean() {
        let x = Tensor::from_slice(&[1000f32, 1001., 1002., 1003.], (1, 4, 1), &crate::Device::Cpu).unwrap();
        let one = Tensor::ones(1, crate::DType::F32, &crate::Device::Cpu).unwrap();
        let (w, b) = (Value::constant(one.clone()), Value::constant(one.zeros_like().unwrap()));
        let y = group_norm(&Value::constant(x), &w, &b, 1, 0., Activation::None).unwrap();
        let y = y.tensor().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (found, wanted) in y.iter().zip([-1.5f64, -0.5, 0.5, 1.5]) {
            assert!((f64::from(*found) - wanted / 1.25f64.sqrt()).abs() < 1e-5, "{y:?}");
        }
    }

    #[test]
    fn names_shapes_that_do_not_fit() {
        let (x, w) = (constant(&[1, 4, 6]), constant(&[6]));
        let run = |x: &Value, w: &Value, groups| group_norm(x, w, w, groups, 1e-5, Activation::None);
        assert!(run(&x, &w, 4).unwrap_err().to_string().contains("groups"));
        assert!(run(&x, &w, 0).is_err());
        assert!(run(&x, &constant(&[5]), 3).is_err());
        assert!(run(&w, &w, 1).is_err());
    }
}
