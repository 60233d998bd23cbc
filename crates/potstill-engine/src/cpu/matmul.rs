//! `y = x·wᵀ + b` and its gradients.

use rayon::prelude::*;

use super::Real;
use super::gemm::{Mat, gemm};
use super::storage::{Out, Pointer};

/// Rows of the output per task.
const ROWS: usize = 64;

/// `[m, k]·[n, k]ᵀ + [n]`.
pub(crate) fn linear_forward<T: Real>((m, n, k): (usize, usize, usize), x: &[T], w: &[T], b: Option<&[T]>) -> Vec<T> {
    let mut out = Out::<T>::new(m * n);
    let y = out.pointer();
    (0..m.div_ceil(ROWS)).into_par_iter().for_each(|tile| {
        let first = tile * ROWS;
        let rows = ROWS.min(m - first);
        // SAFETY: each task writes its own rows, all of them.
        unsafe {
            if let Some(b) = b {
                for row in first..first + rows {
                    y.at(row * n).copy_from_nonoverlapping(b.as_ptr(), n);
                }
            }
            gemm(
                (rows, n, k),
                T::ONE,
                Mat::rows(&x[first * k..], k),
                Mat::rows(w, k).t(),
                y.at(first * n),
                n,
                b.is_some(),
            );
        }
    });
    // SAFETY: the tiles cover all rows.
    unsafe { out.into_vec() }
}

/// The gradient by x: `[m, n]·[n, k]`.
pub(crate) fn linear_backward_input<T: Real>((m, n, k): (usize, usize, usize), grad: &[T], w: &[T]) -> Vec<T> {
    let mut out = Out::new(m * k);
    let dx = out.pointer();
    (0..m.div_ceil(ROWS)).into_par_iter().for_each(|tile| {
        let first = tile * ROWS;
        let rows = ROWS.min(m - first);
        // SAFETY: each task writes its own rows, all of them.
        unsafe {
            gemm(
                (rows, k, n),
                T::ONE,
                Mat::rows(&grad[first * n..], n),
                Mat::rows(w, k),
                dx.at(first * k),
                k,
                false,
            )
        };
    });
    // SAFETY: the tiles cover all rows.
    unsafe { out.into_vec() }
}

/// The gradient by w: `[m, n]ᵀ·[m, k]`.
pub(crate) fn linear_backward_weight<T: Real>((m, n, k): (usize, usize, usize), grad: &[T], x: &[T]) -> Vec<T> {
    let mut out = Out::new(n * k);
    let dw: Pointer<T> = out.pointer();
    (0..n.div_ceil(ROWS)).into_par_iter().for_each(|tile| {
        let first = tile * ROWS;
        let rows = ROWS.min(n - first);
        // SAFETY: each task writes its own rows, all of them.
        unsafe {
            gemm(
                (rows, k, m),
                T::ONE,
                Mat::rows(&grad[first..], n).t(),
                Mat::rows(x, k),
                dw.at(first * k),
                k,
                false,
            )
        };
    });
    // SAFETY: the tiles cover all rows.
    unsafe { out.into_vec() }
}
