//! Convolutions over channels-last images, as products of matrices whose left rows are windows.
//!
//! A window is never copied out: the product takes one pointer per tap and output pixel, and pixels in the padding point
//! at zeros.

use super::gemm::{ByRows, Matrix, Panels, copy, grid};
use super::matmul::weight_gradient;
use super::micro::Start;
use super::scratch::Scratch;
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
    fn pixels(&self) -> usize {
        self.batch * self.out_h * self.out_w
    }

    fn taps(&self) -> usize {
        self.kernel_h * self.kernel_w
    }

    /// Floating-point operations of the product of windows and weights.
    fn flops(&self) -> usize {
        2 * self.pixels() * self.taps() * self.inputs * self.outputs
    }

    /// The input coordinate under tap `k` of output coordinate `at`.
    fn under(&self, at: usize, k: usize, before: usize, size: usize) -> Option<usize> {
        (at * self.stride + k).checked_sub(before).filter(|&i| i < size)
    }

    /// The output coordinate whose tap `k` lies on input coordinate `at`.
    fn over(&self, at: usize, k: usize, before: usize, size: usize) -> Option<usize> {
        let shifted = (at + before).checked_sub(k)?;
        (shifted % self.stride == 0)
            .then_some(shifted / self.stride)
            .filter(|&o| o < size)
    }
}

