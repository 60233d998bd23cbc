//! Quantized weights in files: which keys belong together, and what they stand for.
//!
//! Read are bitsandbytes' 4-bit (NF4 and FP4, also with quantized scales) and 8-bit weights, eight-bit floats, and these with a
//! scale under either of the names that ComfyUI has for it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use potstill_engine::quant::{fp8, int8, nf4};
use potstill_io::{Dtype, SafetensorsFile, TensorInfo};
use serde_json::{Map, Value as Json};

use crate::error::{ModelError, Result};

/// What a matrix's key has at its end.
pub(crate) const WEIGHT: &str = ".weight";
/// What follows a weight's key for its 4-bit state, before the kind of code.
pub(crate) const STATE: &str = ".quant_state.bitsandbytes__";
/// For the scales of its blocks.
pub(crate) const ABSMAX: &str = ".absmax";
/// For what its codes stand for.
pub(crate) const MAP: &str = ".quant_map";
/// What takes the place of `weight` in a layer's key for the scales of int8 rows.
pub(crate) const ROW_SCALES: &str = ".SCB";
/// For the number that says that they are of rows.
pub(crate) const ROW_FORMAT: &str = ".weight_format";
/// For the scale of eight-bit floats.
pub(crate) const SCALE: &str = ".scale_weight";
/// What a file of scaled eight-bit floats has behind the prefix of their component.
pub(crate) const SCALED_MARK: &str = "scaled_fp8";

/// The same scale in newer files.
const NEW_SCALE: &str = ".weight_scale";
/// Scales of what is multiplied, which the weights do not depend on; and a note on the format.
const BESIDE: [&str; 3] = [".scale_input", ".input_scale", ".comfy_quant"];
/// Longest 4-bit state that is read: a JSON object of seven entries.
const LONGEST_STATE: u64 = 4096;
/// Fewest and most values of a block that bitsandbytes has; they are powers of two.
const BLOCKS: std::ops::RangeInclusive<u64> = 32..=4096;

/// How a stored tensor's numbers stand for a parameter's values.
#[derive(Clone)]
pub(crate) struct Coding {
    kind: Kind,
    /// The parameter's shape.
    shape: Vec<usize>,
    /// Bytes of the tensor and of all that belongs to it.
    pub(crate) bytes: u64,
}

#[derive(Clone)]
enum Kind {
    FourBit(Arc<FourBit>),
    Rows { scales: String },
    E4m3 { scale: Option<String> },
    E5m2 { scale: Option<String> },
}

struct FourBit {
    name: &'static str,
    map: [f32; 16],
    block: usize,
    absmax: String,
    nested: Option<Nested>,
}

/// Scales that are quantized themselves: codes of a byte, in blocks with a scale.
struct Nested {
    map: Vec<f32>,
    absmax: String,
    block: usize,
    offset: f32,
}

/// The quantized weights of a file.
#[derive(Default)]
pub(crate) struct Codings {
    by_key: HashMap<String, Coding>,
    companions: HashSet<String>,
}

impl Codings {
    /// Finds them. Of values only those that say how others are kept are read.
    ///
    /// # Errors
    /// When what belongs to a weight is missing, or has another size than the weight asks for.
    pub(crate) fn of(file: &SafetensorsFile) -> Result<Self> {
        let mut found = Self::default();
        for info in file.header().tensors() {
            found.add(file, info)?;
        }
        if found.by_key.values().any(|coding| coding.is_float()) {
            let mark = |key: &&TensorInfo| key.name.rsplit('.').next() == Some(SCALED_MARK);
            let marks = file.header().tensors().iter().filter(mark);
            found.companions.extend(marks.map(|info| info.name.clone()));
        }
        Ok(found)
    }

    /// The coding of a key's tensor; none when its numbers are its values.
    pub(crate) fn get(&self, key: &str) -> Option<&Coding> {
        self.by_key.get(key)
    }

    /// Whether a key's tensor says how another is kept.
    pub(crate) fn is_companion(&self, key: &str) -> bool {
        self.companions.contains(key)
    }

