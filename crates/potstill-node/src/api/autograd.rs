//! Gradients of losses.

use napi_derive::napi;
use potstill_engine::{Tensor, Value, backward};

use crate::core::{Engine, Id, OpError, id, tensors};

#[napi]
impl Engine {
    /// Fills `outs` with the gradients of a scalar at `leaves`. The graph between them is used up.
    #[napi(catch_unwind)]
    pub fn gradients(&self, outs: Vec<f64>, loss: f64, leaves: Vec<f64>) {
        let leaves: Vec<Id> = leaves.into_iter().map(id).collect();
        self.submit_many(&outs, "gradients", move |state| {
            let loss = state.get::<Value>(id(loss))?;
            if loss.tensor().elem_count() != 1 {
                let what = format!("the loss has shape {:?}, must be a scalar", loss.dims());
                return Err(OpError::input("ERR_TENSOR_SHAPE", what).remedy("End it with .mean() or .sum()."));
            }
            let one = Tensor::ones(loss.dims(), loss.tensor().dtype(), loss.tensor().device())?;
            let mut gradients = backward(&[(Value::clone(&loss), one)])?;
            tensors(state, &leaves)?
                .iter()
                .enumerate()
                .map(|(i, leaf)| match gradients.take(leaf) {
                    Some(gradient) => Ok(Value::constant(gradient)),
                    None => Err(
                        OpError::input("ERR_GRADIENT_GRAPH", format!("the loss does not depend on leaf {i}"))
                            .remedy("Leaves are outputs of modules run with grad, and tensors made by leaf()."),
                    ),
                })
                .collect()
        });
    }
}
