//! `y = x·wᵀ + b` and its gradient by x, for w in bf16.

use half::bf16;

use super::super::gemm::Panels;
use super::super::micro::Start;
use super::super::simd::{PairKernel, Pairs, load, run_pairs};
use super::super::storage::Out;
use super::super::tasks::each_task;
use super::product::{Across, Down, Multiply, Right, grid};
use super::units::Units;
use crate::profile::count_flops;

/// Most rows of x for which w is not packed: it is read once in any case, and that takes longer than the products.
const FEW: usize = 4;
/// Columns of the result per task.
const COLUMNS: usize = 64;

/// `m × n` from the rows of x, `depth` numbers each.
fn rows_by_matrix((m, n, depth): (usize, usize, usize), x: &[f32], right: &impl Right, b: Option<&[f32]>) -> Vec<f32> {
    assert!(x.len() == m * depth && b.is_none_or(|b| b.len() == n));
    count_flops(2 * m * n * depth);
    let x = Units::rounded(x, depth);
    let depth = depth.div_ceil(2);
    let mut out = Out::<f32>::new(m * n);
    let y = out.pointer();
    let panels = Panels::of::<f32>(n);
    grid(m, panels, depth, |first, rows, range| {
        let left: Vec<*const f32> = (first..first + rows).map(|r| x.row(r)).collect();
        let c: Vec<*mut f32> = (first..first + rows).map(|r| y.at(r * n)).collect();
        run_pairs(Multiply {
            left: &left,
            segments: 1,
            depth,
            right,
            panels,
            range,
            c: &c,
            start: b.map_or(Start::Zero, |b| Start::Bias(b.as_ptr())),
        });
    });
    // SAFETY: the grid covers all rows and columns.
    unsafe { out.into_vec() }
}

/// `[m, k]·[n, k]ᵀ + [n]`.
pub(crate) fn linear_forward((m, n, k): (usize, usize, usize), x: &[f32], w: &[bf16], b: Option<&[f32]>) -> Vec<f32> {
    assert_eq!(w.len(), n * k);
    let rows = &Units::stored(w, k);
    if m <= FEW {
        return few_rows((m, n, k), x, rows, b);
    }
    rows_by_matrix((m, n, k), x, &Across { rows, segments: 1 }, b)
}

/// [`linear_forward`] for few rows: every number is one product of a row of x and a row of w.
fn few_rows((m, n, k): (usize, usize, usize), x: &[f32], w: &Units, b: Option<&[f32]>) -> Vec<f32> {
    assert!(x.len() == m * k && b.is_none_or(|b| b.len() == n));
    count_flops(2 * m * n * k);
    let x = Units::rounded(x, k);
    let mut out = Out::<f32>::new(m * n);
    let y = out.pointer();
    each_task(n.div_ceil(COLUMNS), n * k, |i| {
        for column in i * COLUMNS..(i * COLUMNS + COLUMNS).min(n) {
            let sums = run_pairs(Dots {
                rows: std::array::from_fn(|row| x.row(row.min(m.max(1) - 1))),
                column: w.row(column),
                depth: w.per_row(),
            });
            for (row, sum) in sums[..m].iter().enumerate() {
                // SAFETY: the task's own columns.
                unsafe { *y.at(row * n + column) = b.map_or(0., |b| b[column]) + sum };
            }
        }
    });
    // SAFETY: the tasks cover all columns, for all rows.
    unsafe { out.into_vec() }
}

/// Products of some rows with one.
struct Dots {
    rows: [*const f32; FEW],
    column: *const f32,
    /// Units of a row.
    depth: usize,
}

impl PairKernel for Dots {
    type Output = [f32; FEW];

    #[inline(always)]
    unsafe fn run<S: Pairs>(self) -> [f32; FEW] {
        unsafe {
            let mut sums = [S::splat(0.); FEW];
            for k in (0..self.depth).step_by(S::LANES) {
                let left = self.depth - k;
                let b = load::<S>(self.column.add(k), left);
                for (sum, row) in sums.iter_mut().zip(&self.rows) {
                    *sum = S::dot(load::<S>(row.add(k), left), b, *sum);
                }
            }
            sums.map(|sum| S::total(sum))
        }
    }
}

/// The gradient by x: `[m, n]·[n, k]`.
pub(crate) fn linear_backward_input((m, n, k): (usize, usize, usize), grad: &[f32], w: &[bf16]) -> Vec<f32> {
    assert_eq!(w.len(), n * k);
    let right = Down {
        w,
        depth: n,
        columns: k,
        taps: 1,
        segments: &[0],
    };
    rows_by_matrix((m, k, n), grad, &right, None)
}
