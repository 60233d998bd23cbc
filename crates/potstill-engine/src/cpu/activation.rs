//! Smooth activation functions, a vector at a time.

use candle_core::Tensor;

use super::Real;
use super::pointwise::TILE;
use super::simd::{Kernel, Simd, load, sigmoid, store};
use super::storage::{Out, Pointer, View};
use super::tasks::each_task;
use crate::error::Result;

/// A function of vectors with its derivative.
pub(crate) trait Smooth: Copy + Send + Sync + 'static {
    /// # Safety
    /// The instruction set of `S` is present.
    unsafe fn value<S: Simd>(self, x: S::V) -> S::V;

    /// The derivative at `x`, times `grad`.
    ///
    /// # Safety
    /// The instruction set of `S` is present.
    unsafe fn gradient<S: Simd>(self, x: S::V, grad: S::V) -> S::V;
}

#[inline(always)]
unsafe fn number<S: Simd>(x: f64) -> S::V {
    unsafe { S::splat(S::T::of(x)) }
}

/// The standard normal distribution function.
#[inline(always)]
unsafe fn normal_cdf<S: Simd>(x: S::V) -> S::V {
    unsafe {
        let half = number::<S>(0.5);
        S::fma(
            S::erf(S::mul(x, number::<S>(std::f64::consts::FRAC_1_SQRT_2))),
            half,
            half,
        )
    }
}

/// The standard normal density.
#[inline(always)]
unsafe fn normal_density<S: Simd>(x: S::V) -> S::V {
    /// 1/√(2π).
    const PEAK: f64 = 0.398_942_280_401_432_7;
    unsafe { S::mul(number::<S>(PEAK), S::exp(S::mul(S::mul(x, x), number::<S>(-0.5)))) }
}

/// `x · sigmoid(factor · x)`: SiLU with factor 1, CLIP's approximation of GELU with another.
#[derive(Clone, Copy)]
pub(crate) struct Swish(pub(crate) f64);

impl Smooth for Swish {
    #[inline(always)]
    unsafe fn value<S: Simd>(self, x: S::V) -> S::V {
        unsafe { S::mul(x, sigmoid::<S>(S::mul(x, number::<S>(self.0)))) }
    }

    #[inline(always)]
    unsafe fn gradient<S: Simd>(self, x: S::V, grad: S::V) -> S::V {
        unsafe {
            let scaled = S::mul(x, number::<S>(self.0));
            let p = sigmoid::<S>(scaled);
            let one = number::<S>(1.);
            S::mul(S::mul(grad, p), S::fma(scaled, S::sub(one, p), one))
        }
    }
}

/// `x · Φ(x)`.
#[derive(Clone, Copy)]
pub(crate) struct Gelu;

impl Smooth for Gelu {
    #[inline(always)]
    unsafe fn value<S: Simd>(self, x: S::V) -> S::V {
        unsafe { S::mul(x, normal_cdf::<S>(x)) }
    }

    #[inline(always)]
    unsafe fn gradient<S: Simd>(self, x: S::V, grad: S::V) -> S::V {
        unsafe { S::mul(grad, S::fma(x, normal_density::<S>(x), normal_cdf::<S>(x))) }
    }
}

/// `eˣ`.
#[derive(Clone, Copy)]
pub(crate) struct Exp;

impl Smooth for Exp {
    #[inline(always)]
    unsafe fn value<S: Simd>(self, x: S::V) -> S::V {
        unsafe { S::exp(x) }
    }

    #[inline(always)]
    unsafe fn gradient<S: Simd>(self, x: S::V, grad: S::V) -> S::V {
        unsafe { S::mul(grad, S::exp(x)) }
    }
}

/// One tile of a function, or of its gradient when `grad` is given.
struct Tile<T, F> {
    f: F,
    x: *const T,
    grad: Option<*const T>,
    y: *mut T,
    len: usize,
}

