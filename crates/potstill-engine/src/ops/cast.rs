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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn gradients_come_back_in_the_inputs_type() {
        let x = Value::leaf(random(&[3], 1));
        let y = cast(&x, DType::F32).unwrap();
        assert_eq!(y.tensor().dtype(), DType::F32);
        let ones = y.tensor().ones_like().unwrap();
        let g = crate::backward(&[(y, ones)]).unwrap();
        assert_eq!(g.get(&x).unwrap().to_vec1::<f64>().unwrap(), [1.; 3]);
        assert!(cast(&x, DType::U8).is_err());
    }
}
