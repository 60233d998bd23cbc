//! Building a model: layers ask a [`Scope`] for their parameters by name and shape; a [`Source`] provides them.
//!
//! Building never stops at the first wrong key: it goes on with placeholders and reports all of them at the end.

use std::cell::RefCell;
use std::fmt::Display;

use candle_core::{Device, Tensor};
use potstill_engine::Param;
use potstill_engine::quant::{Format, Packed};

use super::branch::{Socket, Sockets};
use super::packing::{is_packable, out_of_range};
use crate::error::{KeyMismatch, ModelError, Result};
use crate::layout::memory_shape;
use crate::params::Params;

/// Names of parameters with their shapes in diffusers' order.
pub(crate) type NamedShapes = Vec<(String, Vec<usize>)>;

/// What a source has for one parameter.
pub(crate) enum Found {
    /// Its values, in memory order.
    Values(Vec<f32>),
    /// What reads its values, in memory order: they are sound, and not to be held.
    Stored(Box<dyn Fn() -> Result<Vec<f32>> + Send + Sync>),
    /// Nothing.
    Missing,
    /// A tensor of this other shape.
    Misshapen(Vec<usize>),
    /// A tensor of a dtype that is no weight's.
    WrongDtype(&'static str),
    /// A tensor with NaN or infinity in it.
    NotFinite,
    /// Nothing is wanted: the model is built for its names and shapes only.
    Placeholder,
}

/// Where parameters come from.
pub(crate) trait Source {
    /// The parameter `name` of diffusers' shape `shape`.
    fn find(&mut self, name: &str, shape: &[usize]) -> Result<Found>;

    /// What errors call a missing parameter.
    fn label(&self, name: &str) -> String {
        name.to_string()
    }

    /// Names that exist but were not asked for, once everything has been asked for.
    fn unused(&self) -> Vec<String> {
        Vec::new()
    }

    /// What errors call this source.
    fn place(&self) -> String;
}

/// What a network's matrices (weights of linear layers and convolutions) are kept and multiplied in. Everything else is f32:
/// biases, norms, sums and, on a CPU, activations; on a card those of a UNet in bf16 are bf16 too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// f32.
    #[default]
    F32,
    /// bf16: half the memory, and on processors that multiply bf16 about half the time. Such matrices are not trained.
    Bf16,
    /// Matrices of linear layers in codes, which every use decodes and multiplies as f32; convolutions are f32. Such matrices
    /// are not trained.
    Quantized(Format),
}

impl Precision {
    /// The precision of a name: `f32`, `bf16`, or a format's.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "f32" => Some(Self::F32),
            "bf16" => Some(Self::Bf16),
            _ => Format::from_name(name).map(Self::Quantized),
        }
    }
}

/// A source without values.
pub(crate) struct Shapes;

impl Source for Shapes {
    fn find(&mut self, _name: &str, _shape: &[usize]) -> Result<Found> {
        Ok(Found::Placeholder)
    }

    fn place(&self) -> String {
        "shapes".to_string()
    }
}

struct State<'s> {
    source: &'s mut dyn Source,
    device: Device,
    precision: Precision,
    params: Vec<Param>,
    shapes: NamedShapes,
    sockets: Vec<(String, Socket)>,
    mismatch: KeyMismatch,
    failure: Option<ModelError>,
}

impl State<'_> {
    fn provide(&mut self, name: &str, shape: &[usize]) -> Result<Param> {
        match self.source.find(name, shape)? {
            Found::Values(values) => {
                if let Precision::Quantized(format) = self.precision
                    && is_packable(name, shape)
                {
                    return self.pack(name, shape, &values, format);
                }
                let tensor = Tensor::from_vec(values, memory_shape(shape), &self.device)?;
                return Ok(Param::new(name, held(tensor, self.precision)?));
            }
            Found::Stored(read) => {
                let (shape, device, precision) = (memory_shape(shape), self.device.clone(), self.precision);
                let dims = shape.clone();
                let read = move || {
                    let values = read().map_err(candle_core::Error::wrap)?;
                    Ok(held(Tensor::from_vec(values, shape.clone(), &device)?, precision)?)
                };
                return Ok(Param::stored(name, placeholder()?, dims, Box::new(read)));
            }
            Found::Missing => self.mismatch.missing.push(self.source.label(name)),
            Found::WrongDtype(dtype) => self.mismatch.wrong_dtype.push((name.to_string(), dtype)),
            Found::NotFinite => self.mismatch.not_finite.push(name.to_string()),
            Found::Misshapen(found) => self.mismatch.misshapen.push((name.to_string(), shape.to_vec(), found)),
            Found::Placeholder => {}
        }
        Ok(Param::new(name, placeholder()?))
    }

    /// A matrix that is held in codes.
    fn pack(&self, name: &str, shape: &[usize], values: &[f32], format: Format) -> Result<Param> {
        let packed = Packed::of(values, shape[1], format).ok_or_else(|| out_of_range(name))?;
        let (shape, device) = (memory_shape(shape), self.device.clone());
        let dims = shape.clone();
        let read = move || Ok(Tensor::from_vec(packed.values(), shape.clone(), &device)?);
        Ok(Param::stored(name, placeholder()?, dims, Box::new(read)))
    }
}