/// Walks the pixels of a grid of `h × w` per image from pixel `first`: (image, y, x).
fn walk(first: usize, count: usize, h: usize, w: usize, mut f: impl FnMut(usize, usize, usize, usize)) {
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

fn direct_forward<T: Real>(s: &ConvShape, x: &[T], w: &[T], b: Option<&[T]>) -> Vec<T> {
    let (taps, depth) = (s.taps(), s.inputs);
    let mut out = Out::<T>::new(s.pixels() * s.outputs);
    let y = out.pointer();
    let panels = Panels::of::<T>(s.outputs);
    let total = taps * depth;
    let mut packed = Scratch::<T>::new(panels.size(total));
    let packed = packed.pointer();
    // SAFETY: w is outputs × total.
    unsafe {
        Matrix {
            data: w.as_ptr(),
            row: 1,
            column: total,
        }
        .pack_parallel(panels, total, packed)
    };
    let (packed, zeros) = (Pointer::at_address(packed), vec![T::ZERO; depth]);
    grid(
        s.pixels(),
        panels.count(),
        total,
        panels.place(0).2,
        |first, rows, range| {
            let mut left = vec![zeros.as_ptr(); taps * rows];
            walk(first, rows, s.out_h, s.out_w, |i, image, oy, ox| {
                for ky in 0..s.kernel_h {
                    let Some(iy) = s.under(oy, ky, s.top, s.in_h) else {
                        continue;
                    };
                    for kx in 0..s.kernel_w {
                        if let Some(ix) = s.under(ox, kx, s.left, s.in_w) {
                            let source = (image * s.in_h + iy) * s.in_w + ix;
                            left[(ky * s.kernel_w + kx) * rows + i] = x[source * depth..].as_ptr();
                        }
                    }
                }
            });
            let c: Vec<*mut T> = (first..first + rows).map(|r| y.at(r * s.outputs)).collect();
            let start = b.map_or(Start::Zero, |b| Start::Bias(b.as_ptr()));
            let right = packed.at(0).cast_const();
            T::run(ByRows {
                left: &left,
                segments: taps,
                depth,
                right,
                panels,
                range,
                c: &c,
                start,
            });
        },
    );
    // SAFETY: the grid covers all pixels and channels.
    unsafe { out.into_vec() }
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
    let panels = Panels::of::<T>(s.inputs);
    let zeros = vec![T::ZERO; depth];
    let reaching = |phase: usize, before: usize, kernel: usize| -> Vec<usize> {
        (0..kernel)
            .filter(|k| (phase + before + s.stride * kernel - k).is_multiple_of(s.stride))
            .collect()
    };
    for (py, px) in (0..s.stride).flat_map(|py| (0..s.stride).map(move |px| (py, px))) {
        let (rows_y, rows_x) = (reaching(py, s.top, s.kernel_h), reaching(px, s.left, s.kernel_w));
        let taps: Vec<(usize, usize)> = rows_y
            .iter()
            .flat_map(|&ky| rows_x.iter().map(move |&kx| (ky, kx)))
            .collect();
        let (h, wide) = (count_from(py, s.in_h, s.stride), count_from(px, s.in_w, s.stride));
        let pixels = s.batch * h * wide;
        if pixels == 0 {
            continue;
        }
        let total = taps.len() * depth;
        let mut packed = Scratch::<T>::new(panels.size(total));
        let packed = packed.pointer();
        pack_taps(s, w, &taps, panels, packed);
        let packed = Pointer::at_address(packed);
        grid(
            pixels,
            panels.count(),
            total.max(1),
            panels.place(0).2,
            |first, rows, range| {
                let mut left = vec![zeros.as_ptr(); taps.len() * rows];
                let mut c = vec![std::ptr::null_mut(); rows];
                walk(first, rows, h, wide, |i, image, y, x| {
                    let (iy, ix) = (py + y * s.stride, px + x * s.stride);
                    c[i] = dx.at(((image * s.in_h + iy) * s.in_w + ix) * s.inputs);
                    for (t, &(ky, kx)) in taps.iter().enumerate() {
                        let (oy, ox) = (s.over(iy, ky, s.top, s.out_h), s.over(ix, kx, s.left, s.out_w));
                        if let (Some(oy), Some(ox)) = (oy, ox) {
                            let source = (image * s.out_h + oy) * s.out_w + ox;
                            left[t * rows + i] = grad[source * depth..].as_ptr();
                        }
                    }
                });
                let right = packed.at(0).cast_const();
                let segments = taps.len();
                T::run(ByRows {
                    left: &left,
                    segments,
                    depth,
                    right,
                    panels,
                    range,
                    c: &c,
                    start: Start::Zero,
                });
            },
        );
    }
    // SAFETY: the residues and grids cover all pixels and channels.
    unsafe { out.into_vec() }
}

/// How many of `first, first + step, …` are below `size`.
fn count_from(first: usize, size: usize, step: usize) -> usize {
    size.saturating_sub(first).div_ceil(step)
}

/// Packs, for the taps in order, the outputs × inputs matrices of w.
fn pack_taps<T: Real>(s: &ConvShape, w: &[T], taps: &[(usize, usize)], panels: Panels, to: *mut T) {
    use rayon::prelude::*;
    let total = taps.len() * s.outputs;
    let to = Pointer::at_address(to);
    let tasks = taps.len() * panels.count();
    (0..tasks)
        .into_par_iter()
        .with_min_len(tasks.div_ceil(rayon::current_num_threads() * 4))
        .for_each(|i| {
            let (t, panel) = (i / panels.count(), i % panels.count());
            let tap = taps[t].0 * s.kernel_w + taps[t].1;
            let (first, _, width) = panels.place(panel);
            let matrix = Matrix {
                data: w[tap * s.inputs..].as_ptr(),
                row: s.taps() * s.inputs,
                column: 1,
            };
            // SAFETY: each task writes its own part of the panels; w has these elements.
            unsafe {
                matrix.pack_panel(
                    panels,
                    panel,
                    0,
                    s.outputs,
                    to.at(first * total + t * s.outputs * width),
                )
            };
        });
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
    fn both_ways_are_one_convolution() {
        for (batch, in_h, in_w, inputs, outputs, top, left) in [
            (1, 16, 16, 32, 48, 1, 1),
            (2, 13, 18, 17, 33, 1, 1),
            (3, 12, 11, 40, 19, 0, 0),
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
