//! 3×3 convolutions of stride 1 by [Winograd's way](super::super::winograd) with products of bf16: pixels and weights are
//! spread in f32, and rounded at the points; sums and folding are f32.
//!
//! Rounding the points costs accuracy that rounding pixels does not (about 1.8 times the error of the direct way), because
//! sums of four pixels are rounded where the window's products then cancel.

// Plain loops over vectors: iterators over them make the compiler keep them in memory.
#![allow(clippy::needless_range_loop)]

use half::bf16;
use rayon::prelude::*;

use super::super::Real;
use super::super::conv::ConvShape;
use super::super::gemm::Panels;
use super::super::micro::{Left, Panel, Start, tile};
use super::super::scratch::Scratch;
use super::super::simd::{PairKernel, Pairs, run_pairs, store};
use super::super::storage::{Out, Pointer};
use super::super::tasks::each_task;
use super::super::winograd::{
    APART, Fold, INPUTS, POINTS, Plane, ROWS, TAPS, plane, spread_patch, spread_window, turned_plane,
};
use super::product::{Units2, pack_across};
use super::units::Units;

/// Bytes of spread pixels at a time. Every panel of weights goes through all of them: more than this is slower (measured),
/// though weights are spread again for each part.
const SPREAD: usize = 6 << 20;

/// Whether this takes less time than the direct way (measured): at all sizes of a UNet but those of few channels.
fn pays(plane: &Plane) -> bool {
    const PIXEL: usize = 12;
    const WEIGHT: usize = 12;
    plane.pays_at(PIXEL, WEIGHT)
}

/// The output of a convolution, or `None` when another way is faster or the only one.
pub(super) fn forward(s: &ConvShape, x: &[f32], w: &[bf16], b: Option<&[f32]>) -> Option<Vec<f32>> {
    plane(s).filter(pays).map(|plane| forward_on(&plane, s, x, w, b))
}

pub(super) fn forward_on(plane: &Plane, s: &ConvShape, x: &[f32], w: &[bf16], b: Option<&[f32]>) -> Vec<f32> {
    let weights = Units::stored(w, s.inputs);
    let pairs = weights.per_row();
    convolve(plane, x, b, |panels, panel, to| {
        let (first, columns, width) = panels.place(panel);
        let mut taps = Scratch::<f32>::new(TAPS * INPUTS * width);
        run_pairs(OutputPanel {
            w: weights.row(first * TAPS),
            pairs,
            columns,
            width,
            taps: taps.pointer(),
            to,
        });
    })
}

/// The gradient by the input, or `None` as [`forward`].
pub(super) fn backward(s: &ConvShape, grad: &[f32], w: &[bf16]) -> Option<Vec<f32>> {
    turned_plane(s)
        .filter(pays)
        .map(|plane| backward_on(&plane, s, grad, w))
}

pub(super) fn backward_on(plane: &Plane, s: &ConvShape, grad: &[f32], w: &[bf16]) -> Vec<f32> {
    convolve(plane, grad, None, |panels, panel, to| {
        let (first, columns, width) = panels.place(panel);
        run_pairs(InputPanel {
            w: &w[first..],
            inputs: s.inputs,
            outputs: s.outputs,
            columns,
            width,
            to,
        });
    })
}

