//! Clipping by the global norm, as `torch.nn.utils.clip_grad_norm_`.

use crate::cpu;
use crate::error::Result;
use crate::gradients::Gradients;
use crate::param::Param;

/// Keeps the quotient finite when all gradients are zero.
const EPS: f64 = 1e-6;

/// The Euclidean norm of the gradients of all parameters together.
pub fn grad_norm(params: &[Param], gradients: &Gradients) -> Result<f64> {
    let mut sum = 0.;
    for param in params {
        if let Some(grad) = gradients.get(param.leaf()) {
            sum += cpu::sum_of_squares(grad)?;
        }
    }
    Ok(sum.sqrt())
}

/// Scales the gradients so that their common norm is at most `max`; returns the norm before.
pub fn clip_grad_norm(params: &[Param], gradients: &mut Gradients, max: f64) -> Result<f64> {
    let norm = grad_norm(params, gradients)?;
    let factor = max / (norm + EPS);
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
    use crate::{Device, Tensor};

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

    #[test]
    fn scales_all_by_one_factor_when_the_norm_is_above_the_limit() {
        let (params, mut g) = gradients(&[&[3., 0.], &[4.]]);
        assert_eq!(clip_grad_norm(&params, &mut g, 1.).unwrap(), 5.);
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
        assert_eq!(clip_grad_norm(&params, &mut g, 10.).unwrap(), 5.);
        assert_eq!(g.get(params[0].leaf()).unwrap().to_vec1::<f64>().unwrap(), [3., 4.]);
        assert!(g.get(params[1].leaf()).is_none());
        assert_eq!(clip_grad_norm(&params, &mut g, f64::INFINITY).unwrap(), 5.);
    }
}