impl<T: Real, F: Smooth> Kernel<T> for Tile<T, F> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        unsafe {
            for i in (0..self.len).step_by(S::LANES) {
                let left = self.len - i;
                let x = load::<S>(self.x.add(i), left);
                let y = match self.grad {
                    None => self.f.value::<S>(x),
                    Some(grad) => self.f.gradient::<S>(x, load::<S>(grad.add(i), left)),
                };
                store::<S>(self.y.add(i), y, left);
            }
        }
    }
}

/// The function of every element of a contiguous tensor; with `grad`, its derivative times that.
pub(crate) fn smooth<T: Real>(op: &'static str, f: impl Smooth, x: &Tensor, grad: Option<&Tensor>) -> Result<Tensor> {
    let values = View::<T>::of(op, x)?;
    let grad = grad.map(|g| View::<T>::of(op, g)).transpose()?;
    assert!(grad.as_ref().is_none_or(|g| g.len() == values.len()));
    let mut out = Out::<T>::new(values.len());
    let y = out.pointer();
    each_task(values.len().div_ceil(TILE), values.len(), |i| {
        let first = i * TILE;
        let len = TILE.min(values.len() - first);
        let grad = grad.as_ref().map(|g| g[first..].as_ptr());
        T::run(Tile {
            f,
            x: values[first..].as_ptr(),
            grad,
            y: y.at(first),
            len,
        });
    });
    // SAFETY: the tiles cover all elements.
    unsafe { out.into_tensor(x.dims()) }
}

/// A row of `[value, gate]` to `value·gelu(gate)`, or to the gradients of both when `grad` is given.
struct GatedRow<T> {
    value: *const T,
    gate: *const T,
    grad: Option<*const T>,
    /// The output, or the two gradients side by side.
    to: *mut T,
    half: usize,
}

impl<T: Real> Kernel<T> for GatedRow<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        unsafe {
            for i in (0..self.half).step_by(S::LANES) {
                let left = self.half - i;
                let (value, gate) = (load::<S>(self.value.add(i), left), load::<S>(self.gate.add(i), left));
                let Some(grad) = self.grad else {
                    store::<S>(self.to.add(i), S::mul(value, Gelu.value::<S>(gate)), left);
                    continue;
                };
                let grad = load::<S>(grad.add(i), left);
                let cdf = normal_cdf::<S>(gate);
                let slope = S::fma(gate, normal_density::<S>(gate), cdf);
                store::<S>(self.to.add(i), S::mul(grad, S::mul(gate, cdf)), left);
                store::<S>(self.to.add(self.half + i), S::mul(S::mul(grad, value), slope), left);
            }
        }
    }
}

fn gated<T: Real>(half: usize, x: &[T], grad: Option<&[T]>) -> Vec<T> {
    let rows = x.len() / (2 * half);
    assert!(grad.is_none_or(|g| g.len() == rows * half));
    let width = if grad.is_some() { 2 * half } else { half };
    let mut out = Out::<T>::new(rows * width);
    let to: Pointer<T> = out.pointer();
    let step = TILE.div_ceil(2 * half);
    each_task(rows.div_ceil(step), x.len(), |i| {
        for row in i * step..(i * step + step).min(rows) {
            let value = x[row * 2 * half..].as_ptr();
            let grad = grad.map(|g| g[row * half..].as_ptr());
            T::run(GatedRow {
                value,
                gate: value.wrapping_add(half),
                grad,
                to: to.at(row * width),
                half,
            });
        }
    });
    // SAFETY: the tasks cover all rows.
    unsafe { out.into_vec() }
}

/// `[rows, 2·half]` = `[value, gate]` to `value·gelu(gate)`.
pub(crate) fn geglu<T: Real>(half: usize, x: &[T]) -> Vec<T> {
    gated(half, x, None)
}

/// The gradient of [`geglu`] by x.
pub(crate) fn geglu_backward<T: Real>(half: usize, x: &[T], grad: &[T]) -> Vec<T> {
    gated(half, x, Some(grad))
}
