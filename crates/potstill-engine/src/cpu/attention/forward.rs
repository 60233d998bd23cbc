//! The forward pass: a task is a block of queries of one head.

use rayon::prelude::*;

use super::super::Real;
use super::super::gemm::{ByColumns, Panels, transpose_into};
use super::super::scratch::Scratch;
use super::super::simd::{Kernel, Simd};
use super::super::storage::{Out, Pointer};
use super::{AttentionShape, KEYS, QUERIES, ScaleLanes, Scores, hide, pack_across};
use crate::profile::count_flops;

/// Turns scores into exponentials relative to the running maximum of each lane, and brings what was summed before to it.
struct Softmax<T> {
    scores: *mut T,
    keys: usize,
    lanes: usize,
    /// Whether keys were seen before; else the three below are yet to be written.
    begun: bool,
    /// Of each lane: the greatest score so far, and the sum of the exponentials relative to it.
    tops: *mut T,
    sums: *mut T,
    /// Sums of weighted values, `width` rows of lanes.
    out: *mut T,
    width: usize,
}

impl<T: Real> Kernel<T> for Softmax<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        unsafe {
            for lane in (0..self.lanes).step_by(S::LANES) {
                let scores = self.scores.add(lane);
                let (tops, sums) = (self.tops.add(lane), self.sums.add(lane));
                let before = S::load(if self.begun { tops } else { scores }.cast_const());
                let mut top = before;
                for key in 0..self.keys {
                    top = S::max(S::load(scores.add(key * self.lanes).cast_const()), top);
                }
                let mut sum = S::splat(T::ZERO);
                if self.begun {
                    let factor = S::exp(S::sub(before, top));
                    sum = S::mul(S::load(sums.cast_const()), factor);
                    for row in 0..self.width {
                        let out = self.out.add(row * self.lanes + lane);
                        S::store(out, S::mul(S::load(out.cast_const()), factor));
                    }
                }
                for key in 0..self.keys {
                    let score = scores.add(key * self.lanes);
                    let e = S::exp(S::sub(S::load(score.cast_const()), top));
                    S::store(score, e);
                    sum = S::add(sum, e);
                }
                S::store(tops, top);
                S::store(sums, sum);
            }
        }
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
    let blocks = s.queries.div_ceil(QUERIES);
    let tasks = s.batch * s.heads * blocks;
    (0..tasks)
        .into_par_iter()
        .with_min_len(s.together(tasks, s.queries.min(QUERIES)))
        .for_each(|i| {
            let (image, head, first) = (i / blocks / s.heads, i / blocks % s.heads, i % blocks * QUERIES);
            let (queries, keys) = s.place(image, head);
            let count = QUERIES.min(s.queries - first);
            // SAFETY: the task's own queries, all of them, and the head's keys and values.
            unsafe {
                attend(
                    s,
                    (first, count),
                    [&q[queries + first * c..], &k[keys..], &v[keys..]],
                    Pointer::at_address(y.at(queries + first * c)),
                    Pointer::at_address(log_sums.at((image * s.heads + head) * s.queries + first)),
                );
            }
        });
    // SAFETY: the tasks cover all heads and queries.
    unsafe { (out.into_vec(), sums.into_vec()) }
}

/// One block of queries, whose rows begin at `q` and `y`.
///
/// # Safety
/// `y` and `log_sums` have room for the block's rows.
unsafe fn attend<T: Real>(
    s: &AttentionShape,
    (first, count): (usize, usize),
    [q, k, v]: [&[T]; 3],
    y: Pointer<T>,
    log_sums: Pointer<T>,
) {
    let (c, width) = (s.stride(), s.width);
    let panels = Panels::of::<T>(count);
    let mut packed = Scratch::<T>::new(panels.size(width));
    let mut out = Scratch::<T>::new(panels.size(width));
    let mut state = Scratch::<T>::new(2 * panels.size(1));
    let mut scores = Scratch::<T>::new(s.key_block() * panels.place(0).2);
    let (packed, out, scores) = (packed.pointer(), out.pointer(), scores.pointer());
    let (tops, sums) = (state.pointer(), state.pointer().wrapping_add(panels.size(1)));
    unsafe {
        pack_across(panels, q.as_ptr(), c, width, T::of(s.scale), packed);
        let mut rows = Vec::with_capacity(KEYS);
        for (key, keys) in s.key_blocks() {
            rows.clear();
            rows.extend((key..key + keys).map(|key| k[key * c..].as_ptr()));
            for panel in 0..panels.count() {
                let (column, _, lanes) = panels.place(panel);
                let products = Scores {
                    rows: &rows,
                    depth: width,
                    panel: packed.add(column * width),
                    lanes,
                    to: scores,
                };
                products.run();
                if s.causal {
                    hide(scores, (first + column, lanes), (key, keys));
                }
                let out = out.add(column * width);
                T::run(Softmax {
                    scores,
                    keys,
                    lanes,
                    begun: key > 0,
                    tops: tops.add(column),
                    sums: sums.add(column),
                    out,
                    width,
                });
                T::run(ByColumns {
                    left: v[key * c..].as_ptr(),
                    stride: c,
                    rows: width,
                    depth: keys,
                    right: scores,
                    panels: Panels::of::<T>(lanes),
                    range: (0, 1),
                    c: out,
                    c_stride: lanes,
                    add: key > 0,
                });
            }
        }
        for panel in 0..panels.count() {
            let (column, columns, lanes) = panels.place(panel);
            let (out, sums) = (out.add(column * width), sums.add(column));
            for lane in 0..lanes {
                let sum = *sums.add(lane);
                if lane < columns {
                    *log_sums.at(column + lane) = *tops.add(column + lane) + sum.ln();
                }
                *sums.add(lane) = T::ONE / sum;
            }
            T::run(ScaleLanes {
                x: out,
                rows: width,
                lanes,
                factors: sums,
            });
            transpose_into(out.cast_const(), lanes, (width, columns), y.at(column * c), c);
        }
    }
}
