//! Named tensors in safetensors files.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use half::f16;
use potstill_engine::{DType, Device, Tensor};
use potstill_io::{Dtype, IoError, SafetensorsFile, TensorSpec, TensorView, f32_to_bytes, write_safetensors};

use super::error::{OpError, Result};

/// Writes tensors in the order of their names, floats as f32 or f16 and counts as i64; the file appears whole or not at
/// all.
pub fn write_tensors(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    dtype: Dtype,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let specs: Vec<TensorSpec> = tensors
        .iter()
        .map(|(name, tensor)| TensorSpec {
            name: name.clone(),
            dtype: if tensor.dtype() == DType::I64 {
                Dtype::I64
            } else {
                dtype
            },
            shape: tensor.dims().to_vec(),
        })
        .collect();
    let list: Vec<(&String, &Tensor)> = tensors.iter().collect();
    if dtype == Dtype::F16 {
        list.iter().try_for_each(|(name, tensor)| fits_f16(name, tensor))?;
    }
    write_safetensors(path, &specs, metadata, &mut |i, writer| {
        let tensor = list[i].1;
        if specs[i].dtype == Dtype::I64 {
            let counts = tensor
                .flatten_all()
                .and_then(|t| t.to_vec1::<i64>())
                .map_err(std::io::Error::other)?;
            return counts
                .iter()
                .try_for_each(|count| writer.write_all(&count.to_le_bytes()));
        }
        let values = super::values(tensor).map_err(|error| std::io::Error::other(error.what))?;
        let bytes = f32_to_bytes(&values, dtype).map_err(std::io::Error::other)?;
        writer.write_all(&bytes)
    })?;
    Ok(())
}

/// A weight that overflows to infinity would destroy the model that is saved: refuse it.
fn fits_f16(name: &str, tensor: &Tensor) -> Result<()> {
    match super::values(tensor)?
        .iter()
        .find(|v| v.is_finite() && !f16::from_f32(**v).is_finite())
    {
        None => Ok(()),
        Some(value) => {
            let what = format!("the value {value} does not fit f16 (largest: {})", f16::MAX);
            Err(OpError::input("ERR_TENSOR_DTYPE", what)
                .at(format!("tensor {name:?}"))
                .remedy("Save as f32."))
        }
    }
}

/// Reads every tensor as f32.
pub fn read_tensors(path: &Path, device: &Device) -> Result<HashMap<String, Tensor>> {
    let file = SafetensorsFile::open(path)?;
    let names: Vec<String> = file.names().map(str::to_owned).collect();
    names
        .into_iter()
        .map(|name| Ok((name.clone(), read_tensor(&file, &name, device)?)))
        .collect()
}

/// Reads one tensor as f32: floats of any width, and integers (timesteps are stored so).
pub fn read_tensor(file: &SafetensorsFile, name: &str, device: &Device) -> Result<Tensor> {
    let view = file.tensor(name)?;
    let values = to_f32(&view).map_err(IoError::safetensors(file.path()))?;
    Ok(Tensor::from_vec(values, view.shape.to_vec(), device)?.to_dtype(DType::F32)?)
}

fn to_f32(view: &TensorView) -> std::result::Result<Vec<f32>, potstill_io::HeaderError> {
    match view.dtype {
        Dtype::I64 => Ok(view
            .bytes
            .as_chunks::<8>()
            .0
            .iter()
            .map(|b| i64::from_le_bytes(*b) as f32)
            .collect()),
        Dtype::I32 => Ok(view
            .bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| i32::from_le_bytes(*b) as f32)
            .collect()),
        _ => view.to_f32(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors(values: &[f32]) -> BTreeMap<String, Tensor> {
        BTreeMap::from([("a".to_string(), Tensor::new(values, &Device::Cpu).unwrap())])
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.safetensors");
        for dtype in [Dtype::F32, Dtype::F16] {
            write_tensors(&path, &tensors(&[1., -2.5, 0.]), dtype, &BTreeMap::new()).unwrap();
            let read = read_tensors(&path, &Device::Cpu).unwrap();
            assert_eq!(read["a"].to_vec1::<f32>().unwrap(), [1., -2.5, 0.]);
        }
    }

    #[test]
    fn counts_stay_whole_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.safetensors");
        let tensors = BTreeMap::from([("step".to_string(), Tensor::new(7i64, &Device::Cpu).unwrap())]);
        write_tensors(&path, &tensors, Dtype::F32, &BTreeMap::new()).unwrap();
        assert_eq!(
            SafetensorsFile::open(&path).unwrap().tensor("step").unwrap().dtype,
            Dtype::I64
        );
        assert_eq!(
            read_tensors(&path, &Device::Cpu).unwrap()["step"]
                .to_scalar::<f32>()
                .unwrap(),
            7.
        );
    }

    #[test]
    fn what_overflows_f16_is_refused_and_nothing_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.safetensors");
        let error = write_tensors(&path, &tensors(&[1e6]), Dtype::F16, &BTreeMap::new()).unwrap_err();
        assert!(error.what.contains("1000000"), "{error}");
        assert!(!path.exists());
    }
}
