//! Multi-head scaled dot-product attention.

use candle_core::Tensor;

use super::tensor;
use crate::cpu::{self, AttentionGrad, AttentionShape, View, dispatch};
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
    let (y, log_sums) = dispatch!(OP, qt.dtype(), T => {
        let (q, k, v) = (View::<T>::of(OP, &qt)?, View::<T>::of(OP, &kt)?, View::<T>::of(OP, &vt)?);
        let (y, log_sums) = cpu::attention_forward(&shape, &q, &k, &v);
        Ok((tensor(y, qt.dims())?, tensor(log_sums, &[batch, heads, queries])?))
    })?;
    Ok(Value::from_op(OP, y.clone(), &[q, k, v], || {
        let needs = [q.tracked(), k.tracked(), v.tracked()];
        move |grad: Tensor| {
            let grad = grad.contiguous()?;
            dispatch!(OP, qt.dtype(), T => {
                let view = |t| View::<T>::of(OP, t);
                let (q, k, v) = (view(&qt)?, view(&kt)?, view(&vt)?);
                let (output, log_sums, grad) = (view(&y)?, view(&log_sums)?, view(&grad)?);
                let given = AttentionGrad {
                    q: &q,
                    k: &k,
                    v: &v,
                    output: &output,
                    log_sums: &log_sums,
                    grad: &grad,
                    needs,
                };
                let [dq, dk, dv] = cpu::attention_backward(&shape, &given);
                let like = |values: Option<Vec<T>>, t: &Tensor| values.map(|v| tensor(v, t.dims())).transpose();
                Ok(vec![like(dq, &qt)?, like(dk, &kt)?, like(dv, &vt)?])
            })
        }
    }))
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
