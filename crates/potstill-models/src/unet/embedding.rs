//! The conditioning vector: time, and for SDXL pooled text and sizes.

use candle_core::{Device, Tensor};
use potstill_engine::ops;
use potstill_engine::{Result, Value};

use crate::nn::{Linear, Scope};

/// Period of the slowest sinusoid.
const MAX_PERIOD: f64 = 10_000.;

/// Sinusoids of `values`, `[values.len(), channels]` (diffusers' `get_timestep_embedding`).
///
/// Frequencies and angles are rounded to f32 where diffusers rounds them, so that large timesteps agree; sines and
/// cosines are then exact to f32.
pub(crate) fn sinusoids(
    values: &[f32],
    channels: usize,
    flip_sin_to_cos: bool,
    freq_shift: f64,
    device: &Device,
) -> Result<Tensor> {
    let half = channels / 2;
    let frequencies: Vec<f32> = (0..half)
        .map(|i| {
            let exponent = (-MAX_PERIOD.ln()) as f32 * i as f32 / (half as f64 - freq_shift) as f32;
            f64::from(exponent).exp() as f32
        })
        .collect();
    let mut rows = Vec::with_capacity(values.len() * channels);
    for &value in values {
        let angles = || frequencies.iter().map(|f| f64::from(value * f));
        let sines = angles().map(|a| a.sin() as f32);
        let cosines = angles().map(|a| a.cos() as f32);
        match flip_sin_to_cos {
            true => rows.extend(cosines.chain(sines)),
            false => rows.extend(sines.chain(cosines)),
        }
    }
    Ok(Tensor::from_vec(rows, (values.len(), channels), device)?)
}

/// Two linear layers with SiLU between them.
pub(crate) struct TimestepEmbedding {
    linear_1: Linear,
    linear_2: Linear,
}

impl TimestepEmbedding {
    pub(crate) fn new(scope: &Scope, inputs: usize, outputs: usize) -> Self {
        Self {
            linear_1: Linear::new(&scope.enter("linear_1"), inputs, outputs),
            linear_2: Linear::new(&scope.enter("linear_2"), outputs, outputs),
        }
    }

    pub(crate) fn forward(&self, x: &Value) -> Result<Value> {
        self.linear_2.forward(&ops::silu(&self.linear_1.forward(x)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_come_first_when_flipped() {
        let rows = sinusoids(&[0., 999.], 4, true, 0., &Device::Cpu)
            .unwrap()
            .to_vec2::<f32>()
            .unwrap();
        assert_eq!(rows[0], [1., 1., 0., 0.]);
        // Frequencies 1 and 0.01.
        assert!((rows[1][0] - 999f32.cos()).abs() < 1e-6 && (rows[1][3] - 9.99f32.sin()).abs() < 1e-6);
        let plain = sinusoids(&[999.], 4, false, 0., &Device::Cpu)
            .unwrap()
            .to_vec2::<f32>()
            .unwrap();
        assert_eq!(plain[0][..2], rows[1][2..]);
    }
}
