//! 3×3 convolutions of stride 1 with 16 multiplications where the window has 36: Winograd's F(2×2, 3×3).
//!
//! The output is cut into tiles of 2×2 pixels. Each reads a patch of 4×4 pixels, which is spread into 16 points by sums
//! and differences; weights are spread likewise; every point is then a product of matrices, tiles × channels by
//! channels × channels; and the 16 products of a tile fold into its four pixels (Lavin and Gray, "Fast algorithms for
//! convolutional neural networks", 2015, section 4.1). The spreading has no factors but ±1 and ½, and the sums are
//! shorter than the direct ones: f32 loses no accuracy here.
//!
//! The gradient by the input is the same computation with the window turned round and channels exchanged.

// Plain loops over vectors: iterators over them make the compiler keep them in memory.
#![allow(clippy::needless_range_loop)]

use rayon::prelude::*;

use super::gemm::{ByColumns, ByRows, Matrix, Panels};
use super::micro::Start;
use super::scratch::Scratch;
use super::simd::{Kernel, Simd, load, store};
use super::storage::{Out, Pointer};
use super::tasks::each_task;
use super::{Real, conv::ConvShape};

/// Pixels of a tile's side, of its patch's side, of the window's side; points, and taps of the window.
const TILE: usize = 2;
const PATCH: usize = 4;
const WINDOW: usize = 3;
pub(super) const POINTS: usize = PATCH * PATCH;
pub(super) const TAPS: usize = WINDOW * WINDOW;
/// Bytes of spread pixels at a time: they should stay in the last cache.
const SPREAD: usize = 24 << 20;
/// Tiles that a panel of weights is multiplied with at a time, a multiple of every register tile's rows or nearly so: 16
/// products of them fit the second cache.
pub(super) const ROWS: usize = 84;
/// Tiles whose patches are spread at a time for the gradient by the weights: 16 times as many rows of a panel fit the
/// second cache.
const DEPTH: usize = 96;
/// Numbers between the points of spread pixels, so that the 16 streams do not meet in the same sets of the first cache.
pub(super) const APART: usize = 16;
/// Inputs whose weights are transposed at a time: two cache lines of each output's.
pub(super) const INPUTS: usize = 32;
/// Most numbers in a vector.
const MOST_LANES: usize = 16;

/// A convolution of `[batch, in_h, in_w, depth]` to `[batch, out_h, out_w, columns]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plane {
    pub(super) batch: usize,
    in_h: usize,
    in_w: usize,
    pub(super) depth: usize,
    pub(super) out_h: usize,
    pub(super) out_w: usize,
    pub(super) columns: usize,
    top: usize,
    left: usize,
}

impl Plane {
    fn tile_grid(&self) -> (usize, usize) {
        (self.out_h.div_ceil(TILE), self.out_w.div_ceil(TILE))
    }

    pub(super) fn tiles(&self) -> usize {
        let (h, w) = self.tile_grid();
        self.batch * h * w
    }

    fn pays(&self) -> bool {
        // Measured. Spreading and folding are loads, stores and additions; more weights than a cache holds come from memory.
        const PIXEL: usize = 4;
        const NEAR: usize = 256 * 1024;
        self.pays_at(
            PIXEL,
            if TAPS * self.depth * self.columns <= NEAR {
                4
            } else {
                16
            },
        )
    }

    /// Whether this takes less time than the direct way: a matter of the sizes of one image alone, so that an image has the
    /// same bits by itself and in a batch. What it takes to spread a number of a pixel or a weight is given in multiply-adds.
    pub(super) fn pays_at(&self, pixel: usize, weight: usize) -> bool {
        let (h, w) = self.tile_grid();
        let (tiles, weights) = (h * w, self.depth * self.columns);
        let products = POINTS * tiles * weights;
        let spreading = POINTS * (pixel * tiles * (self.depth + self.columns) + weight * weights);
        let direct = TAPS * self.out_h * self.out_w * weights;
        // Vectors that are mostly padding win nothing.
        self.columns >= MOST_LANES && self.depth >= MOST_LANES && products + spreading < direct
    }

    /// Tiles that are spread at a time into at most `room` bytes, when the channels of a point take `bytes`.
    pub(super) fn chunk(&self, bytes: usize, room: usize) -> usize {
        let most = (room / (POINTS * bytes)).max(ROWS);
        let chunks = self.tiles().div_ceil(most).max(1);
        self.tiles().div_ceil(chunks).next_multiple_of(ROWS)
    }

