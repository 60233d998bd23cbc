//! Convolutions over channels-last images, as products of matrices whose left rows are windows.
//!
//! A window is never copied out: the product takes one pointer per tap and output pixel, and pixels in the padding point
//! at zeros.

use super::gemm::{Matrix, copy};
use super::matmul::weight_gradient;
use super::product::{Product, Term};
use super::storage::{Out, Pointer};
use super::{Real, winograd};
use crate::profile::count_flops;

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
    pub(super) fn pixels(&self) -> usize {
        self.batch * self.out_h * self.out_w
    }

    pub(super) fn taps(&self) -> usize {
        self.kernel_h * self.kernel_w
    }

    /// Floating-point operations of the product of windows and weights.
    pub(super) fn flops(&self) -> usize {
        2 * self.pixels() * self.taps() * self.inputs * self.outputs
    }

    /// The input coordinate under tap `k` of output coordinate `at`.
    pub(super) fn under(&self, at: usize, k: usize, before: usize, size: usize) -> Option<usize> {
        (at * self.stride + k).checked_sub(before).filter(|&i| i < size)
    }

    /// The output coordinate whose tap `k` lies on input coordinate `at`.
    pub(super) fn over(&self, at: usize, k: usize, before: usize, size: usize) -> Option<usize> {
        let shifted = (at + before).checked_sub(k)?;
        (shifted % self.stride == 0)
            .then_some(shifted / self.stride)
            .filter(|&o| o < size)
    }

    /// The taps that reach input coordinates whose residues by the stride are `py` and `px`.
    pub(super) fn reaching(&self, py: usize, px: usize) -> Vec<(usize, usize)> {
        let along = |phase: usize, before: usize, kernel: usize| -> Vec<usize> {
            (0..kernel)
                .filter(|k| (phase + before + self.stride * kernel - k).is_multiple_of(self.stride))
                .collect()
        };
        let (rows, columns) = (along(py, self.top, self.kernel_h), along(px, self.left, self.kernel_w));
        rows.iter()
            .flat_map(|&ky| columns.iter().map(move |&kx| (ky, kx)))
            .collect()
    }
}

/// Walks the pixels of a grid of `h × w` per image from pixel `first`: (image, y, x).
pub(super) fn walk(first: usize, count: usize, h: usize, w: usize, mut f: impl FnMut(usize, usize, usize, usize)) {
    let (mut image, mut y, mut x) = (first / (h * w), first / w % h, first % w);
    for i in 0..count {
        f(i, image, y, x);
        x += 1;
        if x == w {
            x = 0;
            y += 1;
            if y == h {
                y = 0;
                image += 1;
            }
        }
    }
}

/// The output `[B, H', W', O]` of `x` `[B, H, W, I]` and `w` `[O, kh, kw, I]`.
pub(crate) fn conv_forward<T: Real>(s: &ConvShape, x: &[T], w: &[T], b: Option<&[T]>) -> Vec<T> {
    assert_eq!(x.len(), s.batch * s.in_h * s.in_w * s.inputs);
    assert_eq!(w.len(), s.outputs * s.taps() * s.inputs);
    assert!(b.is_none_or(|b| b.len() == s.outputs));
    count_flops(s.flops());
    winograd::forward(s, x, w, b).unwrap_or_else(|| direct_forward(s, x, w, b))
}

/// The pixels under the windows: `[tap][pixel]` for `count` output pixels from `first`; those in the padding are `zeros`.
fn windows<T: Real>(s: &ConvShape, first: usize, count: usize, x: &[T], zeros: &[T]) -> Vec<Pointer<T>> {
    let mut windows = vec![Pointer::to(zeros); s.taps() * count];
    walk(first, count, s.out_h, s.out_w, |i, image, oy, ox| {
        for ky in 0..s.kernel_h {
            let Some(iy) = s.under(oy, ky, s.top, s.in_h) else {
                continue;
            };
            for kx in 0..s.kernel_w {
                if let Some(ix) = s.under(ox, kx, s.left, s.in_w) {
                    let source = (image * s.in_h + iy) * s.in_w + ix;
                    windows[(ky * s.kernel_w + kx) * count + i] = Pointer::to(&x[source * s.inputs..]);
                }
            }
        }
    });
    windows
}

