//! Group normalisation, with SiLU behind it.
//!
//! Statistics of a group come from tiles of positions: mean and squared deviations per channel within a tile, joined in
//! f64 (Chan's formula), so that a large mean costs no accuracy.

use super::Real;
use super::simd::{Kernel, Simd, load, sigmoid, store};
use super::storage::Out;
use super::sums::{SUM_ROWS, totals_f64};
use super::tasks::each_task;

/// Sizes of a group normalisation: `batch` images of `positions` pixels of `channels`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormShape {
    pub(crate) batch: usize,
    pub(crate) positions: usize,
    pub(crate) channels: usize,
    pub(crate) groups: usize,
    pub(crate) eps: f64,
    pub(crate) silu: bool,
}

impl NormShape {
    fn tiles(&self) -> usize {
        self.positions.div_ceil(SUM_ROWS)
    }

    /// Image, first row (over all images) and rows of a tile.
    fn tile(&self, i: usize) -> (usize, usize, usize) {
        let (image, tile) = (i / self.tiles(), i % self.tiles());
        let first = tile * SUM_ROWS;
        (
            image,
            image * self.positions + first,
            SUM_ROWS.min(self.positions - first),
        )
    }
}

/// Mean and sum of squared deviations of every channel of a tile.
struct TileMoments<T> {
    x: *const T,
    rows: usize,
    channels: usize,
    mean: *mut T,
    squares: *mut T,
}

impl<T: Real> Kernel<T> for TileMoments<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        unsafe {
            let share = S::splat(T::of(1. / self.rows as f64));
            for c in (0..self.channels).step_by(S::LANES) {
                let left = self.channels - c;
                let x = self.x.add(c);
                let mut sum = S::splat(T::ZERO);
                for row in 0..self.rows {
                    sum = S::add(sum, load::<S>(x.add(row * self.channels), left));
                }
                let mean = S::mul(sum, share);
                let mut squares = S::splat(T::ZERO);
                for row in 0..self.rows {
                    let d = S::sub(load::<S>(x.add(row * self.channels), left), mean);
                    squares = S::fma(d, d, squares);
                }
                store::<S>(self.mean.add(c), mean, left);
                store::<S>(self.squares.add(c), squares, left);
            }
        }
    }
}

/// `y = (x − mean)·scale + shift` per channel, then SiLU if asked for.
struct Apply<T> {
    x: *const T,
    y: *mut T,
    rows: usize,
    channels: usize,
    mean: *const T,
    scale: *const T,
    shift: *const T,
    silu: bool,
}

impl<T: Real> Kernel<T> for Apply<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        unsafe {
            for c in (0..self.channels).step_by(S::LANES) {
                let left = self.channels - c;
                let mean = load::<S>(self.mean.add(c), left);
                let scale = load::<S>(self.scale.add(c), left);
                let shift = load::<S>(self.shift.add(c), left);
                for row in 0..self.rows {
                    let at = row * self.channels + c;
                    let x = load::<S>(self.x.add(at), left);
                    let mut y = S::fma(S::sub(x, mean), scale, shift);
                    if self.silu {
                        y = S::mul(y, sigmoid::<S>(y));
                    }
                    store::<S>(self.y.add(at), y, left);
                }
            }
        }
    }
}

/// Mean (rounded to T), scale and shift of every channel, so that `(x − mean)·scale + shift` is the normalised value.
fn coefficients<T: Real>(s: &NormShape, stats: &[[f64; 2]], w: &[T], b: &[T]) -> [Vec<T>; 3] {
    let per = s.channels / s.groups;
    let mut out = [(); 3].map(|()| Vec::with_capacity(s.channels));
    for c in 0..s.channels {
        let [mean, rstd] = stats[c / per];
        let rounded = T::of(mean);
        let scale = w[c].f64() * rstd;
        out[0].push(rounded);
        out[1].push(T::of(scale));
        out[2].push(T::of(b[c].f64() - (mean - rounded.f64()) * scale));
    }
    out
}

