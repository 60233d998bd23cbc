//! Attention whose two products are of bf16: queries by keys, and probabilities by values. Scores, the softmax and all sums
//! are f32; a probability is rounded after it has been added to the sum that it is divided by.

use rayon::prelude::*;

use super::super::attention::AttentionShape;
use super::super::gemm::{Matrix, Panels};
use super::super::micro::{Left, Start, tile};
use super::super::scratch::Scratch;
use super::super::simd::{PairKernel, Pairs, load, math, run_pairs, store};
use super::super::storage::{Out, Pointer};
use super::product::Units2;
use super::units::Units;
use crate::profile::count_flops;

/// Bytes of a tile of scores.
const SCORES: usize = 512 * 1024;
/// Queries of a tile: a multiple of the register tile's rows.
const QUERY_STEP: usize = 14;
const MOST_QUERIES: usize = 112;
/// Queries of a task of the forward pass.
pub(super) const TASK_QUERIES: usize = 448;

/// Scores that lie by query: a row has one query's.
impl AttentionShape {
    /// Distance between rows of scores: never a power of two, which would put all rows into a few sets of the cache.
    fn score_stride(&self) -> usize {
        self.keys.next_multiple_of(16) + 16
    }

    fn tile<T>(&self) -> usize {
        let rows = SCORES / (self.score_stride() * size_of::<T>());
        (rows / QUERY_STEP * QUERY_STEP).clamp(QUERY_STEP, MOST_QUERIES)
    }

    /// Keys that a query sees.
    pub(super) fn seen(&self, query: usize) -> usize {
        if self.causal {
            (query + 1).min(self.keys)
        } else {
            self.keys
        }
    }
}

/// The output `[B, queries, heads·width]`, and for each head and query (`[B, heads, queries]`) the logarithm of the sum of
/// the exponentials.
pub(crate) fn attention_forward(s: &AttentionShape, q: &[f32], k: &[f32], v: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let c = s.stride();
    assert!(q.len() == s.batch * s.queries * c && k.len() == s.batch * s.keys * c && v.len() == k.len());
    count_flops(2 * s.flops());
    let (mut out, mut sums) = (Out::<f32>::new(q.len()), Out::<f32>::new(s.batch * s.heads * s.queries));
    let (y, log_sums) = (out.pointer(), sums.pointer());
    let heads = Heads::pack(s, k, v);
    // Heads lie side by side: a row for each token and head.
    let q = Units::rounded(q, s.width);
    let parts = s.queries.div_ceil(TASK_QUERIES);
    let tasks = s.batch * s.heads * parts;
    let (rows, stride) = (s.tile::<f32>(), s.score_stride());
    (0..tasks)
        .into_par_iter()
        .with_min_len(s.together(tasks, s.queries.min(TASK_QUERIES)))
        .for_each(|i| {
            let (image, head, part) = (i / parts / s.heads, i / parts % s.heads, i % parts);
            let (packed_keys, packed_values) = heads.of(image * s.heads + head);
            let (queries, _) = s.place(image, head);
            let mut scores = Scratch::<f32>::new(rows * stride);
            let scores = scores.pointer();
            let end = (part * TASK_QUERIES + TASK_QUERIES).min(s.queries);
            for first in (part * TASK_QUERIES..end).step_by(rows) {
                let count = rows.min(end - first);
                let left: [_; MOST_QUERIES] = std::array::from_fn(|j| match j < count {
                    true => q.row((image * s.queries + first + j) * s.heads + head),
                    false => std::ptr::null(),
                });
                let score_rows: [_; MOST_QUERIES] = std::array::from_fn(|j| scores.wrapping_add(j * stride));
                run_pairs(Rows {
                    left: &left[..count],
                    depth: s.width.div_ceil(2),
                    total: s.width.div_ceil(2),
                    offset: 0,
                    right: packed_keys,
                    panels: heads.key_panels,
                    range: (0, heads.key_panels.count()),
                    c: &score_rows[..count],
                    start: Start::Zero,
                });
                let mut totals = [0f32; MOST_QUERIES];
                for (j, total) in totals[..count].iter_mut().enumerate() {
                    let (sum, top) = run_pairs(Softmax {
                        row: score_rows[j],
                        seen: s.seen(first + j),
                        keys: s.keys,
                        scale: s.scale as f32,
                    });
                    // SAFETY: the task's own queries.
                    unsafe { *log_sums.at((image * s.heads + head) * s.queries + first + j) = top + sum.ln() };
                    *total = sum;
                }
                let probabilities = score_rows.map(<*mut f32>::cast_const);
                let to: [_; MOST_QUERIES] = std::array::from_fn(|j| y.at(queries + (first + j) * c));
                run_pairs(Rows {
                    left: &probabilities[..count],
                    depth: s.keys.div_ceil(2),
                    total: s.keys.div_ceil(2),
                    offset: 0,
                    right: packed_values,
                    panels: heads.value_panels,
                    range: (0, heads.value_panels.count()),
                    c: &to[..count],
                    start: Start::Zero,
                });
                for (&to, &total) in to[..count].iter().zip(&totals) {
                    // SAFETY: the task's own queries.
                    let row = unsafe { std::slice::from_raw_parts_mut(to, s.width) };
                    let factor = 1. / total;
                    row.iter_mut().for_each(|v| *v *= factor);
                }
            }
        });
    // SAFETY: the tasks cover all heads and queries.
    unsafe { (out.into_vec(), sums.into_vec()) }
}

