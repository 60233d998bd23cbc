//! Values: tensors that may take part in a graph of operations.
//!
//! A node is recorded only when some input needs a gradient, so frozen weights and teachers cost nothing. Node ids grow
//! with time, hence the backward pass is a walk by descending id, without recursion. What an operation saved for its
//! backward is freed as soon as that backward has run: a graph is walked once.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use candle_core::Tensor;

use crate::error::{EngineError, Result};
use crate::gradients::{Gradients, backward_segment};

/// Identity of a node. Later nodes have greater ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u64);

impl NodeId {
    pub(crate) fn next() -> Self {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        NodeId(COUNTER.fetch_add(1, Ordering::Relaxed))
    }
}

/// A vector-Jacobian product: the backward of one recorded operation.
pub trait Vjp: Send {
    /// The operation's name, for errors.
    fn name(&self) -> &'static str;

    /// From the gradient of the loss by the operation's output, the gradients by its inputs, in the order in which the
    /// inputs were recorded; `None` for inputs that need none. Gradients of leaves that are not inputs (parameters
    /// used inside a recomputed segment) go into `sink`.
    fn backward(self: Box<Self>, grad: Tensor, sink: &mut Gradients) -> Result<Vec<Option<Tensor>>>;
}

/// A [`Vjp`] made of a closure.
struct Closure<F> {
    name: &'static str,
    run: F,
}

impl<F: FnOnce(Tensor) -> Result<Vec<Option<Tensor>>> + Send> Vjp for Closure<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn backward(self: Box<Self>, grad: Tensor, _sink: &mut Gradients) -> Result<Vec<Option<Tensor>>> {
        (self.run)(grad)
    }
}

/// What a node does in the backward pass.
pub(crate) enum Role {
    /// Keeps its gradient.
    Leaf,
    /// Passes it on. `None` once that has been done.
    Operation(Mutex<Option<Box<dyn Vjp>>>),
}

/// A vertex of the graph.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) name: &'static str,
    /// Aligned with the operation's inputs; `None` for inputs without a node.
    pub(crate) parents: Vec<Option<Arc<Node>>>,
    pub(crate) role: Role,
}

impl Node {
    fn leaf() -> Arc<Self> {
        Arc::new(Node {
            id: NodeId::next(),
            name: "leaf",
            parents: Vec::new(),
            role: Role::Leaf,
        })
    }
}

impl Drop for Node {
    /// Iterative: the default would recurse once per node of a chain and overflow the stack.
    fn drop(&mut self) {
        let mut pending: Vec<Arc<Node>> = self.parents.drain(..).flatten().collect();
        while let Some(node) = pending.pop() {
            if let Some(mut node) = Arc::into_inner(node) {
                pending.extend(node.parents.drain(..).flatten());
            }
        }
    }
}

/// A tensor, and the node that made it when its gradient may be asked for.
///
/// Cloning is cheap and shares both.
#[derive(Clone)]
pub struct Value {
    tensor: Tensor,
    node: Option<Arc<Node>>,
}

impl Value {
    /// A value that needs no gradient.
    pub fn constant(tensor: Tensor) -> Self {
        Self { tensor, node: None }
    }

    /// A value whose gradient is kept by [`backward`](crate::backward).
    pub fn leaf(tensor: Tensor) -> Self {
        Self {
            tensor,
            node: Some(Node::leaf()),
        }
    }

    /// Records an operation: `vjp` is only made, and only then keeps its inputs alive, when an input needs a gradient.
    pub fn from_vjp(tensor: Tensor, inputs: &[&Value], vjp: impl FnOnce() -> Box<dyn Vjp>) -> Self {
        if !is_grad_enabled() || !inputs.iter().any(|v| v.tracked()) {
            return Self::constant(tensor);
        }
        Self::record(tensor, inputs, vjp())
    }

    fn record(tensor: Tensor, inputs: &[&Value], vjp: Box<dyn Vjp>) -> Self {
        let node = Node {
            id: NodeId::next(),
            name: vjp.name(),
            parents: inputs.iter().map(|v| v.node.clone()).collect(),
            role: Role::Operation(Mutex::new(Some(vjp))),
        };
        Self {
            tensor,
            node: Some(Arc::new(node)),
        }
    }

