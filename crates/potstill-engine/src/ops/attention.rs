//! Multi-head scaled dot-product attention.

use candle_core::{DType, Tensor};

use super::tensor;
use crate::cpu::{self, AttentionGrad, AttentionShape, Real, View, dispatch};
use crate::cuda::{Gpu, SavedAttention};
use crate::error::{EngineError, Result, ensure_shape};
use crate::profile::{Pass, span};
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
    /// Of f32 inputs: multiply in bf16 with f32 sums; the softmax stays f32.
    pub bf16: bool,
}

/// softmax(scale · q·kᵀ)·v per head: q `[B, N, h·d]`, k and v `[B, M, h·d]`; the result is like q.
///
/// Scores are never stored for the backward pass: it computes them again.
pub fn attention(q: &Value, k: &Value, v: &Value, options: &Attention) -> Result<Value> {
    let _span = span(OP, Pass::Forward, q.dims());
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
    let in_bf16 = options.bf16 && qt.dtype() == DType::F32;
    let (y, log_sums) = match (Gpu::of(&qt), in_bf16) {
        (Some(gpu), _) => gpu.attention(&shape, [&qt, &kt, &vt])?,
        (None, true) => {
            let (q, k, v) = (View::<f32>::of(OP, &qt)?, View::of(OP, &kt)?, View::of(OP, &vt)?);
            let (y, log_sums) = cpu::bf16::attention_forward(&shape, &q, &k, &v);
            (tensor(y, qt.dims())?, tensor(log_sums, &[batch, heads, queries])?)
        }
        (None, false) => dispatch!(OP, qt.dtype(), T => {
            let (q, k, v) = (View::<T>::of(OP, &qt)?, View::<T>::of(OP, &kt)?, View::<T>::of(OP, &vt)?);
            let (y, log_sums) = cpu::attention_forward(&shape, &q, &k, &v);
            Ok((tensor(y, qt.dims())?, tensor(log_sums, &[batch, heads, queries])?))
        })?,
    };
    Ok(Value::from_op(OP, y.clone(), &[q, k, v], || {
        let needs = [q.tracked(), k.tracked(), v.tracked()];
        move |grad: Tensor| {
            let grad = grad.contiguous()?;
            if let Some(gpu) = Gpu::of(&grad) {
                let saved = SavedAttention {
                    q: &qt,
                    k: &kt,
                    v: &vt,
                    output: &y,
                    log_sums: &log_sums,
                };
                return Ok(gpu.attention_backward(&shape, &saved, &grad, needs)?.into());
            }
            let inputs = [&qt, &kt, &vt];
            match in_bf16 {
                true => backward(inputs, [&y, &log_sums, &grad], needs, |a| {
                    cpu::bf16::attention_backward(&shape, a)
                }),
                false => dispatch!(OP, qt.dtype(), T => {
                    backward::<T>(inputs, [&y, &log_sums, &grad], needs, |a| cpu::attention_backward(&shape, a))
                }),
            }
        }
    }))
}

/// The gradients by q, k and v, by a kernel.
fn backward<T: Real>(
    inputs: [&Tensor; 3],
    [y, log_sums, grad]: [&Tensor; 3],
    needs: [bool; 3],
    kernel: impl FnOnce(&AttentionGrad<T>) -> [Option<Vec<T>>; 3],
) -> Result<Vec<Option<Tensor>>> {
    let view = |t| View::<T>::of(OP, t);
    let [q, k, v] = inputs;
    let gradients = kernel(&AttentionGrad {
        q: &view(q)?,
        k: &view(k)?,
        v: &view(v)?,
        output: &view(y)?,
        log_sums: &view(log_sums)?,
        grad: &view(grad)?,
        needs,
    });
    let like = |(values, of): (Option<Vec<T>>, &Tensor)| values.map(|v| tensor(v, of.dims())).transpose();
    gradients.into_iter().zip(inputs).map(like).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    fn options(heads: usize, causal: bool) -> Attention {
        Attention {
            heads,
            scale: 0.7,
            causal,
            bf16: false,
        }
    }

    #[test]
    fn gradients() {
        for (heads, causal) in [(1, false), (2, false), (2, true)] {
            for (n, m) in [(4, 4), (3, 5), (5, 2)] {
                let inputs = [random(&[2, n, 6], 1), random(&[2, m, 6], 2), random(&[2, m, 6], 3)];
                check(&inputs, |v| attention(&v[0], &v[1], &v[2], &options(heads, causal)));
            }
        }
    }

    #[test]
    fn tiles_agree() {
        for (n, m, heads, width) in [
            (256, 256, 8, 8),
            (300, 77, 2, 40),
            (64, 77, 4, 16),
            (4, 4, 8, 24),
            (70, 1, 1, 5),
            (520, 530, 1, 64),
        ] {
            let c = heads * width;
            let inputs = [random(&[2, n, c], 1), random(&[2, m, c], 2), random(&[2, m, c], 3)];
            for causal in [false, true] {
                agree(&inputs, |v| attention(&v[0], &v[1], &v[2], &options(heads, causal)));
            }
        }
    }

    #[test]
    fn a_causal_query_does_not_see_what_follows() {
        let x = random(&[1, 6, 4], 1);
        let run = |x: &Tensor| {
            let x = Value::constant(x.clone());
            attention(&x, &x, &x, &options(2, true))
                .unwrap()
                .tensor()
                .get(0)
                .unwrap()
                .to_vec2::<f64>()
                .unwrap()
        };
        let whole = run(&x);
        let part = run(&x.narrow(1, 0, 3).unwrap());
        for (a, b) in whole.iter().flatten().zip(part.iter().flatten()) {
            assert!((a - b).abs() < 1e-12);
        }
        // The first query sees one key: its output is that value.
        assert_eq!(whole[0], x.get(0).unwrap().get(0).unwrap().to_vec1::<f64>().unwrap());
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let q = random(&[1, 8, 4], 1)
            .affine(1e4, 0.)
            .unwrap()
            .to_dtype(crate::DType::F32)
            .unwrap();
        let q = Value::constant(q);
        let y = attention(&q, &q, &q, &options(1, false)).unwrap();
        assert!(
            y.tensor()
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap()
                .iter()
                .all(|v| v.is_finite())
        );
    }

    #[test]
    fn names_shapes_that_do_not_fit() {
        let (q, k) = (constant(&[2, 3, 6]), constant(&[2, 5, 6]));
        assert!(
            attention(&q, &k, &k, &options(4, false))
                .unwrap_err()
                .to_string()
                .contains("heads")
        );
        assert!(attention(&q, &k, &q, &options(2, false)).is_err());
        assert!(attention(&q, &constant(&[1, 5, 6]), &constant(&[1, 5, 6]), &options(2, false)).is_err());
        assert!(attention(&q, &constant(&[2, 0, 6]), &constant(&[2, 0, 6]), &options(2, false)).is_err());
    }
}
