//! Working memory that threads keep between tasks.

use std::cell::RefCell;
use std::marker::PhantomData;

use super::Real;

/// Alignment of the memory: a cache line, and the widest vector.
const LINE: usize = 64;
/// Buffers that a thread keeps: the deepest nesting of kernels holds fewer.
const KEPT: usize = 8;

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line {
    _bytes: [u8; LINE],
}

thread_local! {
    static FREE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// A cache-line-aligned buffer whose contents are arbitrary at first; its memory goes back to the thread when dropped.
pub(crate) struct Scratch<T> {
    lines: Vec<Line>,
    element: PhantomData<T>,
}

impl<T: Real> Scratch<T> {
    /// At least `len` elements.
    pub(crate) fn new(len: usize) -> Self {
        let need = (len * size_of::<T>()).div_ceil(LINE).max(1);
        let mut lines = FREE.with(|free| {
            let mut free = free.borrow_mut();
            // The smallest that is large enough, else the largest.
            let fit = (0..free.len())
                .filter(|&i| free[i].len() >= need)
                .min_by_key(|&i| free[i].len());
            let fit = fit.or_else(|| (0..free.len()).max_by_key(|&i| free[i].len()));
            fit.map(|i| free.swap_remove(i)).unwrap_or_default()
        });
        if lines.len() < need {
            // Growing would copy what nobody needs.
            lines = vec![Line { _bytes: [0; LINE] }; need];
        }
        Self {
            lines,
            element: PhantomData,
        }
    }

    /// The buffer's address.
    pub(crate) fn pointer(&mut self) -> *mut T {
        self.lines.as_mut_ptr().cast()
    }
}

impl<T> Drop for Scratch<T> {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        // During the end of a thread there is nothing to give back to.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < KEPT {
                free.push(lines);
            }
        });
    }
}
