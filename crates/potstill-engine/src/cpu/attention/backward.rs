//! The backward pass: a task is a head, whose sums over queries are taken in order.

use rayon::prelude::*;

use super::super::Real;
use super::super::gemm::{ByColumns, ByRows, Matrix, Panels, transpose_into};
use super::super::micro::Start;
use super::super::scratch::Scratch;
use super::super::simd::{Kernel, Simd};
use super::super::storage::{Out, Pointer};
use super::{AttentionShape, KEYS, QUERIES, Scores, hide, pack_across, scale};
use crate::profile::count_flops;

/// The logarithm of the sum of a lane without a query: its probabilities are zero.
const NOBODY: f64 = 1e38;

/// Turns scores into probabilities, and the gradients by these into gradients by the scores.
struct ScoreGradient<T> {
    scores: *mut T,
    grads: *mut T,
    keys: usize,
    lanes: usize,
    /// Of each lane: the logarithm of the sum of the exponentials, and the sum of probabilities times their gradients.
    log_sums: *const T,
    dots: *const T,
}

impl<T: Real> Kernel<T> for ScoreGradient<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        unsafe {
            for lane in (0..self.lanes).step_by(S::LANES) {
                let (log_sum, dot) = (S::load(self.log_sums.add(lane)), S::load(self.dots.add(lane)));
                for key in 0..self.keys {
                    let at = key * self.lanes + lane;
                    let (score, grad) = (self.scores.add(at), self.grads.add(at));
                    let p = S::exp(S::sub(S::load(score.cast_const()), log_sum));
                    S::store(score, p);
                    S::store(grad, S::mul(p, S::sub(S::load(grad.cast_const()), dot)));
                }
            }
        }
    }
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

