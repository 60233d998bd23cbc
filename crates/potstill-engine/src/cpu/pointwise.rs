//! Elementwise kernels over tensors of one shape.

use candle_core::Tensor;
use rayon::prelude::*;

use super::{Out, Real, View};
use crate::error::Result;

/// Elements per task: large enough that a task outweighs its scheduling, small enough to stay in the second cache.
pub(crate) const TILE: usize = 16 * 1024;

/// `f` of every element.
pub(crate) fn map<T: Real>(op: &'static str, x: &Tensor, f: impl Fn(T) -> T + Sync) -> Result<Tensor> {
    let x = x.contiguous()?;
    let view = View::<T>::of(op, &x)?;
    let mut out = Out::new(view.len());
    out.slice()
        .par_chunks_mut(TILE)
        .zip(view.par_chunks(TILE))
        .for_each(|(out, x)| {
            for (out, &x) in out.iter_mut().zip(x) {
                out.write(f(x));
            }
        });
    // SAFETY: the chunks cover both slices.
    unsafe { out.into_tensor(x.dims()) }
}

/// `f` of every pair of elements of two tensors of one shape.
pub(crate) fn map2<T: Real>(op: &'static str, a: &Tensor, b: &Tensor, f: impl Fn(T, T) -> T + Sync) -> Result<Tensor> {
    debug_assert_eq!(a.dims(), b.dims());
    let (a, b) = (a.contiguous()?, b.contiguous()?);
    let (va, vb) = (View::<T>::of(op, &a)?, View::<T>::of(op, &b)?);
    let mut out = Out::new(va.len());
    out.slice()
        .par_chunks_mut(TILE)
        .zip(va.par_chunks(TILE).zip(vb.par_chunks(TILE)))
        .for_each(|(out, (a, b))| {
            for (out, (&a, &b)) in out.iter_mut().zip(a.iter().zip(b)) {
                out.write(f(a, b));
            }
        });
    // SAFETY: the chunks cover the slices, which are of one length.
    unsafe { out.into_tensor(a.dims()) }
}
