//! Weights from safetensors files or tensors, under the names that the architectures ask for.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

use candle_core::{DType, Tensor};
use half::{bf16, f16};
use potstill_io::{Dtype, IoError, SafetensorsFile, TensorView};

use crate::error::{ModelError, Result};
use crate::layout::{gather, to_memory_layout};
use crate::nn::{Found, Source};

/// How a checkpoint's keys become the names of this crate.
#[derive(Clone, Copy)]
pub(crate) struct KeyRules {
    /// The name of a key, or none for a key without a parameter (buffers of old library versions).
    pub(crate) rename: fn(&str) -> Option<String>,
    /// Whether a matrix may be stored as a 1×1 convolution.
    pub(crate) squeeze: bool,
}

impl KeyRules {
    /// Keys are names.
    pub(crate) const EXACT: KeyRules = KeyRules {
        rename: |key| Some(key.to_string()),
        squeeze: false,
    };
}

enum Entry<'t> {
    /// A key of the file at this index.
    Stored(usize, String),
    Tensor(&'t Tensor),
}

/// A source of parameters that knows what was not used.
pub(crate) struct Weights<'t> {
    files: Vec<SafetensorsFile>,
    entries: BTreeMap<String, Entry<'t>>,
    used: HashSet<String>,
    squeeze: bool,
    place: String,
}

impl Weights<'static> {
    /// Maps safetensors files; `place` is what errors call them.
    pub(crate) fn open(files: &[PathBuf], rules: KeyRules, place: String) -> Result<Self> {
        let files = files
            .iter()
            .map(|path| SafetensorsFile::open(path))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let mut entries = BTreeMap::new();
        for (i, file) in files.iter().enumerate() {
            for key in file.names() {
                let Some(name) = (rules.rename)(key) else { continue };
                if let Some(Entry::Stored(_, other)) = entries.insert(name, Entry::Stored(i, key.to_string())) {
                    let reason = format!("`{key}` and `{other}` are the same parameter; remove one of them");
                    return Err(ModelError::file(file.path(), reason));
                }
            }
        }
        Ok(Self {
            files,
            entries,
            used: HashSet::new(),
            squeeze: rules.squeeze,
            place,
        })
    }
}

impl<'t> Weights<'t> {
    /// Tensors in diffusers' layout under the exact names.
    pub(crate) fn from_tensors(tensors: &'t HashMap<String, Tensor>, place: &str) -> Self {
        let entries = tensors
            .iter()
            .map(|(name, tensor)| (name.clone(), Entry::Tensor(tensor)))
            .collect();
        Self {
            files: Vec::new(),
            entries,
            used: HashSet::new(),
            squeeze: false,
            place: place.to_string(),
        }
    }

    /// Whether there is a parameter of this name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    fn fits(&self, found: &[usize], wanted: &[usize]) -> bool {
        found == wanted || (self.squeeze && wanted.len() == 2 && found.strip_suffix(&[1, 1]) == Some(wanted))
    }
}

impl Source for Weights<'_> {
    fn find(&mut self, name: &str, shape: &[usize]) -> Result<Found> {
        let Some(entry) = self.entries.get(name) else {
            return Ok(Found::Missing);
        };
        self.used.insert(name.to_string());
        match entry {
            Entry::Stored(file, key) => {
                let file = &self.files[*file];
                let view = file.tensor(key)?;
                match self.fits(view.shape, shape) {
                    true => Ok(Found::Values(read(file, view, shape)?)),
                    false => Ok(Found::Misshapen(view.shape.to_vec())),
                }
            }
            Entry::Tensor(tensor) if tensor.dims() == shape => {
                let memory = to_memory_layout(tensor)?.to_dtype(DType::F32)?;
                Ok(Found::Values(memory.flatten_all()?.to_vec1()?))
            }
            Entry::Tensor(tensor) => Ok(Found::Misshapen(tensor.dims().to_vec())),
        }
    }

    fn unused(&self) -> Vec<String> {
        self.entries
            .keys()
            .filter(|name| !self.used.contains(*name))
            .cloned()
            .collect()
    }

    fn place(&self) -> String {
        self.place.clone()
    }
}

/// Values in memory order, straight from the mapped bytes.
fn read(file: &SafetensorsFile, view: TensorView, shape: &[usize]) -> Result<Vec<f32>> {
    let bytes = view.bytes;
    Ok(match (view.dtype, shape.len()) {
        (Dtype::F32, 4) => {
            let words = bytes.as_chunks::<4>().0;
            gather(shape, |k| f32::from_le_bytes(words[k]))
        }
        (Dtype::F16, 4) => {
            let words = bytes.as_chunks::<2>().0;
            gather(shape, |k| f16::from_le_bytes(words[k]).to_f32())
        }
        (Dtype::Bf16, 4) => {
            let words = bytes.as_chunks::<2>().0;
            gather(shape, |k| bf16::from_le_bytes(words[k]).to_f32())
        }
        _ => {
            let values = view.to_f32().map_err(IoError::safetensors(file.path()))?;
            match shape.len() {
                4 => gather(shape, |k| values[k]),
                _ => values,
            }
        }
    })
}
