//! Tensors laid end to end, and repeated.

use candle_core::Tensor;

use super::{add, reshape};
use crate::error::{EngineError, Result, ensure_shape};
use crate::value::Value;

/// The tensors end to end along dimension `dim`; they agree in all others.
pub fn concat(parts: &[Value], dim: usize) -> Result<Value> {
    const OP: &str = "concat";
    let Some(first) = parts.first() else {
        return Err(EngineError::shape(OP, "nothing to concatenate"));
    };
    let rank = first.dims().len();
    for part in parts {
        let others = |v: &Value| {
            v.dims()
                .iter()
                .enumerate()
                .filter(|&(d, _)| d != dim)
                .map(|(_, &n)| n)
                .collect()
        };
        let (a, b): (Vec<usize>, Vec<usize>) = (others(first), others(part));
        ensure_shape!(
            dim < rank && part.dims().len() == rank && a == b,
            OP,
            "{:?} and {:?} must agree in all but dimension {dim}",
            first.dims(),
            part.dims()
        );
    }
    let tensors: Vec<&Tensor> = parts.iter().map(Value::tensor).collect();
    let y = Tensor::cat(&tensors, dim)?.contiguous()?;
    let inputs: Vec<&Value> = parts.iter().collect();
    Ok(Value::from_op(OP, y, &inputs, || {
        let parts: Vec<(usize, bool)> = parts.iter().map(|part| (part.dims()[dim], part.tracked())).collect();
        move |grad: Tensor| {
            let mut start = 0;
            parts
                .into_iter()
                .map(|(length, needed)| {
                    let piece = needed
                        .then(|| grad.narrow(dim, start, length)?.contiguous())
                        .transpose()?;
                    start += length;
                    Ok(piece)
                })
                .collect()
        }
    }))
}

/// The tensor repeated along dimensions of size one (and along new leading ones) to fill `dims`.
pub fn broadcast_to(x: &Value, dims: &[usize]) -> Result<Value> {
    const OP: &str = "broadcast_to";
    let expanded = x.tensor().broadcast_as(dims);
    ensure_shape!(expanded.is_ok(), OP, "{:?} does not broadcast to {dims:?}", x.dims());
    if x.dims() == dims {
        return reshape(x, dims);
    }
    let zeros = Tensor::zeros(dims, x.tensor().dtype(), x.tensor().device())?;
    add(x, &Value::constant(zeros))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, backward};

    fn leaf(values: &[f64], dims: &[usize]) -> Value {
        Value::leaf(Tensor::from_slice(values, dims, &Device::Cpu).unwrap())
    }

    fn flat(tensor: &Tensor) -> Vec<f64> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn concat_gives_each_part_its_piece_of_the_gradient() {
        let (a, b) = (leaf(&[1., 2.], &[2, 1]), leaf(&[3., 4., 5., 6.], &[2, 2]));
        let y = concat(&[a.clone(), b.clone()], 1).unwrap();
        assert_eq!(flat(y.tensor()), [1., 3., 4., 2., 5., 6.]);
        let grad = Tensor::from_slice(&[10., 20., 30., 40., 50., 60.], (2, 3), &Device::Cpu).unwrap();
        let gradients = backward(&[(y, grad)]).unwrap();
        assert_eq!(flat(gradients.get(&a).unwrap()), [10., 40.]);
        assert_eq!(flat(gradients.get(&b).unwrap()), [20., 30., 50., 60.]);
    }

    #[test]
    fn broadcast_sums_the_gradient() {
        let x = leaf(&[1., 2.], &[2, 1]);
        let y = broadcast_to(&x, &[3, 2, 2]).unwrap();
        let ones = Tensor::ones((3, 2, 2), candle_core::DType::F64, &Device::Cpu).unwrap();
        assert_eq!(flat(backward(&[(y, ones)]).unwrap().get(&x).unwrap()), [6., 6.]);
    }

    #[test]
    fn mistakes_name_the_shapes() {
        let (a, b) = (leaf(&[1., 2.], &[2]), leaf(&[1., 2., 3.], &[3]));
        assert!(
            concat(&[a.clone(), leaf(&[1.], &[1, 1])], 0)
                .unwrap_err()
                .to_string()
                .contains("[1, 1]")
        );
        assert!(concat(&[], 0).is_err());
        assert!(concat(std::slice::from_ref(&a), 1).is_err());
        assert!(broadcast_to(&a, &[4]).unwrap_err().to_string().contains("[2]"));
        assert!(broadcast_to(&b, &[]).is_err());
    }
}