/// Keys and values of all heads in panels.
struct Heads {
    key_panels: Panels,
    value_panels: Panels,
    /// Units of a head's keys, and of its values.
    sizes: [usize; 2],
    packed: Pointer<f32>,
    _room: Scratch<f32>,
}

impl Heads {
    fn pack(s: &AttentionShape, k: &[f32], v: &[f32]) -> Self {
        let (key_panels, value_panels) = (Panels::of::<f32>(s.keys), Panels::of::<f32>(s.width));
        let (width, keys) = (s.width.div_ceil(2), s.keys.div_ceil(2));
        let sizes = [key_panels.size(width), value_panels.size(keys)];
        let size = sizes[0] + sizes[1];
        let mut room = Scratch::<f32>::new(s.batch * s.heads * size);
        let packed = Pointer::at_address(room.pointer());
        let units = Units::rounded(k, s.width);
        (0..s.batch * s.heads)
            .into_par_iter()
            .with_min_len(s.together(s.batch * s.heads, s.queries.min(TASK_QUERIES)))
            .for_each(|i| {
                let (image, head) = (i / s.heads, i % s.heads);
                let matrix = Matrix {
                    data: units.row(image * s.keys * s.heads + head),
                    row: 1,
                    column: s.heads * width,
                };
                // SAFETY: the head's keys and its own room.
                unsafe { matrix.pack(key_panels, width, packed.at(i * size)) };
                run_pairs(PackDown {
                    from: v[s.place(image, head).1..].as_ptr(),
                    stride: s.stride(),
                    rows: s.keys,
                    panels: value_panels,
                    to: packed.at(i * size + sizes[0]),
                });
            });
        Self {
            key_panels,
            value_panels,
            sizes,
            packed,
            _room: room,
        }
    }

    /// The keys and values of a head of an image.
    fn of(&self, head: usize) -> (*const f32, *const f32) {
        let keys = self.packed.at(head * (self.sizes[0] + self.sizes[1])).cast_const();
        (keys, keys.wrapping_add(self.sizes[0]))
    }
}

/// Packs rows of numbers, rounded, into units of two rows each.
pub(super) struct PackDown {
    pub(super) from: *const f32,
    /// Between rows.
    pub(super) stride: usize,
    pub(super) rows: usize,
    pub(super) panels: Panels,
    pub(super) to: *mut f32,
}

