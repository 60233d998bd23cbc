//! Convolutions over channels-last images.

use rayon::prelude::*;

use super::Real;
use super::matmul::{linear_backward_input, linear_backward_weight, linear_forward};

/// Sizes of a convolution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConvShape {
    pub(crate) batch: usize,
    pub(crate) in_h: usize,
    pub(crate) in_w: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) kernel_h: usize,
    pub(crate) kernel_w: usize,
    pub(crate) stride: usize,
    pub(crate) top: usize,
    pub(crate) left: usize,
    pub(crate) out_h: usize,
    pub(crate) out_w: usize,
}

impl ConvShape {
    fn pixels(&self) -> usize {
        self.batch * self.out_h * self.out_w
    }

    fn taps(&self) -> usize {
        self.kernel_h * self.kernel_w
    }

    fn product(&self) -> (usize, usize, usize) {
        (self.pixels(), self.outputs, self.taps() * self.inputs)
    }

    /// The input pixel under tap `(ky, kx)` of output `(y, x)`; `None` in the padding.
    fn source(&self, image: usize, y: usize, x: usize, ky: usize, kx: usize) -> Option<usize> {
        let row = (y * self.stride + ky)
            .checked_sub(self.top)
            .filter(|&r| r < self.in_h)?;
        let column = (x * self.stride + kx)
            .checked_sub(self.left)
            .filter(|&c| c < self.in_w)?;
        Some((image * self.in_h + row) * self.in_w + column)
    }

    fn place(&self, pixel: usize) -> (usize, usize, usize) {
        (
            pixel / (self.out_h * self.out_w),
            pixel / self.out_w % self.out_h,
            pixel % self.out_w,
        )
    }
}

fn columns<T: Real>(s: &ConvShape, x: &[T]) -> Vec<T> {
    let (pixels, _, depth) = s.product();
    let mut out = vec![T::ZERO; pixels * depth];
    out.par_chunks_mut(depth).enumerate().for_each(|(pixel, row)| {
        let (image, y, xx) = s.place(pixel);
        for ky in 0..s.kernel_h {
            for kx in 0..s.kernel_w {
                if let Some(source) = s.source(image, y, xx, ky, kx) {
                    let at = (ky * s.kernel_w + kx) * s.inputs;
                    row[at..at + s.inputs].copy_from_slice(&x[source * s.inputs..(source + 1) * s.inputs]);
                }
            }
        }
    });
    out
}

/// The output `[B, H', W', O]` of `x` `[B, H, W, I]` and `w` `[O, kh, kw, I]`.
pub(crate) fn conv_forward<T: Real>(s: &ConvShape, x: &[T], w: &[T], b: Option<&[T]>) -> Vec<T> {
    linear_forward(s.product(), &columns(s, x), w, b)
}

/// The gradient by x.
pub(crate) fn conv_backward_data<T: Real>(s: &ConvShape, grad: &[T], w: &[T]) -> Vec<T> {
    let (pixels, _, depth) = s.product();
    let columns = linear_backward_input(s.product(), grad, w);
    let mut dx = vec![T::ZERO; s.batch * s.in_h * s.in_w * s.inputs];
    for pixel in 0..pixels {
        let (image, y, x) = s.place(pixel);
        for ky in 0..s.kernel_h {
            for kx in 0..s.kernel_w {
                if let Some(source) = s.source(image, y, x, ky, kx) {
                    let at = pixel * depth + (ky * s.kernel_w + kx) * s.inputs;
                    for c in 0..s.inputs {
                        dx[source * s.inputs + c] += columns[at + c];
                    }
                }
            }
        }
    }
    dx
}

/// The gradient by w.
pub(crate) fn conv_backward_filter<T: Real>(s: &ConvShape, grad: &[T], x: &[T]) -> Vec<T> {
    linear_backward_weight(s.product(), grad, &columns(s, x))
}
