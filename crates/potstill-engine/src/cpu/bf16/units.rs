//! Matrices of units: rows of f32 rounded to bf16, and rows of bf16 as they are.

use std::marker::PhantomData;

use half::bf16;

use super::super::Pointer;
use super::super::scratch::Scratch;
use super::super::simd::{PairKernel, Pairs, load, run_pairs, store};
use super::super::tasks::each_task;

/// Numbers that are rounded per task.
const TASK: usize = 16 * 1024;

/// Rows of units. A row of an odd number of columns ends in a unit whose second number is zero.
pub(super) struct Units<'a> {
    data: Pointer<f32>,
    rows: usize,
    per_row: usize,
    _room: Option<Scratch<f32>>,
    lent: PhantomData<&'a [bf16]>,
}

impl<'a> Units<'a> {
    /// The rows of `x`, rounded, and behind them a row of zeros.
    pub(super) fn rounded(x: &[f32], columns: usize) -> Self {
        let (rows, per_row) = (x.len().checked_div(columns).unwrap_or(0), columns.div_ceil(2));
        let mut room = Scratch::<f32>::new((rows + 1) * per_row);
        let data = Pointer::at_address(room.pointer());
        let step = TASK.div_ceil(columns.max(1));
        each_task(rows.div_ceil(step), x.len(), |i| {
            for row in i * step..(i * step + step).min(rows) {
                run_pairs(Round {
                    from: x[row * columns..].as_ptr(),
                    count: columns,
                    to: data.at(row * per_row),
                });
            }
        });
        // SAFETY: the last row of the room.
        unsafe { data.at(rows * per_row).write_bytes(0, per_row) };
        Self {
            data,
            rows,
            per_row,
            _room: Some(room),
            lent: PhantomData,
        }
    }

    /// The rows of `w`, where they lie if they can be read as units there.
    pub(super) fn stored(w: &'a [bf16], columns: usize) -> Self {
        let (rows, per_row) = (w.len().checked_div(columns).unwrap_or(0), columns.div_ceil(2));
        let lent = w.as_ptr().cast::<f32>();
        if columns.is_multiple_of(2) && lent.is_aligned() {
            return Self {
                data: Pointer::at_address(lent.cast_mut()),
                rows,
                per_row,
                _room: None,
                lent: PhantomData,
            };
        }
        let mut room = Scratch::<f32>::new(rows * per_row);
        let data = Pointer::at_address(room.pointer());
        for row in 0..rows {
            // SAFETY: a row of the matrix, and of the room, whose last unit is cleared first.
            unsafe {
                if per_row > 0 {
                    *data.at(row * per_row + per_row - 1) = 0.;
                }
                let from = w[row * columns..].as_ptr();
                from.copy_to_nonoverlapping(data.at(row * per_row).cast(), columns);
            }
        }
        Self {
            data,
            rows,
            per_row,
            _room: Some(room),
            lent: PhantomData,
        }
    }

    /// Units of a row.
    pub(super) fn per_row(&self) -> usize {
        self.per_row
    }

    /// The row of zeros behind rounded rows.
    pub(super) fn zeros(&self) -> *const f32 {
        self.row(self.rows)
    }

    /// Where a row begins.
    pub(super) fn row(&self, row: usize) -> *const f32 {
        self.data.at(row * self.per_row).cast_const()
    }
}

/// Rounds numbers to units; an odd one out is followed by zero.
pub(super) struct Round {
    pub(super) from: *const f32,
    pub(super) count: usize,
    pub(super) to: *mut f32,
}

impl PairKernel for Round {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Pairs>(self) {
        unsafe {
            for i in (0..self.count).step_by(2 * S::LANES) {
                let left = self.count - i;
                let first = load::<S>(self.from.add(i), left);
                let second = match left > S::LANES {
                    true => load::<S>(self.from.add(i + S::LANES), left - S::LANES),
                    false => S::splat(0.),
                };
                store::<S>(self.to.add(i / 2), S::narrow(first, second), left.div_ceil(2));
            }
        }
    }
}
