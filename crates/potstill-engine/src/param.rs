//! Parameters: named tensors that layers share and optimizers update in place.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{DType, Shape, Tensor};

use crate::cpu;
use crate::error::{Result, ensure_shape};
use crate::value::{Value, is_grad_enabled, note_trainable_use};

/// Reads a tensor that is not held.
type Read = dyn Fn() -> Result<Tensor> + Send + Sync;

struct Inner {
    name: String,
    leaf: Value,
    /// The shape and where the values are read from at every use; the leaf is empty then.
    stored: Option<(Shape, Box<Read>)>,
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
            stored: None,
            trainable: AtomicBool::new(false),
        }))
    }

    /// A parameter whose values are read at every use and never held, for models that are larger than the memory. It stays
    /// frozen. `read` has read them before: what fails here is a file that was taken away meanwhile, and a panic.
    pub fn stored(name: impl Into<String>, empty: Tensor, shape: impl Into<Shape>, read: Box<Read>) -> Self {
        Self(Arc::new(Inner {
            name: name.into(),
            leaf: Value::leaf(empty),
            stored: Some((shape.into(), read)),
            trainable: AtomicBool::new(false),
        }))
    }

    /// The name, in the form of the checkpoint it came from.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The tensor, sharing the parameter's storage: it changes with every update.
    pub fn tensor(&self) -> Tensor {
        match &self.0.stored {
            None => self.0.leaf.tensor().clone(),
            Some((_, read)) => read().unwrap_or_else(|error| panic!("`{}` cannot be read again: {error}", self.0.name)),
        }
    }

    /// The tensor's shape, known without reading it.
    pub fn dims(&self) -> &[usize] {
        match &self.0.stored {
            None => self.0.leaf.dims(),
            Some((shape, _)) => shape.dims(),
        }
    }

    /// The tensor's data type.
    pub fn dtype(&self) -> DType {
        self.0.leaf.tensor().dtype()
    }

    /// True when the values are read at every use, as quantized ones are: they can be neither trained nor changed.
    pub fn is_stored(&self) -> bool {
        self.0.stored.is_some()
    }

    /// True when the parameter is trained.
    pub fn trainable(&self) -> bool {
        self.0.stored.is_none() && self.0.trainable.load(Ordering::Relaxed)
    }

    /// Trains or freezes the parameter; takes effect where it is used next.
    pub fn set_trainable(&self, trainable: bool) {
        self.0.trainable.store(trainable, Ordering::Relaxed);
    }

    /// The parameter as an input of operations: a leaf when it is trained and recording is on, else a constant.
    pub fn value(&self) -> Value {
        if self.0.stored.is_some() {
            return Value::constant(self.tensor());
        }
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

    /// Overwrites the values in place with those of a tensor of the same shape and data type; a bf16 parameter also with
    /// f32 values, which are rounded.
    pub fn assign(&self, tensor: &Tensor) -> Result<()> {
        let own = self.0.leaf.tensor();
        let rounds = (own.dtype(), tensor.dtype()) == (DType::BF16, DType::F32);
        ensure_shape!(
            own.dims() == tensor.dims() && (rounds || own.dtype() == tensor.dtype()),
            "assign",
            "`{}` is {:?} {:?}, the new values are {:?} {:?}",
            self.0.name,
            own.dims(),
            own.dtype(),
            tensor.dims(),
            tensor.dtype()
        );
        match own.dtype() {
            DType::BF16 => Ok(own.slice_set(&tensor.to_dtype(DType::BF16)?.contiguous()?, 0, 0)?),
            _ => cpu::copy_into(own, tensor),
        }
    }
}

impl fmt::Debug for Param {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Param({}, {:?}, trainable: {})",
            self.0.name,
            self.dims(),
            self.trainable()
        )
    }
}
