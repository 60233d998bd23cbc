//! Elementwise kernels over tensors of one shape.

use candle_core::{CpuStorage, InplaceOp2, Layout, Tensor};
use rayon::prelude::*;

use super::{Out, Real, View, dispatch};
use crate::error::{EngineError, Result};

/// Elements per task: large enough that a task outweighs its scheduling, small enough to stay in the second cache.
const TILE: usize = 16 * 1024;

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

/// The sum of two tensors of one shape, in a storage of its own.
pub(crate) fn sum_of(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    dispatch!("add", a.dtype(), T => map2::<T>("add", a, b, |a, b| a + b))
}

/// What an in-place operation does to each pair of elements.
struct Update {
    name: &'static str,
    add: bool,
}

impl Update {
    fn run<T: Real>(&self, to: &mut [T], from: &[T]) {
        let add = self.add;
        to.par_chunks_mut(TILE)
            .zip(from.par_chunks(TILE))
            .for_each(|(to, from)| {
                if add {
                    for (to, &from) in to.iter_mut().zip(from) {
                        *to += from;
                    }
                } else {
                    to.copy_from_slice(from);
                }
            });
    }
}

impl InplaceOp2 for Update {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        to: &mut CpuStorage,
        to_layout: &Layout,
        from: &CpuStorage,
        from_layout: &Layout,
    ) -> candle_core::Result<()> {
        let (Some(to_range), Some(from_range)) = (to_layout.contiguous_offsets(), from_layout.contiguous_offsets())
        else {
            candle_core::bail!("{}: tensors must be contiguous", self.name)
        };
        match (to, from) {
            (CpuStorage::F32(to), CpuStorage::F32(from)) => {
                self.run(&mut to[to_range.0..to_range.1], &from[from_range.0..from_range.1]);
            }
            (CpuStorage::F64(to), CpuStorage::F64(from)) => {
                self.run(&mut to[to_range.0..to_range.1], &from[from_range.0..from_range.1]);
            }
            _ => candle_core::bail!("{}: both tensors must be f32 or f64", self.name),
        }
        Ok(())
    }
}

fn update(update: Update, to: &Tensor, from: &Tensor) -> Result<()> {
    if to.dims() != from.dims() {
        return Err(EngineError::shape(
            update.name,
            format!("{:?} into {:?}", from.dims(), to.dims()),
        ));
    }
    Ok(to.inplace_op2(&from.contiguous()?, &update)?)
}

/// Adds to a tensor in place.
pub(crate) fn add_assign(to: &Tensor, from: &Tensor) -> Result<()> {
    update(
        Update {
            name: "add_assign",
            add: true,
        },
        to,
        from,
    )
}

/// Overwrites a tensor in place.
pub(crate) fn copy_into(to: &Tensor, from: &Tensor) -> Result<()> {
    update(
        Update {
            name: "copy_into",
            add: false,
        },
        to,
        from,
    )
}
