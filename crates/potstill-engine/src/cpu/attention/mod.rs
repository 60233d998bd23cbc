//! Scaled dot-product attention that never writes the matrix of scores.
//!
//! Scores are computed across: a block of keys by a panel of queries, one query to a lane. That is at once the packed
//! right factor that the products with keys and values need, and its sums and maxima run down the lanes. Blocks of keys
//! follow one another with a running maximum and sum (Milakov and Gimelshein, "Online normalizer calculation for
//! softmax", 2018; Dao et al., "FlashAttention", 2022); the backward pass computes the scores again.

mod backward;
mod forward;

pub(crate) use backward::{AttentionGrad, attention_backward};
pub(crate) use forward::attention_forward;

use super::Real;
use super::gemm::{ByRows, Matrix, Panels};
use super::micro::Start;
use super::simd::{Kernel, Simd};

/// Queries of a block: what shares the reading of keys and values.
const QUERIES: usize = 96;
/// Most keys of a block: its scores with a panel of queries stay in the first caches.
const KEYS: usize = 280;
/// Keys of a block are a multiple of this where it can be: the rows of the widest register tile.
const KEY_STEP: usize = 14;
/// Multiply-adds below which heads share a task.
const SMALL: usize = 256 * 1024;
/// The score of a key that a query must not see.
const UNSEEN: f64 = -1e38;

/// Sizes of an attention; heads lie side by side in the last dimension.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionShape {
    pub(crate) batch: usize,
    pub(crate) heads: usize,
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) width: usize,
    pub(crate) scale: f64,
    pub(crate) causal: bool,
}

impl AttentionShape {
    /// Distance between tokens.
    pub(super) fn stride(&self) -> usize {
        self.heads * self.width
    }

    /// Where a head of an image begins among the queries and among the keys.
    pub(super) fn place(&self, image: usize, head: usize) -> (usize, usize) {
        let c = self.stride();
        (
            image * self.queries * c + head * self.width,
            image * self.keys * c + head * self.width,
        )
    }

    /// Floating-point operations of one product of queries and keys.
    pub(super) fn flops(&self) -> usize {
        2 * self.batch * self.heads * self.queries * self.keys * self.width
    }

    /// Keys of every block but the last.
    fn key_block(&self) -> usize {
        let blocks = self.keys.div_ceil(KEYS);
        self.keys
            .div_ceil(blocks)
            .next_multiple_of(KEY_STEP)
            .min(KEYS)
            .min(self.keys)
    }

    /// First key and keys of every block.
    fn key_blocks(&self) -> impl Iterator<Item = (usize, usize)> {
        let (keys, block) = (self.keys, self.key_block());
        (0..keys).step_by(block).map(move |key| (key, block.min(keys - key)))
    }

    /// Pieces of work of `queries` queries each that make a task, where there are `pieces`.
    pub(super) fn together(&self, pieces: usize, queries: usize) -> usize {
        let each = queries * self.keys * self.width;
        (SMALL / each.max(1)).clamp(1, pieces.div_ceil(2).max(1))
    }
}

/// Panels of queries, across: `[panel][channel][lane]`, times a factor.
///
/// # Safety
/// `x` has the panels' rows, `stride` apart, of `width` channels; `to` has room for the panels at that depth.
unsafe fn pack_across<T: Real>(panels: Panels, x: *const T, stride: usize, width: usize, factor: T, to: *mut T) {
    let rows = Matrix {
        data: x,
        row: 1,
        column: stride,
    };
    unsafe {
        rows.pack(panels, width, to);
        scale(to, panels.size(width), factor);
    }
}

unsafe fn scale<T: Real>(x: *mut T, len: usize, factor: T) {
    if factor != T::ONE {
        unsafe { std::slice::from_raw_parts_mut(x, len) }
            .iter_mut()
            .for_each(|x| *x *= factor);
    }
}

/// Products of a block of keys with a panel of queries: `[key][lane]`, all lanes of the panel.
struct Scores<'a, T> {
    /// Rows of the keys, or of the values.
    rows: &'a [*const T],
    depth: usize,
    panel: *const T,
    lanes: usize,
    to: *mut T,
}

impl<T: Real> Scores<'_, T> {
    /// # Safety
    /// All addresses are valid for the given sizes.
    unsafe fn run(self) {
        let mut to = [std::ptr::null_mut(); KEYS];
        let to = &mut to[..self.rows.len()];
        for (key, to) in to.iter_mut().enumerate() {
            *to = self.to.wrapping_add(key * self.lanes);
        }
        T::run(ByRows {
            left: self.rows,
            segments: 1,
            depth: self.depth,
            right: self.panel,
            panels: Panels::of::<T>(self.lanes),
            range: (0, 1),
            c: to,
            start: Start::Zero,
        });
    }
}

/// Overwrites the scores of keys behind their query: lane i is query `query + i`, row j is key `key + j`.
///
/// # Safety
/// There are `keys · lanes` scores.
unsafe fn hide<T: Real>(scores: *mut T, (query, lanes): (usize, usize), (key, keys): (usize, usize)) {
    for j in (0..keys).filter(|j| key + j > query) {
        for lane in 0..(key + j - query).min(lanes) {
            unsafe { *scores.add(j * lanes + lane) = T::of(UNSEEN) };
        }
    }
}

/// Multiplies rows of lanes by one factor for each lane, in place.
struct ScaleLanes<T> {
    x: *mut T,
    rows: usize,
    lanes: usize,
    factors: *const T,
}

impl<T: Real> Kernel<T> for ScaleLanes<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        unsafe {
            for lane in (0..self.lanes).step_by(S::LANES) {
                let factor = S::load(self.factors.add(lane));
                for row in 0..self.rows {
                    let x = self.x.add(row * self.lanes + lane);
                    S::store(x, S::mul(S::load(x.cast_const()), factor));
                }
            }
        }
    }
}
