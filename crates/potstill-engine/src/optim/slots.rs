//! What the optimizers but AdamW keep of every parameter, and how that becomes a [`State`] and comes back.

use candle_core::{DType, Tensor};

use super::{Optimizer, State};
use crate::error::{EngineError, Result};
use crate::gradients::Gradients;
use crate::param::Param;
use crate::profile::{Pass, span};

/// Prefix of the step counts' names, torch's word.
const STEP: &str = "step.";

/// One parameter with the tensors that are kept of it.
pub struct Slot {
    pub(super) param: Param,
    /// Factor on the learning rate.
    pub(super) rate: f64,
    /// Updates so far.
    pub(super) step: i64,
    /// In the order of the optimizer's names for them.
    pub(super) kept: Vec<Tensor>,
}

/// The slots of an optimizer.
pub(super) struct Slots {
    op: &'static str,
    names: &'static [&'static str],
    pub(super) list: Vec<Slot>,
}

impl Slots {
    /// `names` say what is kept, `start` makes the tensors at the beginning.
    pub(super) fn new(
        op: &'static str,
        names: &'static [&'static str],
        params: Vec<Param>,
        start: impl Fn(&Tensor) -> Result<Vec<Tensor>>,
    ) -> Result<Self> {
        let list = params
            .into_iter()
            .map(|param| {
                Ok(Slot {
                    kept: start(&param.tensor())?,
                    param,
                    rate: 1.,
                    step: 0,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { op, names, list })
    }

    pub(super) fn set_rates(&mut self, rate: &dyn Fn(&str) -> f64) {
        for slot in &mut self.list {
            slot.rate = rate(slot.param.name());
        }
    }

    /// Copies of what is kept (`NAME.PARAMETER`) and the step counts (`step.PARAMETER`, i64).
    pub(super) fn state(&self) -> Result<State> {
        let mut state = State::new();
        for slot in &self.list {
            let name = slot.param.name();
            state.insert(
                format!("{STEP}{name}"),
                Tensor::new(slot.step, slot.param.tensor().device())?,
            );
            for (kept, tensor) in self.names.iter().zip(&slot.kept) {
                state.insert(format!("{kept}.{name}"), tensor.copy()?);
            }
        }
        Ok(state)
    }

    /// Takes over a state of the same parameters, of which `others` tensors are the optimizer's own; nothing changes when
    /// it does not fit.
    pub(super) fn load_state(&mut self, state: &State, others: usize) -> Result<()> {
        let expected = (1 + self.names.len()) * self.list.len() + others;
        if state.len() != expected {
            let detail = format!(
                "the state has {} tensors, these parameters have {expected}",
                state.len()
            );
            return Err(EngineError::state(self.op, detail));
        }
        let loaded = self
            .list
            .iter()
            .map(|slot| self.read(slot, state))
            .collect::<Result<Vec<_>>>()?;
        for (slot, (step, kept)) in self.list.iter_mut().zip(loaded) {
            (slot.step, slot.kept) = (step, kept);
        }
        Ok(())
    }

    fn read(&self, slot: &Slot, state: &State) -> Result<(i64, Vec<Tensor>)> {
        let name = slot.param.name();
        let find = |key: String| {
            let found = state.get(&key);
            found.ok_or_else(|| EngineError::state(self.op, format!("the state lacks `{key}`")))
        };
        let steps = find(format!("{STEP}{name}"))?.to_dtype(DType::I64)?;
        let &[step] = &steps.flatten_all()?.to_vec1::<i64>()?[..] else {
            let detail = format!("the step count of `{name}` is not one number");
            return Err(EngineError::state(self.op, detail));
        };
        let kept = self.names.iter().zip(&slot.kept).map(|(kept, own)| {
            let tensor = find(format!("{kept}.{name}"))?;
            if tensor.dims() == own.dims() && tensor.dtype() == own.dtype() {
                return Ok(tensor.to_device(own.device())?.copy()?);
            }
            let detail = format!(
                "`{kept}` of `{name}` is {:?} {:?}, not {:?} {:?}",
                tensor.dims(),
                tensor.dtype(),
                own.dims(),
                own.dtype()
            );
            Err(EngineError::state(self.op, detail))
        });
        Ok((step, kept.collect::<Result<_>>()?))
    }
}

/// How a parameter changes by its own gradient and what is kept of it, and nothing else.
pub trait Rule {
    /// Updates one parameter; `lr` is without the parameter's own factor.
    ///
    /// # Errors
    /// When the gradient is not like the parameter.
    fn update(&self, slot: &mut Slot, grad: &Tensor, lr: f64) -> Result<()>;
}

/// An optimizer by a rule for each parameter alone.
pub struct ByParameter<R> {
    rule: R,
    slots: Slots,
}

impl<R> ByParameter<R> {
    pub(super) fn of(rule: R, slots: Slots) -> Self {
        Self { rule, slots }
    }
}

impl<R: Rule> Optimizer for ByParameter<R> {
    fn step(&mut self, lr: f64, gradients: &Gradients) -> Result<()> {
        let _span = span(self.slots.op, Pass::Forward, &[]);
        for slot in &mut self.slots.list {
            if let Some(grad) = gradients.get(slot.param.leaf()) {
                self.rule.update(slot, grad, lr)?;
            }
        }
        Ok(())
    }

    fn set_rates(&mut self, rate: &dyn Fn(&str) -> f64) -> Result<()> {
        self.slots.set_rates(rate);
        Ok(())
    }

    fn state(&self) -> Result<State> {
        self.slots.state()
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.slots.load_state(state, 0)
    }
}
