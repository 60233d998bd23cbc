//! Lion (Chen et al., 2023): the sign of a moving average of gradients.

use candle_core::Tensor;

use super::slots::{ByParameter, Rule, Slot, Slots};
use crate::cuda::Gpu;
use crate::error::Result;
use crate::param::Param;

/// Constants of a [`Lion`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LionConfig {
    /// Share of the average in the update, and decay of the average.
    pub betas: (f64, f64),
    /// Decoupled decay: weights shrink by `lr · weight_decay` a step.
    pub weight_decay: f64,
}

/// u = sign(β₁·m + (1 − β₁)·g); p ← p·(1 − lr·wd) − lr·u; m ← β₂·m + (1 − β₂)·g.
pub type Lion = ByParameter<LionConfig>;

impl Lion {
    /// An optimizer of these parameters, with all averages zero.
    pub fn new(params: Vec<Param>, config: LionConfig) -> Result<Self> {
        let slots = Slots::new("lion", &["exp_avg"], params, |tensor| Ok(vec![tensor.zeros_like()?]))?;
        Ok(Self::of(config, slots))
    }
}

impl Rule for LionConfig {
    fn update(&self, slot: &mut Slot, grad: &Tensor, lr: f64) -> Result<()> {
        let (beta1, beta2) = self.betas;
        slot.step += 1;
        let lr = lr * slot.rate;
        let average = &slot.kept[0];
        if let Some(gpu) = Gpu::of(average) {
            return gpu.lion(self, lr, [&slot.param.tensor(), average, grad]);
        }
        let direction = ((average * beta1)? + (grad * (1. - beta1))?)?.sign()?;
        let shrunk = (slot.param.tensor() * (1. - lr * self.weight_decay))?;
        slot.param.assign(&(shrunk - (direction * lr)?)?)?;
        slot.kept[0] = ((average * beta2)? + (grad * (1. - beta2))?)?;
        Ok(())
    }
}
