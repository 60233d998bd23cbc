//! Sums over rows of channels: in f32 within tiles of rows, in f64 and in order over the tiles.

use super::Real;
use super::simd::{Kernel, Simd, load, store};
use super::storage::Out;
use super::tasks::each_task;

/// Rows of a tile: few enough that f32 sums lose nothing, many enough that the f64 part costs nothing.
pub(crate) const SUM_ROWS: usize = 64;

/// The sums of the columns of a tile.
struct ColumnSums<T> {
    x: *const T,
    rows: usize,
    columns: usize,
    to: *mut T,
}

impl<T: Real> Kernel<T> for ColumnSums<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        unsafe {
            for column in (0..self.columns).step_by(S::LANES) {
                let left = self.columns - column;
                let mut sum = S::splat(T::ZERO);
                for row in 0..self.rows {
                    sum = S::add(sum, load::<S>(self.x.add(row * self.columns + column), left));
                }
                store::<S>(self.to.add(column), sum, left);
            }
        }
    }
}

/// The sums over rows of each of several equal blocks of rows: `[blocks, rows, columns]` to `[blocks, columns]`.
pub(crate) fn block_sums<T: Real>(rows: usize, columns: usize, x: &[T]) -> Vec<T> {
    let blocks = x.len().checked_div(rows * columns).unwrap_or(0);
    let tiles = rows.div_ceil(SUM_ROWS);
    let mut partial = Out::<T>::new(blocks * tiles * columns);
    let to = partial.pointer();
    each_task(blocks * tiles, x.len(), |i| {
        let (block, tile) = (i / tiles, i % tiles);
        let first = tile * SUM_ROWS;
        let from = &x[(block * rows + first) * columns..];
        let rows = SUM_ROWS.min(rows - first);
        T::run(ColumnSums {
            x: from.as_ptr(),
            rows,
            columns,
            to: to.at(i * columns),
        });
    });
    // SAFETY: the tasks cover all tiles.
    let partial = unsafe { partial.into_vec() };
    if tiles == 1 {
        return partial;
    }
    partial
        .chunks(tiles * columns)
        .flat_map(|block| totals(columns, block))
        .collect()
}

/// The sums over rows of `[rows, columns]`, in f64.
pub(crate) fn totals_f64<T: Real>(columns: usize, x: &[T]) -> Vec<f64> {
    let mut sums = vec![0f64; columns];
    for row in x.chunks_exact(columns) {
        for (sum, v) in sums.iter_mut().zip(row) {
            *sum += v.f64();
        }
    }
    sums
}

/// [`totals_f64`], rounded once.
pub(crate) fn totals<T: Real>(columns: usize, x: &[T]) -> Vec<T> {
    totals_f64(columns, x).into_iter().map(T::of).collect()
}

/// The sums over rows of `[rows, columns]`.
pub(crate) fn column_sums<T: Real>(columns: usize, x: &[T]) -> Vec<T> {
    if x.is_empty() {
        return vec![T::ZERO; columns];
    }
    block_sums(x.len() / columns, columns, x)
}
