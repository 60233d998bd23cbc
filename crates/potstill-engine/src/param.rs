//! Parameters: named tensors that layers share and optimizers update in place.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{DType, Tensor};

use crate::cpu;
use crate::error::{Result, ensure_shape};
use crate::value::{Value, is_grad_enabled, note_trainable_use};

struct Inner {
    name: String,
    leaf: Value,
    trainable: AtomicBool,
}

/// A named tensor that is frozen or trained. Cloning shares it.
#[derive(Clone)]
pub struct Param(Arc<Inner>);

impl Param {
    /// A frozen parameter. The tensor's storage becomes the parameter's: it must not be shared with anything that is
    /// not to change when the parameter is updated.
    pub fn new(name: impl Into<String>, tensor: Tensor) -> Self {
        Self(Arc::new(Inner {
            name: name.into(),
            leaf: Value::leaf(tensor),
            trainable: AtomicBool::new(false),
        }))
    }

    /// The name, in the form of the checkpoint it came from.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The tensor, sharing the parameter's storage: it changes with every update.
    pub fn tensor(&self) -> Tensor {
        self.0.leaf.tensor().clone()
    }

    /// The tensor's data type.
    pub fn dtype(&self) -> DType {
        self.0.leaf.tensor().dtype()
    }

    /// True when the parameter is trained.
    pub fn trainable(&self) -> bool {
        self.0.trainable.load(Ordering::Relaxed)
    }

    /// Trains or freezes the parameter; takes effect where it is used next.
    pub fn set_trainable(&self, trainable: bool) {
        self.0.trainable.store(trainable, Ordering::Relaxed);
    }

    /// The parameter as an input of operations: a leaf when it is trained and recording is on, else a constant.
    pub fn value(&self) -> Value {
        if !self.trainable() {
            return self.0.leaf.detach();
        }
        if !is_grad_enabled() {
            note_trainable_use();
            return self.0.leaf.detach();
        }
        self.0.leaf.clone()
    }

    /// The leaf under which gradients of the parameter are kept, trained or not.
    pub fn leaf(&self) -> &Value {
        &self.0.leaf
    }

    /// Overwrites the values in place with those of a tensor of the same shape and data type.
    pub fn assign(&self, tensor: &Tensor) -> Result<()> {
        let own = self.0.leaf.tensor();
        ensure_shape!(
            own.dims() == tensor.dims() && own.dtype() == tensor.dtype(),
            "assign",
            "`{}` is {:?} {:?}, the new values are {:?} {:?}",
            self.0.name,
            own.dims(),
            own.dtype(),
            tensor.dims(),
            tensor.dtype()
        );
        cpu::copy_into(own, tensor)
    }
}

impl fmt::Debug for Param {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Param({}, {:?}, trainable: {})",
            self.0.name,
            self.0.leaf.dims(),
            self.trainable()
        )
    }
}
