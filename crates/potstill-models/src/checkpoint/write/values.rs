//! Stored values on their way into another file.

use std::borrow::Cow;

use potstill_io::{Dtype, f32_to_bytes};

use crate::checkpoint::convert::{Job, WeightEdit};
use crate::checkpoint::part::Part;
use crate::checkpoint::quantize::{Piece, Quantizer};
use crate::checkpoint::weights::StoredValues;
use crate::error::{ModelError, Result};

/// The stored dtype of a parameter; f32 of a quantized one.
pub(super) fn dtype_of(part: &Part, name: &str) -> Dtype {
    part.weights
        .locate(name)
        .map_or(Dtype::F32, |(place, view)| place.dtype(view))
}

/// A parameter's bytes in diffusers' order as `dtype`. The same dtype gives the same bytes, unless they are edited.
///
/// # Errors
/// When a value does not fit the dtype, naming the parameter.
pub(super) fn bytes_as<'a>(
    part: &'a Part,
    name: &str,
    dtype: Dtype,
    edit: Option<&dyn WeightEdit>,
) -> Result<Cow<'a, [u8]>> {
    let place = || part.weights.path().display().to_string();
    let Some(StoredValues { dtype: stored, bytes }) = part.weights.values(name)? else {
        return Err(ModelError::file(part.weights.path(), format!("has no `{name}`")));
    };
    let edit = edit.filter(|edit| edit.changes(part.component, name));
    if stored == dtype && edit.is_none() {
        return Ok(bytes);
    }
    let io = potstill_io::IoError::safetensors(part.weights.path());
    let mut values = stored.to_f32(&bytes).map_err(io)?;
    if let Some(edit) = edit {
        edit.change(part.component, name, &mut values)?;
    }
    let io = potstill_io::IoError::safetensors(part.weights.path());
    let converted = f32_to_bytes(&values, dtype).map_err(io)?;
    if dtype == Dtype::F16 && !overflows(&values).is_empty() {
        return Err(ModelError::Config {
            place: place(),
            field: name.to_string(),
            reason: format!(
                "holds {}, which f16 has no value for: write bf16 or f32",
                overflows(&values)
            ),
        });
    }
    Ok(Cow::Owned(converted))
}

/// The bytes of a piece of a parameter of `(name, shape)` that is quantized after it was edited.
pub(super) fn piece_bytes(
    job: &Job,
    quantizer: &Quantizer,
    part: &Part,
    (name, shape): (&str, &[usize]),
    piece: Piece,
) -> Result<Vec<u8>> {
    let rest = job.dtype.unwrap_or_else(|| dtype_of(part, name));
    let values = match piece.needs_values() {
        true => Dtype::F32.to_f32(&bytes_as(part, name, Dtype::F32, job.edit)?),
        false => Ok(Vec::new()),
    };
    let values = values.map_err(potstill_io::IoError::safetensors(part.weights.path()))?;
    quantizer.bytes((part.component, name), piece, &values, (shape, rest))
}

/// The first finite value that f16 rounds to infinity, as text; empty when there is none.
fn overflows(values: &[f32]) -> String {
    let beyond = |v: &&f32| v.is_finite() && half::f16::from_f32(**v).is_infinite();
    values.iter().find(beyond).map_or_else(String::new, f32::to_string)
}
