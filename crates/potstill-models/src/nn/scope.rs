//! Building a model: layers ask a [`Scope`] for their parameters by name and shape; a [`Source`] provides them.
//!
//! Building never stops at the first wrong key: it goes on with placeholders and reports all of them at the end.

use std::cell::RefCell;
use std::fmt::Display;

use candle_core::{Device, Tensor};
use potstill_engine::Param;

use super::branch::{Socket, Sockets};
use crate::error::{KeyMismatch, ModelError, Result};
use crate::layout::memory_shape;
use crate::params::Params;

/// Names of parameters with their shapes in diffusers' order.
pub(crate) type NamedShapes = Vec<(String, Vec<usize>)>;

/// What a source has for one parameter.
pub(crate) enum Found {
    /// Its values, in memory order.
    Values(Vec<f32>),
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
    params: Vec<Param>,
    shapes: NamedShapes,
    sockets: Vec<(String, Socket)>,
    mismatch: KeyMismatch,
    failure: Option<ModelError>,
}

impl State<'_> {
    fn provide(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        match self.source.find(name, shape)? {
            Found::Values(values) => return Ok(Tensor::from_vec(values, memory_shape(shape), &self.device)?),
            Found::Missing => self.mismatch.missing.push(self.source.label(name)),
            Found::WrongDtype(dtype) => self.mismatch.wrong_dtype.push((name.to_string(), dtype)),
            Found::NotFinite => self.mismatch.not_finite.push(name.to_string()),
            Found::Misshapen(found) => self.mismatch.misshapen.push((name.to_string(), shape.to_vec(), found)),
            Found::Placeholder => {}
        }
        Ok(Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu)?)
    }
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
        let tensor = match state.failure {
            Some(_) => None,
            None => state.provide(&name, shape).map_err(|e| state.failure = Some(e)).ok(),
        };
        // After a failure the model is never handed out: any tensor will do.
        let tensor = tensor.unwrap_or_else(|| Tensor::new(0f32, &Device::Cpu).expect("a scalar on the CPU"));
        let param = Param::new(name.clone(), tensor);
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
pub(crate) fn build<M>(source: &mut dyn Source, device: &Device, make: impl FnOnce(&Scope) -> M) -> Result<Built<M>> {
    let state = RefCell::new(State {
        source,
        device: device.clone(),
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
    Ok(build(&mut Shapes, &Device::Cpu, make)?.shapes)
}
