//! Sinusoids, as which networks are told timesteps and sizes.

use candle_core::{DType, Tensor};

use super::tensor;
use crate::cpu::View;
use crate::cuda::Gpu;
use crate::error::{EngineError, Result};

const OP: &str = "sinusoids";

/// Sines and cosines of f32 `values` `[N]` times each of F frequencies, `[N, 2·F]`; the cosines or the sines come first.
/// Angles are rounded to f32, sines and cosines are then exact to f32. Has no gradient; on a card nothing is read from it.
pub fn sinusoids(values: &Tensor, frequencies: &[f32], cosines_first: bool) -> Result<Tensor> {
    if values.dtype() != DType::F32 {
        return Err(EngineError::DType {
            op: OP,
            dtype: values.dtype(),
            remedy: "cast to f32",
        });
    }
    let values = values.flatten_all()?.contiguous()?;
    if let Some(gpu) = Gpu::of(&values) {
        return gpu.sinusoids(OP, &values, frequencies, cosines_first);
    }
    let values = View::<f32>::of(OP, &values)?;
    let mut rows = Vec::with_capacity(values.len() * 2 * frequencies.len());
    for &value in values.iter() {
        let angles = || frequencies.iter().map(|frequency| f64::from(value * frequency));
        let sines = angles().map(|angle| angle.sin() as f32);
        let cosines = angles().map(|angle| angle.cos() as f32);
        match cosines_first {
            true => rows.extend(cosines.chain(sines)),
            false => rows.extend(sines.chain(cosines)),
        }
    }
    tensor(rows, &[values.len(), 2 * frequencies.len()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Device;

    #[test]
    fn angles_are_rounded_and_sines_are_not() {
        let values = Tensor::new(&[[0f32, 999.], [1e-3, 3.]], &Device::Cpu).unwrap();
        let frequencies = [1f32, 0.01, 0.3];
        for cosines_first in [true, false] {
            let made = || {
                sinusoids(&values, &frequencies, cosines_first)
                    .unwrap()
                    .to_vec2::<f32>()
                    .unwrap()
            };
            let rows = made();
            let (sines, cosines) = if cosines_first { (3, 0) } else { (0, 3) };
            for (value, row) in [0f32, 999., 1e-3, 3.].into_iter().zip(&rows) {
                for (i, frequency) in frequencies.into_iter().enumerate() {
                    let angle = f64::from(value * frequency);
                    assert_eq!(
                        (row[sines + i], row[cosines + i]),
                        (angle.sin() as f32, angle.cos() as f32)
                    );
                }
            }
            #[cfg(target_os = "linux")]
            assert_eq!(crate::cuda::on_host(made), rows);
        }
        assert!(sinusoids(&values.to_dtype(DType::F64).unwrap(), &frequencies, true).is_err());
    }
}