    /// Image and first pixel of a tile.
    fn corner(&self, tile: usize) -> (usize, usize, usize) {
        let (h, w) = self.tile_grid();
        (tile / (h * w), tile / w % h * TILE, tile % w * TILE)
    }

    /// The pixels of a tile's patch; those in the padding are `zeros`.
    pub(super) fn patch<T>(&self, tile: usize, x: &[T], zeros: &[T]) -> [*const T; POINTS] {
        let (image, y, x0) = self.corner(tile);
        let mut patch = [zeros.as_ptr(); POINTS];
        for (i, to) in patch.iter_mut().enumerate() {
            let row = (y + i / PATCH).checked_sub(self.top).filter(|&row| row < self.in_h);
            let column = (x0 + i % PATCH).checked_sub(self.left).filter(|&c| c < self.in_w);
            if let (Some(row), Some(column)) = (row, column) {
                *to = x[((image * self.in_h + row) * self.in_w + column) * self.depth..].as_ptr();
            }
        }
        patch
    }

    /// Where the four pixels of a tile go; null beyond the edge.
    pub(super) fn pixels<T: Copy>(&self, tile: usize, y: Pointer<T>) -> [*mut T; TILE * TILE] {
        let (image, row, column) = self.corner(tile);
        std::array::from_fn(|i| {
            let (row, column) = (row + i / TILE, column + i % TILE);
            match row < self.out_h && column < self.out_w {
                true => y.at(((image * self.out_h + row) * self.out_w + column) * self.columns),
                false => std::ptr::null_mut(),
            }
        })
    }
}

/// The plane of a forward pass; `None` for other windows and strides.
pub(super) fn plane(s: &ConvShape) -> Option<Plane> {
    fits(s).then_some(Plane {
        batch: s.batch,
        in_h: s.in_h,
        in_w: s.in_w,
        depth: s.inputs,
        out_h: s.out_h,
        out_w: s.out_w,
        columns: s.outputs,
        top: s.top,
        left: s.left,
    })
}

/// The plane of the gradient by the input; `None` as [`plane`].
pub(super) fn turned_plane(s: &ConvShape) -> Option<Plane> {
    // Padding of the turned window: what the window reaches beyond a pixel, less what the padding took.
    let turns = fits(s) && s.top < WINDOW && s.left < WINDOW;
    turns.then_some(Plane {
        batch: s.batch,
        in_h: s.out_h,
        in_w: s.out_w,
        depth: s.outputs,
        out_h: s.in_h,
        out_w: s.in_w,
        columns: s.inputs,
        top: WINDOW - 1 - s.top,
        left: WINDOW - 1 - s.left,
    })
}

/// The output of a convolution, or `None` when another way is faster or the only one.
pub(super) fn forward<T: Real>(s: &ConvShape, x: &[T], w: &[T], b: Option<&[T]>) -> Option<Vec<T>> {
    plane(s).filter(Plane::pays).map(|plane| {
        let weights = Pointer::at_address(w.as_ptr().cast_mut());
        convolve(&plane, x, b, |panels, panel, to| {
            let (first, columns, width) = panels.place(panel);
            let mut taps = Scratch::<T>::new(TAPS * INPUTS * width);
            T::run(OutputPanel {
                w: weights.at(first * TAPS * s.inputs),
                inputs: s.inputs,
                columns,
                width,
                taps: taps.pointer(),
                to,
            });
        })
    })
}

/// The gradient by the input, or `None` as [`forward`].
pub(super) fn backward<T: Real>(s: &ConvShape, grad: &[T], w: &[T]) -> Option<Vec<T>> {
    turned_plane(s).filter(Plane::pays).map(|plane| {
        let weights = Pointer::at_address(w.as_ptr().cast_mut());
        convolve(&plane, grad, None, |panels, panel, to| {
            let (first, columns, width) = panels.place(panel);
            T::run(InputPanel {
                w: weights.at(first),
                inputs: s.inputs,
                outputs: s.outputs,
                columns,
                width,
                to,
            });
        })
    })
}

fn fits(s: &ConvShape) -> bool {
    (s.kernel_h, s.kernel_w, s.stride) == (WINDOW, WINDOW, 1)
}

