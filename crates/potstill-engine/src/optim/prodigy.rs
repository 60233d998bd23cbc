//! Prodigy (Mishchenko and Defazio, 2023) as prodigyopt 1.1 has it, with decoupled decay: AdamW that finds its own step.

use candle_core::{DType, Device, Tensor};

use super::slots::{Slot, Slots};
use super::{Optimizer, State};
use crate::cuda::{Gpu, ProdigySlot};
use crate::error::{EngineError, Result};
use crate::gradients::Gradients;
use crate::param::Param;
use crate::profile::{Pass, span};

const OP: &str = "prodigy";
/// Name of the estimate in a state: d, d_max and the numerator, each as three f32 whose sum is the f64.
const ESTIMATE: &str = "estimate";
const ESTIMATES: usize = 3;
const PARTS: usize = 3;
/// Places of what is kept.
const S: usize = 0;
const START: usize = 1;
const FIRST: usize = 2;
const SECOND: usize = 3;

/// Constants of a [`Prodigy`], with prodigyopt's names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProdigyConfig {
    /// Decays of the averages of the gradient and of its square.
    pub betas: (f64, f64),
    /// Added to the root of the second average, times d.
    pub eps: f64,
    /// Decoupled decay: weights shrink by `d · lr · weight_decay` a step.
    pub weight_decay: f64,
    /// First estimate of the distance.
    pub d0: f64,
    /// Factor on the estimates.
    pub d_coef: f64,
    /// Largest factor from one estimate to the next.
    pub growth_rate: f64,
    /// Corrects the averages for their beginning at zero.
    pub bias_correction: bool,
    /// Leaves the learning rate out of the estimate's denominator: for schedules that begin with a warm-up.
    pub safeguard_warmup: bool,
}

/// The optimizer; its learning rate is a factor on the step that it finds, usually 1.
pub struct Prodigy {
    config: ProdigyConfig,
    slots: Slots,
    estimate: Estimate,
    /// Where the parameters are on a card, the estimate is there, and this is what counts.
    on_card: Option<Tensor>,
}

/// The distance to the solution as far as it is known.
#[derive(Clone, Copy)]
struct Estimate {
    d: f64,
    d_max: f64,
    numerator: f64,
    /// Steps so far.
    k: i64,
}

impl Estimate {
    /// As `Estimate` in `kernels/optimizer.cu`.
    fn to_card(self, config: &ProdigyConfig, device: &Device) -> Result<Tensor> {
        let pace = self.d * correction(config, self.k);
        let words = [self.d, self.d_max, self.numerator, self.k as f64, pace, 0.];
        Ok(Tensor::new(&words, device)?)
    }

    /// Waits for the card.
    fn from_card(words: &Tensor) -> Result<Self> {
        let words = words.to_vec1::<f64>()?;
        Ok(Self {
            d: words[0],
            d_max: words[1],
            numerator: words[2],
            k: words[3] as i64,
        })
    }
}

/// For averages that begin at zero, in the step after `k`.
fn correction(config: &ProdigyConfig, k: i64) -> f64 {
    let (beta1, beta2) = config.betas;
    let step = (k + 1) as f64;
    match config.bias_correction {
        true => (1. - beta2.powf(step)).sqrt() / (1. - beta1.powf(step)),
        false => 1.,
    }
}

impl Prodigy {
    /// An optimizer of these parameters, where they are now.
    pub fn new(params: Vec<Param>, config: ProdigyConfig) -> Result<Self> {
        let names = &["s", "p0", "exp_avg", "exp_avg_sq"];
        let slots = Slots::new(OP, names, params, |tensor| {
            let zeros = || tensor.zeros_like();
            Ok(vec![zeros()?, tensor.copy()?, zeros()?, zeros()?])
        })?;
        Ok(Self {
            config,
            slots,
            estimate: Estimate {
                d: config.d0,
                d_max: config.d0,
                numerator: 0.,
                k: 0,
            },
            on_card: None,
        })
    }

    /// [`Prodigy::step`] on a card, which nobody waits for: the estimate stays where it is used.
    fn step_on(&mut self, gpu: &Gpu, lr: f64, gradients: &Gradients) -> Result<()> {
        // No progress without a learning rate.
        if lr <= 0. {
            return Ok(());
        }
        let config = &self.config;
        let before = match &self.on_card {
            Some(words) => words.clone(),
            None => self.estimate.to_card(config, &gpu.device())?,
        };
        let moving: Vec<_> = (self.slots.list.iter_mut())
            .filter(|slot| slot.rate > 0.)
            .filter_map(|slot| gradients.get(slot.param.leaf()).map(|grad| (slot, grad)))
            .collect();
        let mut sums = Tensor::zeros(2, DType::F64, &gpu.device())?;
        for (slot, grad) in &moving {
            sums = (sums + gpu.prodigy_average(config, lr, &on_card(slot, &slot.param.tensor()), grad, &before)?)?;
        }
        let after = gpu.prodigy_estimate(config, lr, &before, &sums)?;
        for (slot, _) in moving {
            slot.step += 1;
            gpu.prodigy_apply(config, lr, &on_card(slot, &slot.param.tensor()), [&before, &after])?;
        }
        self.on_card = Some(after);
        Ok(())
    }

    /// The estimate now.
    fn estimate(&self) -> Result<Estimate> {
        self.on_card.as_ref().map_or(Ok(self.estimate), Estimate::from_card)
    }
}

