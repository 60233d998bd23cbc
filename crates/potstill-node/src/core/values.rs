//! Tensors behind handles, and their values.

use potstill_engine::{DType, Tensor, Value};

use super::engine::Id;
use super::error::Result;
use super::state::State;

/// The tensors behind handles.
pub fn tensors(state: &State, ids: &[Id]) -> Result<Vec<Value>> {
    ids.iter().map(|&id| tensor(state, id)).collect()
}

/// The tensor behind a handle.
pub fn tensor(state: &State, id: Id) -> Result<Value> {
    Ok(Value::clone(&*state.get::<Value>(id)?))
}

/// A tensor's values as f32, in row-major order.
pub fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}
