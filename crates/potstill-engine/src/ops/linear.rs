//! Linear layers.

use candle_core::Tensor;

use super::weighted::Weighted;
use crate::cpu::{self, dispatch};
use crate::error::{Result, ensure_shape};
use crate::profile::{Pass, span};
use crate::value::Value;

const OP: &str = "linear";

/// `x·wᵀ + b`: x `[…, in]`, w `[out, in]`, b `[out]`; the result is `[…, out]`.
pub fn linear(x: &Value, w: &Value, b: Option<&Value>) -> Result<Value> {
    let _span = span(OP, Pass::Forward, x.dims());
    let fits = matches!((x.dims(), w.dims()), ([.., i], [_, j]) if i == j);
    ensure_shape!(
        fits,
        OP,
        "x {:?} by w {:?}: the last dimensions must agree",
        x.dims(),
        w.dims()
    );
    let weighted = Weighted { op: OP, x, w, b };
    weighted.check_bias()?;
    let (n, k) = (w.dims()[0], w.dims()[1]);
    let mut dims = x.dims().to_vec();
    *dims.last_mut().expect("at least one dimension") = n;
    let product = (x.tensor().elem_count() / k.max(1), n, k);
    let y = dispatch!(OP, x.tensor().dtype(), T => {
        weighted.forward::<T>(&dims, |x, w, b| cpu::linear_forward(product, x, w, b))
    })?;
    Ok(Value::from_op(OP, y, &weighted.inputs(), || {
        let saved = weighted.save();
        move |grad: Tensor| {
            dispatch!(OP, grad.dtype(), T => saved.backward::<T>(
                &grad,
                |grad, w| cpu::linear_backward_input(product, grad, w),
                |grad, x| cpu::linear_backward_weight(product, grad, x),
            ))
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn gradients() {
        for dims in [vec![5, 3], vec![2, 4, 3], vec![3]] {
            check(&[random(&dims, 1), random(&[4, 3], 2), random(&[4], 3)], |v| {
                linear(&v[0], &v[1], Some(&v[2]))
            });
            check(&[random(&dims, 1), random(&[4, 3], 2)], |v| linear(&v[0], &v[1], None));
        }
    }

    #[test]
    fn tiles_agree() {
        for (m, n, k) in [
            (1, 300, 700),
            (130, 65, 33),
            (517, 130, 260),
            (2048, 24, 17),
            (77, 1, 64),
            (3, 7, 1),
        ] {
            agree(&[random(&[m, k], 1), random(&[n, k], 2), random(&[n], 3)], |v| {
                linear(&v[0], &v[1], Some(&v[2]))
            });
        }
    }

    #[test]
    fn names_shapes_that_do_not_fit() {
        let (x, w) = (constant(&[2, 3]), constant(&[4, 5]));
        let message = linear(&x, &w, None).unwrap_err().to_string();
        assert!(
            message.contains("linear") && message.contains("[2, 3]") && message.contains("[4, 5]"),
            "{message}"
        );
        assert!(linear(&x, &constant(&[4, 3]), Some(&constant(&[3]))).is_err());
    }
}