fn direct_forward<T: Real>(s: &ConvShape, x: &[T], w: &[T], b: Option<&[T]>) -> Vec<T> {
    let (taps, depth) = (s.taps(), s.inputs);
    let mut out = Out::<T>::new(s.pixels() * s.outputs);
    let y = out.pointer();
    let zeros = vec![T::ZERO; depth];
    let term = Term {
        segments: taps,
        depth,
        left: &|first, rows| windows(s, first, rows, x, &zeros),
        right: &|tap| Matrix {
            data: w[tap * depth..].as_ptr(),
            row: 1,
            column: taps * depth,
        },
    };
    let product = Product {
        rows: s.pixels(),
        columns: s.outputs,
        bias: b,
        terms: &[term],
    };
    // SAFETY: w is outputs × taps × depth; every pixel is a row.
    unsafe {
        product.run(|pixel| y.at(pixel * s.outputs));
        out.into_vec()
    }
}

/// The gradient by x.
pub(crate) fn conv_backward_data<T: Real>(s: &ConvShape, grad: &[T], w: &[T]) -> Vec<T> {
    assert_eq!(grad.len(), s.pixels() * s.outputs);
    assert_eq!(w.len(), s.outputs * s.taps() * s.inputs);
    count_flops(s.flops());
    winograd::backward(s, grad, w).unwrap_or_else(|| direct_backward_data(s, grad, w))
}

/// For each residue of the coordinates by the stride, a convolution of the gradient with those taps that reach these
/// pixels.
fn direct_backward_data<T: Real>(s: &ConvShape, grad: &[T], w: &[T]) -> Vec<T> {
    let depth = s.outputs;
    let mut out = Out::<T>::new(s.batch * s.in_h * s.in_w * s.inputs);
    let dx = out.pointer();
    let zeros = vec![T::ZERO; depth];
    for (py, px) in (0..s.stride).flat_map(|py| (0..s.stride).map(move |px| (py, px))) {
        let taps = s.reaching(py, px);
        let (h, wide) = (count_from(py, s.in_h, s.stride), count_from(px, s.in_w, s.stride));
        let pixels = s.batch * h * wide;
        if pixels == 0 {
            continue;
        }
        let place = |i: usize| (i / (h * wide), py + i / wide % h * s.stride, px + i % wide * s.stride);
        let term = Term {
            segments: taps.len(),
            depth,
            left: &|first, rows| {
                let mut left = vec![Pointer::to(&zeros); taps.len() * rows];
                for i in 0..rows {
                    let (image, iy, ix) = place(first + i);
                    for (t, &(ky, kx)) in taps.iter().enumerate() {
                        let (oy, ox) = (s.over(iy, ky, s.top, s.out_h), s.over(ix, kx, s.left, s.out_w));
                        if let (Some(oy), Some(ox)) = (oy, ox) {
                            let source = (image * s.out_h + oy) * s.out_w + ox;
                            left[t * rows + i] = Pointer::to(&grad[source * depth..]);
                        }
                    }
                }
                left
            },
            right: &|t| {
                let (ky, kx) = taps[t];
                Matrix {
                    data: w[(ky * s.kernel_w + kx) * s.inputs..].as_ptr(),
                    row: s.taps() * s.inputs,
                    column: 1,
                }
            },
        };
        let product = Product {
            rows: pixels,
            columns: s.inputs,
            bias: None,
            terms: &[term],
        };
        // SAFETY: w is outputs × taps × inputs; every pixel of the residue is a row.
        unsafe {
            product.run(|i| {
                let (image, iy, ix) = place(i);
                dx.at(((image * s.in_h + iy) * s.in_w + ix) * s.inputs)
            });
        }
    }
    // SAFETY: the residues cover all pixels and channels.
    unsafe { out.into_vec() }
}

/// How many of `first, first + step, …` are below `size`.
pub(super) fn count_from(first: usize, size: usize, step: usize) -> usize {
    size.saturating_sub(first).div_ceil(step)
}

/// The gradient by w.
pub(crate) fn conv_backward_filter<T: Real>(s: &ConvShape, grad: &[T], x: &[T]) -> Vec<T> {
    assert_eq!(x.len(), s.batch * s.in_h * s.in_w * s.inputs);
    assert_eq!(grad.len(), s.pixels() * s.outputs);
    count_flops(s.flops());
    winograd::backward_filter(s, grad, x).unwrap_or_else(|| direct_backward_filter(s, grad, x))
}

