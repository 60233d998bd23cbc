//! Products of matrices: packing the right factor, and running register tiles over blocks of the depth.
//!
//! A right factor is packed once into panels of two vectors' width, `[panel][depth][width]`, and then read front to back
//! by every tile. The left factor is read where it lies.

use rayon::prelude::*;

use super::micro::{Left, Numbers, Panel, Start, tile};
use super::simd::{Kernel, Simd};
use super::{Pointer, Real};

/// Depth that is run before going on to the next panel: a block of a panel and of the left factor's rows fit the second
/// cache together.
pub(crate) const BLOCK: usize = 512;
/// Multiply-adds below which a task is not worth starting.
const SMALL: usize = 128 * 1024;
/// Rows of C per task, a multiple of every instruction set's tile.
const TASK_ROWS: usize = 168;
/// Elements that are packed per task.
const PACK: usize = 32 * 1024;

struct Lanes;
impl<T> Kernel<T> for Lanes {
    type Output = usize;

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) -> usize {
        S::LANES
    }
}

/// How `n` columns are cut into panels.
#[derive(Clone, Copy)]
pub(crate) struct Panels {
    n: usize,
    lanes: usize,
}

impl Panels {
    pub(crate) fn of<T: Real>(n: usize) -> Self {
        Self {
            n,
            lanes: T::run(Lanes),
        }
    }

    /// Number of panels.
    pub(crate) fn count(&self) -> usize {
        self.n.div_ceil(2 * self.lanes)
    }

    /// The panels that hold columns `from` to `to`, as a range; `from` begins a panel.
    pub(crate) fn containing(&self, from: usize, to: usize) -> (usize, usize) {
        (from / (2 * self.lanes), to.div_ceil(2 * self.lanes))
    }

    /// Elements of all panels for a depth.
    pub(crate) fn size(&self, depth: usize) -> usize {
        self.n.next_multiple_of(self.lanes) * depth
    }

    /// First column of a panel, its columns, and its width with the padding.
    pub(crate) fn place(&self, panel: usize) -> (usize, usize, usize) {
        let first = panel * 2 * self.lanes;
        let columns = (self.n - first).min(2 * self.lanes);
        (
            first,
            columns,
            if columns > self.lanes {
                2 * self.lanes
            } else {
                self.lanes
            },
        )
    }

    pub(crate) fn panel<T>(&self, packed: *const T, depth: usize, panel: usize, k: usize) -> Panel<T> {
        let (first, columns, width) = self.place(panel);
        let data = packed.wrapping_add(first * depth + k * width);
        Panel {
            data,
            wide: width > self.lanes,
            columns,
        }
    }
}

/// A strided matrix to be packed: element (k, n) is at `data + k·row + n·column`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<T> {
    pub(crate) data: *const T,
    pub(crate) row: usize,
    pub(crate) column: usize,
}

// SAFETY: plain addresses, which are only read from.
unsafe impl<T: Sync> Send for Matrix<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Matrix<T> {}

impl<T: Real> Matrix<T> {
    /// Packs rows `k .. k + depth` of one panel. One of the strides is 1.
    ///
    /// # Safety
    /// The matrix has these elements; `to` has room for `depth` times the panel's width.
    pub(crate) unsafe fn pack_panel(&self, panels: Panels, panel: usize, k: usize, depth: usize, to: *mut T) {
        let (first, columns, width) = panels.place(panel);
        let from = self.data.wrapping_add(k * self.row + first * self.column);
        unsafe {
            if self.column == 1 {
                for k in 0..depth {
                    copy(from.add(k * self.row), to.add(k * width), columns);
                    for n in columns..width {
                        *to.add(k * width + n) = T::ZERO;
                    }
                }
                return;
            }
            transpose_into(from, self.column, (columns, depth), to, width);
            for k in 0..depth {
                for n in columns..width {
                    *to.add(k * width + n) = T::ZERO;
                }
            }
        }
    }

    /// Packs rows `0 .. depth` of all panels.
    ///
    /// # Safety
    /// As [`Matrix::pack_panel`], for all panels.
    pub(crate) unsafe fn pack(&self, panels: Panels, depth: usize, to: *mut T) {
        for panel in 0..panels.count() {
            unsafe { self.pack_panel(panels, panel, 0, depth, to.add(panels.place(panel).0 * depth)) };
        }
    }