    fn add(&mut self, file: &SafetensorsFile, info: &TensorInfo) -> Result<()> {
        let key = info.name.as_str();
        if let Some((weight, code)) = key.split_once(STATE) {
            return self.add_four_bit(file, key, weight, code);
        }
        let layer = key.strip_suffix(WEIGHT);
        let beside = |ending: &str| Some(format!("{}{ending}", layer?)).filter(|key| file.header().get(key).is_some());
        let (kind, companions) = match info.dtype {
            Dtype::I8 => {
                let Some(scales) = beside(ROW_SCALES) else {
                    return Ok(());
                };
                let [rows, _] = info.shape[..] else {
                    return Err(broken(file, key, "is int8 with scales of rows, but no matrix"));
                };
                require_floats(file, &scales, rows, key)?;
                let companions = vec![Some(scales.clone()), beside(ROW_FORMAT)];
                (Kind::Rows { scales }, companions)
            }
            Dtype::F8E4M3 | Dtype::F8E5M2 => {
                let scale = beside(SCALE).or_else(|| beside(NEW_SCALE));
                if let Some(scale) = &scale {
                    require_floats(file, scale, 1, key)?;
                }
                let mut companions: Vec<_> = BESIDE.iter().map(|ending| beside(ending)).collect();
                companions.push(scale.clone());
                let kind = match info.dtype {
                    Dtype::F8E4M3 => Kind::E4m3 { scale },
                    _ => Kind::E5m2 { scale },
                };
                (kind, companions)
            }
            _ => return Ok(()),
        };
        self.insert(file, key, kind, info.shape.clone(), companions.into_iter().flatten());
        Ok(())
    }

    fn add_four_bit(&mut self, file: &SafetensorsFile, state: &str, weight: &str, code: &str) -> Result<()> {
        let name = match code {
            "nf4" => "NF4",
            "fp4" => "FP4",
            _ => return Ok(()),
        };
        let object = read_state(file, state)?;
        let number = |field: &str| object.get(field).and_then(Json::as_u64);
        let shape: Option<Vec<usize>> = object.get("shape").and_then(Json::as_array).and_then(|sizes| {
            let size = |n: &Json| n.as_u64().and_then(|n| usize::try_from(n).ok());
            sizes.iter().map(size).collect()
        });
        let shape = shape.ok_or_else(|| broken(file, state, "has no `shape` of whole numbers"))?;
        let block = number("blocksize").filter(|block| BLOCKS.contains(block) && block.is_power_of_two());
        let block = block.ok_or_else(|| broken(file, state, "has no `blocksize` of 32, 64 … 4096"))? as usize;
        let count = shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        let count = count.ok_or_else(|| broken(file, state, "has a `shape` too large for any file"))?;
        let beside = |ending: &str| format!("{weight}{ending}");
        let (absmax, map) = (beside(ABSMAX), beside(MAP));
        require(file, weight, Dtype::U8, count.div_ceil(2), state)?;
        require_floats(file, &map, 16, weight)?;
        let mut companions = vec![state.to_string(), absmax.clone(), map.clone()];
        let blocks = count.div_ceil(block);
        let nested = match number("nested_blocksize") {
            None => {
                require_floats(file, &absmax, blocks, weight)?;
                None
            }
            Some(block) => {
                let block = usize::try_from(block).ok().filter(|&block| block > 0);
                let block = block.ok_or_else(|| broken(file, state, "has a `nested_blocksize` of 0"))?;
                let offset = object.get("nested_offset").and_then(Json::as_f64);
                let offset = offset.ok_or_else(|| broken(file, state, "has no number `nested_offset`"))? as f32;
                let (outer, codes) = (beside(".nested_absmax"), beside(".nested_quant_map"));
                require(file, &absmax, Dtype::U8, blocks, weight)?;
                require_floats(file, &outer, blocks.div_ceil(block), weight)?;
                require_floats(file, &codes, 256, weight)?;
                companions.extend([outer.clone(), codes.clone()]);
                Some(Nested {
                    map: file.tensor_f32(&codes)?,
                    absmax: outer,
                    block,
                    offset,
                })
            }
        };
        let mut values = [0f32; 16];
        values.copy_from_slice(&file.tensor_f32(&map)?);
        let kind = Kind::FourBit(Arc::new(FourBit {
            name,
            map: values,
            block,
            absmax,
            nested,
        }));
        self.insert(file, weight, kind, shape, companions.into_iter());
        Ok(())
    }

    fn insert(
        &mut self,
        file: &SafetensorsFile,
        key: &str,
        kind: Kind,
        shape: Vec<usize>,
        companions: impl Iterator<Item = String>,
    ) {
        let companions: Vec<String> = companions.collect();
        let size = |key: &str| file.header().get(key).map_or(0, TensorInfo::bytes);
        let bytes = size(key) + companions.iter().map(|key| size(key)).sum::<u64>();
        self.companions.extend(companions);
        self.by_key.insert(key.to_string(), Coding { kind, shape, bytes });
    }
}

