//! The gradients of attention with products of bf16: block of keys by block of queries, so that scores, their gradients and
//! the sums of the block's keys stay in the second cache.

use rayon::prelude::*;

use super::super::attention::{AttentionGrad, AttentionShape};
use super::super::gemm::{Matrix, Panels};
use super::super::micro::{Left, Start, tile};
use super::super::scratch::Scratch;
use super::super::simd::{PairKernel, Pairs, load, math, run_pairs};
use super::super::storage::{Out, Pointer};
use super::attention::{PackDown, Rows, TASK_QUERIES};
use super::product::Units2;
use super::units::Units;
use crate::profile::count_flops;

/// Keys and queries of a block; keys are whole panels of every instruction set, and so are the units of queries.
const KEYS: usize = 512;
const QUERIES: usize = 56;
/// Between rows of scores: never a power of two, which would put all rows into a few sets of the cache.
const STRIDE: usize = KEYS + 16;

/// The gradients by q, k and v, those that are needed. A head is one task: its sums are taken in order.
pub(crate) fn attention_backward(s: &AttentionShape, a: &AttentionGrad<f32>) -> [Option<Vec<f32>>; 3] {
    // The scores and their gradients are always computed.
    count_flops((2 + a.needs.iter().filter(|&&need| need).count()) * s.flops());
    let mut outs = [a.q, a.k, a.v].map(|x| Out::<f32>::new(x.len()));
    let [dq, dk, dv] = &mut outs;
    let to = [dq.pointer(), dk.pointer(), dv.pointer()];
    // Heads lie side by side: a row for each token and head.
    let units = [a.q, a.k, a.v, a.grad].map(|x| Units::rounded(x, s.width));
    let tasks = s.batch * s.heads;
    (0..tasks)
        .into_par_iter()
        .with_min_len(s.together(tasks, s.queries.min(TASK_QUERIES)))
        .for_each(|i| {
            Head {
                s,
                a,
                units: &units,
                to,
                image: i / s.heads,
                head: i % s.heads,
            }
            .run();
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

/// One head of one image.
struct Head<'a> {
    s: &'a AttentionShape,
    a: &'a AttentionGrad<'a, f32>,
    /// Of queries, keys, values and the gradient.
    units: &'a [Units<'a>; 4],
    /// The gradients of queries, keys and values.
    to: [Pointer<f32>; 3],
    image: usize,
    head: usize,
}

impl Head<'_> {
    fn run(&self) {
        let (s, a) = (self.s, self.a);
        let c = s.stride();
        let (queries, keys) = s.place(self.image, self.head);
        let (width, key_units) = (s.width.div_ceil(2), s.keys.div_ceil(2));
        let (key_panels, width_panels) = (Panels::of::<f32>(s.keys), Panels::of::<f32>(s.width));
        let mut rooms = [
            key_panels.size(width),
            key_panels.size(width),
            width_panels.size(key_units),
            width_panels.size(QUERIES / 2),
            QUERIES * STRIDE,
            QUERIES * STRIDE,
            QUERIES / 2 * STRIDE,
            QUERIES / 2 * STRIDE,
        ]
        .map(Scratch::<f32>::new);
        let [
            keys_across,
            values_across,
            keys_down,
            rows_down,
            scores,
            grads,
            pairs,
            grad_pairs,
        ] = rooms.each_mut().map(Scratch::pointer);
        for (of, to) in [(1, keys_across), (2, values_across)] {
            let matrix = Matrix {
                data: self.units[of].row(self.image * s.keys * s.heads + self.head),
                row: 1,
                column: s.heads * width,
            };
            // SAFETY: the head's keys or values, and room for them.
            unsafe { matrix.pack(key_panels, width, to) };
        }
        let pack_down = |from: &[f32], rows: usize, to: *mut f32| {
            run_pairs(PackDown {
                from: from.as_ptr(),
                stride: c,
                rows,
                panels: width_panels,
                to,
            });
        };
        pack_down(&a.k[keys..], s.keys, keys_down);
        for key in (0..s.keys).step_by(KEYS) {
            let block = KEYS.min(s.keys - key);
            let (first_panel, last_panel) = key_panels.containing(key, key + block);
            for first in (0..s.queries).step_by(QUERIES) {
                let count = QUERIES.min(s.queries - first);
                let row = |of: usize, j: usize| {
                    self.units[of].row((self.image * s.queries + first + j) * s.heads + self.head)
                };
                for (of, right, to) in [(0, keys_across, scores), (3, values_across, grads)] {
                    let left: [_; QUERIES] = std::array::from_fn(|j| row(of, j.min(count - 1)));
                    // Column 0 is the block's first key.
                    let to: [_; QUERIES] = std::array::from_fn(|j| to.wrapping_add(j * STRIDE).wrapping_sub(key));
                    run_pairs(Rows {
                        left: &left[..count],
                        depth: width,
                        total: width,
                        offset: 0,
                        right,
                        panels: key_panels,
                        range: (first_panel, last_panel),
                        c: &to[..count],
                        start: Start::Zero,
                    });
                }
                let at = queries + first * c;
                for j in (0..count).step_by(2) {
                    run_pairs(ScorePair {
                        rows: [0, 1].map(|i| {
                            // Where there is no second query, its keys are unseen.
                            let query = first + (j + i).min(count - 1);
                            let row = queries + query * c..queries + query * c + s.width;
                            let (g, o) = (&a.grad[row.clone()], &a.output[row]);
                            ScoreRow {
                                scores: scores.wrapping_add((j + i) * STRIDE),
                                grads: grads.wrapping_add((j + i) * STRIDE),
                                seen: match j + i < count {
                                    true => s.seen(query).saturating_sub(key).min(block),
                                    false => 0,
                                },
                                log_sum: a.log_sums[(self.image * s.heads + self.head) * s.queries + query],
                                dot: g.iter().zip(o).map(|(&g, &o)| g * o).sum(),
                            }
                        }),
                        keys: block,
                        scale: s.scale as f32,
                        pairs: pairs.wrapping_add(j / 2 * STRIDE),
                        grad_pairs: grad_pairs.wrapping_add(j / 2 * STRIDE),
                    });
                }
                if a.needs[0] {
                    let left: [_; QUERIES] = std::array::from_fn(|j| grads.wrapping_add(j * STRIDE).cast_const());
                    let to: [_; QUERIES] = std::array::from_fn(|j| self.to[0].at(at + j * c));
                    run_pairs(Rows {
                        left: &left[..count],
                        depth: block.div_ceil(2),
                        total: key_units,
                        offset: key / 2,
                        right: keys_down,
                        panels: width_panels,
                        range: (0, width_panels.count()),
                        c: &to[..count],
                        start: if key > 0 { Start::Add } else { Start::Zero },
                    });
                }
                for (needed, left, right, to) in [
                    (a.needs[1], grad_pairs, a.q, self.to[1]),
                    (a.needs[2], pairs, a.grad, self.to[2]),
                ] {
                    if needed {
                        pack_down(&right[at..], count, rows_down);
                        run_pairs(Columns {
                            left,
                            rows: block,
                            depth: count.div_ceil(2),
                            right: rows_down,
                            panels: width_panels,
                            c: to.at(keys + key * c),
                            c_stride: c,
                            start: if first > 0 { Start::Add } else { Start::Zero },
                        });
                    }
                }
            }
            if s.queries == 0 {
                for to in [self.to[1], self.to[2]] {
                    for row in key..key + block {
                        // SAFETY: the head's own keys.
                        unsafe { to.at(keys + row * c).write_bytes(0, s.width) };
                    }
                }
            }
        }
    }
}