fn direct_backward_filter<T: Real>(s: &ConvShape, grad: &[T], x: &[T]) -> Vec<T> {
    let (taps, inputs) = (s.taps(), s.inputs);
    weight_gradient(
        (s.pixels(), s.outputs, taps * inputs),
        grad,
        |panels, panel, first, rows, to| {
            let to = Pointer::at_address(to);
            let (start, columns, width) = panels.place(panel);
            let mut column = 0;
            while column < columns {
                // A run of channels of one tap.
                let (tap, channel) = ((start + column) / inputs, (start + column) % inputs);
                let run = (inputs - channel).min(columns - column);
                let (ky, kx) = (tap / s.kernel_w, tap % s.kernel_w);
                walk(first, rows, s.out_h, s.out_w, |i, image, oy, ox| {
                    let to = to.at(i * width + column);
                    let place = (s.under(oy, ky, s.top, s.in_h), s.under(ox, kx, s.left, s.in_w));
                    // SAFETY: `to` is within the panel; the source is a pixel of x.
                    unsafe {
                        match place {
                            (Some(iy), Some(ix)) => {
                                let source = (image * s.in_h + iy) * s.in_w + ix;
                                copy(x.as_ptr().add(source * inputs + channel), to, run);
                            }
                            _ => to.write_bytes(0, run),
                        }
                    }
                });
                column += run;
            }
            for i in 0..rows {
                for column in columns..width {
                    // SAFETY: the padding of the panel.
                    unsafe { *to.at(i * width + column) = T::ZERO };
                }
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u64) -> Vec<f64> {
        let tensor = crate::testing::random(&[count], seed);
        tensor.to_vec1().unwrap()
    }

    /// Largest difference over the largest value.
    fn difference(found: &[f64], wanted: &[f64]) -> f64 {
        assert_eq!(found.len(), wanted.len());
        let most = wanted.iter().fold(0f64, |m, v| m.max(v.abs()));
        let off = found.iter().zip(wanted).fold(0f64, |m, (a, b)| m.max((a - b).abs()));
        off / most
    }

    #[test]
    fn an_image_has_the_same_bits_alone_and_in_a_batch() {
        let single = |count, seed| -> Vec<f32> { numbers(count, seed).into_iter().map(|v| v as f32).collect() };
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        // Small and large for Winograd, weights that fit a cache and that do not.
        for (side, inputs, outputs) in [
            (4, 64, 64),
            (8, 64, 64),
            (10, 40, 19),
            (16, 32, 48),
            (34, 16, 100),
            (8, 256, 512),
        ] {
            let batch = 8;
            let alone = ConvShape {
                batch: 1,
                in_h: side,
                in_w: side,
                inputs,
                outputs,
                kernel_h: 3,
                kernel_w: 3,
                stride: 1,
                top: 1,
                left: 1,
                out_h: side,
                out_w: side,
            };
            let all = ConvShape { batch, ..alone };
            let (x, w) = (single(batch * side * side * inputs, 1), single(outputs * 9 * inputs, 2));
            let (b, grad) = (single(outputs, 3), single(all.pixels() * outputs, 4));
            let each = |values: &[f32], f: &dyn Fn(&[f32]) -> Vec<f32>| -> Vec<u32> {
                let images = values.chunks(values.len() / batch);
                images.flat_map(|image| bits(&f(image))).collect()
            };
            let y = conv_forward(&all, &x, &w, Some(&b));
            assert!(
                bits(&y) == each(&x, &|x| conv_forward(&alone, x, &w, Some(&b))),
                "{all:?}"
            );
            let dx = conv_backward_data(&all, &grad, &w);
            assert!(
                bits(&dx) == each(&grad, &|grad| conv_backward_data(&alone, grad, &w)),
                "{all:?}"
            );
        }
    }

    #[test]
    fn both_ways_are_one_convolution() {
        for (batch, in_h, in_w, inputs, outputs, top, left) in [
            (1, 16, 16, 32, 48, 1, 1),
            (2, 13, 18, 17, 33, 1, 1),
            (3, 16, 15, 40, 19, 0, 0),
            (1, 31, 9, 16, 16, 2, 0),
            (1, 24, 22, 20, 70, 1, 2),
        ] {
            let s = ConvShape {
                batch,
                in_h,
                in_w,
                inputs,
                outputs,
                kernel_h: 3,
                kernel_w: 3,
                stride: 1,
                top,
                left,
                out_h: in_h + 2 * top - 2,
                out_w: in_w + 2 * left - 2,
            };
            let (x, w) = (
                numbers(batch * in_h * in_w * inputs, 1),
                numbers(outputs * 9 * inputs, 2),
            );
            let (b, grad) = (numbers(outputs, 3), numbers(s.pixels() * outputs, 4));
            let y = winograd::forward(&s, &x, &w, Some(&b)).expect("large enough to pay");
            assert!(difference(&y, &direct_forward(&s, &x, &w, Some(&b))) < 1e-14, "{s:?}");
            let dw = winograd::backward_filter(&s, &grad, &x).expect("large enough to pay");
            assert!(difference(&dw, &direct_backward_filter(&s, &grad, &x)) < 1e-13, "{s:?}");
            let dx = winograd::backward(&s, &grad, &w).expect("large enough to pay");
            assert!(difference(&dx, &direct_backward_data(&s, &grad, &w)) < 1e-14, "{s:?}");
        }
    }
}