impl Coding {
    /// The parameter's shape.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// What reports call its type.
    pub(crate) fn name(&self) -> &'static str {
        match &self.kind {
            Kind::FourBit(coding) => coding.name,
            Kind::Rows { .. } => "INT8",
            Kind::E4m3 { scale: None } => "F8_E4M3",
            Kind::E5m2 { scale: None } => "F8_E5M2",
            Kind::E4m3 { .. } => "F8_E4M3 scaled",
            Kind::E5m2 { .. } => "F8_E5M2 scaled",
        }
    }

    fn is_float(&self) -> bool {
        matches!(self.kind, Kind::E4m3 { .. } | Kind::E5m2 { .. })
    }

    /// The values of the tensor at `key`.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn values(&self, file: &SafetensorsFile, key: &str) -> Result<Vec<f32>> {
        let codes = file.tensor(key)?.bytes;
        let mut values = vec![0f32; self.shape.iter().product()];
        match &self.kind {
            Kind::FourBit(coding) => {
                let scales = coding.scales(file)?;
                nf4::decode(&codes, &coding.map, &scales, coding.block, &mut values);
            }
            Kind::Rows { scales } => {
                let columns = self.shape.last().copied().unwrap_or(1);
                int8::decode(&codes, columns, &file.tensor_f32(scales)?, &mut values);
            }
            Kind::E4m3 { scale } => fp8::decode(&codes, fp8::from_e4m3, self.scale(file, scale)?, &mut values),
            Kind::E5m2 { scale } => fp8::decode(&codes, fp8::from_e5m2, self.scale(file, scale)?, &mut values),
        }
        Ok(values)
    }

    fn scale(&self, file: &SafetensorsFile, key: &Option<String>) -> Result<f32> {
        match key {
            None => Ok(1.),
            Some(key) => Ok(file.tensor_f32(key)?[0]),
        }
    }
}

impl FourBit {
    fn scales(&self, file: &SafetensorsFile) -> Result<Vec<f32>> {
        let Some(nested) = &self.nested else {
            return Ok(file.tensor_f32(&self.absmax)?);
        };
        let outer = file.tensor_f32(&nested.absmax)?;
        let codes = file.tensor(&self.absmax)?.bytes;
        let scale = |(i, &code): (usize, &u8)| nested.map[usize::from(code)] * outer[i / nested.block] + nested.offset;
        Ok(codes.iter().enumerate().map(scale).collect())
    }
}

fn read_state(file: &SafetensorsFile, key: &str) -> Result<Map<String, Json>> {
    let info = file.header().get(key);
    if !info.is_some_and(|info| info.dtype == Dtype::U8 && info.bytes() <= LONGEST_STATE) {
        return Err(broken(file, key, "is no text of up to 4096 bytes"));
    }
    match serde_json::from_slice(&file.tensor(key)?.bytes) {
        Ok(Json::Object(object)) => Ok(object),
        _ => Err(broken(file, key, "is not a JSON object")),
    }
}

/// Requires a tensor of `count` floats for `weight`.
fn require_floats(file: &SafetensorsFile, key: &str, count: usize, weight: &str) -> Result<()> {
    match file.header().get(key) {
        Some(info) if info.dtype.is_float() && info.elements() == count => Ok(()),
        found => Err(misfit(file, key, found, &format!("{count} floats"), weight)),
    }
}

/// Requires a tensor of `count` elements of a type for `weight`.
fn require(file: &SafetensorsFile, key: &str, dtype: Dtype, count: usize, weight: &str) -> Result<()> {
    match file.header().get(key) {
        Some(info) if info.dtype == dtype && info.elements() == count => Ok(()),
        found => Err(misfit(file, key, found, &format!("{count} {}", dtype.name()), weight)),
    }
}

fn misfit(file: &SafetensorsFile, key: &str, found: Option<&TensorInfo>, wanted: &str, weight: &str) -> ModelError {
    let found = found.map_or_else(
        || "is not there".to_string(),
        |info| format!("has {} {}", info.elements(), info.dtype.name()),
    );
    broken(
        file,
        key,
        &format!("{found}; `{weight}` needs {wanted}: take an intact copy"),
    )
}

fn broken(file: &SafetensorsFile, key: &str, reason: &str) -> ModelError {
    ModelError::file(file.path(), format!("`{key}` {reason}"))
}
