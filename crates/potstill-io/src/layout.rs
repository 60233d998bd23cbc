//! The header of a file about to be written.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::dtype::Dtype;
use crate::error::HeaderError;

/// Headers are padded with spaces to this many bytes, so that data is aligned for every dtype.
const ALIGNMENT: usize = 8;

/// A tensor to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name; unique within a file.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// Number of bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shape
            .iter()
            .fold(self.dtype.size() as u64, |product, &d| product * d as u64)
    }
}

/// The length field and header of a file, and the order in which the tensors' data follow: widest elements first, then by
/// name, so that the same content always gives the same bytes and everything is aligned.
///
/// # Errors
/// [`HeaderError::DuplicateName`].
pub fn layout_header(
    specs: &[TensorSpec],
    metadata: &BTreeMap<String, String>,
) -> Result<(Vec<u8>, Vec<usize>), HeaderError> {
    let mut order: Vec<usize> = (0..specs.len()).collect();
    order.sort_by(|&a, &b| {
        let (a, b) = (&specs[a], &specs[b]);
        b.dtype.size().cmp(&a.dtype.size()).then_with(|| a.name.cmp(&b.name))
    });
    let mut object = Map::new();
    if !metadata.is_empty() {
        object.insert("__metadata__".to_owned(), json!(metadata));
    }
    let mut offset = 0u64;
    for &i in &order {
        let spec = &specs[i];
        let end = offset + spec.bytes();
        let value: Value = json!({ "dtype": spec.dtype.name(), "shape": spec.shape, "data_offsets": [offset, end] });
        if object.insert(spec.name.clone(), value).is_some() {
            return Err(HeaderError::DuplicateName {
                name: spec.name.clone(),
            });
        }
        offset = end;
    }
    let mut json = Value::Object(object).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(ALIGNMENT), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut json);
    Ok((bytes, order))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Header;

    fn spec(name: &str, dtype: Dtype, shape: &[usize]) -> TensorSpec {
        TensorSpec {
            name: name.to_owned(),
            dtype,
            shape: shape.to_vec(),
        }
    }

    #[test]
    fn what_is_laid_out_parses_back() {
        let specs = [
            spec("half", Dtype::F16, &[3]),
            spec("b", Dtype::F32, &[2, 2]),
            spec("a", Dtype::F32, &[]),
        ];
        let metadata = BTreeMap::from([("k".to_owned(), "v\"".to_owned())]);
        let (mut bytes, order) = layout_header(&specs, &metadata).unwrap();
        assert_eq!(order, [2, 1, 0]);
        assert_eq!(bytes.len() % ALIGNMENT, 0);
        bytes.resize(bytes.len() + 4 + 16 + 6, 0);
        let header = Header::from_bytes(&bytes).unwrap();
        assert_eq!(header.metadata(), &metadata);
        assert_eq!(header.get("half").unwrap().start, 20);
    }

    #[test]
    fn duplicate_names_are_refused() {
        let specs = [spec("a", Dtype::U8, &[1]), spec("a", Dtype::F32, &[1])];
        assert_eq!(
            layout_header(&specs, &BTreeMap::new()).unwrap_err().code(),
            "duplicate-name"
        );
    }
}
