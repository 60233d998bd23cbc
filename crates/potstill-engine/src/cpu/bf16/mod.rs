//! Products of bf16 numbers with f32 sums: linear layers, convolutions and attention whose weights are bf16.
//!
//! Weights are kept in bf16; everything else is f32 and rounded to bf16 where it enters a product. Two numbers that are
//! neighbours along the depth of a product are a unit of 32 bits ([`Pairs`](super::simd::Pairs)), so that the tiles and
//! panels of f32 products serve here too, with units for numbers.

mod attention;
mod attention_backward;
mod conv;
mod matmul;
mod product;
#[cfg(test)]
mod tests;
mod units;
mod winograd;

pub(crate) use attention::attention_forward;
pub(crate) use attention_backward::attention_backward;
pub(crate) use conv::{conv_backward_data, conv_forward};
pub(crate) use matmul::{linear_backward_input, linear_forward};
