//! Files as lists of tensors, to be changed and written again.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use potstill_io::{Dtype, SafetensorsFile, TensorSpec, write_safetensors};

/// A tensor as it lies in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Stored {
    pub fn f32(shape: &[usize], values: &[f32]) -> Self {
        assert_eq!(shape.iter().product::<usize>(), values.len());
        Self {
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            bytes: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }

    pub fn i64(shape: &[usize], values: impl Iterator<Item = i64>) -> Self {
        Self {
            dtype: Dtype::I64,
            shape: shape.to_vec(),
            bytes: values.flat_map(i64::to_le_bytes).collect(),
        }
    }
}

pub type StoredFile = BTreeMap<String, Stored>;

pub fn read(path: &Path) -> StoredFile {
    let file = SafetensorsFile::open(path).unwrap_or_else(|e| panic!("{e}"));
    file.names()
        .map(|name| {
            let view = file.tensor(name).unwrap();
            let stored = Stored {
                dtype: view.dtype,
                shape: view.shape.to_vec(),
                bytes: view.bytes.to_vec(),
            };
            (name.to_string(), stored)
        })
        .collect()
}

pub fn metadata(path: &Path) -> BTreeMap<String, String> {
    SafetensorsFile::open(path).unwrap().header().metadata().clone()
}

pub fn write(path: &Path, tensors: &StoredFile, metadata: &BTreeMap<String, String>) {
    let specs: Vec<TensorSpec> = tensors
        .iter()
        .map(|(name, t)| TensorSpec {
            name: name.clone(),
            dtype: t.dtype,
            shape: t.shape.clone(),
        })
        .collect();
    let data: Vec<&[u8]> = tensors.values().map(|t| t.bytes.as_slice()).collect();
    write_safetensors(path, &specs, metadata, &mut |i, w: &mut dyn Write| w.write_all(data[i])).unwrap();
}

/// A file in which some keys have other prefixes; an empty replacement drops nothing but the prefix.
pub fn renamed(tensors: &StoredFile, from: &str, to: &str) -> StoredFile {
    tensors
        .iter()
        .map(|(name, t)| match name.strip_prefix(from) {
            Some(rest) => (format!("{to}{rest}"), t.clone()),
            None => (name.clone(), t.clone()),
        })
        .collect()
}

/// The keys that begin so.
pub fn only(tensors: &StoredFile, prefix: &str) -> StoredFile {
    tensors
        .iter()
        .filter(|(name, _)| name.starts_with(prefix))
        .map(|(name, t)| (name.clone(), t.clone()))
        .collect()
}
