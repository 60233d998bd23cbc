//! Kernels that move or sum whole rows of channels.

use rayon::prelude::*;

use super::Real;
use super::storage::Out;

/// The sums over rows of `[rows, columns]`, taken in f64.
pub(crate) fn column_sums<T: Real>(columns: usize, x: &[T]) -> Vec<T> {
    let mut sums = vec![0f64; columns];
    for row in x.chunks(columns) {
        for (sum, v) in sums.iter_mut().zip(row) {
            *sum += v.f64();
        }
    }
    sums.into_iter().map(T::of).collect()
}

/// `x` `[B, positions, C]` plus `row` `[B, C]` at every position.
pub(crate) fn add_rows<T: Real>(positions: usize, columns: usize, x: &[T], row: &[T]) -> Vec<T> {
    let mut out = Out::new(x.len());
    out.slice()
        .par_chunks_mut(columns)
        .zip(x.par_chunks(columns))
        .enumerate()
        .for_each(|(i, (out, x))| {
            let row = &row[i / positions * columns..][..columns];
            for (out, (&x, &r)) in out.iter_mut().zip(x.iter().zip(row)) {
                out.write(x + r);
            }
        });
    // SAFETY: the rows cover the output.
    unsafe { out.into_vec() }
}

/// `[B, positions, C]` summed over positions.
pub(crate) fn sum_spatial<T: Real>(positions: usize, columns: usize, x: &[T]) -> Vec<T> {
    x.par_chunks(positions * columns)
        .flat_map_iter(|image| column_sums(columns, image))
        .collect()
}

/// `[rows, a]` beside `[rows, b]`.
pub(crate) fn concat<T: Real>(a: (&[T], usize), b: (&[T], usize)) -> Vec<T> {
    let mut out = Vec::with_capacity(a.0.len() + b.0.len());
    for (x, y) in a.0.chunks(a.1).zip(b.0.chunks(b.1)) {
        out.extend_from_slice(x);
        out.extend_from_slice(y);
    }
    out
}

/// Columns `start..start + len` of rows of `columns`.
pub(crate) fn split<T: Real>(columns: usize, start: usize, len: usize, x: &[T]) -> Vec<T> {
    let mut out = Vec::with_capacity(x.len() / columns * len);
    for row in x.chunks(columns) {
        out.extend_from_slice(&row[start..start + len]);
    }
    out
}

/// `[B, r, c]` to `[B, c, r]`.
pub(crate) fn transpose_last<T: Real>(rows: usize, columns: usize, x: &[T]) -> Vec<T> {
    let mut out = Vec::with_capacity(x.len());
    for matrix in x.chunks(rows * columns) {
        for c in 0..columns {
            out.extend((0..rows).map(|r| matrix[r * columns + c]));
        }
    }
    out
}

/// Nearest neighbour: output `i` of `to` reads `⌊i·from/to⌋`.
pub(crate) fn upsample<T: Real>((h, w): (usize, usize), (oh, ow): (usize, usize), columns: usize, x: &[T]) -> Vec<T> {
    let mut out = Vec::with_capacity(x.len() / (h * w) * oh * ow);
    for image in x.chunks(h * w * columns) {
        for y in 0..oh {
            for xx in 0..ow {
                let source = (y * h / oh) * w + xx * w / ow;
                out.extend_from_slice(&image[source * columns..(source + 1) * columns]);
            }
        }
    }
    out
}

/// The gradient of [`upsample`] by its input.
pub(crate) fn upsample_backward<T: Real>(
    (h, w): (usize, usize),
    (oh, ow): (usize, usize),
    columns: usize,
    grad: &[T],
) -> Vec<T> {
    let images = grad.len() / (oh * ow * columns);
    let mut out = vec![T::ZERO; images * h * w * columns];
    out.par_chunks_mut(h * w * columns)
        .zip(grad.par_chunks(oh * ow * columns))
        .for_each(|(out, grad)| {
            for y in 0..oh {
                for x in 0..ow {
                    let source = (y * h / oh) * w + x * w / ow;
                    let grad = &grad[(y * ow + x) * columns..][..columns];
                    for (out, &g) in out[source * columns..][..columns].iter_mut().zip(grad) {
                        *out += g;
                    }
                }
            }
        });
    out
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