/// A parameter's values as they are held: matrices and kernels in the precision asked for, vectors in f32.
fn held(tensor: Tensor, precision: Precision) -> candle_core::Result<Tensor> {
    match (precision, tensor.rank()) {
        (Precision::Bf16, 2..) => tensor.to_dtype(candle_core::DType::BF16),
        _ => Ok(tensor),
    }
}

fn placeholder() -> Result<Tensor> {
    Ok(Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu)?)
}

/// A place in the tree of a model's names, as `down_blocks.0.resnets.1`.
#[derive(Clone)]
pub(crate) struct Scope<'a, 's> {
    state: &'a RefCell<State<'s>>,
    prefix: String,
}

impl Scope<'_, '_> {
    /// The scope one name deeper.
    pub(crate) fn enter(&self, name: impl Display) -> Self {
        Self {
            state: self.state,
            prefix: self.path(name),
        }
    }

    /// Asks for a parameter of diffusers' shape `shape`.
    pub(crate) fn param(&self, name: &str, shape: &[usize]) -> Param {
        let name = self.path(name);
        let mut state = self.state.borrow_mut();
        let param = match state.failure {
            Some(_) => None,
            None => state.provide(&name, shape).map_err(|e| state.failure = Some(e)).ok(),
        };
        // After a failure the model is never handed out: any tensor will do.
        let any = || {
            Param::new(
                name.clone(),
                Tensor::new(0f32, &Device::Cpu).expect("a scalar on the CPU"),
            )
        };
        let param = param.unwrap_or_else(any);
        state.params.push(param.clone());
        state.shapes.push((name, shape.to_vec()));
        param
    }

    /// The socket of the layer at this place, whose weight has diffusers' shape `shape`.
    pub(crate) fn socket(&self, shape: &[usize]) -> Socket {
        let socket = Socket::new(shape);
        let place = (self.prefix.clone(), socket.clone());
        self.state.borrow_mut().sockets.push(place);
        socket
    }

    fn path(&self, name: impl Display) -> String {
        match self.prefix.is_empty() {
            true => name.to_string(),
            false => format!("{}.{name}", self.prefix),
        }
    }
}

/// A model and what its layers asked for.
pub(crate) struct Built<M> {
    pub(crate) model: M,
    pub(crate) params: Params,
    pub(crate) sockets: Sockets,
    shapes: NamedShapes,
}

/// Builds a model from a source; every missing, unexpected and misshapen key is in the error.
pub(crate) fn build<M>(
    source: &mut dyn Source,
    device: &Device,
    precision: Precision,
    make: impl FnOnce(&Scope) -> M,
) -> Result<Built<M>> {
    let state = RefCell::new(State {
        source,
        device: device.clone(),
        precision,
        params: Vec::new(),
        shapes: Vec::new(),
        sockets: Vec::new(),
        mismatch: KeyMismatch::default(),
        failure: None,
    });
    let model = make(&Scope {
        state: &state,
        prefix: String::new(),
    });
    let State {
        source,
        params,
        shapes,
        sockets,
        mut mismatch,
        failure,
        ..
    } = state.into_inner();
    if let Some(error) = failure {
        return Err(error);
    }
    mismatch.unexpected = source.unused();
    match mismatch.is_empty() {
        true => Ok(Built {
            model,
            params: Params::of(params),
            sockets: Sockets::new(sockets),
            shapes,
        }),
        false => Err(ModelError::Keys {
            place: source.place(),
            mismatch: Box::new(mismatch),
        }),
    }
}

/// The names and diffusers' shapes of the parameters that a model would have, without allocating them.
pub(crate) fn shapes_of<M>(make: impl FnOnce(&Scope) -> M) -> Result<NamedShapes> {
    Ok(build(&mut Shapes, &Device::Cpu, Precision::F32, make)?.shapes)
}
