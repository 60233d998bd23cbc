//! Weights from safetensors files or tensors, under the names that the architectures ask for.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{DType, Tensor};
use half::{bf16, f16};
use potstill_io::{Dtype, IoError, SafetensorsFile, TensorInfo, TensorView};

use super::coded::{Coding, Codings};
use super::kinds::Storage;
use super::names::Stored;
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

/// Where one parameter is.
#[derive(Clone)]
pub(crate) struct Place {
    /// Index of the file.
    file: usize,
    /// The key in it.
    pub(crate) key: String,
    /// How the key's tensor holds the parameter.
    pub(crate) storage: Storage,
    /// What the tensor's numbers stand for, when they are not the values.
    pub(crate) coding: Option<Coding>,
}

impl Place {
    /// The shape of the values.
    pub(crate) fn shape<'a>(&'a self, info: &'a TensorInfo) -> &'a [usize] {
        self.coding.as_ref().map_or(&info.shape, Coding::shape)
    }

    /// What the values are, or are read as.
    pub(crate) fn dtype(&self, info: &TensorInfo) -> Dtype {
        match self.coding {
            Some(_) => Dtype::F32,
            None => info.dtype,
        }
    }
}

enum Entry<'t> {
    Stored(Place),
    Tensor(&'t Tensor),
}

/// A source of parameters that knows what was not used.
pub(crate) struct Weights<'t> {
    files: Vec<SafetensorsFile>,
    entries: BTreeMap<String, Entry<'t>>,
    used: HashSet<String>,
    /// Stored names of absent parameters, for errors.
    labels: HashMap<String, String>,
    squeeze: bool,
    /// Whether values are held in memory once they are read.
    held: bool,
    place: String,
}

/// Whether the weights of these keys are held.
fn is_held<'a>(infos: impl Iterator<Item = &'a TensorInfo>) -> bool {
    let bytes: u64 = infos.map(|info| (info.elements() * size_of::<f32>()) as u64).sum();
    bytes <= HELD.load(Ordering::Relaxed)
}

/// A parameter's stored values, in diffusers' order.
pub(crate) struct StoredValues<'a> {
    /// Their type.
    pub(crate) dtype: Dtype,
    /// Little-endian values.
    pub(crate) bytes: Cow<'a, [u8]>,
}

