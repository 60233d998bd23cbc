//! Clipping by the global norm, as `torch.nn.utils.clip_grad_norm_`.

use candle_core::{Device, Tensor};

use crate::cpu;
use crate::cuda::Gpu;
use crate::error::Result;
use crate::gradients::Gradients;
use crate::param::Param;
use crate::profile::{Pass, span};

/// Keeps the quotient finite when all gradients are zero.
const EPS: f64 = 1e-6;

/// The Euclidean norm of the gradients of all parameters together: one f64 where the gradients are, on the CPU without any.
/// On a card nothing waits for it until it is read.
pub fn grad_norm(params: &[Param], gradients: &Gradients) -> Result<Tensor> {
    Ok(squares(params, gradients)?.sqrt()?)
}

/// The square of [`grad_norm`].
fn squares(params: &[Param], gradients: &Gradients) -> Result<Tensor> {
    let found = params.iter().filter_map(|param| gradients.get(param.leaf()));
    let mut total: Option<Tensor> = None;
    for gradient in found {
        let squares = match Gpu::of(gradient) {
            Some(gpu) => gpu.sum_of_squares(gradient)?,
            None => Tensor::new(cpu::sum_of_squares(gradient)?, gradient.device())?,
        };
        total = Some(match total {
            Some(total) => (total + squares)?,
            None => squares,
        });
    }
    total.map_or_else(|| Ok(Tensor::new(0f64, &Device::Cpu)?), Ok)
}

/// Scales the gradients so that their common norm is at most `max`; returns the norm before, as [`grad_norm`] does.
pub fn clip_grad_norm(params: &[Param], gradients: &mut Gradients, max: f64) -> Result<Tensor> {
    let _span = span("clip", Pass::Forward, &[]);
    let squares = squares(params, gradients)?;
    if let Some(gpu) = Gpu::of(&squares) {
        // The factor is computed on the card: waiting for the norm would let it run dry in every step.
        for param in params {
            gradients.replace(param.leaf(), |gradient| gpu.clip(gradient, &squares, max, EPS))?;
        }
        return Ok(squares.sqrt()?);
    }
    let norm = squares.sqrt()?;
    let factor = max / (norm.to_scalar::<f64>()? + EPS);
    // A norm that is not finite makes a factor of zero or NaN: as in torch, the gradients then show it.
    if factor < 1. || factor.is_nan() {
        for param in params {
            gradients.scale(param.leaf(), factor)?;
        }
    }
    Ok(norm)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradients(values: &[&[f64]]) -> (Vec<Param>, Gradients) {
        let mut gradients = Gradients::default();
        let params = values
            .iter()
            .map(|v| {
                let grad = Tensor::from_slice(v, v.len(), &Device::Cpu).unwrap();
                let param = Param::new("p", grad.zeros_like().unwrap());
                gradients.accumulate(param.leaf(), grad).unwrap();
                param
            })
            .collect();
        (params, gradients)
    }

    fn clipped(params: &[Param], gradients: &mut Gradients, max: f64) -> f64 {
        clip_grad_norm(params, gradients, max).unwrap().to_scalar().unwrap()
    }

    #[test]
    fn scales_all_by_one_factor_when_the_norm_is_above_the_limit() {
        let (params, mut g) = gradients(&[&[3., 0.], &[4.]]);
        assert_eq!(clipped(&params, &mut g, 1.), 5.);
        let factor = 1. / (5. + 1e-6);
        assert_eq!(
            g.get(params[0].leaf()).unwrap().to_vec1::<f64>().unwrap(),
            [3. * factor, 0.]
        );
        assert_eq!(
            g.get(params[1].leaf()).unwrap().to_vec1::<f64>().unwrap(),
            [4. * factor]
        );
    }

    #[test]
    fn leaves_small_and_missing_gradients_alone() {
        let (mut params, mut g) = gradients(&[&[3., 4.]]);
        params.push(Param::new(
            "unused",
            Tensor::zeros(2, candle_core::DType::F64, &Device::Cpu).unwrap(),
        ));
        assert_eq!(clipped(&params, &mut g, 10.), 5.);
        assert_eq!(g.get(params[0].leaf()).unwrap().to_vec1::<f64>().unwrap(), [3., 4.]);
        assert!(g.get(params[1].leaf()).is_none());
        assert_eq!(clipped(&params, &mut g, f64::INFINITY), 5.);
    }
}