/// The output, and mean and reciprocal deviation of every group.
pub(crate) fn group_norm_forward<T: Real>(s: &NormShape, x: &[T], w: &[T], b: &[T]) -> (Vec<T>, Vec<[f64; 2]>) {
    let (tiles, channels) = (s.tiles(), s.channels);
    let count = s.batch * tiles;
    let (mut means, mut squares) = (Out::<T>::new(count * channels), Out::<T>::new(count * channels));
    let (mean_at, squares_at) = (means.pointer(), squares.pointer());
    each_task(count, x.len(), |i| {
        let (_, first, rows) = s.tile(i);
        T::run(TileMoments {
            x: x[first * channels..].as_ptr(),
            rows,
            channels,
            mean: mean_at.at(i * channels),
            squares: squares_at.at(i * channels),
        });
    });
    // SAFETY: the tasks cover all tiles.
    let (means, squares) = unsafe { (means.into_vec(), squares.into_vec()) };
    let stats: Vec<[f64; 2]> = (0..s.batch * s.groups)
        .map(|i| group_stats(s, i, &means, &squares))
        .collect();
    let of_images: Vec<[Vec<T>; 3]> = (0..s.batch)
        .map(|i| coefficients(s, &stats[i * s.groups..(i + 1) * s.groups], w, b))
        .collect();
    let mut out = Out::<T>::new(x.len());
    let y = out.pointer();
    each_task(count, x.len(), |i| {
        let (image, first, rows) = s.tile(i);
        let [mean, scale, shift] = &of_images[image];
        T::run(Apply {
            x: x[first * channels..].as_ptr(),
            y: y.at(first * channels),
            rows,
            channels,
            mean: mean.as_ptr(),
            scale: scale.as_ptr(),
            shift: shift.as_ptr(),
            silu: s.silu,
        });
    });
    // SAFETY: the tiles cover the images.
    (unsafe { out.into_vec() }, stats)
}

/// Mean and reciprocal deviation of a group (of all images) from the moments of its tiles.
fn group_stats<T: Real>(s: &NormShape, group: usize, means: &[T], squares: &[T]) -> [f64; 2] {
    let per = s.channels / s.groups;
    let (image, group) = (group / s.groups, group % s.groups);
    let count = (s.positions * per) as f64;
    let parts = || {
        (0..s.tiles()).flat_map(|tile| {
            let rows = SUM_ROWS.min(s.positions - tile * SUM_ROWS) as f64;
            let at = (image * s.tiles() + tile) * s.channels + group * per;
            (at..at + per).map(move |i| (rows, i))
        })
    };
    let mean = parts().map(|(rows, i)| rows * means[i].f64()).sum::<f64>() / count;
    let deviations = parts()
        .map(|(rows, i)| squares[i].f64() + rows * (means[i].f64() - mean).powi(2))
        .sum::<f64>();
    [mean, 1. / (deviations / count + s.eps).sqrt()]
}

/// First pass of the backward: the gradient behind the activation, and per channel its sum and its sum times the
/// deviation from the mean.
struct Reduce<T> {
    x: *const T,
    grad: *const T,
    rows: usize,
    channels: usize,
    mean: *const T,
    scale: *const T,
    shift: *const T,
    silu: bool,
    /// The gradient behind the activation.
    inner: *mut T,
    sum: *mut T,
    product: *mut T,
}

impl<T: Real> Kernel<T> for Reduce<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        unsafe {
            let one = S::splat(T::ONE);
            for c in (0..self.channels).step_by(S::LANES) {
                let left = self.channels - c;
                let mean = load::<S>(self.mean.add(c), left);
                let scale = load::<S>(self.scale.add(c), left);
                let shift = load::<S>(self.shift.add(c), left);
                let (mut sum, mut product) = (S::splat(T::ZERO), S::splat(T::ZERO));
                for row in 0..self.rows {
                    let at = row * self.channels + c;
                    let d = S::sub(load::<S>(self.x.add(at), left), mean);
                    let mut g = load::<S>(self.grad.add(at), left);
                    if self.silu {
                        let y = S::fma(d, scale, shift);
                        let p = sigmoid::<S>(y);
                        g = S::mul(S::mul(g, p), S::fma(y, S::sub(one, p), one));
                    }
                    store::<S>(self.inner.add(at), g, left);
                    sum = S::add(sum, g);
                    product = S::fma(g, d, product);
                }
                store::<S>(self.sum.add(c), sum, left);
                store::<S>(self.product.add(c), product, left);
            }
        }
    }
}

/// Second pass: `dx = inner·a − (x − mean)·d − b` per channel, in place of `inner`.
struct Combine<T> {
    x: *const T,
    inner: *mut T,
    rows: usize,
    channels: usize,
    mean: *const T,
    a: *const T,
    b: *const T,
    d: *const T,
}

