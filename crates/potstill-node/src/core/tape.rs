//! Modules and the way back through them.

use std::cell::RefCell;
use std::rc::Rc;

use potstill_engine::{Gradients, Value, backward_into};

use super::error::{OpError, Result};

/// Gradients of a module's parameters, summed over the tapes that ran backward since they were last cleared.
pub type Accumulator = Rc<RefCell<Gradients>>;

/// One run of a module with gradients: outputs as the module's graph knows them, and the leaves that stood for inputs.
pub struct Tape {
    name: &'static str,
    outputs: Vec<Value>,
    inputs: Vec<Value>,
    accumulator: Accumulator,
}

impl Tape {
    /// `inputs` are the leaves at which gradients were asked for.
    pub fn new(name: &'static str, outputs: Vec<Value>, inputs: Vec<Value>, accumulator: &Accumulator) -> Self {
        Self {
            name,
            outputs,
            inputs,
            accumulator: Rc::clone(accumulator),
        }
    }

    /// Runs the vector-Jacobian product: adds to the module's gradients and gives those of the inputs.
    pub fn backward(self, gradients: Vec<Value>) -> Result<Vec<Value>> {
        if gradients.len() != self.outputs.len() {
            let what = format!("{} gradients for {} outputs", gradients.len(), self.outputs.len());
            return Err(OpError::bug(what).at(self.name));
        }
        let pairs: Vec<_> = self
            .outputs
            .into_iter()
            .zip(gradients.iter().map(|g| g.tensor().clone()))
            .collect();
        if pairs.iter().all(|(output, _)| !output.tracked()) {
            return Err(OpError::input(
                "ERR_GRADIENT_GRAPH",
                "nothing in this module is trained, and no input's gradient was asked for",
            )
            .at(self.name)
            .remedy("Choose what is trained (setTrainable) before the forward, or run it without grad."));
        }
        let mut accumulator = self.accumulator.borrow_mut();
        backward_into(&pairs, &mut accumulator)?;
        self.inputs
            .iter()
            .map(|input| match accumulator.take(input) {
                Some(gradient) => Ok(Value::constant(gradient)),
                None => Ok(Value::constant(input.tensor().zeros_like()?)),
            })
            .collect()
    }
}

/// An input of a module that runs with gradients: a leaf when its gradient is asked for.
///
/// An input that depends on leaves itself must be asked for, or be detached: nothing is cut silently.
pub fn module_input(name: &str, value: Value, wanted: bool, leaves: &mut Vec<Value>) -> Result<Value> {
    match (wanted, value.tracked()) {
        (true, _) => {
            let leaf = Value::leaf(value.tensor().clone());
            leaves.push(leaf.clone());
            Ok(leaf)
        }
        (false, false) => Ok(value),
        (false, true) => Err(OpError::input(
            "ERR_GRADIENT_GRAPH",
            format!("the input {name} carries gradients that would be lost"),
        )
        .remedy(format!(
            "Ask for its gradient (inputGradients: ['{name}']), or detach() it."
        ))),
    }
}
