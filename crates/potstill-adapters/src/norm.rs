//! How large a layer's change is.

use crate::error::Result;
use crate::matrix::Matrix;
use crate::module::{Module, Update};
use crate::product::times_transposed;

/// Frobenius norm of [`Module::delta`]; 0 where only the bias changes.
///
/// A LoRA's is the root of tr((UᵀU)(DDᵀ)), which needs r²·(out + in) products in place of r·out·in. Where changes cancel
/// in the sum (a merge of an adapter with its negative), what is left is known to 1e-8 of the factors' norms.
///
/// # Errors
/// When the arithmetic fails.
pub(crate) fn norm(module: &Module) -> Result<f64> {
    let Some(Update::Lora { up, down, mid }) = &module.update else {
        return Ok(module.delta().map_or(0.0, |delta| delta.norm()));
    };
    let (up, down) = (up.matrix(), Module::down(down, mid.as_ref()));
    let (rank, rows, columns) = (up.columns, up.rows, down.columns);
    let square = if rank * (rows + columns) < rows * columns {
        let columns_of_up = up.transposed();
        dot(
            &times_transposed(&columns_of_up, &columns_of_up)?,
            &times_transposed(&down, &down)?,
        )
    } else {
        times_transposed(&up, &down.transposed())?.norm().powi(2)
    };
    Ok(square.max(0.0).sqrt() * module.scale().abs())
}

/// tr(A·Bᵀ)
fn dot(a: &Matrix, b: &Matrix) -> f64 {
    a.values.iter().zip(&b.values).map(|(x, y)| x * y).sum()
}

#[cfg(test)]
mod tests {
    use potstill_models::{Component, Site};

    use super::*;
    use crate::module::Array;

    fn lora(out: usize, rank: usize, shape: &[usize], core: bool) -> Module {
        let wave = |shape: &[usize], seed: f64| Array {
            shape: shape.to_vec(),
            values: (0..shape.iter().product())
                .map(|i| (seed + 1.7 * i as f64 * (1.0 + i as f64 / 9.0)).sin() as f32)
                .collect(),
        };
        let down = match core {
            true => vec![rank, shape[0]],
            false => [&[rank], shape].concat(),
        };
        Module {
            site: Site {
                component: Component::Unet,
                path: "a".to_string(),
                single_file: None,
                shape: [&[out], shape].concat(),
            },
            update: Some(Update::Lora {
                up: wave(&[out, rank], 0.1),
                down: wave(&down, 0.2),
                mid: core.then(|| wave(&[rank, rank, 3, 3], 0.3)),
            }),
            alpha: -1.5,
            magnitude: None,
            bias: None,
        }
    }

    #[test]
    fn is_that_of_the_dense_change() {
        for module in [
            lora(40, 3, &[50], false),
            lora(40, 3, &[7, 3, 3], false),
            lora(40, 3, &[7, 3, 3], true),
            lora(4, 60, &[5], false),
        ] {
            let (found, dense) = (norm(&module).unwrap(), module.delta().unwrap().norm());
            assert!((found - dense).abs() < 1e-12 * dense, "{found} {dense}");
        }
    }
}
