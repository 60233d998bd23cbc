//! The backward pass and what it leaves behind.

use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use candle_core::Tensor;

use crate::cpu;
use crate::error::{EngineError, Result, ensure_shape};
use crate::ops::sum_of;
use crate::profile::{Pass, span};
use crate::value::{Node, NodeId, Role, Value};

/// A gradient, and whether its storage is this store's own and may be added to in place.
#[derive(Debug)]
struct Entry {
    tensor: Tensor,
    owned: bool,
}

/// Gradients by leaf.
///
/// A later accumulation may add in place: a tensor that [`get`](Gradients::get) returned is valid until then.
#[derive(Debug, Default)]
pub struct Gradients {
    entries: HashMap<NodeId, Entry>,
}

impl Gradients {
    /// The gradient of a leaf; `None` when it took no part.
    pub fn get(&self, value: &Value) -> Option<&Tensor> {
        self.entries.get(&value.id()?).map(|entry| &entry.tensor)
    }

    /// Removes and returns the gradient of a leaf.
    pub fn take(&mut self, value: &Value) -> Option<Tensor> {
        self.take_id(value.id()?)
    }

    /// Number of gradients held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when nothing is held.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds `grad` to the gradient of a leaf.
    pub fn accumulate(&mut self, value: &Value, grad: Tensor) -> Result<()> {
        let Some(id) = value.id() else {
            return Err(EngineError::graph("accumulate", "the value needs no gradient"));
        };
        ensure_shape!(
            grad.dims() == value.dims(),
            "accumulate",
            "gradient {:?} for a value {:?}",
            grad.dims(),
            value.dims()
        );
        self.add(id, grad).map(|_| ())
    }

    /// Replaces the gradient of a leaf by a function of it, when it has one.
    pub(crate) fn replace(&mut self, value: &Value, f: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<()> {
        if let Some(entry) = value.id().and_then(|id| self.entries.get_mut(&id)) {
            *entry = Entry {
                tensor: f(&entry.tensor)?,
                owned: true,
            };
        }
        Ok(())
    }

    /// Multiplies the gradient of a leaf, when it has one.
    pub fn scale(&mut self, value: &Value, factor: f64) -> Result<()> {
        self.replace(value, |gradient| Ok(gradient.affine(factor, 0.)?))
    }

    fn take_id(&mut self, id: NodeId) -> Option<Tensor> {
        self.entries.remove(&id).map(|entry| entry.tensor)
    }

    /// True when this is the first gradient of `id`.
    fn add(&mut self, id: NodeId, grad: Tensor) -> Result<bool> {
        match self.entries.get_mut(&id) {
            None => {
                // The storage may be shared with another gradient, or with the caller.
                self.entries.insert(
                    id,
                    Entry {
                        tensor: grad,
                        owned: false,
                    },
                );
                Ok(true)
            }
            Some(entry) if entry.owned => {
                cpu::add_assign(&entry.tensor, &grad)?;
                Ok(false)
            }
            Some(entry) => {
                *entry = Entry {
                    tensor: sum_of(&entry.tensor, &grad)?,
                    owned: true,
                };
                Ok(false)
            }
        }
    }
}

/// Orders the walk: newest first.
struct Pending(Arc<Node>);

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}
impl Eq for Pending {}
impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Pending {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.id.cmp(&other.0.id)
    }
}

/// Gradients of all leaves that the outputs depend on, from pairs of an output and the gradient of the loss by it.
///
/// What the graph had saved is freed; a second walk over it is an error.
pub fn backward(outputs: &[(Value, Tensor)]) -> Result<Gradients> {
    let mut gradients = Gradients::default();
    backward_into(outputs, &mut gradients)?;
    Ok(gradients)
}

/// [`backward`], adding to gradients that exist already.
pub fn backward_into(outputs: &[(Value, Tensor)], gradients: &mut Gradients) -> Result<()> {
    walk(outputs, None, gradients)
}

/// The backward pass of a recomputed segment: all its operations are newer than `floor`.
pub(crate) fn backward_segment(outputs: &[(Value, Tensor)], floor: NodeId, gradients: &mut Gradients) -> Result<()> {
    walk(outputs, Some(floor), gradients)
}

