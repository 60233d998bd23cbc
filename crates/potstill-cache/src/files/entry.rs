//! One file of the layout: seven tensors of one sample, without a batch axis.

use std::cell::RefCell;
use std::collections::BTreeMap;

use potstill_io::{Dtype, Header, TensorInfo};

use super::name::FilesName;
use crate::error::CacheError;
use crate::source::{Source, SourceError};

pub(crate) const PREDICTION: &str = "teacher_pred";
pub(crate) const NOISE: &str = "noise";
pub(crate) const TIMESTEP: &str = "timestep";
pub(crate) const SEED: &str = "seed";
pub(crate) const RESOLUTION: &str = "resolution";
pub(crate) const HIDDEN_STATES: &str = "encoder_hidden_states";
pub(crate) const POOLED: &str = "pooled_embeds";

/// Longest file that is read: two latents of the largest picture in f32 have 32 MiB, the text a fraction of one.
pub(crate) const MAX_FILE_BYTES: u64 = 64 << 20;
/// Largest buffer that a thread keeps: a file of SDXL's at 1024² has 0.6 MB.
const MAX_BUFFER: usize = 4 << 20;
/// Most buffers that a thread keeps: files that are looked at together.
const MAX_BUFFERS: usize = 8;
/// Width of SDXL's text, whose pooled states no file may lack.
const SDXL_WIDTH: usize = 2048;

/// What of a header is not as the layout has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    Missing {
        name: &'static str,
        expected: String,
    },
    Shape {
        name: String,
        expected: String,
        found: String,
    },
    Extra {
        name: String,
        found: String,
    },
}

/// Compares a header with the layout. What is missing comes first, then the tensors in the order of the file.
pub(crate) fn problems(name: &FilesName, header: &Header) -> Vec<Problem> {
    let describe = |tensor: &TensorInfo| format!("{} {:?}", tensor.dtype.name(), tensor.shape);
    let sdxl = header
        .get(HIDDEN_STATES)
        .is_some_and(|tensor| tensor.shape.last() == Some(&SDXL_WIDTH));
    let mut found = Vec::new();
    for required in [PREDICTION, NOISE, TIMESTEP, SEED, RESOLUTION, HIDDEN_STATES, POOLED] {
        if header.get(required).is_none() && (required != POOLED || sdxl) {
            let expected = expected(required, name).unwrap_or_default();
            found.push(Problem::Missing {
                name: required,
                expected,
            });
        }
    }
    for tensor in header.tensors() {
        if fits(tensor, name) {
            continue;
        }
        let (tensor, description) = (tensor.name.clone(), describe(tensor));
        found.push(match expected(&tensor, name) {
            Some(expected) => Problem::Shape {
                name: tensor,
                expected,
                found: description,
            },
            None => Problem::Extra {
                name: tensor,
                found: description,
            },
        });
    }
    found
}

/// Dtype and shape of a tensor in words; none of a tensor that the layout does not have.
fn expected(tensor: &str, name: &FilesName) -> Option<String> {
    Some(match tensor {
        PREDICTION | NOISE => format!("F16 {:?}", name.latent()),
        TIMESTEP | SEED => "I64 [1]".to_owned(),
        RESOLUTION => "I32 [2]".to_owned(),
        HIDDEN_STATES => "F16 [tokens, width]".to_owned(),
        POOLED => "F16 [width]".to_owned(),
        _ => return None,
    })
}

/// Floats may be stored as the builder's `cache.dtype` says: in f16, bf16 or f32.
fn fits(tensor: &TensorInfo, name: &FilesName) -> bool {
    let float = matches!(tensor.dtype, Dtype::F16 | Dtype::Bf16 | Dtype::F32);
    match (tensor.name.as_str(), tensor.shape.as_slice()) {
        (PREDICTION | NOISE, shape) => float && shape == name.latent(),
        (TIMESTEP | SEED, shape) => tensor.dtype == Dtype::I64 && shape == [1],
        (RESOLUTION, shape) => tensor.dtype == Dtype::I32 && shape == [2],
        (HIDDEN_STATES, &[tokens, width]) => float && tokens > 0 && width > 0,
        (POOLED, &[width]) => float && width > 0,
        _ => false,
    }
}

/// A file in memory with its header.
pub(crate) struct Loaded {
    pub header: Header,
    pub bytes: Vec<u8>,
}

impl Loaded {
    /// The bytes of a tensor.
    pub fn tensor(&self, name: &str) -> Option<(&TensorInfo, &[u8])> {
        let tensor = self.header.get(name)?;
        let at = |offset: u64| (self.header.data_start() + offset) as usize;
        Some((tensor, self.bytes.get(at(tensor.start)..at(tensor.end))?))
    }

    /// A tensor of floats.
    pub fn floats(&self, name: &str) -> Option<Vec<f32>> {
        let (tensor, bytes) = self.tensor(name)?;
        tensor.dtype.to_f32(bytes).ok()
    }

    /// The value of an I64 [1].
    pub fn integer(&self, name: &str) -> Option<i64> {
        let (tensor, bytes) = self.tensor(name)?;
        (tensor.dtype == Dtype::I64).then_some(())?;
        bytes.try_into().ok().map(i64::from_le_bytes)
    }

