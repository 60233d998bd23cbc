//! Parts of a tensor.

use candle_core::Tensor;

use crate::error::{Result, ensure_shape};
use crate::value::Value;

const OP: &str = "narrow";

/// The elements `start .. start + len` of dimension `dim`.
pub fn narrow(x: &Value, dim: usize, start: usize, len: usize) -> Result<Value> {
    let fits = x
        .dims()
        .get(dim)
        .is_some_and(|&n| start.checked_add(len).is_some_and(|end| end <= n));
    ensure_shape!(fits, OP, "{len} from {start} in dimension {dim} of {:?}", x.dims());
    let y = x.tensor().narrow(dim, start, len)?.contiguous()?;
    Ok(Value::from_op(OP, y, &[x], || {
        let total = x.dims()[dim];
        move |grad: Tensor| Ok(vec![Some(grad.pad_with_zeros(dim, start, total - start - len)?)])
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn gradients() {
        check(&[random(&[3, 5, 2], 1)], |v| narrow(&v[0], 1, 1, 3));
        check(&[random(&[3, 5, 2], 1)], |v| narrow(&v[0], 0, 2, 1));
    }

    #[test]
    fn names_shapes_that_do_not_fit() {
        assert!(narrow(&constant(&[3]), 0, 2, 2).is_err());
        assert!(narrow(&constant(&[3]), 1, 0, 1).is_err());
        assert!(narrow(&constant(&[3]), 0, usize::MAX, 2).is_err());
    }
}
