//! Updates of a tensor in place, everything else being read.

use candle_core::{CpuStorage, InplaceOp2, Layout, Tensor};
use rayon::prelude::*;

use super::pointwise::TILE;
use super::{Real, View, dispatch};
use crate::cuda::{Buffer, Change, Gpu};
use crate::error::{Result, ensure_shape};

/// A kernel that changes one slice by another.
pub(crate) trait Update {
    const NAME: &'static str;

    fn run<T: Real>(&self, to: &mut [T], from: &[T]);

    /// The same on a card.
    #[cfg_attr(not(any(feature = "cuda", feature = "host", test)), allow(dead_code))]
    fn run_on(&self, gpu: &Gpu, to: Buffer, from: Buffer) -> Result<()>;
}

struct InPlace<'a, U>(&'a U);

impl<U: Update> InplaceOp2 for InPlace<'_, U> {
    fn name(&self) -> &'static str {
        U::NAME
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
            candle_core::bail!("{}: tensors must be contiguous", U::NAME)
        };
        #[cfg(all(any(test, feature = "host"), target_os = "linux"))]
        if let Some(gpu) = Gpu::host() {
            let (to, from) = (Buffer::on_host(to, to_range), Buffer::on_host(from, from_range));
            return self.0.run_on(&gpu, to, from).map_err(candle_core::Error::wrap);
        }
        match (to, from) {
            (CpuStorage::F32(to), CpuStorage::F32(from)) => {
                self.0
                    .run(&mut to[to_range.0..to_range.1], &from[from_range.0..from_range.1]);
            }
            (CpuStorage::F64(to), CpuStorage::F64(from)) => {
                self.0
                    .run(&mut to[to_range.0..to_range.1], &from[from_range.0..from_range.1]);
            }
            _ => candle_core::bail!("{}: both tensors must be f32 or f64", U::NAME),
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        to: &mut candle_core::CudaStorage,
        to_layout: &Layout,
        from: &candle_core::CudaStorage,
        from_layout: &Layout,
    ) -> candle_core::Result<()> {
        use candle_core::backend::BackendStorage;

        let (Some(to_range), Some(from_range)) = (to_layout.contiguous_offsets(), from_layout.contiguous_offsets())
        else {
            candle_core::bail!("{}: tensors must be contiguous", U::NAME)
        };
        if to.dtype() != from.dtype() {
            candle_core::bail!("{}: {:?} into {:?}", U::NAME, from.dtype(), to.dtype())
        }
        let gpu = Gpu::Card(to.device().clone());
        let (to, from) = (
            Buffer::on_card(to, to_range).map_err(candle_core::Error::wrap)?,
            Buffer::on_card(from, from_range).map_err(candle_core::Error::wrap)?,
        );
        self.0.run_on(&gpu, to, from).map_err(candle_core::Error::wrap)
    }
}

/// Changes `to` in place. The two must not share storage; `from` may lie on another device.
pub(crate) fn update<U: Update>(to: &Tensor, from: &Tensor, update: &U) -> Result<()> {
    let from = from.contiguous()?.to_device(to.device())?;
    Ok(to.inplace_op2(&from, &InPlace(update))?)
}

/// An [`Update`] of equal shapes, element by element.
struct Pairs<F>(F);

/// What happens to one pair of elements.
trait Pair: Sync {
    const NAME: &'static str;

    /// The same for cards.
    #[cfg_attr(not(any(feature = "cuda", feature = "host", test)), allow(dead_code))]
    fn change(&self) -> Change;

    fn pair<T: Real>(&self, to: T, from: T) -> T;
}

impl<F: Pair> Update for Pairs<F> {
    const NAME: &'static str = F::NAME;

    fn run<T: Real>(&self, to: &mut [T], from: &[T]) {
        to.par_chunks_mut(TILE)
            .zip(from.par_chunks(TILE))
            .for_each(|(to, from)| {
                for (to, &from) in to.iter_mut().zip(from) {
                    *to = self.0.pair(*to, from);
                }
            });
    }

    fn run_on(&self, gpu: &Gpu, to: Buffer, from: Buffer) -> Result<()> {
        gpu.update(self.0.change(), to, from)
    }
}

fn pairs<P: Pair>(to: &Tensor, from: &Tensor, pair: P) -> Result<()> {
    ensure_shape!(
        to.dims() == from.dims(),
        P::NAME,
        "{:?} into {:?}",
        from.dims(),
        to.dims()
    );
    update(to, from, &Pairs(pair))
}

struct Add;
impl Pair for Add {
    const NAME: &'static str = "add_assign";

    fn change(&self) -> Change {
        Change::Accumulate
    }

    #[inline(always)]
    fn pair<T: Real>(&self, to: T, from: T) -> T {
        to + from
    }
}

/// `to += from`.
pub(crate) fn add_assign(to: &Tensor, from: &Tensor) -> Result<()> {
    pairs(to, from, Add)
}

struct Copy;
impl Pair for Copy {
    const NAME: &'static str = "copy_into";

    fn change(&self) -> Change {
        Change::Copy
    }

    #[inline(always)]
    fn pair<T: Real>(&self, _to: T, from: T) -> T {
        from
    }
}

/// `to = from`.
pub(crate) fn copy_into(to: &Tensor, from: &Tensor) -> Result<()> {
    pairs(to, from, Copy)
}

struct MoveTowards(f64);
impl Pair for MoveTowards {
    const NAME: &'static str = "move_towards";

    fn change(&self) -> Change {
        Change::Move(self.0)
    }

    #[inline(always)]
    fn pair<T: Real>(&self, to: T, from: T) -> T {
        to - T::of(self.0) * (to - from)
    }
}

/// `to −= fraction · (to − from)`.
pub(crate) fn move_towards(to: &Tensor, from: &Tensor, fraction: f64) -> Result<()> {
    pairs(to, from, MoveTowards(fraction))
}

/// The sum of squares, in f64 and in an order that depends on the length alone.
pub(crate) fn sum_of_squares(x: &Tensor) -> Result<f64> {
    const OP: &str = "sum_of_squares";
    let x = x.contiguous()?;
    dispatch!(OP, x.dtype(), T => {
        let x = View::<T>::of(OP, &x)?;
        let squares = |tile: &[T]| -> f64 { tile.iter().map(|v| v.f64() * v.f64()).sum() };
        let parts: Vec<f64> = x.par_chunks(TILE).map(squares).collect();
        Ok(parts.into_iter().sum())
    })
}
