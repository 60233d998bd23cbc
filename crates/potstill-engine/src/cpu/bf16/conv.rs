//! Convolutions with weights in bf16: as the f32 ones, on pixels that are rounded once.

use half::bf16;

use super::super::conv::{ConvShape, count_from, walk};
use super::super::gemm::Panels;
use super::super::micro::Start;
use super::super::simd::run_pairs;
use super::super::storage::Out;
use super::product::{Across, Down, Multiply, grid};
use super::units::Units;
use super::winograd;
use crate::profile::count_flops;

/// The output `[B, H', W', O]` of `x` `[B, H, W, I]` and `w` `[O, kh, kw, I]`.
pub(crate) fn conv_forward(s: &ConvShape, x: &[f32], w: &[bf16], b: Option<&[f32]>) -> Vec<f32> {
    assert_eq!(x.len(), s.batch * s.in_h * s.in_w * s.inputs);
    assert_eq!(w.len(), s.outputs * s.taps() * s.inputs);
    assert!(b.is_none_or(|b| b.len() == s.outputs));
    count_flops(s.flops());
    winograd::forward(s, x, w, b).unwrap_or_else(|| direct_forward(s, x, w, b))
}

pub(super) fn direct_forward(s: &ConvShape, x: &[f32], w: &[bf16], b: Option<&[f32]>) -> Vec<f32> {
    let taps = s.taps();
    let x = Units::rounded(x, s.inputs);
    let rows = &Units::stored(w, s.inputs);
    let depth = x.per_row();
    let right = Across { rows, segments: taps };
    let mut out = Out::<f32>::new(s.pixels() * s.outputs);
    let y = out.pointer();
    let panels = Panels::of::<f32>(s.outputs);
    grid(s.pixels(), panels, taps * depth, |first, rows, range| {
        let mut left = vec![x.zeros(); taps * rows];
        walk(first, rows, s.out_h, s.out_w, |i, image, oy, ox| {
            for ky in 0..s.kernel_h {
                let Some(iy) = s.under(oy, ky, s.top, s.in_h) else {
                    continue;
                };
                for kx in 0..s.kernel_w {
                    if let Some(ix) = s.under(ox, kx, s.left, s.in_w) {
                        left[(ky * s.kernel_w + kx) * rows + i] = x.row((image * s.in_h + iy) * s.in_w + ix);
                    }
                }
            }
        });
        let c: Vec<*mut f32> = (first..first + rows).map(|r| y.at(r * s.outputs)).collect();
        run_pairs(Multiply {
            left: &left,
            segments: taps,
            depth,
            right: &right,
            panels,
            range,
            c: &c,
            start: b.map_or(Start::Zero, |b| Start::Bias(b.as_ptr())),
        });
    });
    // SAFETY: the grid covers all pixels and channels.
    unsafe { out.into_vec() }
}

/// The gradient by x.
pub(crate) fn conv_backward_data(s: &ConvShape, grad: &[f32], w: &[bf16]) -> Vec<f32> {
    assert_eq!(grad.len(), s.pixels() * s.outputs);
    assert_eq!(w.len(), s.outputs * s.taps() * s.inputs);
    count_flops(s.flops());
    winograd::backward(s, grad, w).unwrap_or_else(|| direct_backward_data(s, grad, w))
}

/// For each residue of the coordinates by the stride, a convolution of the gradient with those taps that reach these
/// pixels.
pub(super) fn direct_backward_data(s: &ConvShape, grad: &[f32], w: &[bf16]) -> Vec<f32> {
    let grad = Units::rounded(grad, s.outputs);
    let depth = grad.per_row();
    let mut out = Out::<f32>::new(s.batch * s.in_h * s.in_w * s.inputs);
    let dx = out.pointer();
    let panels = Panels::of::<f32>(s.inputs);
    for (py, px) in (0..s.stride).flat_map(|py| (0..s.stride).map(move |px| (py, px))) {
        let taps = s.reaching(py, px);
        let segments: Vec<usize> = taps.iter().map(|&(ky, kx)| ky * s.kernel_w + kx).collect();
        let (h, wide) = (count_from(py, s.in_h, s.stride), count_from(px, s.in_w, s.stride));
        let pixels = s.batch * h * wide;
        if pixels == 0 {
            continue;
        }
        let right = Down {
            w,
            depth: s.outputs,
            columns: s.inputs,
            taps: s.taps(),
            segments: &segments,
        };
        grid(pixels, panels, (taps.len() * depth).max(1), |first, rows, range| {
            let mut left = vec![grad.zeros(); taps.len() * rows];
            let mut c = vec![std::ptr::null_mut(); rows];
            walk(first, rows, h, wide, |i, image, y, x| {
                let (iy, ix) = (py + y * s.stride, px + x * s.stride);
                c[i] = dx.at(((image * s.in_h + iy) * s.in_w + ix) * s.inputs);
                for (t, &(ky, kx)) in taps.iter().enumerate() {
                    let (oy, ox) = (s.over(iy, ky, s.top, s.out_h), s.over(ix, kx, s.left, s.out_w));
                    if let (Some(oy), Some(ox)) = (oy, ox) {
                        left[t * rows + i] = grad.row((image * s.out_h + oy) * s.out_w + ox);
                    }
                }
            });
            run_pairs(Multiply {
                left: &left,
                segments: taps.len(),
                depth,
                right: &right,
                panels,
                range,
                c: &c,
                start: Start::Zero,
            });
        });
    }
    // SAFETY: the residues and grids cover all pixels and channels.
    unsafe { out.into_vec() }
}
