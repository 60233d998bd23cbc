//! Group and layer normalisation. Statistics are accumulated in f64.

use rayon::prelude::*;

use super::Real;

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

fn sigmoid(x: f64) -> f64 {
    1. / (1. + (-x).exp())
}

/// The output, and mean and reciprocal deviation of every group.
pub(crate) fn group_norm_forward<T: Real>(s: &NormShape, x: &[T], w: &[T], b: &[T]) -> (Vec<T>, Vec<[f64; 2]>) {
    let per = s.channels / s.groups;
    let mut out = vec![T::ZERO; x.len()];
    let mut stats = vec![[0f64; 2]; s.batch * s.groups];
    let size = s.positions * s.channels;
    out.par_chunks_mut(size)
        .zip(stats.par_chunks_mut(s.groups))
        .zip(x.par_chunks(size))
        .for_each(|((out, stats), x)| {
            for (g, stat) in stats.iter_mut().enumerate() {
                let values = || {
                    x.chunks(s.channels)
                        .flat_map(|p| &p[g * per..(g + 1) * per])
                        .map(|v| v.f64())
                };
                let count = (s.positions * per) as f64;
                let mean = values().sum::<f64>() / count;
                let variance = values().map(|v| (v - mean) * (v - mean)).sum::<f64>() / count;
                *stat = [mean, 1. / (variance + s.eps).sqrt()];
            }
            for (out, x) in out.chunks_mut(s.channels).zip(x.chunks(s.channels)) {
                for c in 0..s.channels {
                    let [mean, rstd] = stats[c / per];
                    let y = (x[c].f64() - mean) * rstd * w[c].f64() + b[c].f64();
                    out[c] = T::of(if s.silu { y * sigmoid(y) } else { y });
                }
            }
        });
    (out, stats)
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
    let per = s.channels / s.groups;
    let size = s.positions * s.channels;
    let count = (s.positions * per) as f64;
    let mut dx = vec![T::ZERO; x.len()];
    let sums: Vec<Vec<[f64; 2]>> = dx
        .par_chunks_mut(size)
        .zip(stats.par_chunks(s.groups))
        .zip(x.par_chunks(size).zip(grad.par_chunks(size)))
        .map(|((dx, stats), (x, grad))| {
            let through = |c: usize, x: f64, g: f64| {
                let [mean, rstd] = stats[c / per];
                let h = (x - mean) * rstd;
                let y = h * w[c].f64() + b[c].f64();
                let g = if s.silu {
                    g * sigmoid(y) * (1. + y * (1. - sigmoid(y)))
                } else {
                    g
                };
                (h, g)
            };
            let mut sums = vec![[0f64; 2]; s.channels];
            for (x, grad) in x.chunks(s.channels).zip(grad.chunks(s.channels)) {
                for c in 0..s.channels {
                    let (h, g) = through(c, x[c].f64(), grad[c].f64());
                    sums[c][0] += g;
                    sums[c][1] += g * h;
                }
            }
            let mut group = vec![[0f64; 2]; s.groups];
            for c in 0..s.channels {
                group[c / per][0] += sums[c][0] * w[c].f64() / count;
                group[c / per][1] += sums[c][1] * w[c].f64() / count;
            }
            for (dx, (x, grad)) in dx
                .chunks_mut(s.channels)
                .zip(x.chunks(s.channels).zip(grad.chunks(s.channels)))
            {
                for c in 0..s.channels {
                    let (h, g) = through(c, x[c].f64(), grad[c].f64());
                    let [m0, m1] = group[c / per];
                    dx[c] = T::of(stats[c / per][1] * (g * w[c].f64() - m0 - h * m1));
                }
            }
            sums
        })
        .collect();
    let total = |i: usize| -> Vec<T> {
        (0..s.channels)
            .map(|c| T::of(sums.iter().map(|image| image[c][i]).sum()))
            .collect()
    };
    (dx, total(1), total(0))
}

/// The output, and mean and reciprocal deviation of every row.
pub(crate) fn layer_norm_forward<T: Real>(
    channels: usize,
    eps: f64,
    x: &[T],
    w: &[T],
    b: &[T],
) -> (Vec<T>, Vec<[f64; 2]>) {
    let s = NormShape {
        batch: x.len() / channels,
        positions: 1,
        channels,
        groups: 1,
        eps,
        silu: false,
    };
    group_norm_forward(&s, x, w, b)
}

/// The gradients by x, w and b.
pub(crate) fn layer_norm_backward<T: Real>(
    channels: usize,
    x: &[T],
    w: &[T],
    stats: &[[f64; 2]],
    grad: &[T],
) -> (Vec<T>, Vec<T>, Vec<T>) {
    let b = vec![T::ZERO; channels];
    let s = NormShape {
        batch: x.len() / channels,
        positions: 1,
        channels,
        groups: 1,
        eps: 0.,
        silu: false,
    };
    group_norm_backward(&s, x, w, &b, stats, grad)
}
