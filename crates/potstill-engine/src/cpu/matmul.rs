//! `y = x·wᵀ + b` and its gradients.

use super::Real;
use super::gemm::{ByColumns, ByRows, Matrix, Panels, grid};
use super::micro::Start;
use super::scratch::Scratch;
use super::storage::{Out, Pointer};
use crate::profile::count_flops;

/// Rows of the inputs that a gradient by the weights takes at a time.
const WEIGHT_BLOCK: usize = 512;

/// `m × n` rows from contiguous rows of `depth` and a matrix to be packed.
fn rows_by_matrix<T: Real>(m: usize, n: usize, depth: usize, x: &[T], right: Matrix<T>, b: Option<&[T]>) -> Vec<T> {
    assert!(x.len() >= m * depth && b.is_none_or(|b| b.len() >= n));
    count_flops(2 * m * n * depth);
    let mut out = Out::<T>::new(m * n);
    let y = out.pointer();
    let panels = Panels::of::<T>(n);
    let mut packed = Scratch::<T>::new(panels.size(depth));
    let packed = packed.pointer();
    // SAFETY: the caller's matrix is depth × n.
    unsafe { right.pack_parallel(panels, depth, packed) };
    let packed = Pointer::at_address(packed);
    let start = Pointer::at_address(b.map_or(std::ptr::null_mut(), |b| b.as_ptr().cast_mut()));
    grid(m, panels.count(), depth, panels.place(0).2, |first, rows, range| {
        let left: Vec<*const T> = (first..first + rows).map(|r| x[r * depth..].as_ptr()).collect();
        let c: Vec<*mut T> = (first..first + rows).map(|r| y.at(r * n)).collect();
        let start = if b.is_some() {
            Start::Bias(start.at(0).cast_const())
        } else {
            Start::Zero
        };
        T::run(ByRows {
            left: &left,
            segments: 1,
            depth,
            right: packed.at(0).cast_const(),
            panels,
            range,
            c: &c,
            start,
        });
    });
    // SAFETY: the grid covers all rows and columns.
    unsafe { out.into_vec() }
}

/// `[m, k]·[n, k]ᵀ + [n]`.
pub(crate) fn linear_forward<T: Real>((m, n, k): (usize, usize, usize), x: &[T], w: &[T], b: Option<&[T]>) -> Vec<T> {
    assert_eq!(w.len(), n * k);
    rows_by_matrix(
        m,
        n,
        k,
        x,
        Matrix {
            data: w.as_ptr(),
            row: 1,
            column: k,
        },
        b,
    )
}

/// The gradient by x: `[m, n]·[n, k]`.
pub(crate) fn linear_backward_input<T: Real>((m, n, k): (usize, usize, usize), grad: &[T], w: &[T]) -> Vec<T> {
    assert_eq!(w.len(), n * k);
    rows_by_matrix(
        m,
        k,
        n,
        grad,
        Matrix {
            data: w.as_ptr(),
            row: k,
            column: 1,
        },
        None,
    )
}

/// The gradient by w: `[m, n]ᵀ·[m, k]`.
pub(crate) fn linear_backward_weight<T: Real>((m, n, k): (usize, usize, usize), grad: &[T], x: &[T]) -> Vec<T> {
    count_flops(2 * m * n * k);
    let source = Pointer::at_address(x.as_ptr().cast_mut());
    weight_gradient((m, n, k), grad, |panels, panel, first, rows, to| {
        let matrix = Matrix {
            data: source.at(0).cast_const(),
            row: k,
            column: 1,
        };
        // SAFETY: x is m × k.
        unsafe { matrix.pack_panel(panels, panel, first, rows, to) };
    })
}

/// `[m, n]ᵀ·X` for a matrix X, m × k, that is packed piecewise: `pack(panels, panel, first row, rows, to)`.
///
/// Each task owns some columns of the result and adds up all of m in order.
pub(super) fn weight_gradient<T: Real>(
    (m, n, k): (usize, usize, usize),
    grad: &[T],
    pack: impl Fn(Panels, usize, usize, usize, *mut T) + Sync,
) -> Vec<T> {
    assert_eq!(grad.len(), m * n);
    let mut out = Out::<T>::new(n * k);
    let dw = out.pointer();
    let panels = Panels::of::<T>(k);
    let width = panels.place(0).2;
    grid(n, panels.count(), m, width, |first_row, rows, range| {
        let mut packed = Scratch::<T>::new(WEIGHT_BLOCK.min(m) * width);
        let packed = packed.pointer();
        for index in range.0..range.1 {
            let (column, columns, _) = panels.place(index);
            // The panel by itself, so that its packed form begins at zero.
            let alone = Panels::of::<T>(columns);
            let mut first = 0;
            while first < m || first == 0 {
                let depth = WEIGHT_BLOCK.min(m - first);
                pack(panels, index, first, depth, packed);
                T::run(ByColumns {
                    left: grad.as_ptr().wrapping_add(first * n + first_row),
                    stride: n,
                    rows,
                    depth,
                    right: packed,
                    panels: alone,
                    range: (0, 1),
                    c: dw.at(first_row * k + column),
                    c_stride: k,
                    add: first > 0,
                });
                first += depth.max(1);
            }
        }
    });
    // SAFETY: the grid covers all rows and columns.
    unsafe { out.into_vec() }
}
