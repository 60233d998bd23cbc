//! Rows of C from rows of units and a right factor that is packed where it is used.
//!
//! A block of a panel is packed into the first cache and multiplied with all rows of the task before the next one: what is
//! packed never sees the memory, and weights are read once.

use half::bf16;
use rayon::prelude::*;

use super::super::gemm::{Matrix, Panels};
use super::super::micro::{Left, Product, Start, tile};
use super::super::scratch::Scratch;
use super::super::simd::{PairKernel, Pairs};
use super::units::Units;

/// Units of the depth that are packed at a time: with the rows of a tile they fit the first cache, or nearly so.
const BLOCK: usize = 320;
/// Bytes of the left factor's rows that a task goes through again and again: they should stay in the second cache.
const LEFT: usize = 512 * 1024;
/// Fewest and most rows of a task, multiples of the widest tile's: few would be packed for too often.
const ROWS: (usize, usize) = (336, 1008);
/// Multiplications of units by vectors below which a task is not worth starting.
const SMALL: usize = 8 * 1024;

/// Units: two multiplications each.
pub(super) struct Units2;

impl<S: Pairs> Product<S> for Units2 {
    #[inline(always)]
    unsafe fn add(a: S::V, b: S::V, sum: S::V) -> S::V {
        unsafe { S::dot(a, b, sum) }
    }
}

/// A right factor in units.
pub(super) trait Right: Sync {
    /// Packs `depth` units of a segment, from `offset` on, of one panel: `[depth][width]`.
    ///
    /// # Safety
    /// There are as many, and `to` has room.
    unsafe fn pack<S: Pairs>(&self, place: Block, to: *mut f32);
}

/// A part of a panel.
pub(super) struct Block {
    pub(super) panels: Panels,
    pub(super) panel: usize,
    pub(super) segment: usize,
    pub(super) offset: usize,
    pub(super) depth: usize,
}

/// A matrix whose rows are columns of C: `[column][segment]` of rows of units.
pub(super) struct Across<'a> {
    pub(super) rows: &'a Units<'a>,
    pub(super) segments: usize,
}

impl Right for Across<'_> {
    #[inline(always)]
    unsafe fn pack<S: Pairs>(&self, b: Block, to: *mut f32) {
        let (first, columns, width) = b.panels.place(b.panel);
        let stride = self.segments * self.rows.per_row();
        let k = b.segment * self.rows.per_row() + b.offset;
        // SAFETY: the caller's promise.
        unsafe {
            pack_across::<S>(
                self.rows.row(0).add(first * stride + k),
                stride,
                b.depth,
                (columns, width),
                to,
            );
        }
    }
}

/// Packs one panel, `[depth][width]`, of a matrix whose columns are `stride` units apart.
#[inline(always)]
pub(super) unsafe fn pack_across<S: Pairs>(
    from: *const f32,
    stride: usize,
    depth: usize,
    (columns, width): (usize, usize),
    to: *mut f32,
) {
    unsafe {
        // Whole blocks, then what is left of the depth; a panel with padding is left as a whole.
        let whole = if columns == width {
            depth / S::LANES * S::LANES
        } else {
            0
        };
        for k in (0..whole).step_by(S::LANES) {
            for column in (0..columns).step_by(S::LANES) {
                S::transpose(from.add(column * stride + k), stride, to.add(k * width + column), width);
            }
        }
        let matrix = Matrix {
            data: from.add(whole),
            row: 1,
            column: stride,
        };
        matrix.pack_panel(Panels::of::<f32>(columns), 0, 0, depth - whole, to.add(whole * width));
    }
}

/// A matrix whose columns are columns of C: `[depth][tap][column]`, of which each segment takes one tap.
pub(super) struct Down<'a> {
    pub(super) w: &'a [bf16],
    /// Rows of the matrix.
    pub(super) depth: usize,
    pub(super) columns: usize,
    /// Taps in a row of the matrix.
    pub(super) taps: usize,
    /// The taps of the segments.
    pub(super) segments: &'a [usize],
}

impl Right for Down<'_> {
    #[inline(always)]
    unsafe fn pack<S: Pairs>(&self, b: Block, to: *mut f32) {
        let (first, columns, width) = b.panels.place(b.panel);
        let from = self.segments[b.segment] * self.columns + first;
        let stride = self.taps * self.columns;
        let row = |k: usize| &self.w[k * stride + from..][..columns];
        for unit in 0..b.depth {
            // SAFETY: the caller's promise.
            let to = unsafe { std::slice::from_raw_parts_mut(to.add(unit * width).cast::<u32>(), width) };
            let k = 2 * (b.offset + unit);
            let first = row(k);
            to[columns..].fill(0);
            match k + 1 < self.depth {
                true => {
                    for ((to, a), b) in to.iter_mut().zip(first).zip(row(k + 1)) {
                        *to = u32::from(a.to_bits()) | u32::from(b.to_bits()) << 16;
                    }
                }
                false => {
                    for (to, a) in to.iter_mut().zip(first) {
                        *to = u32::from(a.to_bits());
                    }
                }
            }
        }
    }
}