/// The convolution; `weights(panels, panel, to)` spreads a panel of weights to `[point][depth][width]`.
fn convolve<T: Real>(s: &Plane, x: &[T], b: Option<&[T]>, weights: impl Fn(Panels, usize, *mut T) + Sync) -> Vec<T> {
    let panels = Panels::of::<T>(s.columns);
    let mut out = Out::<T>::new(s.batch * s.out_h * s.out_w * s.columns);
    let y = out.pointer();
    let (tiles, chunk, zeros) = (
        s.tiles(),
        s.chunk(s.depth * size_of::<T>(), SPREAD).min(s.tiles()),
        vec![T::ZERO; s.depth],
    );
    let apart = (chunk * s.depth).next_multiple_of(APART) + APART;
    let mut spread = Scratch::<T>::new(POINTS * apart);
    let spread = Pointer::at_address(spread.pointer());
    for first in (0..tiles).step_by(chunk.max(1)) {
        let count = chunk.min(tiles - first);
        each_task(count, count * POINTS * s.depth, |i| {
            T::run(Spread {
                patch: s.patch(first + i, x, &zeros),
                channels: s.depth,
                to: spread.at(i * s.depth),
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
            let mut spread_weights = Scratch::<T>::new(POINTS * s.depth * width);
            let mut products = Scratch::<T>::new(POINTS * ROWS * width);
            let (spread_weights, products) = (spread_weights.pointer(), products.pointer());
            weights(panels, panel, spread_weights);
            let mut left = Vec::with_capacity(ROWS);
            let mut places = Vec::with_capacity(ROWS);
            let end = (share * per + per).min(count);
            for begin in (share * per..end).step_by(ROWS) {
                let rows = ROWS.min(end - begin);
                for point in 0..POINTS {
                    left.clear();
                    let from = point * apart + begin * s.depth;
                    left.extend((0..rows).map(|row| spread.at(from + row * s.depth).cast_const()));
                    let c: [*mut T; ROWS] =
                        std::array::from_fn(|row| products.wrapping_add((point * ROWS + row) * width));
                    T::run(ByRows {
                        left: &left,
                        segments: 1,
                        depth: s.depth,
                        right: spread_weights.wrapping_add(point * s.depth * width),
                        // The panel by itself; its padding is computed as well, which makes it zeros.
                        panels: Panels::of::<T>(width),
                        range: (0, 1),
                        c: &c[..rows],
                        start: Start::Zero,
                    });
                }
                places.clear();
                places.extend((begin..begin + rows).map(|tile| {
                    let pixels = s.pixels(first + tile, y);
                    pixels.map(|pixel| {
                        if pixel.is_null() {
                            pixel
                        } else {
                            pixel.wrapping_add(column)
                        }
                    })
                }));
                T::run(Fold {
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

/// The gradient by the weights, or `None` as [`forward`]: at every point a product of matrices, outputs × tiles by tiles ×
/// inputs, of the spread gradient and the spread input, folded into the window.
pub(super) fn backward_filter<T: Real>(s: &ConvShape, grad: &[T], x: &[T]) -> Option<Vec<T>> {
    let plane = plane(s).filter(Plane::pays)?;
    let (outputs, inputs) = (s.outputs, s.inputs);
    let panels = Panels::of::<T>(inputs);
    let mut out = Out::<T>::new(outputs * TAPS * inputs);
    let dw = out.pointer();
    let (tiles, chunk) = (
        plane.tiles(),
        plane.chunk(outputs * size_of::<T>(), SPREAD).min(plane.tiles()),
    );
    let zeros = vec![T::ZERO; inputs.max(outputs)];
    let apart = (chunk * outputs).next_multiple_of(APART) + APART;
    let mut spread = Scratch::<T>::new(POINTS * apart);
    let spread = Pointer::at_address(spread.pointer());
    // What a chunk adds is folded and added to the last one's: the chunks depend on the sizes alone.
    for first in (0..tiles).step_by(chunk.max(1)) {
        let count = chunk.min(tiles - first);
        each_task(count, count * POINTS * outputs, |i| {
            let source = Pointer::at_address(grad.as_ptr().cast_mut());
            let pixels = plane.pixels(first + i, source).map(|pixel| match pixel.is_null() {
                true => zeros.as_ptr(),
                false => pixel.cast_const(),
            });
            T::run(SpreadGradient {
                pixels,
                channels: outputs,
                to: spread.at(i * outputs),
                apart,
            });
        });
        let shares = (4 * rayon::current_num_threads())
            .div_ceil(panels.count())
            .clamp(1, outputs.div_ceil(ROWS));
        let per = outputs.div_ceil(shares).next_multiple_of(ROWS);
        let shares = outputs.div_ceil(per);
        (0..panels.count() * shares).into_par_iter().for_each(|task| {
            let (panel, begin) = (task / shares, task % shares * per);
            let (channel, columns, width) = panels.place(panel);
            let rows = per.min(outputs - begin);
            let mut products = Scratch::<T>::new(POINTS * rows * width);
            let mut patches = Scratch::<T>::new(POINTS * DEPTH * width);
            let (products, patches) = (products.pointer(), patches.pointer());
            for tile in (0..count).step_by(DEPTH) {
                let depth = DEPTH.min(count - tile);
                for i in 0..depth {
                    let patch = plane.patch(first + tile + i, x, &zeros);
                    T::run(Spread {
                        patch: patch.map(|pixel| pixel.wrapping_add(channel)),
                        channels: columns,
                        to: patches.wrapping_add(i * width),
                        apart: DEPTH * width,
                    });
                }
                for point in 0..POINTS {
                    T::run(ByColumns {
                        left: spread.at(point * apart + tile * outputs + begin),
                        stride: outputs,
                        rows,
                        depth,
                        right: patches.wrapping_add(point * DEPTH * width),
                        panels: Panels::of::<T>(width),
                        range: (0, 1),
                        c: products.wrapping_add(point * rows * width),
                        c_stride: width,
                        add: tile > 0,
                    });
                }
            }
            T::run(FoldWindow {
                products,
                apart: rows * width,
                rows,
                width,
                columns,
                to: dw.at(begin * TAPS * inputs + channel),
                inputs,
                add: first > 0,
            });
        });
    }
    // SAFETY: there is at least one tile, and the panels and shares cover all weights.
    Some(unsafe { out.into_vec() })
}

/// `Bᵀ·d·B` of a patch: `[1 0 −1 0; 0 1 1 0; 0 −1 1 0; 0 1 0 −1]` along both sides.
struct Spread<T> {
    patch: [*const T; POINTS],
    channels: usize,
    /// The points are `apart` numbers apart.
    to: *mut T,
    apart: usize,
}

impl<T: Real> Kernel<T> for Spread<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        unsafe {
            for c in (0..self.channels).step_by(S::LANES) {
                let left = self.channels - c;
                let points = spread_patch::<S>(&self.patch, c, left);
                for point in 0..POINTS {
                    store::<S>(self.to.add(point * self.apart + c), points[point], left);
                }
            }
        }
    }
}

/// The points of a vector of channels, from `channel` on, of which `left` are left.
#[inline(always)]
pub(super) unsafe fn spread_patch<S: Simd>(
    patch: &[*const S::T; POINTS],
    channel: usize,
    left: usize,
) -> [S::V; POINTS] {
    unsafe {
        let zero = S::splat(S::T::ZERO);
        let mut d = [zero; POINTS];
        for i in 0..POINTS {
            d[i] = load::<S>(patch[i].add(channel), left);
        }
        let mut across = [zero; POINTS];
        for i in 0..PATCH {
            let [a, b, c, d] = spread_pixels::<S>([d[i], d[PATCH + i], d[2 * PATCH + i], d[3 * PATCH + i]]);
            across[i] = a;
            across[PATCH + i] = b;
            across[2 * PATCH + i] = c;
            across[3 * PATCH + i] = d;
        }
        let mut points = [zero; POINTS];
        for i in 0..PATCH {
            let row = &across[i * PATCH..i * PATCH + PATCH];
            let spread = spread_pixels::<S>([row[0], row[1], row[2], row[3]]);
            for j in 0..PATCH {
                points[i * PATCH + j] = spread[j];
            }
        }
        points
    }
}

#[inline(always)]
unsafe fn spread_pixels<S: Simd>([a, b, c, d]: [S::V; PATCH]) -> [S::V; PATCH] {
    unsafe { [S::sub(a, c), S::add(b, c), S::sub(c, b), S::sub(b, d)] }
}

/// `[1 0 0; ½ ½ ½; ½ −½ ½; 0 0 1]` times a column of the window.
#[inline(always)]
unsafe fn spread_taps<S: Simd>([a, b, c]: [S::V; WINDOW]) -> [S::V; PATCH] {
    unsafe {
        let half = S::splat(S::T::of(0.5));
        let (ends, middle) = (S::mul(S::add(a, c), half), S::mul(b, half));
        [a, S::add(ends, middle), S::sub(ends, middle), c]
    }
}

/// `G·g·Gᵀ` of a window.
#[inline(always)]
pub(super) unsafe fn spread_window<S: Simd>(g: [S::V; TAPS]) -> [S::V; POINTS] {
    unsafe {
        let zero = S::splat(S::T::ZERO);
        let mut across = [[zero; WINDOW]; PATCH];
        for i in 0..WINDOW {
            let [a, b, c, d] = spread_taps::<S>([g[i], g[WINDOW + i], g[2 * WINDOW + i]]);
            across[0][i] = a;
            across[1][i] = b;
            across[2][i] = c;
            across[3][i] = d;
        }
        let mut points = [zero; POINTS];
        for i in 0..PATCH {
            let row = spread_taps::<S>(across[i]);
            for j in 0..PATCH {
                points[i * PATCH + j] = row[j];
            }
        }
        points
    }
}

/// Weights of some outputs, spread to `[point][input][width]`.
struct OutputPanel<T> {
    /// `[columns][taps][inputs]`.
    w: *const T,
    inputs: usize,
    columns: usize,
    width: usize,
    /// Room for `TAPS · INPUTS · width`: transposed, but not yet spread.
    taps: *mut T,
    to: *mut T,
}

impl<T: Real> Kernel<T> for OutputPanel<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        unsafe {
            let alone = Panels::of::<T>(self.columns);
            for input in (0..self.inputs).step_by(INPUTS) {
                let count = INPUTS.min(self.inputs - input);
                let apart = count * self.width;
                for tap in 0..TAPS {
                    let matrix = Matrix {
                        data: self.w.add(tap * self.inputs + input),
                        row: 1,
                        column: TAPS * self.inputs,
                    };
                    matrix.pack_panel(alone, 0, 0, count, self.taps.add(tap * apart));
                }
                for at in (0..apart).step_by(S::LANES) {
                    let mut g = [S::splat(T::ZERO); TAPS];
                    for tap in 0..TAPS {
                        g[tap] = S::load(self.taps.add(tap * apart + at).cast_const());
                    }
                    let points = spread_window::<S>(g);
                    for point in 0..POINTS {
                        let to = (point * self.inputs + input) * self.width + at;
                        S::store(self.to.add(to), points[point]);
                    }
                }
            }
        }
    }
}

/// Weights of some inputs, the window turned round, spread to `[point][output][width]`.
struct InputPanel<T> {
    /// The first of these inputs in `[outputs][taps][inputs]`.
    w: *const T,
    inputs: usize,
    outputs: usize,
    columns: usize,
    width: usize,
    to: *mut T,
}

impl<T: Real> Kernel<T> for InputPanel<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        unsafe {
            for output in 0..self.outputs {
                for column in (0..self.width).step_by(S::LANES) {
                    let left = self.columns - column;
                    let from = self.w.add(output * TAPS * self.inputs + column);
                    let mut g = [S::splat(T::ZERO); TAPS];
                    for tap in 0..TAPS {
                        g[tap] = load::<S>(from.add((TAPS - 1 - tap) * self.inputs), left);
                    }
                    let points = spread_window::<S>(g);
                    for point in 0..POINTS {
                        let to = (point * self.outputs + output) * self.width + column;
                        S::store(self.to.add(to), points[point]);
                    }
                }
            }
        }
    }
}

/// `Aᵀ·m·A` of the products of tiles, `[1 1 1 0; 0 1 −1 −1]` along both sides, plus the bias.
pub(super) struct Fold<'a, T> {
    /// `[point][tile][width]`, the points `apart` numbers apart.
    pub(super) products: *const T,
    pub(super) apart: usize,
    pub(super) width: usize,
    pub(super) columns: usize,
    pub(super) bias: Option<*const T>,
    pub(super) to: &'a [[*mut T; TILE * TILE]],
}

impl<T: Real> Kernel<T> for Fold<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        unsafe {
            for column in (0..self.columns).step_by(S::LANES) {
                let left = self.columns - column;
                let zero = S::splat(T::ZERO);
                let bias = self.bias.map_or(zero, |bias| load::<S>(bias.add(column), left));
                for (tile, to) in self.to.iter().enumerate() {
                    let from = self.products.add(tile * self.width + column);
                    let mut across = [[zero; PATCH]; TILE];
                    for i in 0..PATCH {
                        let at = |row: usize| S::load(from.add((row * PATCH + i) * self.apart));
                        let [a, b] = fold_points::<S>([at(0), at(1), at(2), at(3)]);
                        across[0][i] = a;
                        across[1][i] = b;
                    }
                    for i in 0..TILE {
                        let folded = fold_points::<S>(across[i]);
                        for j in 0..TILE {
                            let pixel = to[i * TILE + j];
                            if !pixel.is_null() {
                                store::<S>(pixel.add(column), S::add(folded[j], bias), left);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `A·g·Aᵀ` of the gradients of a tile's pixels: what [`Fold`] does, turned round.
struct SpreadGradient<T> {
    pixels: [*const T; TILE * TILE],
    channels: usize,
    to: *mut T,
    apart: usize,
}

impl<T: Real> Kernel<T> for SpreadGradient<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        unsafe {
            for c in (0..self.channels).step_by(S::LANES) {
                let left = self.channels - c;
                let at = |i: usize| load::<S>(self.pixels[i].add(c), left);
                let columns = [unfold::<S>([at(0), at(TILE)]), unfold::<S>([at(1), at(TILE + 1)])];
                for i in 0..PATCH {
                    let points = unfold::<S>([columns[0][i], columns[1][i]]);
                    for j in 0..PATCH {
                        store::<S>(self.to.add((i * PATCH + j) * self.apart + c), points[j], left);
                    }
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn unfold<S: Simd>([a, b]: [S::V; TILE]) -> [S::V; PATCH] {
    unsafe { [a, S::add(a, b), S::sub(a, b), S::sub(S::splat(S::T::ZERO), b)] }
}

/// `Gᵀ·u·G` of the products of weights: what [`spread_window`] does, turned round.
struct FoldWindow<T> {
    /// `[point][row][width]`, the points `apart` numbers apart.
    products: *const T,
    apart: usize,
    rows: usize,
    width: usize,
    columns: usize,
    /// The first of these inputs of the first of these outputs in `[outputs][taps][inputs]`.
    to: *mut T,
    inputs: usize,
    /// To what is there already.
    add: bool,
}

impl<T: Real> Kernel<T> for FoldWindow<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        unsafe {
            let zero = S::splat(T::ZERO);
            for row in 0..self.rows {
                for column in (0..self.columns).step_by(S::LANES) {
                    let left = self.columns - column;
                    let from = self.products.add(row * self.width + column);
                    let mut across = [[zero; PATCH]; WINDOW];
                    for i in 0..PATCH {
                        let at = |point: usize| S::load(from.add((point * PATCH + i) * self.apart));
                        let [a, b, c] = fold_taps::<S>([at(0), at(1), at(2), at(3)]);
                        across[0][i] = a;
                        across[1][i] = b;
                        across[2][i] = c;
                    }
                    for i in 0..WINDOW {
                        let taps = fold_taps::<S>(across[i]);
                        for j in 0..WINDOW {
                            let tap = i * WINDOW + j;
                            let to = self.to.add((row * TAPS + tap) * self.inputs + column);
                            let value = match self.add {
                                true => S::add(load::<S>(to.cast_const(), left), taps[j]),
                                false => taps[j],
                            };
                            store::<S>(to, value, left);
                        }
                    }
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn fold_taps<S: Simd>([a, b, c, d]: [S::V; PATCH]) -> [S::V; WINDOW] {
    unsafe {
        let half = S::splat(S::T::of(0.5));
        let (sum, difference) = (S::mul(S::add(b, c), half), S::mul(S::sub(b, c), half));
        [S::add(a, sum), difference, S::add(sum, d)]
    }
}

#[inline(always)]
unsafe fn fold_points<S: Simd>([a, b, c, d]: [S::V; PATCH]) -> [S::V; TILE] {
    unsafe { [S::add(S::add(a, b), c), S::sub(S::sub(b, c), d)] }
}
