//! Activation functions.

use candle_core::Tensor;

use crate::cpu::{self, Gelu, Smooth, Swish, dispatch};
use crate::cuda::{Function, Gpu};
use crate::error::Result;
use crate::profile::{Pass, span};
use crate::value::Value;

/// Factor in CLIP's approximation of GELU.
const QUICK_GELU: f64 = 1.702;

/// Applies a smooth function to every element; `on_card` is the same function for cards.
pub(super) fn apply(op: &'static str, f: impl Smooth, on_card: Function, x: &Value) -> Result<Value> {
    let _span = span(op, Pass::Forward, x.dims());
    let xt = x.tensor().contiguous()?;
    let y = match Gpu::of(&xt) {
        Some(gpu) => gpu.unary(op, on_card, &xt, None)?,
        None => dispatch!(op, xt.dtype(), T => cpu::smooth::<T>(op, f, &xt, None))?,
    };
    Ok(Value::from_op(op, y, &[x], || {
        move |grad: Tensor| {
            let grad = grad.contiguous()?;
            let dx = match Gpu::of(&grad) {
                Some(gpu) => gpu.unary(op, on_card, &xt, Some(&grad))?,
                None => dispatch!(op, xt.dtype(), T => cpu::smooth::<T>(op, f, &xt, Some(&grad)))?,
            };
            Ok(vec![Some(dx)])
        }
    }))
}

/// `x · sigmoid(x)`.
pub fn silu(x: &Value) -> Result<Value> {
    apply("silu", Swish(1.), Function::Swish { factor: 1. }, x)
}

/// The exact GELU, `x · Φ(x)` with the error function.
pub fn gelu(x: &Value) -> Result<Value> {
    apply("gelu", Gelu, Function::Gelu, x)
}

/// CLIP's approximation of GELU, `x · sigmoid(1.702·x)`.
pub fn quick_gelu(x: &Value) -> Result<Value> {
    apply(
        "quick_gelu",
        Swish(QUICK_GELU),
        Function::Swish { factor: QUICK_GELU },
        x,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn gradients() {
        let x = random(&[5, 7], 1).affine(3., 0.).unwrap();
        check(std::slice::from_ref(&x), |v| silu(&v[0]));
        check(std::slice::from_ref(&x), |v| gelu(&v[0]));
        check(std::slice::from_ref(&x), |v| quick_gelu(&v[0]));
    }

    #[test]
    fn many_elements_agree() {
        let x = random(&[3, 9001], 1).affine(4., 0.).unwrap();
        agree(std::slice::from_ref(&x), |v| silu(&v[0]));
        agree(std::slice::from_ref(&x), |v| gelu(&v[0]));
        agree(std::slice::from_ref(&x), |v| quick_gelu(&v[0]));
    }

    #[test]
    fn extremes_stay_finite() {
        let x = Value::leaf(crate::Tensor::new(&[-1e4f32, -100., 0., 100., 1e4], &crate::Device::Cpu).unwrap());
        for f in [silu, gelu, quick_gelu] {
            let y = f(&x).unwrap();
            let ones = y.tensor().ones_like().unwrap();
            assert_eq!(
                y.tensor().to_vec1::<f32>().unwrap(),
                [0., 0., 0., 100., 1e4].map(|v: f32| v.max(0.))
            );
            let g = crate::backward(&[(y, ones)]).unwrap();
            assert_eq!(g.get(&x).unwrap().to_vec1::<f32>().unwrap(), [0., 0., 0.5, 1., 1.]);
        }
    }
}