fn walk(outputs: &[(Value, Tensor)], floor: Option<NodeId>, gradients: &mut Gradients) -> Result<()> {
    let mut heap = BinaryHeap::new();
    for (output, grad) in outputs {
        ensure_shape!(
            output.dims() == grad.dims() && output.tensor().dtype() == grad.dtype(),
            "backward",
            "gradient {:?} {:?} for an output {:?} {:?}",
            grad.dims(),
            grad.dtype(),
            output.dims(),
            output.tensor().dtype()
        );
        if let Some(node) = output.node()
            && gradients.add(node.id, grad.clone())?
        {
            heap.push(Pending(node.clone()));
        }
    }
    while let Some(Pending(node)) = heap.pop() {
        let Role::Operation(vjp) = &node.role else { continue };
        if floor.is_some_and(|floor| node.id < floor) {
            return Err(EngineError::graph(
                "checkpoint",
                format!(
                    "the segment captured the tracked result of `{}`; pass it as an input",
                    node.name
                ),
            ));
        }
        let vjp = vjp.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        let Some(vjp) = vjp else {
            return Err(EngineError::graph(
                node.name,
                "backward ran through this operation before; run it forward again",
            ));
        };
        let Some(grad) = gradients.take_id(node.id) else {
            continue;
        };
        let inputs = {
            let _span = span(vjp.name(), Pass::Backward, grad.dims());
            vjp.backward(grad, gradients)?
        };
        let _span = span("accumulate", Pass::Backward, &[]);
        debug_assert_eq!(inputs.len(), node.parents.len(), "{}", node.name);
        for (parent, grad) in node.parents.iter().zip(inputs) {
            if let (Some(parent), Some(grad)) = (parent, grad)
                && gradients.add(parent.id, grad)?
            {
                heap.push(Pending(parent.clone()));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random, values};
    use crate::{Param, checkpoint, no_grad, ops};

    fn ones(value: &Value) -> Tensor {
        value.tensor().ones_like().unwrap()
    }

    #[test]
    fn frozen_parameters_and_constants_record_nothing() {
        let w = Param::new("w", random(&[3, 3], 1));
        let x = Value::constant(random(&[2, 3], 2));
        assert!(!ops::linear(&x, &w.value(), None).unwrap().tracked());
        w.set_trainable(true);
        let y = ops::linear(&x, &w.value(), None).unwrap();
        assert!(y.tracked());
        assert!(!no_grad(|| ops::linear(&x, &w.value(), None)).unwrap().tracked());
        let g = backward(&[(y.clone(), ones(&y))]).unwrap();
        assert_eq!(g.len(), 1, "intermediate gradients are freed");
        assert!(g.get(w.leaf()).is_some());
    }

    #[test]
    fn recording_comes_back_after_a_panic() {
        let _ = std::panic::catch_unwind(|| no_grad(|| panic!("inside")));
        assert!(crate::is_grad_enabled());
    }

    #[test]
    fn a_second_walk_is_an_error() {
        let x = Value::leaf(random(&[2], 1));
        let y = ops::square(&x).unwrap();
        backward(&[(y.clone(), ones(&y))]).unwrap();
        let message = backward(&[(y.clone(), ones(&y))]).unwrap_err().to_string();
        assert!(message.contains("square") && message.contains("again"), "{message}");
    }

    #[test]
    fn gradients_accumulate_over_several_walks() {
        let x = Value::leaf(random(&[2], 1));
        let mut g = Gradients::default();
        for _ in 0..3 {
            let y = ops::affine(&x, 2., 0.).unwrap();
            backward_into(&[(y.clone(), ones(&y))], &mut g).unwrap();
        }
        assert_eq!(values(g.get(&x).unwrap()), [6., 6.]);
        g.scale(&x, 0.5).unwrap();
        assert_eq!(values(&g.take(&x).unwrap()), [3., 3.]);
        assert!(g.is_empty());
    }

    #[test]
    fn shared_gradients_are_not_added_to_in_place() {
        // Both inputs of `add` get the very same tensor; the second use of a then adds to its own sum only.
        let (a, b) = (Value::leaf(random(&[2], 1)), Value::leaf(random(&[2], 2)));
        let first = ops::add(&a, &b).unwrap();
        let y = ops::add(&ops::add(&first, &a).unwrap(), &a).unwrap();
        let seed = ones(&y);
        let g = backward(&[(y, seed.clone())]).unwrap();
        assert_eq!(values(g.get(&a).unwrap()), [3., 3.]);
        assert_eq!(values(g.get(&b).unwrap()), [1., 1.]);
        assert_eq!(values(&seed), [1., 1.]);
    }

    #[test]
    fn a_gradient_of_another_shape_is_refused() {
        let x = Value::leaf(random(&[2], 1));
        assert!(backward(&[(x.clone(), random(&[3], 1))]).is_err());
        assert!(Gradients::default().accumulate(&x, random(&[3], 1)).is_err());
        assert!(Gradients::default().accumulate(&x.detach(), random(&[2], 1)).is_err());
    }

    #[test]
    fn deep_graphs_need_no_stack() {
        const NODES: usize = 50_000;
        let run = || {
            let x = Value::leaf(random(&[1], 1));
            let mut y = x.clone();
            for _ in 0..NODES {
                y = ops::affine(&y, 1., 1.).unwrap();
            }
            (x, y)
        };
        let thread = std::thread::Builder::new().stack_size(256 * 1024).spawn(move || {
            let (x, y) = run();
            let g = backward(&[(y.clone(), ones(&y))]).unwrap();
            assert_eq!(values(g.get(&x).unwrap()), [1.]);
            drop(y);
            // Dropped without a walk.
            run();
        });
        thread.unwrap().join().unwrap();
    }

    /// Two layers with a checkpoint around the second, or without; the gradients of x, w and v.
    fn two_layers(recompute: bool, track_x: bool) -> Vec<Option<Vec<f64>>> {
        let w = Param::new("w", random(&[4, 3], 1));
        let v = Param::new("v", random(&[3, 4], 2));
        w.set_trainable(track_x);
        v.set_trainable(true);
        let x = if track_x {
            Value::leaf(random(&[5, 3], 3))
        } else {
            Value::constant(random(&[5, 3], 3))
        };
        let h = ops::linear(&x, &w.value(), None).unwrap();
        let inner = v.clone();
        let segment = move |inputs: &[Value]| {
            let y = ops::silu(&ops::linear(&inputs[0], &inner.value(), None)?)?;
            ops::mul(&ops::add(&y, &inputs[1])?, &y)
        };
        let inputs = [h, x.clone()];
        let y = if recompute {
            checkpoint(&inputs, segment).unwrap()
        } else {
            segment(&inputs).unwrap()
        };
        assert!(y.tracked());
        let y = ops::add(&y, &x).unwrap();
        let g = backward(&[(y.clone(), random(y.dims(), 4))]).unwrap();
        [&x, w.leaf(), v.leaf()]
            .into_iter()
            .map(|leaf| g.get(leaf).map(values))
            .collect()
    }

    #[test]
    fn recomputation_gives_the_same_gradients() {
        assert_eq!(two_layers(true, true), two_layers(false, true));
        assert!(two_layers(true, true).iter().all(Option::is_some));
        // Only a parameter inside the segment is trained.
        let found = two_layers(true, false);
        assert_eq!(found, two_layers(false, false));
        assert!(found[0].is_none() && found[1].is_none() && found[2].is_some());
    }

    #[test]
    fn checkpoints_nest() {
        let x = Value::leaf(random(&[4], 1));
        let inner = |v: &[Value]| ops::square(&v[0]);
        let y = checkpoint(std::slice::from_ref(&x), move |v| {
            let h = checkpoint(v, inner)?;
            checkpoint(&[h, v[0].clone()], |v| ops::mul(&v[0], &v[1]))
        })
        .unwrap();
        let g = backward(&[(y.clone(), ones(&y))]).unwrap();
        let expected: Vec<f64> = values(x.tensor()).iter().map(|x| 3. * x * x).collect();
        for (a, b) in values(g.get(&x).unwrap()).iter().zip(expected) {
            assert!((a - b).abs() < 1e-12);
        }
    }

    #[test]
    fn a_frozen_segment_records_nothing_and_a_capture_is_an_error() {
        let x = Value::constant(random(&[4], 1));
        assert!(
            !checkpoint(std::slice::from_ref(&x), |v| ops::square(&v[0]))
                .unwrap()
                .tracked()
        );

        let leaf = Value::leaf(random(&[4], 1));
        let hidden = ops::square(&leaf).unwrap();
        let captured = hidden.clone();
        let y = checkpoint(&[hidden], move |v| ops::add(&v[0], &captured));
        // Recording is off inside, so the capture shows in the backward pass.
        let y = y.unwrap();
        let message = backward(&[(y.clone(), ones(&y))]).unwrap_err().to_string();
        assert!(message.contains("square") && message.contains("input"), "{message}");
    }
}
