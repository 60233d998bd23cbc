//! Exponential moving averages of weights, with the schedule of diffusers' `EMAModel`.

use candle_core::{DType, Device, Tensor};

use super::State;
use crate::cpu;
use crate::error::{EngineError, Result};
use crate::param::Param;
use crate::profile::{Pass, span};

const OP: &str = "ema";
/// Name of the step count in the state; no parameter is called so.
const STEP: &str = "optimization_step";

/// Schedule of an [`Ema`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EmaConfig {
    /// The decay is never above this.
    pub decay: f64,
    /// Nor, once it has started, below this.
    pub min_decay: f64,
    /// Updates before the average starts; until then it copies the weights.
    pub update_after: u64,
    /// `Some((inv_gamma, power))` raises the decay as `1 − (1 + s/inv_gamma)^−power`, else as `(1 + s)/(10 + s)`.
    pub warmup: Option<(f64, f64)>,
}

impl Default for EmaConfig {
    fn default() -> Self {
        Self {
            decay: 0.9999,
            min_decay: 0.,
            update_after: 0,
            warmup: None,
        }
    }
}

impl EmaConfig {
    /// The decay of update number `step`, counted from 1.
    pub fn decay_at(&self, step: u64) -> f64 {
        let since = step.saturating_sub(self.update_after).saturating_sub(1) as f64;
        if since <= 0. {
            return 0.;
        }
        let rising = match self.warmup {
            Some((inv_gamma, power)) => 1. - (1. + since / inv_gamma).powf(-power),
            None => (1. + since) / (10. + since),
        };
        rising.min(self.decay).max(self.min_decay)
    }
}

/// Averages of parameters.
pub struct Ema {
    config: EmaConfig,
    step: u64,
    pairs: Vec<(Param, Tensor)>,
}

impl Ema {
    /// Averages that start as copies of the parameters.
    pub fn new(params: Vec<Param>, config: EmaConfig) -> Result<Self> {
        let pairs = params
            .into_iter()
            .map(|param| {
                let shadow = param.tensor().copy()?;
                Ok((param, shadow))
            })
            .collect::<Result<_>>()?;
        Ok(Self { config, step: 0, pairs })
    }

    /// Moves the averages towards the parameters; to be called after every step of the optimizer.
    pub fn update(&mut self) -> Result<()> {
        let _span = span(OP, Pass::Forward, &[]);
        self.step += 1;
        let fraction = 1. - self.config.decay_at(self.step);
        for (param, shadow) in &self.pairs {
            cpu::move_towards(shadow, &param.tensor(), fraction)?;
        }
        Ok(())
    }

    /// Exchanges averages and parameters: once to evaluate with the averages, once more to go on training.
    pub fn swap(&mut self) -> Result<()> {
        for (param, shadow) in &self.pairs {
            let weights = param.tensor().copy()?;
            param.assign(shadow)?;
            cpu::copy_into(shadow, &weights)?;
        }
        Ok(())
    }

    /// Copies of the averages by the parameters' names, and the count of updates (`optimization_step`, i64).
    pub fn state(&self) -> Result<State> {
        let mut state = State::new();
        state.insert(STEP.to_string(), Tensor::new(self.step as i64, &Device::Cpu)?);
        for (param, shadow) in &self.pairs {
            state.insert(param.name().to_string(), shadow.copy()?);
        }
        Ok(state)
    }

    /// Takes over a state made by [`Ema::state`] for the same parameters; nothing changes when it does not fit.
    pub fn load_state(&mut self, state: &State) -> Result<()> {
        let find = |name: &str| {
            state
                .get(name)
                .ok_or_else(|| EngineError::state(OP, format!("the state lacks `{name}`")))
        };
        if state.len() != self.pairs.len() + 1 {
            let detail = format!(
                "the state has {} tensors for {} parameters",
                state.len(),
                self.pairs.len()
            );
            return Err(EngineError::state(OP, detail));
        }
        let step = find(STEP)?.to_dtype(DType::I64)?.flatten_all()?.to_vec1::<i64>()?;
        let step = match step[..] {
            [step] if step >= 0 => step as u64,
            _ => return Err(EngineError::state(OP, format!("`{STEP}` is not one count"))),
        };
        for (param, shadow) in &self.pairs {
            let found = find(param.name())?;
            if found.dims() != shadow.dims() || found.dtype() != shadow.dtype() {
                let detail = format!("`{}` is {:?}, not {:?}", param.name(), found.dims(), shadow.dims());
                return Err(EngineError::state(OP, detail));
            }
        }
        for (param, shadow) in &self.pairs {
            cpu::copy_into(shadow, find(param.name())?)?;
        }
        self.step = step;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decay_rises_as_in_diffusers() {
        let config = EmaConfig::default();
        for (step, decay) in [
            (1, 0.),
            (2, 0.1818),
            (11, 0.55),
            (101, 0.918),
            (1001, 0.9911),
            (1_000_000, 0.9999),
        ] {
            assert!((config.decay_at(step) - decay).abs() < 1e-3, "{step}");
        }
        let late = EmaConfig {
            update_after: 10,
            ..config
        };
        assert_eq!(late.decay_at(11), 0.);
        assert_eq!(late.decay_at(12), config.decay_at(2));
        let warm = EmaConfig {
            warmup: Some((1., 2. / 3.)),
            ..config
        };
        assert!((warm.decay_at(8) - 0.75).abs() < 1e-12);
    }

    fn param() -> Param {
        Param::new("w", Tensor::new(&[1f32, 2.], &Device::Cpu).unwrap())
    }

    #[test]
    fn averages_swap_and_resume() {
        let p = param();
        let mut ema = Ema::new(vec![p.clone()], EmaConfig::default()).unwrap();
        ema.update().unwrap();
        p.assign(&Tensor::new(&[12f32, 2.], &Device::Cpu).unwrap()).unwrap();
        ema.update().unwrap();
        let average = 1. + (1. - 2. / 11.) * 11.;
        let state = ema.state().unwrap();
        assert!((f64::from(state["w"].to_vec1::<f32>().unwrap()[0]) - average).abs() < 1e-5);

        ema.swap().unwrap();
        assert_eq!(
            p.tensor().to_vec1::<f32>().unwrap(),
            state["w"].to_vec1::<f32>().unwrap()
        );
        ema.swap().unwrap();
        assert_eq!(p.tensor().to_vec1::<f32>().unwrap(), [12., 2.]);

        let mut resumed = Ema::new(vec![p.clone()], EmaConfig::default()).unwrap();
        resumed.load_state(&state).unwrap();
        resumed.update().unwrap();
        ema.update().unwrap();
        let of = |ema: &Ema| ema.state().unwrap()["w"].to_vec1::<f32>().unwrap();
        assert_eq!(of(&resumed), of(&ema));
        assert!(resumed.load_state(&State::new()).is_err());
    }
}