impl Weights<'static> {
    /// Maps safetensors files; `place` is what errors call them. Also gives the keys that the rules drop.
    pub(crate) fn open(files: &[PathBuf], rules: KeyRules, place: String) -> Result<(Self, Vec<String>)> {
        let files = files
            .iter()
            .map(|path| SafetensorsFile::open(path))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let mut dropped = Vec::new();
        let mut entries = BTreeMap::new();
        for (i, file) in files.iter().enumerate() {
            let codings = Codings::of(file)?;
            for key in file.names().filter(|key| !codings.is_companion(key)) {
                let Some(name) = (rules.rename)(key) else {
                    dropped.push(key.to_string());
                    continue;
                };
                let entry = Entry::Stored(Place {
                    file: i,
                    key: key.to_string(),
                    storage: Storage::Same,
                    coding: codings.get(key).cloned(),
                });
                if let Some(Entry::Stored(Place { key: other, .. })) = entries.insert(name, entry) {
                    let reason = format!("`{key}` and `{other}` are the same parameter; remove one of them");
                    return Err(ModelError::file(file.path(), reason));
                }
            }
        }
        let held = is_held(files.iter().flat_map(|file| file.header().tensors()));
        let weights = Self {
            files,
            entries,
            used: HashSet::new(),
            labels: HashMap::new(),
            squeeze: rules.squeeze,
            held,
            place,
        };
        Ok((weights, dropped))
    }

    /// The parameters `names` among the keys of a part of a file. `keys` are (key in the file, key without the part's
    /// prefix); `stored` says where a parameter should be.
    pub(crate) fn of_keys(
        file: &SafetensorsFile,
        (prefix, keys): (&str, &[(String, String)]),
        names: &[(String, Vec<usize>)],
        stored: impl Fn(&str) -> Option<Stored>,
        squeeze: bool,
    ) -> Result<Self> {
        let codings = Codings::of(file)?;
        let by_inside: HashMap<&str, &str> = keys
            .iter()
            .map(|(key, inside)| (inside.as_str(), key.as_str()))
            .collect();
        let mut entries = BTreeMap::new();
        let mut labels = HashMap::new();
        let mut taken = HashSet::new();
        for (name, _) in names {
            let Some(Stored { key: inside, storage }) = stored(name) else {
                continue;
            };
            match by_inside.get(inside.as_str()) {
                Some(&key) => {
                    taken.insert(key);
                    let place = Place {
                        file: 0,
                        key: key.to_string(),
                        storage,
                        coding: codings.get(key).cloned(),
                    };
                    entries.insert(name.clone(), Entry::Stored(place));
                }
                None => {
                    labels.insert(name.clone(), format!("{prefix}{inside}"));
                }
            }
        }
        let left = |(key, _): &&(String, String)| !taken.contains(key.as_str()) && !codings.is_companion(key);
        for (key, _) in keys.iter().filter(left) {
            let place = Place {
                file: 0,
                key: key.clone(),
                storage: Storage::Same,
                coding: None,
            };
            entries.insert(key.clone(), Entry::Stored(place));
        }
        Ok(Self {
            files: vec![file.clone()],
            entries,
            used: HashSet::new(),
            labels,
            squeeze,
            held: is_held(keys.iter().filter_map(|(key, _)| file.header().get(key))),
            place: file.path().display().to_string(),
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
            labels: HashMap::new(),
            squeeze: false,
            held: true,
            place: place.to_string(),
        }
    }

    /// Whether there is a parameter of this name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// All names, of parameters and of what is none.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Where a stored parameter is, with its file's dtype and shape.
    pub(crate) fn locate(&self, name: &str) -> Option<(&Place, &TensorInfo)> {
        let Some(Entry::Stored(place)) = self.entries.get(name) else {
            return None;
        };
        let info = self.files[place.file].header().get(&place.key)?;
        Some((place, info))
    }

    /// Whether a stored tensor holds a parameter of diffusers' shape `wanted`.
    pub(crate) fn fits(&self, place: &Place, info: &TensorInfo, wanted: &[usize]) -> bool {
        let found = place.shape(info);
        let squeezed = wanted.len() == 2 && found.strip_suffix(&[1, 1]) == Some(wanted);
        match place.storage {
            Storage::Same => found == wanted || (self.squeeze && squeezed),
            Storage::Squeezed => found == wanted || squeezed,
            Storage::Transposed => found.iter().rev().eq(wanted),
            Storage::Third(_) => {
                found.len() == wanted.len()
                    && found.first() == wanted.first().map(|n| 3 * n).as_ref()
                    && found[1..] == wanted[1..]
            }
        }
    }

    /// The values of a parameter of which [`Weights::fits`] is true.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn values(&self, name: &str) -> Result<Option<StoredValues<'_>>> {
        match self.locate(name) {
            None => Ok(None),
            Some((place, _)) => stored_values(&self.files[place.file], place).map(Some),
        }
    }

    /// Gives the memory of a parameter's mapped pages back.
    pub(crate) fn release(&self, name: &str) {
        if let Some(Entry::Stored(place)) = self.entries.get(name) {
            self.files[place.file].release(&place.key);
        }
    }

    /// The first file.
    pub(crate) fn path(&self) -> &Path {
        self.files.first().map_or(Path::new(""), SafetensorsFile::path)
    }
}

fn stored_values<'a>(file: &'a SafetensorsFile, place: &Place) -> Result<StoredValues<'a>> {
    let TensorView { dtype, shape, bytes } = file.tensor(&place.key)?;
    let (dtype, shape, bytes) = match &place.coding {
        None => (dtype, shape, bytes),
        Some(coding) => {
            let values = coding.values(file, &place.key)?;
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            (Dtype::F32, coding.shape(), Cow::Owned(bytes))
        }
    };
    let bytes = match place.storage {
        Storage::Same | Storage::Squeezed => bytes,
        Storage::Transposed => Cow::Owned(transpose(&bytes, shape, dtype.size())),
        Storage::Third(i) => {
            let third = i * bytes.len() / 3..(i + 1) * bytes.len() / 3;
            match bytes {
                Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[third]),
                Cow::Owned(bytes) => Cow::Owned(bytes[third].to_vec()),
            }
        }
    };
    Ok(StoredValues { dtype, bytes })
}

