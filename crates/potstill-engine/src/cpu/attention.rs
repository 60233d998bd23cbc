//! Scaled dot-product attention, tile of queries by tile of queries: scores live in a scratch of the second cache's size.

use rayon::prelude::*;

use super::Real;
use super::gemm::{ByColumns, ByRows, Matrix, Panels};
use super::micro::Start;
use super::scratch::Scratch;
use super::simd::{Kernel, Simd, load, store};
use super::storage::{Out, Pointer};
use crate::profile::count_flops;

/// Bytes of a tile of scores.
const SCORES: usize = 512 * 1024;
/// Queries of a tile: a multiple of the register tile's rows.
const QUERY_STEP: usize = 14;
const MOST_QUERIES: usize = 112;
/// Queries of a task of the forward pass; each task packs keys and values for itself.
const TASK_QUERIES: usize = 448;
/// Multiply-adds below which heads share a task.
const SMALL: usize = 256 * 1024;

/// Sizes of an attention; heads lie side by side in the last dimension.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionShape {
    pub(crate) batch: usize,
    pub(crate) heads: usize,
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) width: usize,
    pub(crate) scale: f64,
    pub(crate) causal: bool,
}

impl AttentionShape {
    /// Distance between tokens.
    fn stride(&self) -> usize {
        self.heads * self.width
    }

    /// Distance between rows of scores: never a power of two, which would put all rows into a few sets of the cache.
    fn score_stride(&self) -> usize {
        self.keys.next_multiple_of(16) + 16
    }

    fn tile<T>(&self) -> usize {
        let rows = SCORES / (self.score_stride() * size_of::<T>());
        (rows / QUERY_STEP * QUERY_STEP).clamp(QUERY_STEP, MOST_QUERIES)
    }

    /// Where a head of an image begins among the queries and among the keys.
    fn place(&self, image: usize, head: usize) -> (usize, usize) {
        let c = self.stride();
        (
            image * self.queries * c + head * self.width,
            image * self.keys * c + head * self.width,
        )
    }

    /// Floating-point operations of one product of queries and keys.
    fn flops(&self) -> usize {
        2 * self.batch * self.heads * self.queries * self.keys * self.width
    }

    /// Keys that a query sees.
    fn seen(&self, query: usize) -> usize {
        if self.causal {
            (query + 1).min(self.keys)
        } else {
            self.keys
        }
    }

    /// Tasks per piece of work, for work of `tasks` pieces.
    fn together(&self, tasks: usize) -> usize {
        let each = self.queries.min(TASK_QUERIES) * self.keys * self.width;
        (SMALL / each.max(1)).clamp(1, tasks.div_ceil(2))
    }
}

/// Turns a row of products into exponentials relative to the greatest; zeros from `seen` on.
struct Softmax<T> {
    row: *mut T,
    seen: usize,
    keys: usize,
    scale: T,
}

impl<T: Real> Kernel<T> for Softmax<T> {
    /// The sum of the exponentials, and the greatest scaled product.
    type Output = (T, T);

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) -> (T, T) {
        unsafe {
            let whole = self.seen / S::LANES * S::LANES;
            let mut top = *self.row;
            let mut tops = S::splat(top);
            for j in (0..whole).step_by(S::LANES) {
                tops = S::max(S::load(self.row.add(j)), tops);
            }
            top = Real::max(top, S::greatest(tops));
            for j in whole..self.seen {
                top = Real::max(top, *self.row.add(j));
            }
            let (scale, base) = (S::splat(self.scale), S::splat(T::ZERO - top * self.scale));
            let mut sums = S::splat(T::ZERO);
            for j in (0..whole).step_by(S::LANES) {
                let e = S::exp(S::fma(S::load(self.row.add(j)), scale, base));
                S::store(self.row.add(j), e);
                sums = S::add(sums, e);
            }
            let mut sum = S::total(sums);
            if whole < self.seen {
                let left = self.seen - whole;
                let at = self.row.add(whole);
                S::store_some(at, S::exp(S::fma(S::load_some(at, left), scale, base)), left);
                for j in 0..left {
                    sum += *at.add(j);
                }
            }
            for j in self.seen..self.keys {
                *self.row.add(j) = T::ZERO;
            }
            (sum, top * self.scale)
        }
    }
}

