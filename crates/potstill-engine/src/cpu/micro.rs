//! The register tile that all products of matrices are made of.
//!
//! A tile of C, up to `S::ROWS[0]` rows by two vectors, stays in registers while the depth runs. Every element of C is
//! one chain of multiply-adds in the order of the depth, whatever the tile's size: how work is cut into tiles and
//! tasks never changes a result.

use super::Real;
use super::simd::Simd;

/// What a tile multiplies, lane by lane.
pub(crate) trait Product<S: Simd> {
    /// `sum + a·b`.
    ///
    /// # Safety
    /// The instruction set is present.
    unsafe fn add(a: S::V, b: S::V, sum: S::V) -> S::V;
}

/// Numbers.
pub(crate) struct Numbers;

impl<S: Simd> Product<S> for Numbers {
    #[inline(always)]
    unsafe fn add(a: S::V, b: S::V, sum: S::V) -> S::V {
        unsafe { S::fma(a, b, sum) }
    }
}

/// Where a tile takes the left factor from.
#[derive(Clone, Copy)]
pub(crate) enum Left<'a, T> {
    /// For each segment of the depth, one pointer per row, `stride` pointers from segment to segment; along a segment a
    /// row is contiguous, and begins `offset` behind its pointer. The rows of a matrix are one segment, the windows of
    /// a convolution one segment per tap.
    Rows {
        pointers: &'a [*const T],
        stride: usize,
        segments: usize,
        offset: usize,
    },
    /// Rows lie side by side: element (i, k) is at `base + k·stride + i`. A transposed matrix, or a packed one.
    Columns { base: *const T, stride: usize },
}

/// What a tile starts from.
#[derive(Clone, Copy)]
pub(crate) enum Start<T> {
    Zero,
    /// One value per column.
    Bias(*const T),
    /// What C holds.
    Add,
}

/// A panel of the right factor: for each step of the depth two vectors (or one, when `wide` is false), padded by zeros.
#[derive(Clone, Copy)]
pub(crate) struct Panel<T> {
    pub(crate) data: *const T,
    pub(crate) wide: bool,
    /// Columns of C that are written.
    pub(crate) columns: usize,
}

/// `c = start + left·panel` for `rows` rows; row i of C begins at `c[i]`. `depth` is the length of a segment.
///
/// # Safety
/// All pointers are valid for the given sizes; the instruction set is present.
#[inline(always)]
pub(crate) unsafe fn tile<S: Simd, P: Product<S>>(
    rows: usize,
    left: Left<S::T>,
    depth: usize,
    panel: Panel<S::T>,
    c: &[*mut S::T],
    start: Start<S::T>,
) {
    let mut first = 0;
    while first < rows {
        let count = S::ROWS.iter().copied().find(|&r| r <= rows - first).unwrap_or(1);
        let c = &c[first..];
        macro_rules! run {
            ($rows:literal) => {
                unsafe {
                    match (left, panel.wide) {
                        (
                            Left::Rows {
                                pointers,
                                stride,
                                segments,
                                offset,
                            },
                            true,
                        ) => {
                            let pointers = pointers.get(first..).unwrap_or_default();
                            by_rows::<S, P, $rows, 2>(pointers, stride, segments, offset, depth, panel, c, start)
                        }
                        (
                            Left::Rows {
                                pointers,
                                stride,
                                segments,
                                offset,
                            },
                            false,
                        ) => {
                            let pointers = pointers.get(first..).unwrap_or_default();
                            by_rows::<S, P, $rows, 1>(pointers, stride, segments, offset, depth, panel, c, start)
                        }
                        (Left::Columns { base, stride }, true) => {
                            by_columns::<S, P, $rows, 2>(base.add(first), stride, depth, panel, c, start)
                        }
                        (Left::Columns { base, stride }, false) => {
                            by_columns::<S, P, $rows, 1>(base.add(first), stride, depth, panel, c, start)
                        }
                    }
                }
            };
        }
        match count {
            14 => run!(14),
            8 => run!(8),
            6 => run!(6),
            4 => run!(4),
            2 => run!(2),
            _ => run!(1),
        }
        first += count;
    }
}

