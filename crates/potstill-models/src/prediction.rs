//! What a model's output means, and conversion between the meanings.
//!
//! With `x_t = a·x0 + s·ε`, `a = √ᾱ` and `s = √(1 − ᾱ)`, every kind of prediction is a combination `p·x0 + q·ε`. A
//! prediction and `x_t` are then two equations for `x0` and `ε`, and any other kind follows. Coefficients are f64, and
//! so is the arithmetic: at the last timestep ε → x0 amplifies errors 14.6 times.

use std::fmt;

use candle_core::{DType, Tensor};
use potstill_engine::{Value, ops};

use crate::error::{ModelError, Result};

/// What a model predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PredictionKind {
    /// The noise ε.
    Epsilon,
    /// The velocity `a·ε − s·x0` of Salimans and Ho (2022).
    V,
    /// The clean latents.
    X0,
    /// The direction `ε − x0` of a straight path (rectified flow).
    Flow,
}

impl PredictionKind {
    /// The kind of a `prediction_type` in diffusers' configurations (`epsilon`, `v_prediction`, `sample`,
    /// `flow_prediction`) or of potstill's own word for it (`v`, `x0`, `flow`).
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "epsilon" => Self::Epsilon,
            "v_prediction" | "v" => Self::V,
            "sample" | "x0" => Self::X0,
            "flow_prediction" | "flow" => Self::Flow,
            _ => return None,
        })
    }

    /// potstill's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Epsilon => "epsilon",
            Self::V => "v",
            Self::X0 => "x0",
            Self::Flow => "flow",
        }
    }

    /// (p, q) of `p·x0 + q·ε`.
    fn combination(self, a: f64, s: f64) -> (f64, f64) {
        match self {
            Self::Epsilon => (0., 1.),
            Self::V => (-s, a),
            Self::X0 => (1., 0.),
            Self::Flow => (-1., 1.),
        }
    }
}

impl fmt::Display for PredictionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// (c_x, c_p) such that the `to` prediction is `c_x·x_t + c_p·prediction`, at the noise level ᾱ.
///
/// # Errors
/// When the prediction says nothing about the wanted kind at this level: ε where ᾱ is 0, x0 where it is 1.
pub fn conversion(from: PredictionKind, to: PredictionKind, alpha_bar: f64) -> Result<(f64, f64)> {
    if !(0. ..=1.).contains(&alpha_bar) {
        return Err(ModelError::input(
            "alpha_bar",
            format!("{alpha_bar} is not between 0 and 1"),
        ));
    }
    combination_of(from, to, alpha_bar.sqrt(), (1. - alpha_bar).sqrt())
}

/// [`conversion`] where `x_t = signal·x0 + noise·ε`.
pub(crate) fn combination_of(from: PredictionKind, to: PredictionKind, signal: f64, noise: f64) -> Result<(f64, f64)> {
    if from == to {
        return Ok((0., 1.));
    }
    let (p, q) = from.combination(signal, noise);
    let (p2, q2) = to.combination(signal, noise);
    let determinant = signal * q - noise * p;
    if determinant == 0. {
        let reason = format!(
            "an {from} prediction of {signal}·x0 + {noise}·ε does not determine {to}; use a v-prediction model"
        );
        return Err(ModelError::input("prediction", reason));
    }
    Ok((
        (p2 * q - q2 * p) / determinant,
        (q2 * signal - p2 * noise) / determinant,
    ))
}

/// A prediction at noisy latents `x_t` as another kind. `alpha_bar` is ᾱ of each sample, or one for all.
///
/// Differentiable in both tensors; the result has the prediction's dtype.
pub fn convert(
    prediction: &Value,
    from: PredictionKind,
    to: PredictionKind,
    x_t: &Value,
    alpha_bar: &[f64],
) -> Result<Value> {
    if from == to {
        return Ok(prediction.clone());
    }
    let coefficients = alpha_bar
        .iter()
        .map(|&a| conversion(from, to, a))
        .collect::<Result<Vec<_>>>()?;
    let (c_x, c_p): (Vec<f64>, Vec<f64>) = coefficients.into_iter().unzip();
    combine(&[(x_t, &c_x), (prediction, &c_p)], prediction.tensor().dtype())
}

