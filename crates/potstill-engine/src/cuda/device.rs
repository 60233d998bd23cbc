//! The calls of the driver and of cuBLAS.

use std::ffi::{c_int, c_void};

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::{CudaDType, CudaStorage, WrapErr, cudarc};
use candle_core::{CudaDevice, DType};
use cudarc::cublas::result::gemm_ex;
use cudarc::cublas::sys::{cublasComputeType_t, cublasGemmAlgo_t, cublasOperation_t, cudaDataType};
use cudarc::driver::{DevicePtr, LaunchConfig, PushKernelArg};

use super::Arguments;
use super::gemm::{Call, Factor};
use crate::error::{EngineError, Result};

/// Threads of every block, as in `kernels/device.cuh`.
const THREADS: u32 = 256;
/// Arguments of a kernel, at most, of eight bytes each: those of `cuLaunchKernel` end at 4 KiB.
const MOST_ARGUMENTS: usize = 32;

/// The kernels of a file in PTX, which the driver compiles for its card.
fn ptx(file: &str) -> &'static str {
    macro_rules! files {
        ($($file:literal),*) => {
            match file {
                $($file => include_str!(concat!(env!("OUT_DIR"), "/", $file, ".ptx")),)*
                file => unreachable!("there is no file {file} of kernels"),
            }
        };
    }
    files!(
        "attention",
        "attention_64",
        "attention_192",
        "attention_512",
        "conv",
        "elementwise",
        "group_norm",
        "layer_norm",
        "noise",
        "optimizer",
        "reduce",
        "rows"
    )
}

/// Memory for `len` values; not initialised unless zeros are asked for.
pub(super) fn allocate(
    device: &CudaDevice,
    op: &'static str,
    dtype: DType,
    len: usize,
    zeros: bool,
) -> Result<CudaStorage> {
    fn typed<T>(device: &CudaDevice, len: usize, zeros: bool) -> candle_core::Result<CudaStorage>
    where
        T: CudaDType + cudarc::driver::DeviceRepr + cudarc::driver::ValidAsZeroBits,
    {
        // The driver refuses to allocate nothing.
        let len = len.max(1);
        let slice = if zeros {
            device.alloc_zeros::<T>(len)?
        } else {
            // SAFETY: written by kernels before it is read.
            unsafe { device.alloc::<T>(len)? }
        };
        Ok(CudaStorage::wrap_cuda_slice(slice, device.clone()))
    }
    let storage = match dtype {
        DType::F32 => typed::<f32>(device, len, zeros),
        DType::F64 => typed::<f64>(device, len, zeros),
        DType::BF16 => typed::<half::bf16>(device, len, zeros),
        dtype => return super::check_dtype(op, dtype).map(|()| unreachable!("checked by the caller")),
    };
    storage.map_err(|error| EngineError::of_card(op, error))
}

/// Address of the first value.
pub(super) fn address(storage: &CudaStorage) -> Result<u64> {
    fn typed<T: CudaDType>(storage: &CudaStorage) -> Result<u64> {
        let stream = storage.device().cuda_stream();
        // One stream does everything in order, so that nothing is to be waited for.
        Ok(storage.as_cuda_slice::<T>()?.device_ptr(&stream).0)
    }
    match storage.dtype() {
        DType::F32 => typed::<f32>(storage),
        DType::F64 => typed::<f64>(storage),
        DType::BF16 => typed::<half::bf16>(storage),
        DType::U32 => typed::<u32>(storage),
        dtype => Err(EngineError::DType {
            op: "kernel",
            dtype,
            remedy: "cast to f32, bf16 or f64",
        }),
    }
}

/// Queues a kernel.
pub(super) fn launch(
    device: &CudaDevice,
    file: &'static str,
    instance: &str,
    grid: [u32; 3],
    arguments: &Arguments,
) -> Result<()> {
    let function = device
        .get_or_load_custom_func(instance, file, ptx(file))
        .map_err(|error| EngineError::of_card("kernel", error))?;
    // A kernel has one argument, a struct of these words.
    assert!(arguments.words.len() <= MOST_ARGUMENTS);
    let mut words = [0u64; MOST_ARGUMENTS];
    words[..arguments.words.len()].copy_from_slice(&arguments.words);
    let words = Words(words);
    let config = LaunchConfig {
        grid_dim: grid.into(),
        block_dim: (THREADS, 1, 1),
        shared_mem_bytes: 0,
    };
    let mut builder = function.builder();
    builder.arg(&words);
    // SAFETY: the words are the kernel's arguments; the same kernel with the same words runs on the host in tests.
    unsafe { builder.launch(config) }
        .w()
        .map_err(|error| EngineError::of_card("kernel", error))?;
    Ok(())
}

/// A kernel's struct of arguments; the driver copies as many bytes as the kernel takes.
#[repr(C)]
struct Words([u64; MOST_ARGUMENTS]);

// SAFETY: plain words.
unsafe impl cudarc::driver::DeviceRepr for Words {}

/// Queues a product.
pub(super) fn gemm(device: &CudaDevice, dtype: DType, call: &Call) -> Result<()> {
    let size = |n: usize| {
        c_int::try_from(n)
            .map_err(|_| EngineError::shape("gemm", format!("{n} rows or columns are too many for cuBLAS")))
    };
    let operation = |factor: &Factor| {
        if factor.transpose {
            cublasOperation_t::CUBLAS_OP_T
        } else {
            cublasOperation_t::CUBLAS_OP_N
        }
    };
    let double = dtype == DType::F64;
    let (one, beta) = (1f32, call.beta as f32);
    let (one_f64, beta_f64) = (1f64, call.beta);
    let (alpha, beta): (*const c_void, *const c_void) = if double {
        ((&raw const one_f64).cast(), (&raw const beta_f64).cast())
    } else {
        ((&raw const one).cast(), (&raw const beta).cast())
    };
    let compute = if double {
        cublasComputeType_t::CUBLAS_COMPUTE_64F
    } else {
        cublasComputeType_t::CUBLAS_COMPUTE_32F
    };
    let (kind, blas) = (data_type(dtype)?, device.cublas_handle());
    // SAFETY: the matrices lie within tensors and outputs of the caller, which computed sizes and strides from theirs; the
    // constants live until the call returns, and cuBLAS reads constants of the host before it does.
    unsafe {
        gemm_ex(
            *blas.handle(),
            operation(&call.a),
            operation(&call.b),
            size(call.m)?,
            size(call.n)?,
            size(call.k)?,
            alpha,
            call.a.address as *const c_void,
            kind,
            size(call.a.stride)?,
            call.b.address as *const c_void,
            kind,
            size(call.b.stride)?,
            beta,
            call.c as *mut c_void,
            data_type(call.c_dtype)?,
            size(call.c_stride)?,
            compute,
            cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
        )
    }
    .w()
    .map_err(|error| EngineError::of_card("gemm", error))
}

fn data_type(dtype: DType) -> Result<cudaDataType> {
    match dtype {
        DType::F32 => Ok(cudaDataType::CUDA_R_32F),
        DType::F64 => Ok(cudaDataType::CUDA_R_64F),
        DType::BF16 => Ok(cudaDataType::CUDA_R_16BF),
        dtype => Err(EngineError::DType {
            op: "gemm",
            dtype,
            remedy: "cast to f32, bf16 or f64",
        }),
    }
}