    /// Packs all panels of matrices that lie below one another, each of `depth` rows, on all threads.
    ///
    /// # Safety
    /// As [`Matrix::pack_panel`], for all panels of all matrices.
    pub(crate) unsafe fn pack_parallel(pieces: &[Self], panels: Panels, depth: usize, to: Pointer<T>) {
        let total = pieces.len() * depth;
        let (_, _, width) = panels.place(0);
        let step = (PACK / width).clamp(1, depth.max(1));
        let steps = depth.div_ceil(step);
        let pack = |task: usize| {
            let (panel, piece, k) = (
                task / steps / pieces.len(),
                task / steps % pieces.len(),
                task % steps * step,
            );
            let (first, _, width) = panels.place(panel);
            let to = to.at(first * total + (piece * depth + k) * width);
            // SAFETY: each task writes its own part of the packed panels.
            unsafe { pieces[piece].pack_panel(panels, panel, k, step.min(depth - k), to) };
        };
        let tasks = panels.count() * pieces.len() * steps;
        let together = PACK / (step * width);
        (0..tasks).into_par_iter().with_min_len(together.max(1)).for_each(pack);
    }
}

/// Side of the blocks that are transposed at once.
pub(crate) const STEP: usize = 4;

/// Transposes a block of `STEP` rows, `from_stride` apart, into rows `to_stride` apart.
///
/// # Safety
/// Both addresses have these elements and do not overlap.
#[inline(always)]
pub(crate) unsafe fn transpose<T: Copy>(from: *const T, from_stride: usize, to: *mut T, to_stride: usize) {
    unsafe {
        let rows: [[T; STEP]; STEP] =
            std::array::from_fn(|i| from.add(i * from_stride).cast::<[T; STEP]>().read_unaligned());
        let columns: [[T; STEP]; STEP] = std::array::from_fn(|i| std::array::from_fn(|j| rows[j][i]));
        for (i, column) in columns.into_iter().enumerate() {
            to.add(i * to_stride).cast::<[T; STEP]>().write_unaligned(column);
        }
    }
}

/// Transposes `rows × columns` elements, rows `from_stride` apart, into columns `to_stride` apart.
///
/// # Safety
/// Both addresses have these elements and do not overlap.
#[inline(always)]
pub(crate) unsafe fn transpose_into<T: Copy>(
    from: *const T,
    from_stride: usize,
    (rows, columns): (usize, usize),
    to: *mut T,
    to_stride: usize,
) {
    // Four by four, which the compiler turns into shuffles; the edges one by one.
    let (blocks, steps) = (rows / STEP * STEP, columns / STEP * STEP);
    unsafe {
        for column in (0..steps).step_by(STEP) {
            for row in (0..blocks).step_by(STEP) {
                let (from, to) = (from.add(row * from_stride + column), to.add(column * to_stride + row));
                transpose(from, from_stride, to, to_stride);
            }
        }
        for column in 0..columns {
            let done = if column < steps { blocks } else { 0 };
            for row in done..rows {
                *to.add(column * to_stride + row) = *from.add(row * from_stride + column);
            }
        }
    }
}

/// Copies a few elements; common lengths without a call.
///
/// # Safety
/// Both addresses have `count` elements and do not overlap.
#[inline(always)]
pub(crate) unsafe fn copy<T: Copy>(from: *const T, to: *mut T, count: usize) {
    unsafe {
        match count {
            32 => to
                .cast::<[T; 32]>()
                .write_unaligned(from.cast::<[T; 32]>().read_unaligned()),
            16 => to
                .cast::<[T; 16]>()
                .write_unaligned(from.cast::<[T; 16]>().read_unaligned()),
            8 => to
                .cast::<[T; 8]>()
                .write_unaligned(from.cast::<[T; 8]>().read_unaligned()),
            _ => from.copy_to_nonoverlapping(to, count),
        }
    }
}

/// C rows from left rows given by pointers, segment by segment (see [`Left::Rows`]).
pub(crate) struct ByRows<'a, T> {
    /// `[segment][row]`.
    pub(crate) left: &'a [*const T],
    pub(crate) segments: usize,
    /// Length of a segment.
    pub(crate) depth: usize,
    /// The right factor's packed panels, `segments · depth` deep.
    pub(crate) right: *const T,
    pub(crate) panels: Panels,
    /// The panels to compute.
    pub(crate) range: (usize, usize),
    /// Where each row of C begins (column 0).
    pub(crate) c: &'a [*mut T],
    pub(crate) start: Start<T>,
}