/// [`convert`] at one level of any kind of path, where `x_t = signal·x0 + noise·ε` in every sample.
pub fn convert_at(
    prediction: &Value,
    from: PredictionKind,
    to: PredictionKind,
    x_t: &Value,
    (signal, noise): (f64, f64),
) -> Result<Value> {
    if from == to {
        return Ok(prediction.clone());
    }
    let (c_x, c_p) = combination_of(from, to, signal, noise)?;
    combine(&[(x_t, &[c_x]), (prediction, &[c_p])], prediction.tensor().dtype())
}

/// Noisy latents `√ᾱ·x0 + √(1 − ᾱ)·noise`; `alpha_bar` is ᾱ of each sample, or one for all.
pub fn add_noise(x0: &Value, noise: &Value, alpha_bar: &[f64]) -> Result<Value> {
    let a: Vec<f64> = alpha_bar.iter().map(|a| a.sqrt()).collect();
    let s: Vec<f64> = alpha_bar.iter().map(|a| (1. - a).sqrt()).collect();
    combine(&[(x0, &a), (noise, &s)], x0.tensor().dtype())
}

/// Classifier-free guidance: `uncond + scale·(cond − uncond)`.
pub fn guide(cond: &Value, uncond: &Value, scale: f64) -> Result<Value> {
    let delta = ops::sub(cond, uncond)?;
    Ok(ops::add(uncond, &ops::affine(&delta, scale, 0.)?)?)
}

/// Σ coefficients·tensor in f64, one coefficient per sample (or one for all), as `dtype`.
pub(crate) fn combine(terms: &[(&Value, &[f64])], dtype: DType) -> Result<Value> {
    let mut sum: Option<Value> = None;
    for (value, coefficients) in terms {
        let dims = value.dims();
        let batch = dims.first().copied().unwrap_or(1);
        if coefficients.len() != 1 && coefficients.len() != batch {
            let reason = format!("has {} values for a batch of {batch}", coefficients.len());
            return Err(ModelError::input("alpha_bar", reason));
        }
        let mut shape = vec![1; dims.len()];
        if let Some(first) = shape.first_mut() {
            *first = coefficients.len();
        }
        let row = Tensor::from_slice(coefficients, shape, value.tensor().device())?;
        let term = ops::mul(&ops::cast(value, DType::F64)?, &Value::constant(row))?;
        sum = Some(match sum {
            Some(sum) => ops::add(&sum, &term)?,
            None => term,
        });
    }
    let sum = sum.ok_or_else(|| ModelError::input("terms", "are none"))?;
    Ok(ops::cast(&sum, dtype)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use PredictionKind::{Epsilon, Flow, V, X0};

    const LEVELS: [f64; 3] = [0.999149978, 0.27766943, 0.00466009509];

    #[test]
    fn every_kind_recovers_every_other() {
        let (x0, eps) = (0.7, -1.3);
        for level in LEVELS {
            let (a, s) = (level.sqrt(), (1. - level).sqrt());
            let x = a * x0 + s * eps;
            let truth = |kind: PredictionKind| match kind {
                Epsilon => eps,
                X0 => x0,
                V => a * eps - s * x0,
                Flow => eps - x0,
            };
            for from in [Epsilon, V, X0, Flow] {
                for to in [Epsilon, V, X0, Flow] {
                    let (c_x, c_p) = conversion(from, to, level).unwrap();
                    let got = c_x * x + c_p * truth(from);
                    assert!((got - truth(to)).abs() < 1e-12, "{from} to {to} at {level}: {got}");
                }
            }
        }
    }

    #[test]
    fn undetermined_conversions_are_errors() {
        assert!(conversion(Epsilon, X0, 0.).is_err());
        assert!(conversion(X0, Epsilon, 1.).is_err());
        assert!(conversion(V, X0, 0.).is_ok());
        assert!(conversion(V, X0, f64::NAN).is_err());
    }
}
