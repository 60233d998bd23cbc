//! Kernels for the CPU, and access to what tensors store there.
//!
//! Results do not depend on the number of threads: work is cut into tiles of fixed sizes, and every sum is taken in a
//! fixed order.

mod activation;
mod attention;
pub(crate) mod bf16;
mod conv;
mod gemm;
mod group_norm;
mod inplace;
mod layer_norm;
mod matmul;
mod micro;
mod pointwise;
mod product;
mod real;
mod rows;
mod scratch;
mod simd;
mod storage;
mod sums;
mod tasks;
mod winograd;

pub(crate) use activation::{Exp, Gelu, Smooth, Swish, geglu, geglu_backward, smooth};
pub(crate) use attention::{AttentionGrad, AttentionShape, attention_backward, attention_forward};
pub(crate) use conv::{ConvShape, conv_backward_data, conv_backward_filter, conv_forward};
pub(crate) use group_norm::{NormShape, group_norm_backward, group_norm_forward};
pub(crate) use inplace::{Update, add_assign, copy_into, move_towards, sum_of_squares, update};
pub(crate) use layer_norm::{layer_norm_backward, layer_norm_forward};
pub(crate) use matmul::{Narrow, linear_backward_input, linear_backward_weight, linear_forward};
pub(crate) use pointwise::{TILE, map, map2};
pub(crate) use real::Real;
pub(crate) use rows::{
    add_rows, concat, gather_rows, scatter_rows, split, transpose_last, upsample, upsample_backward,
};
#[cfg(test)]
pub(crate) use simd::Choice;
pub use simd::{bf16_kernel_class, kernel_class, kernel_classes, use_kernels};
pub(crate) use storage::{Out, Pointer, View, dispatch};
pub(crate) use sums::{block_sums, column_sums};