/// C rows from rows of units given by pointers, segment by segment (see [`Left::Rows`]).
pub(super) struct Multiply<'a, R> {
    /// `[segment][row]`.
    pub(super) left: &'a [*const f32],
    pub(super) segments: usize,
    /// Units of a segment.
    pub(super) depth: usize,
    pub(super) right: &'a R,
    pub(super) panels: Panels,
    /// The panels to compute.
    pub(super) range: (usize, usize),
    /// Where each row of C begins (column 0).
    pub(super) c: &'a [*mut f32],
    pub(super) start: Start<f32>,
}

impl<R: Right> PairKernel for Multiply<'_, R> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Pairs>(self) {
        let blocks = self.depth.div_ceil(BLOCK).max(1);
        let group = (BLOCK / self.depth.max(1)).max(1);
        let chunk = self.depth.div_ceil(blocks);
        let mut packed = Scratch::<f32>::new((group * chunk) * 2 * S::LANES);
        let packed = packed.pointer();
        for panel in self.range.0..self.range.1 {
            let (first, columns, width) = self.panels.place(panel);
            let mut begun = false;
            for segment in (0..self.segments.max(1)).step_by(group) {
                let segments = group.min(self.segments - segment);
                for offset in (0..self.depth.max(1)).step_by(chunk.max(1)) {
                    let depth = chunk.min(self.depth - offset);
                    for s in 0..segments {
                        let place = Block {
                            panels: self.panels,
                            panel,
                            segment: segment + s,
                            offset,
                            depth,
                        };
                        unsafe { self.right.pack::<S>(place, packed.add(s * depth * width)) };
                    }
                    let start = match self.start {
                        _ if begun => Start::Add,
                        Start::Bias(bias) => Start::Bias(bias.wrapping_add(first)),
                        other => other,
                    };
                    unsafe { self.rows::<S>(segment, segments, offset, depth, packed, (first, columns, width), start) };
                    begun = true;
                }
            }
        }
    }
}

impl<R: Right> Multiply<'_, R> {
    /// All rows times one block.
    #[allow(clippy::too_many_arguments)] // plain numbers, all of them
    #[inline(always)]
    unsafe fn rows<S: Pairs>(
        &self,
        segment: usize,
        segments: usize,
        offset: usize,
        depth: usize,
        packed: *const f32,
        (first, columns, width): (usize, usize, usize),
        start: Start<f32>,
    ) {
        let rows = self.c.len();
        let panel = super::super::micro::Panel {
            data: packed,
            wide: width > S::LANES,
            columns,
        };
        let mut c = [std::ptr::null_mut(); 16];
        let mut row = 0;
        while row < rows {
            let count = S::ROWS[0].min(rows - row);
            for (to, from) in c.iter_mut().zip(&self.c[row..row + count]) {
                *to = from.wrapping_add(first);
            }
            let left = Left::Rows {
                pointers: &self.left[(segment * rows + row).min(self.left.len())..],
                stride: rows,
                segments,
                offset,
            };
            unsafe { tile::<S, Units2>(count, left, depth, panel, &c[..count], start) };
            row += count;
        }
    }
}

/// Runs `task(first row, rows, panels)` over all of `rows` × `panels` on all threads, in pieces that are worth it; the
/// depth is in units.
pub(super) fn grid(rows: usize, panels: Panels, depth: usize, task: impl Fn(usize, usize, (usize, usize)) + Sync) {
    const TILE: usize = 14;
    let count = panels.count();
    let work = rows * count * depth;
    let wanted = (work / SMALL).clamp(1, 8 * rayon::current_num_threads());
    if wanted == 1 {
        return task(0, rows, (0, count));
    }
    let most = (LEFT / (depth * size_of::<f32>()).max(1)).clamp(ROWS.0, ROWS.1);
    let per_task = rows.div_ceil(rows.div_ceil(most).max(1)).next_multiple_of(TILE);
    let tiles = rows.div_ceil(per_task);
    let groups = wanted.div_ceil(tiles).min(count).max(1);
    let per = count.div_ceil(groups);
    let groups = count.div_ceil(per);
    (0..tiles * groups).into_par_iter().for_each(|i| {
        let (tile, group) = (i / groups, i % groups);
        let first = tile * per_task;
        task(
            first,
            per_task.min(rows - first),
            (group * per, (group * per + per).min(count)),
        );
    });
}
