//! AdamW with torch's semantics (`torch/optim/adam.py`, single-tensor form, without amsgrad).

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::{Optimizer, State};
use crate::cpu::{self, Real, TILE, Update};
use crate::cuda::{Buffer, Gpu};
use crate::error::{EngineError, Result};
use crate::gradients::Gradients;
use crate::param::Param;
use crate::profile::{Pass, span};

const OP: &str = "adamw";
/// Prefixes of the state's names, torch's words.
const STEP: &str = "step.";
const FIRST: &str = "exp_avg.";
const SECOND: &str = "exp_avg_sq.";

/// Constants of an [`AdamW`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the averages of the gradient and of its square.
    pub betas: (f64, f64),
    /// Added to the root of the second average after its correction.
    pub eps: f64,
    /// Decoupled decay: weights shrink by `lr · weight_decay` a step.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self {
            betas: (0.9, 0.999),
            eps: 1e-8,
            weight_decay: 1e-2,
        }
    }
}

/// One parameter with its averages, `[2, …shape]`: of the gradient, of its square.
struct Slot {
    param: Param,
    /// Factor on the learning rate.
    rate: f64,
    step: i64,
    averages: Tensor,
}

/// The optimizer. Parameters are updated in place; the learning rate is given with each step.
pub struct AdamW {
    config: AdamWConfig,
    slots: Vec<Slot>,
}

