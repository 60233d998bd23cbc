//! The conditioning vector: time, and for SDXL pooled text and sizes.

use candle_core::Tensor;
use potstill_engine::ops;
use potstill_engine::{Result, Value};

use crate::nn::{Linear, Scope};

/// Period of the slowest sinusoid.
const MAX_PERIOD: f64 = 10_000.;

/// Sinusoids of f32 `values`, `[values, channels]` (diffusers' `get_timestep_embedding`).
///
/// Frequencies and angles are rounded to f32 where diffusers rounds them, so that large timesteps agree; sines and
/// cosines are then exact to f32.
pub(crate) fn sinusoids(values: &Tensor, channels: usize, flip_sin_to_cos: bool, freq_shift: f64) -> Result<Tensor> {
    let half = channels / 2;
    let frequencies: Vec<f32> = (0..half)
        .map(|i| {
            let exponent = (-MAX_PERIOD.ln()) as f32 * i as f32 / (half as f64 - freq_shift) as f32;
            f64::from(exponent).exp() as f32
        })
        .collect();
    ops::sinusoids(values, &frequencies, flip_sin_to_cos)
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
    use candle_core::Device;

    use super::*;

    #[test]
    fn cosines_come_first_when_flipped() {
        let values = Tensor::new(&[0f32, 999.], &Device::Cpu).unwrap();
        let rows = sinusoids(&values, 4, true, 0.).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(rows[0], [1., 1., 0., 0.]);
        // Frequencies 1 and 0.01.
        assert!((rows[1][0] - 999f32.cos()).abs() < 1e-6 && (rows[1][3] - 9.99f32.sin()).abs() < 1e-6);
        let plain = sinusoids(&values, 4, false, 0.).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(plain[1][..2], rows[1][2..]);
    }
}