impl<T: Real> Kernel<T> for Combine<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        unsafe {
            for c in (0..self.channels).step_by(S::LANES) {
                let left = self.channels - c;
                let mean = load::<S>(self.mean.add(c), left);
                let a = load::<S>(self.a.add(c), left);
                let b = S::sub(S::splat(T::ZERO), load::<S>(self.b.add(c), left));
                let d = S::sub(S::splat(T::ZERO), load::<S>(self.d.add(c), left));
                for row in 0..self.rows {
                    let at = row * self.channels + c;
                    let x = S::sub(load::<S>(self.x.add(at), left), mean);
                    let g = load::<S>(self.inner.add(at).cast_const(), left);
                    store::<S>(self.inner.add(at), S::fma(g, a, S::fma(x, d, b)), left);
                }
            }
        }
    }
}

/// The gradients by x, w and b.
pub(crate) fn group_norm_backward<T: Real>(
    s: &NormShape,
    x: &[T],
    w: &[T],
    b: &[T],
    stats: &[[f64; 2]],
    grad: &[T],
) -> (Vec<T>, Vec<T>, Vec<T>) {
    let (tiles, channels, per) = (s.tiles(), s.channels, s.channels / s.groups);
    let count = s.batch * tiles;
    let of_images: Vec<[Vec<T>; 3]> = (0..s.batch)
        .map(|i| coefficients(s, &stats[i * s.groups..(i + 1) * s.groups], w, b))
        .collect();
    let mut out = Out::<T>::new(x.len());
    let (mut sums, mut products) = (Out::<T>::new(count * channels), Out::<T>::new(count * channels));
    let (dx, sum_at, product_at) = (out.pointer(), sums.pointer(), products.pointer());
    each_task(count, x.len(), |i| {
        let (image, first, rows) = s.tile(i);
        let [mean, scale, shift] = &of_images[image];
        T::run(Reduce {
            x: x[first * channels..].as_ptr(),
            grad: grad[first * channels..].as_ptr(),
            rows,
            channels,
            mean: mean.as_ptr(),
            scale: scale.as_ptr(),
            shift: shift.as_ptr(),
            silu: s.silu,
            inner: dx.at(first * channels),
            sum: sum_at.at(i * channels),
            product: product_at.at(i * channels),
        });
    });
    // SAFETY: the tasks cover all tiles.
    let (sums, products) = unsafe { (sums.into_vec(), products.into_vec()) };
    let (mut dw, mut db) = (vec![0f64; channels], vec![0f64; channels]);
    let mut factors: Vec<[Vec<T>; 3]> = Vec::with_capacity(s.batch);
    let size = (s.positions * per) as f64;
    for image in 0..s.batch {
        let part = image * tiles * channels..(image + 1) * tiles * channels;
        let (sum, product) = (
            totals_f64(channels, &sums[part.clone()]),
            totals_f64(channels, &products[part]),
        );
        let mut of_image = [(); 3].map(|()| Vec::with_capacity(channels));
        for group in 0..s.groups {
            let [mean, rstd] = stats[image * s.groups + group];
            let rest = mean - T::of(mean).f64();
            let range = group * per..(group + 1) * per;
            // Sums of the normalised value's gradient, and of that times the normalised value.
            let (mut first, mut second) = (0., 0.);
            for c in range.clone() {
                let normalised = (product[c] - rest * sum[c]) * rstd;
                db[c] += sum[c];
                dw[c] += normalised;
                first += w[c].f64() * sum[c];
                second += w[c].f64() * normalised;
            }
            let (first, second) = (first / size, second / size);
            for c in range {
                of_image[0].push(T::of(rstd * w[c].f64()));
                of_image[1].push(T::of(rstd * (first - rest * rstd * second)));
                of_image[2].push(T::of(rstd * rstd * second));
            }
        }
        factors.push(of_image);
    }
    each_task(count, x.len(), |i| {
        let (image, first, rows) = s.tile(i);
        let [a, b, d] = &factors[image];
        T::run(Combine {
            x: x[first * channels..].as_ptr(),
            inner: dx.at(first * channels),
            rows,
            channels,
            mean: of_images[image][0].as_ptr(),
            a: a.as_ptr(),
            b: b.as_ptr(),
            d: d.as_ptr(),
        });
    });
    // SAFETY: the tiles cover the images.
    let dx = unsafe { out.into_vec() };
    (
        dx,
        dw.into_iter().map(T::of).collect(),
        db.into_iter().map(T::of).collect(),
    )
}
