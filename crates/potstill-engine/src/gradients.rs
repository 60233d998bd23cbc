//! The backward pass and what it leaves behind.

use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use candle_core::Tensor;

use crate::cpu;
use crate::error::{EngineError, Result, ensure_shape};
use crate::value::{Node, NodeId, Role, Value};

/// A gradient, and whether its storage is this store's own and may be added to in place.
struct Entry {
    tensor: Tensor,
    owned: bool,
}

/// Gradients by leaf.
///
/// A later accumulation may add in place: a tensor that [`get`](Gradients::get) returned is valid until then.
#[derive(Default)]
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
                    tensor: cpu::sum_of(&entry.tensor, &grad)?,
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
        if let Some(node) = output.node() {
            if gradients.add(node.id, grad.clone())? {
                heap.push(Pending(node.clone()));
            }
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
        let inputs = vjp.backward(grad, gradients)?;
        debug_assert_eq!(inputs.len(), node.parents.len(), "{}", node.name);
        for (parent, grad) in node.parents.iter().zip(inputs) {
            if let (Some(parent), Some(grad)) = (parent, grad) {
                if gradients.add(parent.id, grad)? {
                    heap.push(Pending(parent.clone()));
                }
            }
        }
    }
    Ok(())
}