    /// Records an operation whose backward is a closure from the output's gradient to the inputs' gradients.
    pub(crate) fn from_op<F>(name: &'static str, tensor: Tensor, inputs: &[&Value], make: impl FnOnce() -> F) -> Self
    where
        F: FnOnce(Tensor) -> Result<Vec<Option<Tensor>>> + Send + 'static,
    {
        Self::from_vjp(tensor, inputs, || Box::new(Closure { name, run: make() }))
    }

    /// The tensor.
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// True when the value is a leaf or depends on one.
    pub fn tracked(&self) -> bool {
        self.node.is_some()
    }

    /// The same tensor, outside of every graph.
    pub fn detach(&self) -> Self {
        Self::constant(self.tensor.clone())
    }

    /// The tensor's dimensions.
    pub fn dims(&self) -> &[usize] {
        self.tensor.dims()
    }

    /// The identity of the value's node; `None` when it is not tracked.
    pub fn id(&self) -> Option<NodeId> {
        self.node.as_ref().map(|n| n.id)
    }

    pub(crate) fn node(&self) -> Option<&Arc<Node>> {
        self.node.as_ref()
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.node.as_ref().map_or("constant", |n| n.name);
        write!(f, "Value({name}, {:?}, {:?})", self.tensor.dims(), self.tensor.dtype())
    }
}

thread_local! {
    static GRAD_ENABLED: Cell<bool> = const { Cell::new(true) };
    /// Set when a trainable parameter was used while recording was off: a segment run so needs a node all the same.
    static TRAINABLE_USED: Cell<bool> = const { Cell::new(false) };
}

/// False inside [`no_grad`] on this thread.
pub fn is_grad_enabled() -> bool {
    GRAD_ENABLED.get()
}

pub(crate) fn note_trainable_use() {
    TRAINABLE_USED.set(true);
}

/// Runs `f` without recording anything on this thread. Also restores recording when `f` panics.
pub fn no_grad<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            GRAD_ENABLED.set(self.0);
        }
    }
    let _restore = Restore(GRAD_ENABLED.replace(false));
    f()
}

type Segment = Box<dyn Fn(&[Value]) -> Result<Value> + Send + Sync>;

/// The backward of a checkpointed segment: runs it again, recording, and walks that graph at once.
struct Recompute {
    inputs: Vec<(Tensor, bool)>,
    segment: Segment,
}

impl Vjp for Recompute {
    fn name(&self) -> &'static str {
        "checkpoint"
    }

    fn backward(self: Box<Self>, grad: Tensor, sink: &mut Gradients) -> Result<Vec<Option<Tensor>>> {
        // Everything the segment may reach is newer than this, or a leaf.
        let floor = NodeId::next();
        let inputs: Vec<Value> = self
            .inputs
            .into_iter()
            .map(|(tensor, tracked)| {
                if tracked {
                    Value::leaf(tensor)
                } else {
                    Value::constant(tensor)
                }
            })
            .collect();
        let output = (self.segment)(&inputs)?;
        backward_segment(&[(output, grad)], floor, sink)?;
        Ok(inputs.iter().map(|input| sink.take(input)).collect())
    }
}

/// Runs `f` without keeping its activations; the backward pass runs it again. Gradients are the same as without.
///
/// `f` must be a pure function of `inputs` and of parameters: a tracked value that it captures is an error in the
/// backward pass.
pub fn checkpoint(inputs: &[Value], f: impl Fn(&[Value]) -> Result<Value> + Send + Sync + 'static) -> Result<Value> {
    if !is_grad_enabled() {
        return f(inputs);
    }
    let used_before = TRAINABLE_USED.replace(false);
    let plain: Vec<Value> = inputs.iter().map(Value::detach).collect();
    let output = no_grad(|| f(&plain));
    let trainable_used = TRAINABLE_USED.replace(used_before);
    let output = output?;
    if output.tracked() {
        return Err(EngineError::graph(
            "checkpoint",
            "the segment returned a value that it did not compute",
        ));
    }
    if !trainable_used && !inputs.iter().any(Value::tracked) {
        return Ok(output);
    }
    let saved = inputs.iter().map(|v| (v.tensor.clone(), v.tracked())).collect();
    let refs: Vec<&Value> = inputs.iter().collect();
    Ok(Value::record(
        output.tensor,
        &refs,
        Box::new(Recompute {
            inputs: saved,
            segment: Box::new(f),
        }),
    ))
}