    /// Width and height, as the file says.
    pub fn resolution(&self) -> Option<[i32; 2]> {
        let (tensor, bytes) = self.tensor(RESOLUTION)?;
        let (words, rest) = bytes.as_chunks::<4>();
        let fits = tensor.dtype == Dtype::I32 && words.len() == 2 && rest.is_empty();
        fits.then(|| [i32::from_le_bytes(words[0]), i32::from_le_bytes(words[1])])
    }
}

thread_local! {
    /// Bytes of files that were looked at, for the next files that this thread reads: pages that are fresh for every one would
    /// have to be cleared first.
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        BUFFERS.with_borrow_mut(|buffers| {
            if bytes.capacity() <= MAX_BUFFER && buffers.len() < MAX_BUFFERS {
                buffers.push(bytes);
            }
        });
    }
}

/// Reads a file whole. The inner error is of the header.
pub(crate) fn load<S: Source + ?Sized>(
    source: &S,
    path: &str,
) -> Result<Result<Loaded, potstill_io::HeaderError>, SourceError> {
    let mut bytes = BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_default();
    source.read_into(path, MAX_FILE_BYTES, &mut bytes)?;
    Ok(Header::from_bytes(&bytes).map(|header| Loaded { header, bytes }))
}

/// A sample of the files layout.
#[derive(Debug, Clone, PartialEq)]
pub struct FilesEntry {
    /// What it is called.
    pub name: FilesName,
    /// Seed of timestep and noise; a negative one of torch is this plus 2⁶⁴.
    pub seed: u64,
    /// The timestep.
    pub timestep: i64,
    /// What the teacher predicted: [4, height/8, width/8].
    pub prediction: Vec<f32>,
    /// What it was to find, of the same shape.
    pub noise: Vec<f32>,
    /// Tokens and width of the text.
    pub text: [usize; 2],
    /// The encoded caption.
    pub hidden_states: Vec<f32>,
    /// The pooled text, of SDXL.
    pub pooled: Option<Vec<f32>>,
    /// How floats are stored.
    pub dtype: Dtype,
    /// What the header says beside the tensors; the layout asks for nothing.
    pub metadata: BTreeMap<String, String>,
}

impl FilesEntry {
    /// Reads a file, which must be as the layout has it.
    ///
    /// # Errors
    /// [`CacheError::Entry`] naming what is wrong with the file, [`CacheError::Source`] when it cannot be read.
    pub fn read<S: Source + ?Sized>(source: &S, path: &str) -> Result<Self, CacheError> {
        let wrong = |reason: String| CacheError::Entry {
            path: path.to_owned(),
            reason,
        };
        let file = path.rsplit('/').next().unwrap_or(path);
        let name =
            FilesName::of_file(file).ok_or_else(|| wrong("its name is not {sha1}_{W}x{H}.safetensors".to_owned()))?;
        let loaded = load(source, path)?.map_err(|error| wrong(error.to_string()))?;
        // More than the layout has is no harm.
        let first = problems(&name, &loaded.header)
            .into_iter()
            .find(|problem| !matches!(problem, Problem::Extra { .. }));
        match first {
            Some(Problem::Missing { name, expected }) => {
                return Err(wrong(format!("tensor {name} is missing ({expected})")));
            }
            Some(Problem::Shape { name, expected, found }) => {
                return Err(wrong(format!("tensor {name} is {found}, not {expected}")));
            }
            _ => {}
        }
        let size = [name.width as i32, name.height as i32];
        if loaded.resolution() != Some(size) {
            let found = loaded.resolution().unwrap_or_default();
            return Err(wrong(format!("its resolution is {found:?}, its name says {size:?}")));
        }
        let absent = |tensor: &str| wrong(format!("tensor {tensor} cannot be read"));
        let floats = |tensor: &str| {
            let values = loaded.floats(tensor).ok_or_else(|| absent(tensor))?;
            match values.iter().find(|v| !v.is_finite()) {
                Some(value) => Err(wrong(format!("tensor {tensor} has the value {value}"))),
                None => Ok(values),
            }
        };
        let (states, _) = loaded.tensor(HIDDEN_STATES).ok_or_else(|| absent(HIDDEN_STATES))?;
        let (prediction, _) = loaded.tensor(PREDICTION).ok_or_else(|| absent(PREDICTION))?;
        Ok(Self {
            name,
            seed: loaded.integer(SEED).ok_or_else(|| absent(SEED))? as u64,
            timestep: loaded.integer(TIMESTEP).ok_or_else(|| absent(TIMESTEP))?,
            prediction: floats(PREDICTION)?,
            noise: floats(NOISE)?,
            text: [states.shape[0], states.shape[1]],
            hidden_states: floats(HIDDEN_STATES)?,
            pooled: loaded.header.get(POOLED).map(|_| floats(POOLED)).transpose()?,
            dtype: prediction.dtype,
            metadata: loaded.header.metadata().clone(),
        })
    }
}