/// The gradients by q, k and v, those that are needed.
pub(crate) fn attention_backward<T: Real>(s: &AttentionShape, a: &AttentionGrad<T>) -> [Option<Vec<T>>; 3] {
    // The scores and their gradients are always computed.
    count_flops((2 + a.needs.iter().filter(|&&need| need).count()) * s.flops());
    let mut outs = [a.q, a.k, a.v].map(|x| Out::<T>::new(x.len()));
    let [dq, dk, dv] = &mut outs;
    let to: [Pointer<T>; 3] = [dq.pointer(), dk.pointer(), dv.pointer()];
    let tasks = s.batch * s.heads;
    (0..tasks)
        .into_par_iter()
        .with_min_len(s.together(tasks, s.queries))
        .for_each(|task| {
            let head = Head {
                s,
                a,
                image: task / s.heads,
                head: task % s.heads,
                to,
            };
            // SAFETY: the head's own queries, keys and values, all of them.
            unsafe { head.run() };
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

struct Head<'a, T> {
    s: &'a AttentionShape,
    a: &'a AttentionGrad<'a, T>,
    image: usize,
    head: usize,
    /// The gradients.
    to: [Pointer<T>; 3],
}

impl<T: Real> Head<'_, T> {
    /// # Safety
    /// The gradients have room for the head's, and nobody else writes there.
    unsafe fn run(&self) {
        let (s, [dq, dk, dv]) = (self.s, self.to);
        let (c, width) = (s.stride(), s.width);
        let (queries, keys) = s.place(self.image, self.head);
        let most = Panels::of::<T>(QUERIES.min(s.queries));
        let across = most.size(width);
        let down = Panels::of::<T>(width).size(most.size(1));
        let block = s.key_block();
        let mut packed = Scratch::<T>::new(3 * across);
        let mut packed_down = Scratch::<T>::new(2 * down);
        let mut lanes = Scratch::<T>::new(2 * most.size(1));
        let mut products = Scratch::<T>::new(2 * block * most.size(1));
        let q_across = packed.pointer();
        let (g_across, dq_across) = (q_across.wrapping_add(across), q_across.wrapping_add(2 * across));
        let q_down = packed_down.pointer();
        let g_down = q_down.wrapping_add(down);
        let (scores, grads) = (
            products.pointer(),
            products.pointer().wrapping_add(block * most.size(1)),
        );
        let (log_sums, dots) = (lanes.pointer(), lanes.pointer().wrapping_add(most.size(1)));
        let [mut k_rows, mut v_rows] = [(); 2].map(|()| Vec::with_capacity(KEYS));
        for first in (0..s.queries).step_by(QUERIES) {
            let count = QUERIES.min(s.queries - first);
            let panels = Panels::of::<T>(count);
            let at = queries + first * c;
            let (q, g) = (self.a.q[at..].as_ptr(), self.a.grad[at..].as_ptr());
            unsafe {
                self.lanes(first, count, log_sums, dots);
                pack_across(panels, q, c, width, T::of(s.scale), q_across);
                pack_across(panels, g, c, width, T::ONE, g_across);
                if self.a.needs[1] {
                    pack_down(panels, q, c, width, q_down);
                    scale(q_down, Panels::of::<T>(width).size(panels.size(1)), T::of(s.scale));
                }
                if self.a.needs[2] {
                    pack_down(panels, g, c, width, g_down);
                }
                for (key, count) in s.key_blocks() {
                    let rows = |x: &[T], rows: &mut Vec<*const T>| {
                        rows.clear();
                        rows.extend((key..key + count).map(|key| x[keys + key * c..].as_ptr()));
                    };
                    rows(self.a.k, &mut k_rows);
                    rows(self.a.v, &mut v_rows);
                    for panel in 0..panels.count() {
                        let (column, _, lanes) = panels.place(panel);
                        let (scores, grads) = (scores.add(column * count), grads.add(column * count));
                        for (rows, across, to) in [(&k_rows, q_across, scores), (&v_rows, g_across, grads)] {
                            let products = Scores {
                                rows,
                                depth: width,
                                panel: across.add(column * width),
                                lanes,
                                to,
                            };
                            products.run();
                        }
                        if s.causal {
                            hide(scores, (first + column, lanes), (key, count));
                        }
                        T::run(ScoreGradient {
                            scores,
                            grads,
                            keys: count,
                            lanes,
                            log_sums: log_sums.add(column),
                            dots: dots.add(column),
                        });
                        if self.a.needs[0] {
                            T::run(ByColumns {
                                left: self.a.k[keys + key * c..].as_ptr(),
                                stride: c,
                                rows: width,
                                depth: count,
                                right: grads,
                                panels: Panels::of::<T>(lanes),
                                range: (0, 1),
                                c: dq_across.add(column * width),
                                c_stride: lanes,
                                add: key > 0,
                            });
                        }
                    }
                    let to = keys + key * c;
                    if self.a.needs[1] {
                        self.add_down(panels, grads, q_down, dk.at(to), count, first > 0);
                    }
                    if self.a.needs[2] {
                        self.add_down(panels, scores, g_down, dv.at(to), count, first > 0);
                    }
                }
                if self.a.needs[0] {
                    scale(dq_across, panels.size(width), T::of(s.scale));
                    for panel in 0..panels.count() {
                        let (column, columns, lanes) = panels.place(panel);
                        let from = dq_across.add(column * width).cast_const();
                        transpose_into(from, lanes, (width, columns), dq.at(at + column * c), c);
                    }
                }
            }
        }
        if s.queries == 0 {
            for (to, needed) in [(dk, self.a.needs[1]), (dv, self.a.needs[2])] {
                for row in (0..s.keys).filter(|_| needed) {
                    // SAFETY: the head's own rows.
                    unsafe { to.at(keys + row * c).write_bytes(0, width) };
                }
            }
        }
    }

    /// What a block of queries knows of each lane.
    unsafe fn lanes(&self, first: usize, count: usize, log_sums: *mut T, dots: *mut T) {
        let (s, a) = (self.s, self.a);
        let sums = &a.log_sums[(self.image * s.heads + self.head) * s.queries + first..][..count];
        let (queries, _) = s.place(self.image, self.head);
        for lane in 0..Panels::of::<T>(count).size(1) {
            let row = queries + (first + lane) * s.stride();
            let (sum, dot) = match sums.get(lane) {
                None => (T::of(NOBODY), T::ZERO),
                Some(&sum) => {
                    let (g, o) = (&a.grad[row..row + s.width], &a.output[row..row + s.width]);
                    (sum, g.iter().zip(o).map(|(&g, &o)| g * o).sum())
                }
            };
            unsafe {
                *log_sums.add(lane) = sum;
                *dots.add(lane) = dot;
            }
        }
    }

    /// Adds products of lanes and packed rows to rows of keys: `[key][lane]` of all panels by `[lane][channel]`.
    unsafe fn add_down(&self, panels: Panels, left: *const T, right: *const T, to: *mut T, keys: usize, add: bool) {
        let (c, width) = (self.s.stride(), self.s.width);
        let rows: Vec<*mut T> = (0..keys).map(|key| to.wrapping_add(key * c)).collect();
        let mut left_rows = Vec::with_capacity(panels.count() * keys);
        // All panels of one number of lanes together: the last may have fewer.
        for (first, count, lanes) in runs(panels) {
            left_rows.clear();
            for panel in first..first + count {
                let (column, _, _) = panels.place(panel);
                left_rows.extend((0..keys).map(|key| left.wrapping_add(column * keys + key * lanes)));
            }
            let (column, _, _) = panels.place(first);
            T::run(ByRows {
                left: &left_rows,
                segments: count,
                depth: lanes,
                right: right.wrapping_add(Panels::of::<T>(width).size(column)),
                panels: Panels::of::<T>(width),
                range: (0, Panels::of::<T>(width).count()),
                c: &rows,
                start: if add || first > 0 { Start::Add } else { Start::Zero },
            });
        }
    }
}

/// First panel, panels and lanes of the panels with as many lanes as the first, and of a last one that has fewer.
fn runs(panels: Panels) -> impl Iterator<Item = (usize, usize, usize)> {
    let lanes = panels.place(0).2;
    let alike = (0..panels.count())
        .filter(|&panel| panels.place(panel).2 == lanes)
        .count();
    let last = (alike < panels.count()).then(|| (alike, 1, panels.place(alike).2));
    [(0, alike, lanes)].into_iter().chain(last)
}

/// Rows of queries packed as a right factor, run by run of panels; lanes without a query are zeros.
///
/// # Safety
/// `x` has the panels' rows, `stride` apart, of `width` channels; `to` has room for as many as there are lanes.
unsafe fn pack_down<T: Real>(panels: Panels, x: *const T, stride: usize, width: usize, to: *mut T) {
    let channels = Panels::of::<T>(width);
    for (first, count, lanes) in runs(panels) {
        let (row, _, _) = panels.place(first);
        let depth = count * lanes;
        let (last, columns, _) = panels.place(first + count - 1);
        let given = last + columns - row;
        let matrix = Matrix {
            data: x.wrapping_add(row * stride),
            row: stride,
            column: 1,
        };
        for panel in 0..channels.count() {
            let (channel, _, wide) = channels.place(panel);
            unsafe {
                let to = to.add(channels.size(row) + channel * depth);
                matrix.pack_panel(channels, panel, 0, given, to);
                std::slice::from_raw_parts_mut(to.add(given * wide), (depth - given) * wide).fill(T::ZERO);
            }
        }
    }
}