impl AdamW {
    /// An optimizer of these parameters, with all averages zero.
    pub fn new(params: Vec<Param>, config: AdamWConfig) -> Result<Self> {
        let slots = params
            .into_iter()
            .map(|param| {
                let tensor = param.tensor();
                let shape = [&[2], tensor.dims()].concat();
                let averages = Tensor::zeros(shape, tensor.dtype(), tensor.device())?;
                Ok(Slot {
                    param,
                    rate: 1.,
                    step: 0,
                    averages,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { config, slots })
    }

    /// The parameters, in the order in which they were given.
    pub fn params(&self) -> impl ExactSizeIterator<Item = &Param> {
        self.slots.iter().map(|slot| &slot.param)
    }
}

impl Optimizer for AdamW {
    fn step(&mut self, lr: f64, gradients: &Gradients) -> Result<()> {
        let _span = span(OP, Pass::Forward, &[]);
        for slot in &mut self.slots {
            if let Some(grad) = gradients.get(slot.param.leaf()) {
                slot.step += 1;
                let (beta1, beta2) = self.config.betas;
                let average = Average { beta1, beta2 };
                cpu::update(&slot.averages, grad, &average)?;
                let steps = slot.step as f64;
                let lr = lr * slot.rate;
                let apply = Apply {
                    shrink: 1. - lr * self.config.weight_decay,
                    size: lr / (1. - beta1.powf(steps)),
                    root: (1. - beta2.powf(steps)).sqrt(),
                    eps: self.config.eps,
                };
                cpu::update(&slot.param.tensor(), &slot.averages, &apply)?;
            }
        }
        Ok(())
    }

    fn set_rates(&mut self, rate: &dyn Fn(&str) -> f64) -> Result<()> {
        for slot in &mut self.slots {
            slot.rate = rate(slot.param.name());
        }
        Ok(())
    }

    /// Copies of the averages (`exp_avg.NAME`, `exp_avg_sq.NAME`, like the parameter) and step counts (`step.NAME`, i64).
    fn state(&self) -> Result<State> {
        let mut state = State::new();
        for slot in &self.slots {
            let name = slot.param.name();
            let device = slot.averages.device();
            state.insert(format!("{STEP}{name}"), Tensor::new(slot.step, device)?);
            state.insert(format!("{FIRST}{name}"), slot.averages.get(0)?.copy()?);
            state.insert(format!("{SECOND}{name}"), slot.averages.get(1)?.copy()?);
        }
        Ok(state)
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        let expected = 3 * self.slots.len();
        if state.len() != expected {
            let detail = format!(
                "the state has {} tensors, these parameters have {expected}",
                state.len()
            );
            return Err(EngineError::state(OP, detail));
        }
        let loaded = self
            .slots
            .iter()
            .map(|slot| {
                let find = |prefix: &str| {
                    let name = format!("{prefix}{}", slot.param.name());
                    state
                        .get(&name)
                        .ok_or_else(|| EngineError::state(OP, format!("the state lacks `{name}`")))
                };
                let (first, second) = (find(FIRST)?, find(SECOND)?);
                for average in [first, second] {
                    if average.dims() != slot.param.tensor().dims() || average.dtype() != slot.param.dtype() {
                        let name = slot.param.name();
                        let detail = format!(
                            "an average of `{name}` is {:?} {:?}, the parameter {:?} {:?}",
                            average.dims(),
                            average.dtype(),
                            slot.param.tensor().dims(),
                            slot.param.dtype()
                        );
                        return Err(EngineError::state(OP, detail));
                    }
                }
                let step = find(STEP)?.to_dtype(DType::I64)?.flatten_all()?.to_vec1::<i64>()?;
                let &[step] = &step[..] else {
                    let detail = format!("the step count of `{}` is not one number", slot.param.name());
                    return Err(EngineError::state(OP, detail));
                };
                let averages = Tensor::stack(&[first, second], 0)?;
                Ok((step, averages.to_device(slot.averages.device())?))
            })
            .collect::<Result<Vec<_>>>()?;
        for (slot, (step, averages)) in self.slots.iter_mut().zip(loaded) {
            (slot.step, slot.averages) = (step, averages);
        }
        Ok(())
    }
}

/// Moves the averages: the first by torch's `lerp`, the second by `mul` and `addcmul`.
struct Average {
    beta1: f64,
    beta2: f64,
}

impl Update for Average {
    const NAME: &'static str = OP;

    fn run<T: Real>(&self, averages: &mut [T], grad: &[T]) {
        let (first, second) = averages.split_at_mut(grad.len());
        let (weight, near) = (1. - self.beta1, 1. - self.beta1 < 0.5);
        let (weight, back) = (T::of(weight), T::of(1. - weight));
        let (keep, take) = (T::of(self.beta2), T::of(1. - self.beta2));
        let tiles = first
            .par_chunks_mut(TILE)
            .zip(second.par_chunks_mut(TILE))
            .zip(grad.par_chunks(TILE));
        tiles.for_each(|((first, second), grad)| {
            for ((m, v), &g) in first.iter_mut().zip(second).zip(grad) {
                *m = if near {
                    *m + weight * (g - *m)
                } else {
                    g - (g - *m) * back
                };
                *v = *v * keep + take * g * g;
            }
        });
    }

    fn run_on(&self, gpu: &Gpu, averages: Buffer, grad: Buffer) -> Result<()> {
        gpu.adam_average(averages, grad, (self.beta1, self.beta2))
    }
}

/// Moves the weights by the averages.
struct Apply {
    shrink: f64,
    size: f64,
    root: f64,
    eps: f64,
}

impl Update for Apply {
    const NAME: &'static str = OP;

    fn run<T: Real>(&self, weights: &mut [T], averages: &[T]) {
        let (first, second) = averages.split_at(weights.len());
        let (shrink, size) = (T::of(self.shrink), T::of(self.size));
        let (root, eps) = (T::of(self.root), T::of(self.eps));
        let tiles = weights
            .par_chunks_mut(TILE)
            .zip(first.par_chunks(TILE))
            .zip(second.par_chunks(TILE));
        tiles.for_each(|((weights, first), second)| {
            for ((p, &m), &v) in weights.iter_mut().zip(first).zip(second) {
                *p = *p * shrink - size * (m / (v.sqrt() / root + eps));
            }
        });
    }

    fn run_on(&self, gpu: &Gpu, weights: Buffer, averages: Buffer) -> Result<()> {
        gpu.adam_apply(weights, averages, [self.shrink, self.size, self.root, self.eps])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Device;

    /// Gradients of three weights, one row per step.
    const GRADIENTS: [[f64; 3]; 3] = [[0.1, -0.2, 0.0], [0.3, 0.05, -0.4], [-0.2, 0.1, 0.7]];

    fn param(dtype: DType) -> Param {
        let tensor = Tensor::new(&[0.5f64, -1.25, 2.0], &Device::Cpu)
            .unwrap()
            .to_dtype(dtype)
            .unwrap();
        Param::new("w", tensor)
    }

    fn run(optimizer: &mut AdamW, steps: std::ops::Range<usize>) {
        let param = optimizer.params().next().unwrap().clone();
        for grad in &GRADIENTS[steps] {
            let mut gradients = Gradients::default();
            let grad = Tensor::new(grad, &Device::Cpu)
                .unwrap()
                .to_dtype(param.dtype())
                .unwrap();
            gradients.accumulate(param.leaf(), grad).unwrap();
            optimizer.step(0.1, &gradients).unwrap();
        }
    }

    fn values(param: &Param) -> Vec<f64> {
        param.tensor().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
    }

    /// The update written out in scalars, from the definition.
    fn by_hand(betas: (f64, f64)) -> Vec<f64> {
        let mut out = vec![0.5, -1.25, 2.0];
        for (i, p) in out.iter_mut().enumerate() {
            let (mut m, mut v) = (0., 0.);
            for (t, grad) in GRADIENTS.iter().enumerate() {
                let (g, t) = (grad[i], t as i32 + 1);
                m = betas.0 * m + (1. - betas.0) * g;
                v = betas.1 * v + (1. - betas.1) * g * g;
                let (mh, vh) = (m / (1. - betas.0.powi(t)), v / (1. - betas.1.powi(t)));
                *p = *p * (1. - 0.1 * 0.01) - 0.1 * mh / (vh.sqrt() + 1e-8);
            }
        }
        out
    }

    #[test]
    fn follows_the_definition_on_both_sides_of_lerp() {
        for betas in [(0.9, 0.999), (0.3, 0.9)] {
            for (dtype, tolerance) in [(DType::F64, 1e-13), (DType::F32, 1e-6)] {
                let p = param(dtype);
                let config = AdamWConfig {
                    betas,
                    ..Default::default()
                };
                run(&mut AdamW::new(vec![p.clone()], config).unwrap(), 0..3);
                for (found, wanted) in values(&p).iter().zip(by_hand(betas)) {
                    assert!((found - wanted).abs() < tolerance, "{dtype:?}: {found} {wanted}");
                }
            }
        }
    }

    #[test]
    fn state_continues_to_the_bit() {
        let whole = param(DType::F32);
        run(
            &mut AdamW::new(vec![whole.clone()], AdamWConfig::default()).unwrap(),
            0..3,
        );

        let halved = param(DType::F32);
        let mut first = AdamW::new(vec![halved.clone()], AdamWConfig::default()).unwrap();
        run(&mut first, 0..2);
        let state = first.state().unwrap();
        let mut second = AdamW::new(vec![halved.clone()], AdamWConfig::default()).unwrap();
        second.load_state(&state).unwrap();
        run(&mut second, 2..3);
        assert_eq!(values(&halved), values(&whole));
    }

    #[test]
    fn refuses_the_state_of_other_parameters() {
        let mut optimizer = AdamW::new(vec![param(DType::F32)], AdamWConfig::default()).unwrap();
        let other = AdamW::new(vec![param(DType::F64)], AdamWConfig::default()).unwrap();
        let message = optimizer.load_state(&other.state().unwrap()).unwrap_err().to_string();
        assert!(message.contains("`w`"), "{message}");
        assert!(optimizer.load_state(&State::new()).is_err());
    }

    #[test]
    fn skips_parameters_without_gradient() {
        let p = param(DType::F32);
        let mut optimizer = AdamW::new(vec![p.clone()], AdamWConfig::default()).unwrap();
        optimizer.step(0.1, &Gradients::default()).unwrap();
        assert_eq!(values(&p), [0.5, -1.25, 2.0]);
        assert_eq!(optimizer.state().unwrap()["step.w"].to_scalar::<i64>().unwrap(), 0);
    }
}
