//! Rows of a table.

use candle_core::Tensor;

use super::tensor;
use crate::cpu::{self, View, dispatch};
use crate::cuda::Gpu;
use crate::error::{EngineError, Result, ensure_shape};
use crate::value::Value;

const OP: &str = "embedding";

/// The rows `ids` of table `[N, C]`; the result is `[ids.len(), C]`.
pub fn embedding(table: &Value, ids: &[u32]) -> Result<Value> {
    let &[rows, columns] = table.dims() else {
        return Err(EngineError::shape(
            OP,
            format!("the table {:?} must be [N, C]", table.dims()),
        ));
    };
    ensure_shape!(columns > 0, OP, "the table {:?} has no columns", table.dims());
    if let Some(id) = ids.iter().find(|&&id| id as usize >= rows) {
        return Err(EngineError::shape(
            OP,
            format!("id {id} is beyond the table's {rows} rows"),
        ));
    }
    let tt = table.tensor().contiguous()?;
    let y = match Gpu::of(&tt) {
        Some(gpu) => gpu.gather_rows(OP, columns, &tt, ids)?,
        None => dispatch!(OP, tt.dtype(), T => {
            tensor(cpu::gather_rows(columns, &View::<T>::of(OP, &tt)?, ids), &[ids.len(), columns])
        })?,
    };
    Ok(Value::from_op(OP, y, &[table], || {
        let ids = ids.to_vec();
        move |grad: Tensor| {
            let grad = grad.contiguous()?;
            if let Some(gpu) = Gpu::of(&grad) {
                return Ok(vec![Some(gpu.scatter_rows(OP, [rows, columns], &grad, &ids)?)]);
            }
            let dt = dispatch!(OP, grad.dtype(), T => {
                tensor(cpu::scatter_rows(columns, rows, &View::<T>::of(OP, &grad)?, &ids), &[rows, columns])
            })?;
            Ok(vec![Some(dt)])
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn gradients() {
        check(&[random(&[5, 3], 1)], |v| embedding(&v[0], &[4, 0, 4, 2]));
    }

    #[test]
    fn refuses_ids_beyond_the_table() {
        assert!(
            embedding(&constant(&[5, 3]), &[5])
                .unwrap_err()
                .to_string()
                .contains("id 5")
        );
    }
}
