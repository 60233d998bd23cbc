//! Changes of data type.

use candle_core::{DType, Tensor};

use crate::error::{EngineError, Result};
use crate::value::Value;

const OP: &str = "cast";

/// The same values as another float type; the gradient comes back in x's.
pub fn cast(x: &Value, dtype: DType) -> Result<Value> {
    let from = x.tensor().dtype();
    if from == dtype {
        return Ok(x.clone());
    }
    if let Some(&dtype) = [from, dtype].iter().find(|d| !d.is_float()) {
        return Err(EngineError::DType {
            op: OP,
            dtype,
            remedy: "only float types have gradients",
        });
    }
    let y = x.tensor().to_dtype(dtype)?;
    Ok(Value::from_op(OP, y, &[x], || {
        move |grad: Tensor| Ok(vec![Some(grad.to_dtype(from)?)])
    }))
}
