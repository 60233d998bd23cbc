//! `y = x·wᵀ + b` and its gradients.

use super::Real;
use super::gemm::{ByColumns, Matrix, Panels, grid};
use super::product::{Product, Term};
use super::rows::transpose_last;
use super::scratch::Scratch;
use super::storage::{Out, Pointer};
use crate::profile::count_flops;

/// Rows of the inputs that a gradient by the weights takes at a time.
const WEIGHT_BLOCK: usize = 512;
/// Outputs up to which a gradient by the weights is computed the other way round, and then transposed.
const NARROW: usize = 32;

/// Contiguous rows of `depth`, and the matrix that they are multiplied with.
struct Factors<'a, T> {
    rows: &'a [T],
    depth: usize,
    matrix: Matrix<T>,
}

/// `m × n` sums of products, plus a bias.
fn sum_of_products<T: Real>((m, n): (usize, usize), factors: &[Factors<T>], b: Option<&[T]>) -> Vec<T> {
    let mut out = Out::<T>::new(m * n);
    let y = out.pointer();
    let lefts: Vec<_> = factors
        .iter()
        .map(|f| {
            assert!(f.rows.len() >= m * f.depth);
            count_flops(2 * m * n * f.depth);
            let row = |r: usize| Pointer::to(&f.rows[r * f.depth..]);
            move |first: usize, rows: usize| (first..first + rows).map(row).collect::<Vec<_>>()
        })
        .collect();
    let rights: Vec<_> = factors.iter().map(|f| |_: usize| f.matrix).collect();
    let terms: Vec<Term<T>> = (factors.iter().zip(&lefts).zip(&rights))
        .map(|((f, left), right)| Term {
            segments: 1,
            depth: f.depth,
            left,
            right,
        })
        .collect();
    let product = Product {
        rows: m,
        columns: n,
        bias: b,
        terms: &terms,
    };
    // SAFETY: the callers' matrices are depth × n; all rows are covered.
    unsafe {
        product.run(|row| y.at(row * n));
        out.into_vec()
    }
}

/// `[columns, depth]` as the right factor that its transpose is.
fn transposed<T: Real>(w: &[T], depth: usize) -> Matrix<T> {
    Matrix {
        data: w.as_ptr(),
        row: 1,
        column: depth,
    }
}

/// `[depth, columns]` as a right factor.
fn upright<T: Real>(w: &[T], columns: usize) -> Matrix<T> {
    Matrix {
        data: w.as_ptr(),
        row: columns,
        column: 1,
    }
}

/// What a low-rank branch adds to a product: `[m, rank]` by `[n, rank]ᵀ` forward, and by `[rank, k]` backward.
pub(crate) struct Narrow<'a, T> {
    pub(crate) rank: usize,
    pub(crate) rows: &'a [T],
    pub(crate) weight: &'a [T],
}

/// `[m, k]·[n, k]ᵀ + [n]`, and what branches add.
pub(crate) fn linear_forward<T: Real>(
    (m, n, k): (usize, usize, usize),
    x: &[T],
    w: &[T],
    b: Option<&[T]>,
    branches: &[Narrow<T>],
) -> Vec<T> {
    assert_eq!(w.len(), n * k);
    let mut factors = vec![Factors {
        rows: x,
        depth: k,
        matrix: transposed(w, k),
    }];
    factors.extend(branches.iter().map(|branch| {
        assert_eq!(branch.weight.len(), n * branch.rank);
        Factors {
            rows: branch.rows,
            depth: branch.rank,
            matrix: transposed(branch.weight, branch.rank),
        }
    }));
    sum_of_products((m, n), &factors, b)
}

/// The gradient by x: `[m, n]·[n, k]`, and what branches add.
pub(crate) fn linear_backward_input<T: Real>(
    (m, n, k): (usize, usize, usize),
    grad: &[T],
    w: &[T],
    branches: &[Narrow<T>],
) -> Vec<T> {
    assert_eq!(w.len(), n * k);
    let mut factors = vec![Factors {
        rows: grad,
        depth: n,
        matrix: upright(w, k),
    }];
    factors.extend(branches.iter().map(|branch| {
        assert_eq!(branch.weight.len(), branch.rank * k);
        Factors {
            rows: branch.rows,
            depth: branch.rank,
            matrix: upright(branch.weight, k),
        }
    }));
    sum_of_products((m, k), &factors, None)
}

/// The gradient by w: `[m, n]ᵀ·[m, k]`.
pub(crate) fn linear_backward_weight<T: Real>((m, n, k): (usize, usize, usize), grad: &[T], x: &[T]) -> Vec<T> {
    count_flops(2 * m * n * k);
    // The right factor is packed for few rows on the left otherwise. Every number is one chain of multiply-adds in the
    // order of the rows either way.
    if n <= NARROW && n < k {
        let across = columns_by_rows((m, k, n), x, grad);
        return transpose_last(k, n, &across);
    }
    columns_by_rows((m, n, k), grad, x)
}

/// `[m, n]ᵀ·[m, k]`.
fn columns_by_rows<T: Real>((m, n, k): (usize, usize, usize), left: &[T], right: &[T]) -> Vec<T> {
    assert!(left.len() == m * n && right.len() == m * k);
    let matrix = upright(right, k);
    weight_gradient((m, n, k), left, |panels, panel, first, rows, to| {
        // SAFETY: the right factor is m × k.
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