fn on_card<'a>(slot: &'a Slot, weights: &'a Tensor) -> ProdigySlot<'a> {
    ProdigySlot {
        weights,
        start: &slot.kept[START],
        s: &slot.kept[S],
        first: &slot.kept[FIRST],
        second: &slot.kept[SECOND],
    }
}

/// In f64 and in the order of the values.
fn dot(a: &Tensor, b: &Tensor) -> Result<f64> {
    let product = (a.to_dtype(DType::F64)? * b.to_dtype(DType::F64)?)?;
    Ok(product.sum_all()?.to_scalar()?)
}

fn absolute_sum(x: &Tensor) -> Result<f64> {
    Ok(x.to_dtype(DType::F64)?.abs()?.sum_all()?.to_scalar()?)
}

impl Optimizer for Prodigy {
    fn step(&mut self, lr: f64, gradients: &Gradients) -> Result<()> {
        let _span = span(OP, Pass::Forward, &[]);
        if let Some(gpu) = self.slots.list.first().and_then(|slot| Gpu::of(&slot.kept[S])) {
            return self.step_on(&gpu, lr, gradients);
        }
        let config = self.config;
        let estimate = &mut self.estimate;
        let (beta1, beta2) = config.betas;
        let beta3 = beta2.sqrt();
        let (d, dlr) = (estimate.d, estimate.d * lr * correction(&config, estimate.k));
        let (mut progress, mut denominator) = (0., 0.);
        for slot in self.slots.list.iter_mut().filter(|slot| slot.rate > 0. && lr > 0.) {
            let Some(grad) = gradients.get(slot.param.leaf()) else {
                continue;
            };
            let moved = (&slot.kept[START] - slot.param.tensor())?;
            progress += d / config.d0 * dlr * dot(grad, &moved)?;
            slot.kept[FIRST] = ((&slot.kept[FIRST] * beta1)? + (grad * (d * (1. - beta1)))?)?;
            slot.kept[SECOND] = ((&slot.kept[SECOND] * beta2)? + (grad.sqr()? * (d * d * (1. - beta2)))?)?;
            let size = if config.safeguard_warmup { d } else { dlr };
            slot.kept[S] = ((&slot.kept[S] * beta3)? + (grad * (d / config.d0 * size))?)?;
            denominator += absolute_sum(&slot.kept[S])?;
        }
        // No progress without a gradient or a learning rate.
        if denominator == 0. {
            return Ok(());
        }
        estimate.numerator = estimate.numerator * beta3 + progress;
        let found = config.d_coef * estimate.numerator / denominator;
        if estimate.d == config.d0 {
            estimate.d = estimate.d.max(found);
        }
        estimate.d_max = estimate.d_max.max(found);
        estimate.d = estimate.d_max.min(estimate.d * config.growth_rate);
        for slot in self.slots.list.iter_mut().filter(|slot| slot.rate > 0.) {
            if gradients.get(slot.param.leaf()).is_none() {
                continue;
            }
            slot.step += 1;
            let root = (slot.kept[SECOND].sqrt()? + estimate.d * config.eps)?;
            let shrunk = (slot.param.tensor() * (1. - config.weight_decay * dlr))?;
            let update = (&slot.kept[FIRST] / root)?;
            slot.param.assign(&(shrunk - (update * dlr)?)?)?;
        }
        estimate.k += 1;
        Ok(())
    }

    fn set_rates(&mut self, rate: &dyn Fn(&str) -> f64) -> Result<()> {
        self.slots.set_rates(rate);
        if self.slots.list.iter().all(|slot| slot.rate == 0. || slot.rate == 1.) {
            return Ok(());
        }
        let detail = "has one step size for all parameters: learning rates by block can be 0 or 1 times the common one";
        Err(EngineError::state(OP, detail))
    }

    fn state(&self) -> Result<State> {
        let mut state = self.slots.state()?;
        let estimate = self.estimate()?;
        let parts: Vec<f32> = [estimate.d, estimate.d_max, estimate.numerator]
            .into_iter()
            .flat_map(split)
            .collect();
        let device = &Device::Cpu;
        state.insert(
            ESTIMATE.to_owned(),
            Tensor::from_vec(parts, (ESTIMATES, PARTS), device)?,
        );
        state.insert("k".to_owned(), Tensor::new(estimate.k, device)?);
        Ok(state)
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        let missing = |name: &str| EngineError::state(OP, format!("the state lacks `{name}`"));
        let parts = state.get(ESTIMATE).ok_or_else(|| missing(ESTIMATE))?;
        let parts = parts.flatten_all()?.to_vec1::<f32>()?;
        let &[d, d_max, numerator] = &parts.chunks(PARTS).map(join).collect::<Vec<_>>()[..] else {
            return Err(EngineError::state(OP, "the estimate is not three numbers"));
        };
        let k = state.get("k").ok_or_else(|| missing("k"))?;
        let k = k.to_dtype(DType::I64)?.flatten_all()?.to_vec1::<i64>()?;
        self.slots.load_state(state, 2)?;
        self.estimate = Estimate {
            d,
            d_max,
            numerator,
            k: k.first().copied().unwrap_or(0),
        };
        self.on_card = None;
        Ok(())
    }
}

/// Files hold f32: three of them have all bits of an f64 of ordinary size.
fn split(value: f64) -> [f32; PARTS] {
    let high = value as f32;
    let middle = (value - f64::from(high)) as f32;
    let low = (value - f64::from(high) - f64::from(middle)) as f32;
    [high, middle, low]
}

fn join(parts: &[f32]) -> f64 {
    parts.iter().map(|part| f64::from(*part)).sum()
}
