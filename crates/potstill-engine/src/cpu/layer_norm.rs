//! Layer normalisation.

use super::simd::{Kernel, Simd, load, store};
use super::storage::Out;
use super::sums::{SUM_ROWS, totals};
use super::tasks::each_task;
use super::{Pointer, Real};

/// Rows normalised over their channels.
struct LayerRows<T> {
    x: *const T,
    y: *mut T,
    rows: usize,
    channels: usize,
    w: *const T,
    b: *const T,
    eps: T,
    /// Mean and reciprocal deviation of each row.
    stats: *mut [f64; 2],
}

impl<T: Real> Kernel<T> for LayerRows<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        unsafe {
            let share = T::of(1. / self.channels as f64);
            for row in 0..self.rows {
                let (x, y) = (self.x.add(row * self.channels), self.y.add(row * self.channels));
                let mut sum = S::splat(T::ZERO);
                for c in (0..self.channels).step_by(S::LANES) {
                    sum = S::add(sum, load::<S>(x.add(c), self.channels - c));
                }
                let mean = S::total(sum) * share;
                let means = S::splat(mean);
                let mut squares = S::splat(T::ZERO);
                for c in (0..self.channels).step_by(S::LANES) {
                    let left = self.channels - c;
                    // Beyond the end the deviation must be zero, not minus the mean.
                    let about = if left >= S::LANES {
                        means
                    } else {
                        partial::<S>(mean, left)
                    };
                    let d = S::sub(load::<S>(x.add(c), left), about);
                    squares = S::fma(d, d, squares);
                }
                let rstd = T::ONE / (S::total(squares) * share + self.eps).sqrt();
                *self.stats.add(row) = [mean.f64(), rstd.f64()];
                let scales = S::splat(rstd);
                for c in (0..self.channels).step_by(S::LANES) {
                    let left = self.channels - c;
                    let h = S::mul(S::sub(load::<S>(x.add(c), left), means), scales);
                    store::<S>(
                        y.add(c),
                        S::fma(h, load::<S>(self.w.add(c), left), load::<S>(self.b.add(c), left)),
                        left,
                    );
                }
            }
        }
    }
}

/// `x` in the first `count` lanes, zeros behind.
#[inline(always)]
unsafe fn partial<S: Simd>(x: S::T, count: usize) -> S::V {
    /// As many as the widest vector has.
    const MOST: usize = 16;
    unsafe { S::load_some([x; MOST].as_ptr(), count) }
}

/// The output, and mean and reciprocal deviation of every row.
pub(crate) fn layer_norm_forward<T: Real>(
    channels: usize,
    eps: f64,
    x: &[T],
    w: &[T],
    b: &[T],
) -> (Vec<T>, Vec<[f64; 2]>) {
    let rows = x.len() / channels;
    let mut out = Out::<T>::new(x.len());
    let mut stats = vec![[0f64; 2]; rows];
    let (y, stats_at) = (out.pointer(), Pointer::at_address(stats.as_mut_ptr()));
    each_task(rows.div_ceil(SUM_ROWS), x.len(), |i| {
        let first = i * SUM_ROWS;
        T::run(LayerRows {
            x: x[first * channels..].as_ptr(),
            y: y.at(first * channels),
            rows: SUM_ROWS.min(rows - first),
            channels,
            w: w.as_ptr(),
            b: b.as_ptr(),
            eps: T::of(eps),
            stats: stats_at.at(first),
        });
    });
    // SAFETY: the tasks cover all rows.
    (unsafe { out.into_vec() }, stats)
}

/// The gradient of rows, and what they add to the gradients of w and b.
struct LayerGrad<T> {
    x: *const T,
    grad: *const T,
    dx: *mut T,
    rows: usize,
    channels: usize,
    w: *const T,
    stats: *const [f64; 2],
    dw: *mut T,
    db: *mut T,
}

impl<T: Real> Kernel<T> for LayerGrad<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        unsafe {
            let share = T::of(1. / self.channels as f64);
            for c in (0..self.channels).step_by(S::LANES) {
                store::<S>(self.dw.add(c), S::splat(T::ZERO), self.channels - c);
                store::<S>(self.db.add(c), S::splat(T::ZERO), self.channels - c);
            }
            for row in 0..self.rows {
                let at = row * self.channels;
                let (x, grad, dx) = (self.x.add(at), self.grad.add(at), self.dx.add(at));
                let [mean, rstd] = (*self.stats.add(row)).map(T::of);
                let (means, scales) = (S::splat(mean), S::splat(rstd));
                let (mut sum, mut product) = (S::splat(T::ZERO), S::splat(T::ZERO));
                for c in (0..self.channels).step_by(S::LANES) {
                    let left = self.channels - c;
                    let h = S::mul(S::sub(load::<S>(x.add(c), left), means), scales);
                    let g = load::<S>(grad.add(c), left);
                    let db = load::<S>(self.db.add(c).cast_const(), left);
                    let dw = load::<S>(self.dw.add(c).cast_const(), left);
                    store::<S>(self.db.add(c), S::add(db, g), left);
                    store::<S>(self.dw.add(c), S::fma(g, h, dw), left);
                    // Zero beyond the end, as w is.
                    let inner = S::mul(g, load::<S>(self.w.add(c), left));
                    sum = S::add(sum, inner);
                    product = S::fma(inner, h, product);
                }
                let (sum, product) = (S::splat(S::total(sum) * share), S::splat(S::total(product) * share));
                for c in (0..self.channels).step_by(S::LANES) {
                    let left = self.channels - c;
                    let h = S::mul(S::sub(load::<S>(x.add(c), left), means), scales);
                    let inner = S::mul(load::<S>(grad.add(c), left), load::<S>(self.w.add(c), left));
                    let d = S::sub(S::sub(inner, sum), S::mul(h, product));
                    store::<S>(dx.add(c), S::mul(d, scales), left);
                }
            }
        }
    }
}

/// The gradients by x, w and b.
pub(crate) fn layer_norm_backward<T: Real>(
    channels: usize,
    x: &[T],
    w: &[T],
    stats: &[[f64; 2]],
    grad: &[T],
) -> (Vec<T>, Vec<T>, Vec<T>) {
    let rows = x.len() / channels;
    let tiles = rows.div_ceil(SUM_ROWS);
    let mut out = Out::<T>::new(x.len());
    let (mut dw, mut db) = (Out::<T>::new(tiles * channels), Out::<T>::new(tiles * channels));
    let (dx, dw_at, db_at) = (out.pointer(), dw.pointer(), db.pointer());
    each_task(tiles, x.len(), |i| {
        let first = i * SUM_ROWS;
        T::run(LayerGrad {
            x: x[first * channels..].as_ptr(),
            grad: grad[first * channels..].as_ptr(),
            dx: dx.at(first * channels),
            rows: SUM_ROWS.min(rows - first),
            channels,
            w: w.as_ptr(),
            stats: stats[first..].as_ptr(),
            dw: dw_at.at(i * channels),
            db: db_at.at(i * channels),
        });
    });
    // SAFETY: the tasks cover all rows and tiles.
    unsafe {
        (
            out.into_vec(),
            totals(channels, &dw.into_vec()),
            totals(channels, &db.into_vec()),
        )
    }
}