/// One query's products with a block of keys.
struct ScoreRow {
    scores: *mut f32,
    /// Gradients by the probabilities on entry, units of those by the products on return.
    grads: *mut f32,
    seen: usize,
    /// Logarithm of the sum of the exponentials of the scaled products.
    log_sum: f32,
    /// The sum of probabilities times their gradients.
    dot: f32,
}

/// Turns the products of two queries into probabilities and gradients of the products, both as units of the two queries,
/// the latter as units of neighbouring keys as well. What is unseen is zero.
struct ScorePair {
    rows: [ScoreRow; 2],
    keys: usize,
    scale: f32,
    pairs: *mut f32,
    grad_pairs: *mut f32,
}

impl PairKernel for ScorePair {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Pairs>(self) {
        unsafe {
            for j in (0..self.keys).step_by(2 * S::LANES) {
                let [first, second] = [&self.rows[0], &self.rows[1]].map(|row| {
                    let a = self.vector::<S>(row, j);
                    let b = self.vector::<S>(row, j + S::LANES);
                    S::store(row.grads.add(j / 2), S::narrow(a.1, b.1));
                    [a, b]
                });
                for half in 0..2 {
                    let at = j + half * S::LANES;
                    S::store(self.pairs.add(at), S::pair(first[half].0, second[half].0));
                    S::store(self.grad_pairs.add(at), S::pair(first[half].1, second[half].1));
                }
            }
        }
    }
}

impl ScorePair {
    /// Probabilities and gradients of a vector of keys.
    #[inline(always)]
    unsafe fn vector<S: Pairs>(&self, row: &ScoreRow, j: usize) -> (S::V, S::V) {
        unsafe {
            let factor = self.scale * std::f32::consts::LOG2_E;
            let base = S::splat(-row.log_sum * std::f32::consts::LOG2_E);
            let p = math::exp2_short::<S>(S::fma(S::load(row.scores.add(j).cast_const()), S::splat(factor), base));
            let g = S::sub(S::load(row.grads.add(j).cast_const()), S::splat(row.dot));
            let g = S::mul(S::mul(p, g), S::splat(self.scale));
            let left = row.seen.saturating_sub(j);
            match left >= S::LANES {
                true => (p, g),
                false => (keep::<S>(p, left), keep::<S>(g, left)),
            }
        }
    }
}

/// The first `count` numbers, then zeros.
#[inline(always)]
unsafe fn keep<S: Pairs>(v: S::V, count: usize) -> S::V {
    let mut numbers = [0f32; 16];
    unsafe {
        S::store(numbers.as_mut_ptr(), v);
        load::<S>(numbers.as_ptr(), count)
    }
}

/// Rows of a result from a left factor of units whose rows lie side by side, times a packed matrix.
struct Columns {
    /// Unit k of row i is at `left + k·STRIDE + i`.
    left: *const f32,
    rows: usize,
    depth: usize,
    right: *const f32,
    panels: Panels,
    c: *mut f32,
    c_stride: usize,
    start: Start<f32>,
}

impl PairKernel for Columns {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Pairs>(self) {
        let mut c = [std::ptr::null_mut(); 16];
        for index in 0..self.panels.count() {
            let (first, _, _) = self.panels.place(index);
            let panel = self.panels.panel(self.right, self.depth, index, 0);
            for row in (0..self.rows).step_by(S::ROWS[0]) {
                let count = S::ROWS[0].min(self.rows - row);
                for (i, to) in c[..count].iter_mut().enumerate() {
                    *to = self.c.wrapping_add((row + i) * self.c_stride + first);
                }
                let left = Left::Columns {
                    base: self.left.wrapping_add(row),
                    stride: STRIDE,
                };
                unsafe { tile::<S, Units2>(count, left, self.depth, panel, &c[..count], self.start) };
            }
        }
    }
}