/// Bytes of f32 weights up to which a component is held in memory; the weights of a larger one are read at every use, and so are
/// quantized ones, whose file is smaller than they are in memory. A
/// WASM memory has 4 GiB, of which activations and what is packed take a part.
static HELD: AtomicU64 = AtomicU64::new(if cfg!(target_arch = "wasm32") {
    1 << 30
} else {
    u64::MAX
});
/// Values of a parameter that is always held: biases and norms, for which a read would cost more than it saves.
const SMALL: usize = 16 * 1024;

/// Changes how many bytes of f32 weights a component may have that is held in memory: in WASM 1 GiB, elsewhere any.
pub fn hold_weights_up_to(bytes: u64) {
    HELD.store(bytes, Ordering::Relaxed);
}

/// A matrix of `size`-byte elements, transposed.
pub(crate) fn transpose(bytes: &[u8], shape: &[usize], size: usize) -> Vec<u8> {
    let &[rows, columns] = shape else {
        return bytes.to_vec(); // a vector is its own transpose
    };
    let mut out = Vec::with_capacity(bytes.len());
    for column in 0..columns {
        for row in 0..rows {
            let at = (row * columns + column) * size;
            out.extend_from_slice(&bytes[at..at + size]);
        }
    }
    out
}

impl Source for Weights<'_> {
    fn find(&mut self, name: &str, shape: &[usize]) -> Result<Found> {
        let tensor = match self.entries.get(name) {
            None => return Ok(Found::Missing),
            Some(Entry::Tensor(tensor)) => Some(*tensor),
            Some(Entry::Stored(_)) => None,
        };
        self.used.insert(name.to_string());
        if let Some(tensor) = tensor {
            if tensor.dims() != shape {
                return Ok(Found::Misshapen(tensor.dims().to_vec()));
            }
            let memory = to_memory_layout(tensor)?.to_dtype(DType::F32)?;
            return Ok(Found::Values(memory.flatten_all()?.to_vec1()?));
        }
        let Some((place, info)) = self.locate(name) else {
            return Ok(Found::Missing);
        };
        if !self.fits(place, info, shape) {
            return Ok(Found::Misshapen(place.shape(info).to_vec()));
        }
        if !place.dtype(info).is_float() {
            return Ok(Found::WrongDtype(info.dtype.name()));
        }
        let values = read_values(&self.files[place.file], place, shape)?;
        self.release(name);
        if !values.iter().all(|v| v.is_finite()) {
            return Ok(Found::NotFinite);
        }
        if values.len() <= SMALL || (self.held && place.coding.is_none()) {
            return Ok(Found::Values(values));
        }
        let (file, place, shape) = (self.files[place.file].clone(), place.clone(), shape.to_vec());
        Ok(Found::Stored(Box::new(move || read_values(&file, &place, &shape))))
    }

    fn label(&self, name: &str) -> String {
        self.labels.get(name).cloned().unwrap_or_else(|| name.to_string())
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

/// The values of a parameter of diffusers' shape `shape`, in memory order.
fn read_values(file: &SafetensorsFile, place: &Place, shape: &[usize]) -> Result<Vec<f32>> {
    match (&place.coding, place.storage) {
        // What is read at every use takes the shortest way.
        (Some(coding), Storage::Same) if shape.len() != 4 => coding.values(file, &place.key),
        _ => {
            let stored = stored_values(file, place)?;
            Ok(decode(&stored, shape).map_err(IoError::safetensors(file.path()))?)
        }
    }
}

/// Values in memory order, straight from the stored bytes.
fn decode(stored: &StoredValues, shape: &[usize]) -> std::result::Result<Vec<f32>, potstill_io::HeaderError> {
    let bytes = &stored.bytes[..];
    Ok(match (stored.dtype, shape.len()) {
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
        (dtype, rank) => {
            let values = dtype.to_f32(bytes)?;
            match rank {
                4 => gather(shape, |k| values[k]),
                _ => values,
            }
        }
    })
}
