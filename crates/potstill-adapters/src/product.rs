//! Products of matrices by the engine: the layers of a model are many and large.

use potstill_engine::{Device, Tensor, Value, no_grad, ops};

use crate::error::Result;
use crate::matrix::Matrix;

/// `a·bᵀ`, in f64 on all threads.
pub(crate) fn times_transposed(a: &Matrix, b: &Matrix) -> Result<Matrix> {
    let value = |m: &Matrix| -> Result<Value> {
        let shape = (m.rows, m.columns);
        Ok(Value::constant(Tensor::from_vec(
            m.values.clone(),
            shape,
            &Device::Cpu,
        )?))
    };
    let (left, right) = (value(a)?, value(b)?);
    let product = no_grad(|| ops::linear(&left, &right, None))?;
    Ok(Matrix {
        rows: a.rows,
        columns: b.rows,
        values: product.tensor().flatten_all()?.to_vec1()?,
    })
}