/// The convolution; `weights(panels, panel, to)` spreads a panel of weights to `[point][units of the depth][width]`.
fn convolve(s: &Plane, x: &[f32], b: Option<&[f32]>, weights: impl Fn(Panels, usize, *mut f32) + Sync) -> Vec<f32> {
    let panels = Panels::of::<f32>(s.columns);
    let depth = s.depth.div_ceil(2);
    let mut out = Out::<f32>::new(s.batch * s.out_h * s.out_w * s.columns);
    let y = out.pointer();
    let (tiles, zeros) = (s.tiles(), vec![0f32; s.depth]);
    let chunk = s.chunk(depth * size_of::<f32>(), SPREAD).min(tiles);
    let apart = (chunk * depth).next_multiple_of(APART) + APART;
    let mut spread = Scratch::<f32>::new(POINTS * apart);
    let spread = Pointer::at_address(spread.pointer());
    for first in (0..tiles).step_by(chunk.max(1)) {
        let count = chunk.min(tiles - first);
        each_task(count, count * POINTS * s.depth, |i| {
            run_pairs(Spread {
                patch: s.patch(first + i, x, &zeros),
                channels: s.depth,
                to: spread.at(i * depth),
                apart,
            });
        });
        // A panel's weights are spread once for each share of the tiles.
        let blocks = count.div_ceil(ROWS);
        let shares = (4 * rayon::current_num_threads())
            .div_ceil(panels.count())
            .clamp(1, blocks);
        let per = blocks.div_ceil(shares) * ROWS;
        let shares = count.div_ceil(per);
        (0..panels.count() * shares).into_par_iter().for_each(|task| {
            let (panel, share) = (task / shares, task % shares);
            let (column, columns, width) = panels.place(panel);
            let mut spread_weights = Scratch::<f32>::new(POINTS * depth * width);
            let mut products = Scratch::<f32>::new(POINTS * ROWS * width);
            let (spread_weights, products) = (spread_weights.pointer(), products.pointer());
            weights(panels, panel, spread_weights);
            let mut places = Vec::with_capacity(ROWS);
            let end = (share * per + per).min(count);
            for begin in (share * per..end).step_by(ROWS) {
                let rows = ROWS.min(end - begin);
                run_pairs(Points {
                    left: spread.at(begin * depth),
                    apart,
                    rows,
                    depth,
                    right: spread_weights,
                    width,
                    to: products,
                });
                places.clear();
                places.extend((begin..begin + rows).map(|tile| {
                    let pixels = s.pixels(first + tile, y);
                    pixels.map(|pixel| match pixel.is_null() {
                        true => pixel,
                        false => pixel.wrapping_add(column),
                    })
                }));
                f32::run(Fold {
                    products,
                    apart: ROWS * width,
                    width,
                    columns,
                    bias: b.map(|b| b[column..].as_ptr()),
                    to: &places,
                });
            }
        });
    }
    // SAFETY: the tiles and panels cover all pixels and channels.
    unsafe { out.into_vec() }
}

/// Spreads a patch to its points, rounded.
struct Spread {
    patch: [*const f32; POINTS],
    channels: usize,
    /// The points are `apart` units apart.
    to: *mut f32,
    apart: usize,
}

impl PairKernel for Spread {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Pairs>(self) {
        unsafe {
            for c in (0..self.channels).step_by(2 * S::LANES) {
                let left = self.channels - c;
                let first = spread_patch::<S>(&self.patch, c, left);
                let second = match left > S::LANES {
                    true => spread_patch::<S>(&self.patch, c + S::LANES, left - S::LANES),
                    false => [S::splat(0.); POINTS],
                };
                for point in 0..POINTS {
                    let to = self.to.add(point * self.apart + c / 2);
                    store::<S>(to, S::narrow(first[point], second[point]), left.div_ceil(2));
                }
            }
        }
    }
}

/// The products of all points of some tiles with one panel.
struct Points {
    /// `[tile][units]`, the points `apart` units apart.
    left: *const f32,
    apart: usize,
    rows: usize,
    depth: usize,
    /// `[point][units][width]`.
    right: *const f32,
    width: usize,
    /// `[point][tile][width]`, with room for `ROWS` tiles at each point.
    to: *mut f32,
}

