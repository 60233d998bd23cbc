//! Slices of contiguous tensors, and vectors that are written once.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Deref;

use candle_core::{Device, Storage, StorageRef, Tensor, WithDType};

use super::Real;
use crate::error::{EngineError, Result};

/// The values of a contiguous CPU tensor, in row-major order.
pub(crate) struct View<'a, T> {
    storage: StorageRef<'a>,
    start: usize,
    len: usize,
    element: PhantomData<T>,
}

impl<'a, T: WithDType> View<'a, T> {
    /// The tensor must be contiguous, on the CPU and of type `T`.
    pub(crate) fn of(op: &'static str, tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        match &*storage {
            Storage::Cpu(_) => {}
            _ => {
                return Err(EngineError::Device {
                    op,
                    device: format!("{:?}", tensor.device().location()),
                });
            }
        }
        if tensor.dtype() != T::DTYPE {
            return Err(EngineError::DType {
                op,
                dtype: tensor.dtype(),
                remedy: "all inputs must be of one dtype, f32 or f64",
            });
        }
        let Some((start, end)) = layout.contiguous_offsets() else {
            return Err(EngineError::shape(op, "the tensor is not contiguous"));
        };
        Ok(Self {
            storage,
            start,
            len: end - start,
            element: PhantomData,
        })
    }
}

impl<T: WithDType> Deref for View<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        let Storage::Cpu(storage) = &*self.storage else {
            unreachable!("checked when the view was made")
        };
        let all = storage.as_slice::<T>().expect("checked when the view was made");
        &all[self.start..self.start + self.len]
    }
}

/// A vector under construction, which several threads fill in disjoint parts, every element exactly once.
pub(crate) struct Out<T> {
    values: Vec<MaybeUninit<T>>,
}

impl<T: Real> Out<T> {
    pub(crate) fn new(len: usize) -> Self {
        let mut values = Vec::with_capacity(len);
        // SAFETY: `MaybeUninit` needs no initialisation.
        unsafe { values.set_len(len) };
        Self { values }
    }

    /// All of it, to be filled.
    pub(crate) fn slice(&mut self) -> &mut [MaybeUninit<T>] {
        &mut self.values
    }

    /// Where to write.
    pub(crate) fn pointer(&mut self) -> Pointer<T> {
        Pointer(self.values.as_mut_ptr().cast())
    }

    /// The tensor.
    ///
    /// # Safety
    /// Every element has been written.
    pub(crate) unsafe fn into_tensor(self, dims: &[usize]) -> Result<Tensor> {
        // SAFETY: the caller's promise.
        Ok(Tensor::from_vec(unsafe { self.into_vec() }, dims, &Device::Cpu)?)
    }

    /// The vector.
    ///
    /// # Safety
    /// Every element has been written.
    pub(crate) unsafe fn into_vec(self) -> Vec<T> {
        let mut values = std::mem::ManuallyDrop::new(self.values);
        // SAFETY: same allocation, same layout, all elements initialised by the caller's promise.
        unsafe { Vec::from_raw_parts(values.as_mut_ptr().cast(), values.len(), values.capacity()) }
    }
}

/// A pointer that threads share; they keep to disjoint parts.
#[derive(Clone, Copy)]
pub(crate) struct Pointer<T>(*mut T);

// SAFETY: a plain address; the users' disjointness is their obligation at each dereference.
unsafe impl<T: Send> Send for Pointer<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Pointer<T> {}

impl<T> Pointer<T> {
    pub(crate) fn at_address(address: *mut T) -> Self {
        Self(address)
    }

    /// The address of a slice's first element, to be read from only.
    pub(crate) fn to(slice: &[T]) -> Self {
        Self(slice.as_ptr().cast_mut())
    }

    /// The address of element `index`.
    pub(crate) fn at(self, index: usize) -> *mut T {
        self.0.wrapping_add(index)
    }
}

/// Runs an expression with `$T` bound to the Rust type of a float dtype.
macro_rules! dispatch {
    ($op:expr, $dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            candle_core::DType::F32 => {
                type $T = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $T = f64;
                $body
            }
            dtype => Err($crate::error::EngineError::DType {
                op: $op,
                dtype,
                remedy: "cast to f32 or f64",
            }),
        }
    };
}
pub(crate) use dispatch;
