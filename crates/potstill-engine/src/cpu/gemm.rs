//! Products of matrices.

use super::Real;

/// A strided matrix: the address of its first element, and the distances between rows and between columns.
#[derive(Clone, Copy)]
pub(crate) struct Mat<T> {
    pub(crate) data: *const T,
    pub(crate) row: usize,
    pub(crate) col: usize,
}

impl<T> Mat<T> {
    /// A row-major matrix whose rows are `stride` elements apart.
    pub(crate) fn rows(data: &[T], stride: usize) -> Self {
        Self {
            data: data.as_ptr(),
            row: stride,
            col: 1,
        }
    }

    /// The transpose.
    pub(crate) fn t(self) -> Self {
        Self {
            data: self.data,
            row: self.col,
            col: self.row,
        }
    }
}

/// `c = alpha · a·b`, or `c += alpha · a·b`, on this thread. `c` is `m` rows of `n`, `stride` apart; `a` is m × k, `b` k × n.
///
/// # Safety
/// The matrices lie within allocations that outlive the call; `c` overlaps none of the others, and holds values when it is added to.
pub(crate) unsafe fn gemm<T: Real>(
    (m, n, k): (usize, usize, usize),
    alpha: T,
    a: Mat<T>,
    b: Mat<T>,
    c: *mut T,
    stride: usize,
    add: bool,
) {
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c,
            1,
            stride as isize,
            add,
            a.data,
            a.col as isize,
            a.row as isize,
            b.data,
            b.col as isize,
            b.row as isize,
            T::ONE,
            alpha,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