/// The sums to begin with. Plain loops without branches inside, here and below: whatever the compiler cannot unroll
/// entirely keeps the sums in memory, for the whole depth.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
unsafe fn begin<S: Simd, const R: usize, const V: usize>(
    panel: Panel<S::T>,
    c: &[*mut S::T],
    start: Start<S::T>,
) -> [[S::V; V]; R] {
    unsafe {
        let mut sums = [[S::splat(S::T::ZERO); V]; R];
        // Every row begins with the bias, or with itself.
        let (base, own) = match start {
            Start::Zero => return sums,
            Start::Bias(bias) => (bias, false),
            Start::Add => (c[0].cast_const(), true),
        };
        let c = &c[..R];
        if panel.columns == V * S::LANES {
            for r in 0..R {
                let from = if own { c[r].cast_const() } else { base };
                for v in 0..V {
                    sums[r][v] = S::load(from.add(v * S::LANES));
                }
            }
        } else {
            for r in 0..R {
                let from = if own { c[r].cast_const() } else { base };
                for v in 0..V {
                    let count = panel.columns.saturating_sub(v * S::LANES);
                    sums[r][v] = S::load_some(from.add(v * S::LANES), count);
                }
            }
        }
        sums
    }
}

#[allow(clippy::needless_range_loop)]
#[inline(always)]
unsafe fn finish<S: Simd, const R: usize, const V: usize>(sums: &[[S::V; V]; R], panel: Panel<S::T>, c: &[*mut S::T]) {
    unsafe {
        let c = &c[..R];
        if panel.columns == V * S::LANES {
            for r in 0..R {
                for v in 0..V {
                    S::store(c[r].add(v * S::LANES), sums[r][v]);
                }
            }
        } else {
            for r in 0..R {
                for v in 0..V {
                    let count = panel.columns.saturating_sub(v * S::LANES);
                    S::store_some(c[r].add(v * S::LANES), sums[r][v], count);
                }
            }
        }
    }
}

// Plain numbers and addresses, all of them; and iterators over the sums make the compiler keep them in memory.
#[allow(clippy::too_many_arguments, clippy::needless_range_loop)]
#[inline(always)]
unsafe fn by_rows<S: Simd, P: Product<S>, const R: usize, const V: usize>(
    pointers: &[*const S::T],
    stride: usize,
    segments: usize,
    offset: usize,
    depth: usize,
    panel: Panel<S::T>,
    c: &[*mut S::T],
    start: Start<S::T>,
) {
    unsafe {
        let mut sums = begin::<S, R, V>(panel, c, start);
        let mut b = panel.data;
        for segment in 0..segments {
            let from = &pointers[segment * stride..segment * stride + R];
            let mut rows = [std::ptr::null(); R];
            for r in 0..R {
                rows[r] = from[r].wrapping_add(offset);
            }
            for k in 0..depth {
                let mut right = [S::splat(S::T::ZERO); V];
                for (v, right) in right.iter_mut().enumerate() {
                    *right = S::load(b.add(v * S::LANES));
                }
                b = b.add(V * S::LANES);
                for r in 0..R {
                    let a = S::splat(*rows[r].add(k));
                    for v in 0..V {
                        sums[r][v] = P::add(a, right[v], sums[r][v]);
                    }
                }
            }
        }
        finish::<S, R, V>(&sums, panel, c);
    }
}

// Iterators over the sums make the compiler keep them in memory.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
unsafe fn by_columns<S: Simd, P: Product<S>, const R: usize, const V: usize>(
    base: *const S::T,
    stride: usize,
    depth: usize,
    panel: Panel<S::T>,
    c: &[*mut S::T],
    start: Start<S::T>,
) {
    unsafe {
        let mut sums = begin::<S, R, V>(panel, c, start);
        let (mut a, mut b) = (base, panel.data);
        for _ in 0..depth {
            let mut right = [S::splat(S::T::ZERO); V];
            for (v, right) in right.iter_mut().enumerate() {
                *right = S::load(b.add(v * S::LANES));
            }
            b = b.add(V * S::LANES);
            for r in 0..R {
                let a = S::splat(*a.add(r));
                for v in 0..V {
                    sums[r][v] = P::add(a, right[v], sums[r][v]);
                }
            }
            a = a.wrapping_add(stride);
        }
        finish::<S, R, V>(&sums, panel, c);
    }
}
