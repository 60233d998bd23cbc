//! The gated feed-forward activation.

use candle_core::Tensor;

use super::activation::{normal_cdf, normal_density};
use super::tensor;
use crate::cpu::{View, dispatch};
use crate::error::{Result, ensure_shape};
use crate::value::Value;

const OP: &str = "geglu";

/// x `[…, 2F]` = `[value, gate]`; the result, `[…, F]`, is `value · gelu(gate)` with the exact GELU.
pub fn geglu(x: &Value) -> Result<Value> {
    let width = x.dims().last().copied().unwrap_or(0);
    ensure_shape!(
        width > 0 && width % 2 == 0,
        OP,
        "x {:?}: the last dimension must be even",
        x.dims()
    );
    let half = width / 2;
    let xt = x.tensor().contiguous()?;
    let mut dims = xt.dims().to_vec();
    *dims.last_mut().expect("checked above") = half;
    let y = dispatch!(OP, xt.dtype(), T => {
        let x = View::<T>::of(OP, &xt)?;
        let mut y = Vec::with_capacity(x.len() / 2);
        for row in x.chunks(width) {
            y.extend((0..half).map(|i| row[i] * row[half + i] * normal_cdf(row[half + i])));
        }
        tensor(y, &dims)
    })?;
    Ok(Value::from_op(OP, y, &[x], || {
        move |grad: Tensor| {
            let grad = grad.contiguous()?;
            dispatch!(OP, xt.dtype(), T => {
                let (x, g) = (View::<T>::of(OP, &xt)?, View::<T>::of(OP, &grad)?);
                let mut dx = Vec::with_capacity(x.len());
                for (row, g) in x.chunks(width).zip(g.chunks(half)) {
                    let (value, gate) = row.split_at(half);
                    dx.extend((0..half).map(|i| g[i] * gate[i] * normal_cdf(gate[i])));
                    dx.extend((0..half).map(|i| g[i] * value[i] * (normal_cdf(gate[i]) + gate[i] * normal_density(gate[i]))));
                }
                Ok(vec![Some(tensor(dx, xt.dims())?)])
            })
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn gradients() {
        check(&[random(&[2, 3, 8], 1)], |v| geglu(&v[0]));
    }

    #[test]
    fn tiles_agree() {
        agree(&[random(&[300, 2 * 130], 1)], |v| geglu(&v[0]));
    }

    #[test]
    fn names_shapes_that_do_not_fit() {
        assert!(geglu(&constant(&[2, 3])).unwrap_err().to_string().contains("even"));
    }
}
