//! Kernels that move whole rows of channels, or add to them.

use super::gemm::copy;
use super::storage::Out;
use super::tasks::each_task;
use super::{Pointer, Real};

/// Elements of a task.
const TASK: usize = 16 * 1024;

/// Runs `f(row)` for all rows of `columns` elements, in tasks of many rows.
fn each_row(rows: usize, columns: usize, f: impl Fn(usize) + Sync + Send) {
    let step = TASK.div_ceil(columns.max(1));
    each_task(rows.div_ceil(step), rows * columns, |i| {
        (i * step..(i * step + step).min(rows)).for_each(&f)
    });
}

/// `x` `[B, positions, C]` plus `row` `[B, C]` at every position.
pub(crate) fn add_rows<T: Real>(positions: usize, columns: usize, x: &[T], row: &[T]) -> Vec<T> {
    let mut out = Out::<T>::new(x.len());
    let y = out.pointer();
    let rows = x.len().checked_div(columns).unwrap_or(0);
    each_row(rows, columns, |i| {
        let (x, row) = (
            &x[i * columns..(i + 1) * columns],
            &row[i / positions * columns..][..columns],
        );
        for (c, (&x, &r)) in x.iter().zip(row).enumerate() {
            // SAFETY: the row's own elements.
            unsafe { *y.at(i * columns + c) = x + r };
        }
    });
    // SAFETY: all rows are covered.
    unsafe { out.into_vec() }
}

/// `[rows, a]` beside `[rows, b]`.
pub(crate) fn concat<T: Real>(a: (&[T], usize), b: (&[T], usize)) -> Vec<T> {
    let columns = a.1 + b.1;
    let rows = a.0.len() / a.1;
    assert_eq!(b.0.len(), rows * b.1);
    let mut out = Out::<T>::new(rows * columns);
    let y = out.pointer();
    each_row(rows, columns, |i| {
        // SAFETY: the row's own elements.
        unsafe {
            copy(a.0[i * a.1..].as_ptr(), y.at(i * columns), a.1);
            copy(b.0[i * b.1..].as_ptr(), y.at(i * columns + a.1), b.1);
        }
    });
    // SAFETY: all rows are covered.
    unsafe { out.into_vec() }
}

/// Columns `start..start + len` of rows of `columns`.
pub(crate) fn split<T: Real>(columns: usize, start: usize, len: usize, x: &[T]) -> Vec<T> {
    assert!(start + len <= columns);
    let rows = x.len() / columns;
    let mut out = Out::<T>::new(rows * len);
    let y = out.pointer();
    // SAFETY: the row's own elements.
    each_row(rows, len, |i| unsafe {
        copy(x[i * columns + start..].as_ptr(), y.at(i * len), len)
    });
    // SAFETY: all rows are covered.
    unsafe { out.into_vec() }
}

/// `[B, r, c]` to `[B, c, r]`.
pub(crate) fn transpose_last<T: Real>(rows: usize, columns: usize, x: &[T]) -> Vec<T> {
    let mut out = Out::<T>::new(x.len());
    let y = out.pointer();
    if x.is_empty() {
        return Vec::new();
    }
    let matrices = x.len() / (rows * columns);
    each_row(matrices * columns, rows, |i| {
        let (matrix, c) = (i / columns, i % columns);
        let from = &x[matrix * rows * columns..][..rows * columns];
        for r in 0..rows {
            // SAFETY: the row's own elements.
            unsafe { *y.at(i * rows + r) = from[r * columns + c] };
        }
    });
    // SAFETY: all rows are covered.
    unsafe { out.into_vec() }
}

/// Nearest neighbour: output `i` of `to` reads `⌊i·from/to⌋`.
pub(crate) fn upsample<T: Real>((h, w): (usize, usize), (oh, ow): (usize, usize), columns: usize, x: &[T]) -> Vec<T> {
    let images = x.len() / (h * w * columns);
    let mut out = Out::<T>::new(images * oh * ow * columns);
    let to = out.pointer();
    each_row(images * oh * ow, columns, |i| {
        let (image, y, at) = (i / (oh * ow), i / ow % oh, i % ow);
        let source = (image * h + y * h / oh) * w + at * w / ow;
        // SAFETY: the row's own elements.
        unsafe { copy(x[source * columns..].as_ptr(), to.at(i * columns), columns) };
    });
    // SAFETY: all rows are covered.
    unsafe { out.into_vec() }
}

/// The gradient of [`upsample`] by its input: each row adds up those that read it, in order.
pub(crate) fn upsample_backward<T: Real>(
    (h, w): (usize, usize),
    (oh, ow): (usize, usize),
    columns: usize,
    grad: &[T],
) -> Vec<T> {
    let images = grad.len() / (oh * ow * columns);
    // The outputs that read input i: those with i·to ≤ o·from < (i + 1)·to.
    let readers = |i: usize, from: usize, to: usize| (i * to).div_ceil(from)..((i + 1) * to).div_ceil(from);
    let mut out = Out::<T>::new(images * h * w * columns);
    let dx: Pointer<T> = out.pointer();
    each_row(images * h * w, columns, |i| {
        let (image, y, x) = (i / (h * w), i / w % h, i % w);
        // SAFETY: the row's own elements.
        unsafe {
            let row = std::slice::from_raw_parts_mut(dx.at(i * columns), columns);
            row.fill(T::ZERO);
            for oy in readers(y, h, oh) {
                for ox in readers(x, w, ow) {
                    let grad = &grad[((image * oh + oy) * ow + ox) * columns..][..columns];
                    for (to, &g) in row.iter_mut().zip(grad) {
                        *to += g;
                    }
                }
            }
        }
    });
    // SAFETY: all rows are covered.
    unsafe { out.into_vec() }
}

/// Rows of a table.
pub(crate) fn gather_rows<T: Real>(columns: usize, table: &[T], ids: &[u32]) -> Vec<T> {
    let mut out = Vec::with_capacity(ids.len() * columns);
    for &id in ids {
        out.extend_from_slice(&table[id as usize * columns..][..columns]);
    }
    out
}

/// The gradient of [`gather_rows`] by the table.
pub(crate) fn scatter_rows<T: Real>(columns: usize, rows: usize, grad: &[T], ids: &[u32]) -> Vec<T> {
    let mut out = vec![T::ZERO; rows * columns];
    for (grad, &id) in grad.chunks(columns).zip(ids) {
        for (out, &g) in out[id as usize * columns..][..columns].iter_mut().zip(grad) {
            *out += g;
        }
    }
    out
}
