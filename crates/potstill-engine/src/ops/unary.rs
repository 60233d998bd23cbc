//! Elementwise functions of one value.

use candle_core::Tensor;

use super::activation;
use crate::cpu::{self, Exp, Real, dispatch};
use crate::cuda::{self, Gpu};
use crate::error::Result;
use crate::value::Value;

/// An elementwise function with its derivative.
trait Function: Copy + Send + Sync + 'static {
    const NAME: &'static str;

    /// The same function for cards.
    fn on_card(self) -> cuda::Function;

    fn value<T: Real>(self, x: T) -> T;

    /// The derivative at `x`, times `grad`.
    fn gradient<T: Real>(self, x: T, grad: T) -> T;
}

fn apply<F: Function>(function: F, x: &Value) -> Result<Value> {
    let xt = x.tensor().contiguous()?;
    let y = match Gpu::of(&xt) {
        Some(gpu) => gpu.unary(F::NAME, function.on_card(), &xt, None)?,
        None => dispatch!(F::NAME, xt.dtype(), T => cpu::map::<T>(F::NAME, &xt, |x| function.value(x)))?,
    };
    Ok(Value::from_op(F::NAME, y, &[x], || {
        move |grad: Tensor| {
            if let Some(gpu) = Gpu::of(&grad) {
                return Ok(vec![Some(gpu.unary(F::NAME, function.on_card(), &xt, Some(&grad))?)]);
            }
            let dx = dispatch!(F::NAME, xt.dtype(), T => {
                cpu::map2::<T>(F::NAME, &xt, &grad, |x, g| function.gradient(x, g))
            })?;
            Ok(vec![Some(dx)])
        }
    }))
}

/// Declares a [`Function`] and the public operation that applies it.
macro_rules! function {
    ($(#[$doc:meta])* $name:ident, $Type:ident, |$x:ident| $value:expr, |$y:ident, $g:ident| $gradient:expr) => {
        #[derive(Clone, Copy)]
        struct $Type;

        impl Function for $Type {
            const NAME: &'static str = stringify!($name);

            fn on_card(self) -> cuda::Function {
                cuda::Function::$Type
            }

            #[inline(always)]
            fn value<T: Real>(self, $x: T) -> T {
                $value
            }

            #[inline(always)]
            fn gradient<T: Real>(self, $y: T, $g: T) -> T {
                $gradient
            }
        }

        $(#[$doc])*
        pub fn $name(x: &Value) -> Result<Value> {
            apply($Type, x)
        }
    };
}

function!(
    /// `−x`.
    neg, Neg, |x| -x, |_x, g| -g
);
function!(
    /// `x²`.
    square, Square, |x| x * x, |x, g| (x + x) * g
);
function!(
    /// `√x`; the gradient at zero is infinite.
    sqrt, Sqrt, |x| x.sqrt(), |x, g| g / (x.sqrt() * T::of(2.))
);
function!(
    /// The natural logarithm.
    log, Log, |x| x.ln(), |x, g| g / x
);
function!(
    /// `|x|`; the gradient at zero is zero.
    abs, Abs, |x| x.abs(), |x, g| if x > T::ZERO { g } else if x < T::ZERO { -g } else { T::ZERO }
);

/// `eˣ`.
pub fn exp(x: &Value) -> Result<Value> {
    activation::apply("exp", Exp, cuda::Function::Exp, x)
}

#[derive(Clone, Copy)]
struct Affine {
    mul: f64,
    add: f64,
}

impl Function for Affine {
    const NAME: &'static str = "affine";

    fn on_card(self) -> cuda::Function {
        cuda::Function::Affine {
            mul: self.mul,
            add: self.add,
        }
    }

    #[inline(always)]
    fn value<T: Real>(self, x: T) -> T {
        x * T::of(self.mul) + T::of(self.add)
    }

    #[inline(always)]
    fn gradient<T: Real>(self, _x: T, grad: T) -> T {
        grad * T::of(self.mul)
    }
}

/// `x · mul + add`.
pub fn affine(x: &Value, mul: f64, add: f64) -> Result<Value> {
    apply(Affine { mul, add }, x)
}

#[derive(Clone, Copy)]
struct Clamp {
    low: f64,
    high: f64,
}

impl Function for Clamp {
    const NAME: &'static str = "clamp";

    fn on_card(self) -> cuda::Function {
        cuda::Function::Clamp {
            low: self.low,
            high: self.high,
        }
    }

    #[inline(always)]
    fn value<T: Real>(self, x: T) -> T {
        let (low, high) = (T::of(self.low), T::of(self.high));
        if x < low {
            low
        } else if x > high {
            high
        } else {
            x
        }
    }

    #[inline(always)]
    fn gradient<T: Real>(self, x: T, grad: T) -> T {
        if x < T::of(self.low) || x > T::of(self.high) {
            T::ZERO
        } else {
            grad
        }
    }
}

/// `x` limited to `low ..= high`; the gradient outside is zero. NaN stays NaN.
pub fn clamp(x: &Value, low: f64, high: f64) -> Result<Value> {
    apply(Clamp { low, high }, x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn gradients() {
        let x = random(&[3, 4], 1);
        check(std::slice::from_ref(&x), |v| neg(&v[0]));
        check(std::slice::from_ref(&x), |v| square(&v[0]));
        check(std::slice::from_ref(&x), |v| exp(&v[0]));
        check(std::slice::from_ref(&x), |v| abs(&v[0]));
        check(std::slice::from_ref(&x), |v| affine(&v[0], -1.5, 0.25));
        check(std::slice::from_ref(&x), |v| clamp(&v[0], -0.5, 0.7));
        let positive = x.abs().unwrap().affine(1., 0.2).unwrap();
        check(std::slice::from_ref(&positive), |v| sqrt(&v[0]));
        check(std::slice::from_ref(&positive), |v| log(&v[0]));
    }

    #[test]
    fn many_elements_agree() {
        let x = random(&[7, 9001], 1);
        agree(std::slice::from_ref(&x), |v| exp(&v[0]));
        agree(std::slice::from_ref(&x), |v| square(&v[0]));
    }

    #[test]
    fn clamp_keeps_nan() {
        let x = Value::constant(Tensor::new(&[f32::NAN, 3., -3.], &crate::Device::Cpu).unwrap());
        let y = clamp(&x, -1., 1.).unwrap().tensor().to_vec1::<f32>().unwrap();
        assert!(y[0].is_nan() && y[1..] == [1., -1.]);
    }

    #[test]
    fn refuses_integers() {
        let x = Value::constant(Tensor::new(&[1u32], &crate::Device::Cpu).unwrap());
        assert!(neg(&x).unwrap_err().to_string().contains("U32"));
    }
}