/// Turns products into probabilities, and their gradients into gradients of the products.
struct ScoreGradient<T> {
    /// Products on entry, probabilities on return.
    scores: *mut T,
    /// Gradients by the probabilities on entry, by the products on return.
    grads: *mut T,
    seen: usize,
    keys: usize,
    scale: T,
    /// Logarithm of the sum of the exponentials of the scaled products.
    log_sum: T,
    /// The sum of probabilities times their gradients.
    dot: T,
}

impl<T: Real> Kernel<T> for ScoreGradient<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        unsafe {
            let (scale, base) = (S::splat(self.scale), S::splat(T::ZERO - self.log_sum));
            let dot = S::splat(self.dot);
            let mut j = 0;
            while j < self.seen {
                let left = self.seen - j;
                let (scores, grads) = (self.scores.add(j), self.grads.add(j));
                let (s, g) = (load::<S>(scores, left), load::<S>(grads, left));
                let p = S::exp(S::fma(s, scale, base));
                store::<S>(scores, p, left);
                store::<S>(grads, S::mul(S::mul(p, S::sub(g, dot)), scale), left);
                j += S::LANES;
            }
            for j in self.seen..self.keys {
                *self.scores.add(j) = T::ZERO;
                *self.grads.add(j) = T::ZERO;
            }
        }
    }
}

/// A tile of rows times a packed matrix.
struct Rows<'a, T> {
    left: *const T,
    left_stride: usize,
    depth: usize,
    right: *const T,
    panels: Panels,
    c: *mut T,
    c_stride: usize,
    count: usize,
    pointers: &'a mut (Vec<*const T>, Vec<*mut T>),
}

impl<T: Real> Rows<'_, T> {
    fn run(self) {
        let (left, c) = self.pointers;
        left.clear();
        c.clear();
        left.extend((0..self.count).map(|i| self.left.wrapping_add(i * self.left_stride)));
        c.extend((0..self.count).map(|i| self.c.wrapping_add(i * self.c_stride)));
        T::run(ByRows {
            left,
            segments: 1,
            depth: self.depth,
            right: self.right,
            panels: self.panels,
            range: (0, self.panels.count()),
            c,
            start: Start::Zero,
        });
    }
}