impl<T: Real> Kernel<T> for ByRows<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let rows = self.c.len();
        let total = self.segments * self.depth;
        let group = (BLOCK / self.depth.max(1)).max(1);
        let chunk = if group == 1 { BLOCK } else { self.depth };
        let mut c = [std::ptr::null_mut(); 16];
        let mut segment = 0;
        let mut offset = 0;
        let mut begun = false;
        loop {
            let segments = group.min(self.segments - segment);
            let depth = chunk.min(self.depth - offset);
            for index in self.range.0..self.range.1 {
                let (first, _, _) = self.panels.place(index);
                let panel = self
                    .panels
                    .panel(self.right, total, index, segment * self.depth + offset);
                let start = match self.start {
                    _ if begun => Start::Add,
                    Start::Bias(bias) => Start::Bias(bias.wrapping_add(first)),
                    other => other,
                };
                let mut row = 0;
                while row < rows {
                    let count = S::ROWS[0].min(rows - row);
                    for (to, from) in c.iter_mut().zip(&self.c[row..row + count]) {
                        *to = from.wrapping_add(first);
                    }
                    let pointers = &self.left[(segment * rows + row).min(self.left.len())..];
                    let left = Left::Rows {
                        pointers,
                        stride: rows,
                        segments,
                        offset,
                    };
                    unsafe { tile::<S, Numbers>(count, left, depth, panel, &c[..count], start) };
                    row += count;
                }
            }
            begun = true;
            offset += depth;
            if offset >= self.depth {
                offset = 0;
                segment += segments;
            }
            if segment >= self.segments {
                break;
            }
        }
    }
}

/// C rows from a left factor whose rows lie side by side (see [`Left::Columns`]).
pub(crate) struct ByColumns<T> {
    /// Element (row, k) is at `left + k·stride + row`.
    pub(crate) left: *const T,
    pub(crate) stride: usize,
    pub(crate) rows: usize,
    pub(crate) depth: usize,
    pub(crate) right: *const T,
    pub(crate) panels: Panels,
    pub(crate) range: (usize, usize),
    /// Element (row, column) of C is at `c + row·c_stride + column`.
    pub(crate) c: *mut T,
    pub(crate) c_stride: usize,
    pub(crate) add: bool,
}

impl<T: Real> Kernel<T> for ByColumns<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let mut c = [std::ptr::null_mut(); 16];
        let start = if self.add { Start::Add } else { Start::Zero };
        for index in self.range.0..self.range.1 {
            let (first, _, _) = self.panels.place(index);
            let panel = self.panels.panel(self.right, self.depth, index, 0);
            let mut row = 0;
            while row < self.rows {
                let count = S::ROWS[0].min(self.rows - row);
                for (i, to) in c[..count].iter_mut().enumerate() {
                    *to = self.c.wrapping_add((row + i) * self.c_stride + first);
                }
                let left = Left::Columns {
                    base: self.left.wrapping_add(row),
                    stride: self.stride,
                };
                unsafe { tile::<S, Numbers>(count, left, self.depth, panel, &c[..count], start) };
                row += count;
            }
        }
    }
}

/// Runs `task(first row, rows, panels)` over all of `rows` × `panels` on all threads, in pieces that are worth it.
pub(crate) fn grid(
    rows: usize,
    panels: usize,
    depth: usize,
    width: usize,
    task: impl Fn(usize, usize, (usize, usize)) + Sync,
) {
    let work = rows * panels * width * depth.max(1);
    let wanted = (work / SMALL).clamp(1, 8 * rayon::current_num_threads());
    if wanted == 1 {
        return task(0, rows, (0, panels));
    }
    let tiles = rows.div_ceil(TASK_ROWS);
    // With few rows the panels are shared out too.
    let groups = wanted.div_ceil(tiles).min(panels).max(1);
    let per = panels.div_ceil(groups);
    let groups = panels.div_ceil(per);
    (0..tiles * groups).into_par_iter().for_each(|i| {
        let (tile, group) = (i / groups, i % groups);
        let first = tile * TASK_ROWS;
        task(
            first,
            TASK_ROWS.min(rows - first),
            (group * per, (group * per + per).min(panels)),
        );
    });
}
