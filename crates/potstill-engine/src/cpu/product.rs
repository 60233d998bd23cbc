//! Sums of products of matrices: rows, given by pointers, times matrices that are packed on the way.
//!
//! With many rows a matrix is packed whole, once, and every task multiplies some rows with some of it. With few rows
//! that would move it to memory and back, which costs more than the product: there a task packs a piece of a panel into
//! the first caches, and multiplies all rows with it at once. Both ways give the same bits.

use rayon::prelude::*;

use super::gemm::{BLOCK, ByRows, Matrix, Panels, grid};
use super::micro::Start;
use super::scratch::Scratch;
use super::{Pointer, Real};

/// Rows up to which they are few: beyond, they would leave the second cache while a panel is used.
const FEW: usize = 512;

/// `rows × columns` sums of [`Term`]s, plus a bias for each column.
pub(crate) struct Product<'a, T> {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) bias: Option<&'a [T]>,
    pub(crate) terms: &'a [Term<'a, T>],
}

/// A product of `rows × (segments · depth)` by `(segments · depth) × columns`.
pub(crate) struct Term<'a, T> {
    pub(crate) segments: usize,
    /// Length of a segment.
    pub(crate) depth: usize,
    /// Some rows of the left factor, `[segment][row]`, from the first row and their number.
    pub(crate) left: &'a (dyn Fn(usize, usize) -> Vec<Pointer<T>> + Sync),
    /// The right factor of a segment.
    pub(crate) right: &'a (dyn Fn(usize) -> Matrix<T> + Sync),
}

impl<T: Real> Term<'_, T> {
    fn total(&self) -> usize {
        self.segments * self.depth
    }
}

impl<T: Real> Product<'_, T> {
    /// Computes the product; row i begins at `to(i)`.
    ///
    /// # Safety
    /// The pointers and matrices have the given sizes, and the rows of the product do not overlap.
    pub(crate) unsafe fn run(&self, to: impl Fn(usize) -> *mut T + Sync) {
        assert!(self.bias.is_none_or(|bias| bias.len() == self.columns));
        let panels = Panels::of::<T>(self.columns);
        // Enough panels for all threads.
        if self.rows <= FEW && panels.count() >= 2 * rayon::current_num_threads() {
            unsafe { self.panel_by_panel(panels, to) }
        } else {
            unsafe { self.packed(panels, to) }
        }
    }

    fn start(&self) -> Start<T> {
        self.bias.map_or(Start::Zero, |bias| Start::Bias(bias.as_ptr()))
    }

    /// # Safety
    /// As [`Product::run`].
    unsafe fn packed(&self, panels: Panels, to: impl Fn(usize) -> *mut T + Sync) {
        let total: usize = self.terms.iter().map(Term::total).sum();
        let mut packed = Scratch::<T>::new(panels.size(total));
        let packed = Pointer::at_address(packed.pointer());
        let mut at = 0;
        let terms: Vec<(&Term<T>, Pointer<T>)> = self
            .terms
            .iter()
            .map(|term| {
                let to = Pointer::at_address(packed.at(at));
                at += panels.size(term.total());
                let pieces: Vec<Matrix<T>> = (0..term.segments).map(term.right).collect();
                // SAFETY: the caller's matrices.
                unsafe { Matrix::pack_parallel(&pieces, panels, term.depth, to) };
                (term, to)
            })
            .collect();
        grid(
            self.rows,
            panels.count(),
            total,
            panels.place(0).2,
            |first, rows, range| {
                let c: Vec<*mut T> = (first..first + rows).map(&to).collect();
                let mut start = self.start();
                for (term, right) in &terms {
                    let left: Vec<*const T> = (term.left)(first, rows)
                        .iter()
                        .map(|row| row.at(0).cast_const())
                        .collect();
                    T::run(ByRows {
                        left: &left,
                        segments: term.segments,
                        depth: term.depth,
                        right: right.at(0).cast_const(),
                        panels,
                        range,
                        c: &c,
                        start,
                    });
                    start = Start::Add;
                }
            },
        );
    }

    /// # Safety
    /// As [`Product::run`].
    unsafe fn panel_by_panel(&self, panels: Panels, to: impl Fn(usize) -> *mut T + Sync) {
        let lefts: Vec<Vec<Pointer<T>>> = self.terms.iter().map(|term| (term.left)(0, self.rows)).collect();
        (0..panels.count()).into_par_iter().for_each(|panel| {
            let (first, columns, width) = panels.place(panel);
            let c: Vec<*mut T> = (0..self.rows).map(|row| to(row).wrapping_add(first)).collect();
            let mut start = match self.start() {
                Start::Bias(bias) => Start::Bias(bias.wrapping_add(first)),
                other => other,
            };
            let mut left = Vec::new();
            for (term, rows) in self.terms.iter().zip(&lefts) {
                let chunk = term.depth.clamp(1, BLOCK);
                // Short segments together.
                let group = (BLOCK / chunk).clamp(1, term.segments.max(1));
                let mut packed = Scratch::<T>::new(group * chunk * width);
                let packed = packed.pointer();
                // Without any depth the rows are what they start from.
                let chunks = term.depth.div_ceil(chunk).max(1);
                for segment in (0..term.segments.max(1)).step_by(group) {
                    let segments = group.min(term.segments - segment);
                    for offset in (0..chunks).map(|i| i * chunk) {
                        let depth = chunk.min(term.depth - offset);
                        left.clear();
                        for i in 0..segments {
                            let of_segment = &rows[(segment + i) * self.rows..][..self.rows];
                            left.extend(of_segment.iter().map(|row| row.at(offset).cast_const()));
                            let to = packed.wrapping_add(i * depth * width);
                            // SAFETY: the caller's matrix; there is room for a group.
                            unsafe { (term.right)(segment + i).pack_panel(panels, panel, offset, depth, to) };
                        }
                        T::run(ByRows {
                            left: &left,
                            segments,
                            depth,
                            right: packed,
                            // The panel by itself, so that its packed form begins at zero.
                            panels: Panels::of::<T>(columns),
                            range: (0, 1),
                            c: &c,
                            start,
                        });
                        start = Start::Add;
                    }
                }
            }
        });
    }
}