impl PairKernel for PackDown {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Pairs>(self) {
        let units = self.rows.div_ceil(2);
        for panel in 0..self.panels.count() {
            let (first, columns, width) = self.panels.place(panel);
            for unit in 0..units {
                for at in (0..width).step_by(S::LANES) {
                    unsafe {
                        let from = self.from.add(2 * unit * self.stride + first + at);
                        let left = columns.saturating_sub(at);
                        let a = load::<S>(from, left);
                        let b = match 2 * unit + 1 < self.rows {
                            true => load::<S>(from.add(self.stride), left),
                            false => S::splat(0.),
                        };
                        S::store(self.to.add(first * units + unit * width + at), S::pair(a, b));
                    }
                }
            }
        }
    }
}

/// Rows of units times a packed matrix.
pub(super) struct Rows<'a> {
    pub(super) left: &'a [*const f32],
    /// Units that are multiplied, of the matrix's `total` from `offset` on.
    pub(super) depth: usize,
    pub(super) total: usize,
    pub(super) offset: usize,
    pub(super) right: *const f32,
    pub(super) panels: Panels,
    /// The panels to compute.
    pub(super) range: (usize, usize),
    /// Where each row of the result begins (column 0).
    pub(super) c: &'a [*mut f32],
    pub(super) start: Start<f32>,
}

impl PairKernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Pairs>(self) {
        let mut c = [std::ptr::null_mut(); 16];
        for index in self.range.0..self.range.1 {
            let (first, _, _) = self.panels.place(index);
            let panel = self.panels.panel(self.right, self.total, index, self.offset);
            for row in (0..self.c.len()).step_by(S::ROWS[0]) {
                let count = S::ROWS[0].min(self.c.len() - row);
                for (to, from) in c.iter_mut().zip(&self.c[row..row + count]) {
                    *to = from.wrapping_add(first);
                }
                let left = Left::Rows {
                    pointers: &self.left[row..row + count],
                    stride: 0,
                    segments: 1,
                    offset: 0,
                };
                unsafe { tile::<S, Units2>(count, left, self.depth, panel, &c[..count], self.start) };
            }
        }
    }
}

/// Turns a row of products into units of exponentials relative to the greatest, which take the first half of the row;
/// zeros from `seen` on.
struct Softmax {
    row: *mut f32,
    seen: usize,
    keys: usize,
    scale: f32,
}

impl PairKernel for Softmax {
    /// The sum of the exponentials, and the greatest scaled product.
    type Output = (f32, f32);

    #[inline(always)]
    unsafe fn run<S: Pairs>(self) -> (f32, f32) {
        unsafe {
            let whole = self.seen / S::LANES * S::LANES;
            let mut tops = S::splat(*self.row);
            for j in (0..whole).step_by(S::LANES) {
                tops = S::max(S::load(self.row.add(j)), tops);
            }
            let mut top = S::greatest(tops);
            for j in whole..self.seen {
                top = if top < *self.row.add(j) { *self.row.add(j) } else { top };
            }
            let factor = self.scale * std::f32::consts::LOG2_E;
            let (scale, base) = (S::splat(factor), S::splat(-top * factor));
            let mut sums = [S::splat(0.); 2];
            let mut j = 0;
            while j + 2 * S::LANES <= self.seen {
                let a = math::exp2_short::<S>(S::fma(S::load(self.row.add(j)), scale, base));
                let b = math::exp2_short::<S>(S::fma(S::load(self.row.add(j + S::LANES)), scale, base));
                S::store(self.row.add(j / 2), S::narrow(a, b));
                sums = [S::add(sums[0], a), S::add(sums[1], b)];
                j += 2 * S::LANES;
            }
            let mut sum = S::total(S::add(sums[0], sums[1]));
            while j < self.keys {
                // The last of what is seen, and zeros.
                let mut exponentials = [0f32; 32];
                for (i, to) in exponentials[..2 * S::LANES].iter_mut().enumerate() {
                    if j + i < self.seen {
                        *to = f32::exp2(*self.row.add(j + i) * factor - top * factor);
                        sum += *to;
                    }
                }
                let from = exponentials.as_ptr();
                let units = S::narrow(S::load(from), S::load(from.add(S::LANES)));
                store::<S>(self.row.add(j / 2), units, (self.keys - j).div_ceil(2));
                j += 2 * S::LANES;
            }
            (sum, top * self.scale)
        }
    }
}