/// The output `[B, queries, heads·width]`, and for each head and query (`[B, heads, queries]`) the logarithm of the sum of
/// the exponentials.
pub(crate) fn attention_forward<T: Real>(s: &AttentionShape, q: &[T], k: &[T], v: &[T]) -> (Vec<T>, Vec<T>) {
    let c = s.stride();
    assert!(q.len() == s.batch * s.queries * c && k.len() == s.batch * s.keys * c && v.len() == k.len());
    count_flops(2 * s.flops());
    let (mut out, mut sums) = (Out::<T>::new(q.len()), Out::<T>::new(s.batch * s.heads * s.queries));
    let (y, log_sums) = (out.pointer(), sums.pointer());
    let parts = s.queries.div_ceil(TASK_QUERIES);
    let tasks = s.batch * s.heads * parts;
    let (tile, stride) = (s.tile::<T>(), s.score_stride());
    let (key_panels, value_panels) = (Panels::of::<T>(s.keys), Panels::of::<T>(s.width));
    (0..tasks)
        .into_par_iter()
        .with_min_len(s.together(tasks))
        .for_each(|i| {
            let (image, head, part) = (i / parts / s.heads, i / parts % s.heads, i % parts);
            let (queries, keys) = s.place(image, head);
            let (mut packed_k, mut packed_v, mut scores) = (
                Scratch::<T>::new(key_panels.size(s.width)),
                Scratch::<T>::new(value_panels.size(s.keys)),
                Scratch::<T>::new(tile * stride),
            );
            let scores = scores.pointer();
            let mut pointers = (Vec::with_capacity(tile), Vec::with_capacity(tile));
            // SAFETY: the head's keys and values, and a task's own queries, all of them.
            unsafe {
                Matrix {
                    data: k[keys..].as_ptr(),
                    row: 1,
                    column: c,
                }
                .pack(key_panels, s.width, packed_k.pointer());
                Matrix {
                    data: v[keys..].as_ptr(),
                    row: c,
                    column: 1,
                }
                .pack(value_panels, s.keys, packed_v.pointer());
                let end = (part * TASK_QUERIES + TASK_QUERIES).min(s.queries);
                for first in (part * TASK_QUERIES..end).step_by(tile) {
                    let count = tile.min(end - first);
                    let products = Rows {
                        left: q[queries + first * c..].as_ptr(),
                        left_stride: c,
                        depth: s.width,
                        right: packed_k.pointer(),
                        panels: key_panels,
                        c: scores,
                        c_stride: stride,
                        count,
                        pointers: &mut pointers,
                    };
                    products.run();
                    let mut totals = [T::ZERO; MOST_QUERIES];
                    for (j, total) in totals[..count].iter_mut().enumerate() {
                        let row = scores.add(j * stride);
                        let seen = s.seen(first + j);
                        let (sum, top) = T::run(Softmax {
                            row,
                            seen,
                            keys: s.keys,
                            scale: T::of(s.scale),
                        });
                        *log_sums.at((image * s.heads + head) * s.queries + first + j) = top + sum.ln();
                        *total = sum;
                    }
                    let weighted = Rows {
                        left: scores,
                        left_stride: stride,
                        depth: s.keys,
                        right: packed_v.pointer(),
                        panels: value_panels,
                        c: y.at(queries + first * c),
                        c_stride: c,
                        count,
                        pointers: &mut pointers,
                    };
                    weighted.run();
                    for (j, &total) in totals[..count].iter().enumerate() {
                        let row = std::slice::from_raw_parts_mut(y.at(queries + (first + j) * c), s.width);
                        let factor = T::ONE / total;
                        row.iter_mut().for_each(|v| *v *= factor);
                    }
                }
            }
        });
    // SAFETY: the tasks cover all heads and queries.
    unsafe { (out.into_vec(), sums.into_vec()) }
}

/// What the backward pass takes.
pub(crate) struct AttentionGrad<'a, T> {
    pub(crate) q: &'a [T],
    pub(crate) k: &'a [T],
    pub(crate) v: &'a [T],
    /// The forward's two results.
    pub(crate) output: &'a [T],
    pub(crate) log_sums: &'a [T],
    pub(crate) grad: &'a [T],
    /// Whether q, k and v need gradients.
    pub(crate) needs: [bool; 3],
}

