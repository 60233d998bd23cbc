//! Group normalisation, with the activation that follows it.

use candle_core::Tensor;

use super::tensor;
use crate::cpu::{self, NormShape, View, dispatch};
use crate::error::{EngineError, Result, ensure_shape};
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
