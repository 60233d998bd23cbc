//! Multi-head scaled dot-product attention.

use candle_core::Tensor;

use super::tensor;
use crate::cpu::{self, AttentionShape, View, dispatch};
use crate::error::{EngineError, Result, ensure_shape};
use crate::value::Value;

const OP: &str = "attention";

/// How an attention is computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Number of heads; they lie side by side in the last dimension.
    pub heads: usize,
    /// Factor of the products before the softmax; normally 1/√(width of a head).
    pub scale: f64,
    /// Query i sees the keys 0 to i only.
    pub causal: bool,
}

/// softmax(scale · q·kᵀ)·v per head: q `[B, N, h·d]`, k and v `[B, M, h·d]`; the result is like q.
///
/// Scores are never stored for the backward pass: it computes them again.
pub fn attention(q: &Value, k: &Value, v: &Value, options: &Attention) -> Result<Value> {
    let (&[batch, queries, channels], &[key_batch, keys, key_channels]) = (q.dims(), k.dims()) else {
        return Err(EngineError::shape(
            OP,
            format!("q {:?} and k {:?} must be [B, N, C]", q.dims(), k.dims()),
        ));
    };
    let heads = options.heads;
    ensure_shape!(
        batch == key_batch && channels == key_channels && keys > 0 && k.dims() == v.dims(),
        OP,
        "q {:?}, k {:?}, v {:?} do not fit together",
        q.dims(),
        k.dims(),
        v.dims()
    );
    ensure_shape!(
        heads > 0 && channels > 0 && channels % heads == 0,
        OP,
        "{channels} channels cannot be cut into {heads} heads"
    );
    let shape = AttentionShape {
        batch,
        heads,
        queries,
        keys,
        width: channels / heads,
        scale: options.scale,
        causal: options.causal,
    };
    let (qt, kt, vt) = (
        q.tensor().contiguous()?,
        k.tensor().contiguous()?,
        v.tensor().contiguous()?,
    );
    let y = dispatch!(OP, qt.dtype(), T => {
        let (q, k, v) = (View::<T>::of(OP, &qt)?, View::<T>::of(OP, &kt)?, View::<T>::of(OP, &vt)?);
        tensor(cpu::attention_forward(&shape, &q, &k, &v), qt.dims())
    })?;
    Ok(Value::from_op(OP, y, &[q, k, v], || {
        let needs = [q.tracked(), k.tracked(), v.tracked()];
        move |grad: Tensor| {
            let grad = grad.contiguous()?;
            dispatch!(OP, qt.dtype(), T => {
                let (q, k, v) = (View::<T>::of(OP, &qt)?, View::<T>::of(OP, &kt)?, View::<T>::of(OP, &vt)?);
                let (dq, dk, dv) = cpu::attention_backward(&shape, &q, &k, &v, &View::<T>::of(OP, &grad)?);
                let dq = needs[0].then(|| tensor(dq, qt.dims())).transpose()?;
                let dk = needs[1].then(|| tensor(dk, kt.dims())).transpose()?;
                let dv = needs[2].then(|| tensor(dv, kt.dims())).transpose()?;
                Ok(vec![dq, dk, dv])
            })
        }
    }))
}
