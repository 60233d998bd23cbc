//! Inputs: functions of a seed, the same on every machine.

use potstill_engine::{Device, Tensor};
use potstill_noise::TorchGenerator;

use crate::Result;

/// torch's `randn` in f32, as f64 values on the CPU.
pub(crate) fn randn(seed: u64, dims: &[usize]) -> Result<Tensor> {
    Ok(
        Tensor::from_vec(randn_f32(seed, dims.iter().product()), dims, &Device::Cpu)?
            .to_dtype(candle_core::DType::F64)?,
    )
}

/// torch's `randn`, as values.
pub(crate) fn randn_f32(seed: u64, count: usize) -> Vec<f32> {
    let mut values = vec![0f32; count];
    TorchGenerator::new(seed).randn(&mut values);
    values
}