/// The gradients by q, k and v, those that are needed. A head is one task: its sums over queries are taken in order.
pub(crate) fn attention_backward<T: Real>(s: &AttentionShape, a: &AttentionGrad<T>) -> [Option<Vec<T>>; 3] {
    let c = s.stride();
    // The scores and their gradients are always computed.
    count_flops((2 + a.needs.iter().filter(|&&need| need).count()) * s.flops());
    let mut outs = [a.q, a.k, a.v].map(|x| Out::<T>::new(x.len()));
    let [dq, dk, dv] = &mut outs;
    let [dq, dk, dv]: [Pointer<T>; 3] = [dq.pointer(), dk.pointer(), dv.pointer()];
    let tasks = s.batch * s.heads;
    let (tile, stride) = (s.tile::<T>(), s.score_stride());
    let (key_panels, width_panels) = (Panels::of::<T>(s.keys), Panels::of::<T>(s.width));
    (0..tasks)
        .into_par_iter()
        .with_min_len(s.together(tasks))
        .for_each(|i| {
            let (image, head) = (i / s.heads, i % s.heads);
            let (queries, keys) = s.place(image, head);
            let mut keys_across = Scratch::<T>::new(key_panels.size(s.width));
            let mut values_across = Scratch::<T>::new(key_panels.size(s.width));
            let mut keys_down = Scratch::<T>::new(width_panels.size(s.keys));
            let mut rows_down = Scratch::<T>::new(width_panels.size(tile));
            let (mut scores, mut grads) = (Scratch::<T>::new(tile * stride), Scratch::<T>::new(tile * stride));
            let (scores, grads) = (scores.pointer(), grads.pointer());
            let mut pointers = (Vec::with_capacity(tile), Vec::with_capacity(tile));
            // SAFETY: the head's own queries, keys and values, all of them.
            unsafe {
                Matrix {
                    data: a.k[keys..].as_ptr(),
                    row: 1,
                    column: c,
                }
                .pack(key_panels, s.width, keys_across.pointer());
                Matrix {
                    data: a.v[keys..].as_ptr(),
                    row: 1,
                    column: c,
                }
                .pack(key_panels, s.width, values_across.pointer());
                if a.needs[0] {
                    Matrix {
                        data: a.k[keys..].as_ptr(),
                        row: c,
                        column: 1,
                    }
                    .pack(width_panels, s.keys, keys_down.pointer());
                }
                for first in (0..s.queries).step_by(tile) {
                    let count = tile.min(s.queries - first);
                    let at = queries + first * c;
                    for (left, right, to) in [
                        (a.q, keys_across.pointer(), scores),
                        (a.grad, values_across.pointer(), grads),
                    ] {
                        let products = Rows {
                            left: left[at..].as_ptr(),
                            left_stride: c,
                            depth: s.width,
                            right,
                            panels: key_panels,
                            c: to,
                            c_stride: stride,
                            count,
                            pointers: &mut pointers,
                        };
                        products.run();
                    }
                    for j in 0..count {
                        let row = at + j * c;
                        let (g, o) = (&a.grad[row..row + s.width], &a.output[row..row + s.width]);
                        T::run(ScoreGradient {
                            scores: scores.add(j * stride),
                            grads: grads.add(j * stride),
                            seen: s.seen(first + j),
                            keys: s.keys,
                            scale: T::of(s.scale),
                            log_sum: a.log_sums[(image * s.heads + head) * s.queries + first + j],
                            dot: g.iter().zip(o).map(|(&g, &o)| g * o).sum(),
                        });
                    }
                    if a.needs[0] {
                        let products = Rows {
                            left: grads,
                            left_stride: stride,
                            depth: s.keys,
                            right: keys_down.pointer(),
                            panels: width_panels,
                            c: dq.at(at),
                            c_stride: c,
                            count,
                            pointers: &mut pointers,
                        };
                        products.run();
                    }
                    for (needed, left, right, to) in [(a.needs[1], grads, a.q, dk), (a.needs[2], scores, a.grad, dv)] {
                        if needed {
                            let matrix = Matrix {
                                data: right[at..].as_ptr(),
                                row: c,
                                column: 1,
                            };
                            matrix.pack(width_panels, count, rows_down.pointer());
                            T::run(ByColumns {
                                left,
                                stride,
                                rows: s.keys,
                                depth: count,
                                right: rows_down.pointer(),
                                panels: width_panels,
                                range: (0, width_panels.count()),
                                c: to.at(keys),
                                c_stride: c,
                                add: first > 0,
                            });
                        }
                    }
                }
                if s.queries == 0 {
                    for to in [dk, dv] {
                        for row in 0..s.keys {
                            to.at(keys + row * c).write_bytes(0, s.width);
                        }
                    }
                }
            }
        });
    let [dq, dk, dv] = outs;
    // SAFETY: where a gradient is needed the tasks cover it.
    unsafe {
        [
            a.needs[0].then(|| dq.into_vec()),
            a.needs[1].then(|| dk.into_vec()),
            a.needs[2].then(|| dv.into_vec()),
        ]
    }
}
