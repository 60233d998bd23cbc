//! The two orders in which a weight is kept.
//!
//! Files, exports and gradients that leave this crate use diffusers' order, in which a convolution's weight is
//! `[out, in, height, width]` (OIHW). Memory uses `[out, height, width, in]` (OHWI), because activations are
//! channels-last. Every parameter of rank 4 in these models is a convolution's weight; all others are the same in both.

use candle_core::{DType, Tensor};

use crate::error::Result;

/// The shape in memory of a weight of shape `shape` in a file.
pub(crate) fn memory_shape(shape: &[usize]) -> Vec<usize> {
    match *shape {
        [o, i, h, w] => vec![o, h, w, i],
        _ => shape.to_vec(),
    }
}

/// The shape in a file of a weight of shape `shape` in memory.
pub(crate) fn file_shape(shape: &[usize]) -> Vec<usize> {
    match *shape {
        [o, h, w, i] => vec![o, i, h, w],
        _ => shape.to_vec(),
    }
}

/// Places the values of a file-order weight in memory order; `get(k)` is the k-th value of the file.
pub(crate) fn gather(shape: &[usize], get: impl Fn(usize) -> f32) -> Vec<f32> {
    let count = shape.iter().product();
    match *shape {
        [o, i, h, w] if h * w > 1 => {
            let mut values = Vec::with_capacity(count);
            for out in 0..o {
                for pixel in 0..h * w {
                    values.extend((0..i).map(|channel| get((out * i + channel) * h * w + pixel)));
                }
            }
            values
        }
        _ => (0..count).map(get).collect(),
    }
}

/// A weight or gradient of memory order in diffusers' order. May share its storage.
pub fn to_file_layout(tensor: &Tensor) -> Result<Tensor> {
    Ok(file_view(tensor)?.contiguous()?)
}

/// A copy in diffusers' order and another dtype, which shares nothing with the original.
pub(crate) fn file_copy(tensor: &Tensor, dtype: DType) -> Result<Tensor> {
    let view = file_view(tensor)?;
    // `contiguous` would share the storage of what is in order already, a 1×1 convolution's weight for instance.
    match tensor.dtype() == dtype {
        true => Ok(view.force_contiguous()?),
        false => Ok(view.contiguous()?.to_dtype(dtype)?),
    }
}

fn file_view(tensor: &Tensor) -> Result<Tensor> {
    match tensor.rank() {
        4 => Ok(tensor.permute((0, 3, 1, 2))?),
        _ => Ok(tensor.clone()),
    }
}

/// A weight or gradient of diffusers' order in memory order.
pub fn to_memory_layout(tensor: &Tensor) -> Result<Tensor> {
    match tensor.rank() {
        4 => Ok(tensor.permute((0, 2, 3, 1))?.contiguous()?),
        _ => Ok(tensor.clone()),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn gather_and_tensors_agree_and_round_trip() {
        let file = Tensor::arange(0f32, 2. * 3. * 2. * 5., &Device::Cpu)
            .unwrap()
            .reshape((2, 3, 2, 5))
            .unwrap();
        let memory = to_memory_layout(&file).unwrap();
        assert_eq!(memory.dims(), memory_shape(file.dims()));
        assert_eq!(file_shape(memory.dims()), file.dims());
        let gathered = gather(file.dims(), |k| k as f32);
        assert_eq!(memory.flatten_all().unwrap().to_vec1::<f32>().unwrap(), gathered);
        let back = to_file_layout(&memory).unwrap();
        assert_eq!(
            back.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            gather(&[60], |k| k as f32)
        );
    }
}