impl PairKernel for Points {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Pairs>(self) {
        let mut left = [std::ptr::null(); 16];
        let mut c = [std::ptr::null_mut(); 16];
        for point in 0..POINTS {
            let panel = Panel {
                data: self.right.wrapping_add(point * self.depth * self.width),
                wide: self.width > S::LANES,
                // The padding is computed as well, which makes it zeros.
                columns: self.width,
            };
            for row in (0..self.rows).step_by(S::ROWS[0]) {
                let count = S::ROWS[0].min(self.rows - row);
                for i in 0..count {
                    left[i] = self.left.wrapping_add(point * self.apart + (row + i) * self.depth);
                    c[i] = self.to.wrapping_add((point * ROWS + row + i) * self.width);
                }
                let rows = Left::Rows {
                    pointers: &left[..count],
                    stride: 0,
                    segments: 1,
                    offset: 0,
                };
                unsafe { tile::<S, Units2>(count, rows, self.depth, panel, &c[..count], Start::Zero) };
            }
        }
    }
}

/// Weights of some outputs, spread to `[point][units of inputs][width]`.
struct OutputPanel {
    /// `[columns][taps][pairs]`.
    w: *const f32,
    /// Units of the inputs.
    pairs: usize,
    columns: usize,
    width: usize,
    /// Room for `TAPS · INPUTS · width`: transposed, but not yet spread.
    taps: *mut f32,
    to: *mut f32,
}

impl PairKernel for OutputPanel {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Pairs>(self) {
        unsafe {
            for pair in (0..self.pairs).step_by(INPUTS) {
                let count = INPUTS.min(self.pairs - pair);
                let apart = count * self.width;
                for tap in 0..TAPS {
                    let from = self.w.add(tap * self.pairs + pair);
                    let to = self.taps.add(tap * apart);
                    pack_across::<S>(from, TAPS * self.pairs, count, (self.columns, self.width), to);
                }
                for at in (0..apart).step_by(S::LANES) {
                    let mut g = [S::splat(0.); TAPS];
                    for tap in 0..TAPS {
                        g[tap] = S::low(S::load(self.taps.add(tap * apart + at).cast_const()));
                    }
                    let first = spread_window::<S>(g);
                    for tap in 0..TAPS {
                        g[tap] = S::high(S::load(self.taps.add(tap * apart + at).cast_const()));
                    }
                    let second = spread_window::<S>(g);
                    for point in 0..POINTS {
                        let to = (point * self.pairs + pair) * self.width + at;
                        S::store(self.to.add(to), S::pair(first[point], second[point]));
                    }
                }
            }
        }
    }
}

/// Weights of some inputs, the window turned round, spread to `[point][units of outputs][width]`.
struct InputPanel<'a> {
    /// From the first of these inputs in `[outputs][taps][inputs]` on.
    w: &'a [bf16],
    inputs: usize,
    outputs: usize,
    columns: usize,
    width: usize,
    to: *mut f32,
}

impl PairKernel for InputPanel<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Pairs>(self) {
        unsafe {
            let pairs = self.outputs.div_ceil(2);
            for pair in 0..pairs {
                for column in (0..self.width).step_by(S::LANES) {
                    let first = self.window::<S>(2 * pair, column);
                    let second = self.window::<S>(2 * pair + 1, column);
                    for point in 0..POINTS {
                        let to = (point * pairs + pair) * self.width + column;
                        S::store(self.to.add(to), S::pair(first[point], second[point]));
                    }
                }
            }
        }
    }
}

impl InputPanel<'_> {
    /// The spread windows of one output and a vector of inputs.
    #[inline(always)]
    unsafe fn window<S: Pairs>(&self, output: usize, column: usize) -> [S::V; POINTS] {
        unsafe {
            let mut g = [S::splat(0.); TAPS];
            if output < self.outputs {
                for tap in 0..TAPS {
                    let from = (output * TAPS + TAPS - 1 - tap) * self.inputs + column;
                    let row = &self.w[from..][..self.columns.saturating_sub(column).min(S::LANES)];
                    g[tap] = match row.len() == S::LANES {
                        true => S::widen(row.as_ptr().cast()),
                        false => {
                            let mut padded = [0u16; 16];
                            for (to, from) in padded.iter_mut().zip(row) {
                                *to = from.to_bits();
                            }
                            S::widen(padded.as_ptr())
                        }
                    };
                }
            }
            spread_window::<S>(g)
        }
    }
}
