//! The header of a safetensors file, read from bytes that may be hostile.
//!
//! A file is: 8 bytes, little-endian, the length of the header; the header, a JSON object that maps each tensor's name to
//! `{dtype, shape, data_offsets: [start, end]}` (and `__metadata__` to an object of strings); the data, which the tensors
//! tile without gap or overlap. Nothing is allocated in proportion to a claimed number before the bytes behind it exist.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::dtype::Dtype;
use crate::error::HeaderError;

/// Longest header that is read: a hundred times that of SDXL's UNet (1,680 tensors), far from straining memory.
pub const MAX_HEADER_BYTES: u64 = 16 << 20;

/// Most dimensions of a tensor: no weight, latent or token sequence has more than 5.
pub const MAX_RANK: usize = 16;

/// Bytes of the length field.
const LENGTH_FIELD: u64 = 8;

/// One tensor of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// First byte within the data section.
    pub start: u64,
    /// Byte after the last within the data section.
    pub end: u64,
}

impl TensorInfo {
    /// Number of elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Number of bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.end - self.start
    }
}

/// A checked header: every tensor lies within the file, has the bytes that its shape needs, and shares none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The tensors in the order of their data.
    tensors: Vec<TensorInfo>,
    by_name: BTreeMap<String, usize>,
    metadata: BTreeMap<String, String>,
    data_start: u64,
}

/// Other formats that weights come in, by the first bytes of their files. All of them read as an absurd header length.
const FOREIGN: [(&[u8], &str, &str); 6] = [
    (
        b"PK\x03\x04",
        "a zip archive, as torch.save writes checkpoints (.ckpt, .pt, .bin)",
        PICKLE_REMEDY,
    ),
    (
        b"\x80\x02",
        "a Python pickle, as old versions of torch.save write checkpoints",
        PICKLE_REMEDY,
    ),
    (b"\x80\x04", "a Python pickle", PICKLE_REMEDY),
    (b"GGUF", "a GGUF file", "take the safetensors file of the model"),
    (
        b"version ",
        "a Git LFS pointer instead of the file itself",
        "fetch the file with `git lfs pull`",
    ),
    (
        b"<!DOCTYP",
        "a web page",
        "download the file itself, logged in where the site asks for it",
    ),
];
/// Loading a pickle runs the code in it, so none is ever read.
const PICKLE_REMEDY: &str = "save the weights as safetensors with a program and file that you trust";

/// The header's length, from a file's first 8 bytes and its length.
///
/// # Errors
/// [`HeaderError::Foreign`] for a checkpoint of another format; otherwise when the file cannot hold such a header, or it exceeds [`MAX_HEADER_BYTES`].
pub fn header_length(first: [u8; 8], file_length: u64) -> Result<u64, HeaderError> {
    let claimed = u64::from_le_bytes(first);
    let Some(available) = file_length.checked_sub(LENGTH_FIELD) else {
        return Err(HeaderError::TooShort { length: file_length });
    };
    if claimed > available.min(MAX_HEADER_BYTES)
        && let Some((_, format, remedy)) = FOREIGN.iter().find(|(magic, ..)| first.starts_with(magic))
    {
        return Err(HeaderError::Foreign { format, remedy });
    }
    if claimed > MAX_HEADER_BYTES {
        return Err(HeaderError::HeaderTooLarge {
            claimed,
            limit: MAX_HEADER_BYTES,
        });
    }
    if claimed > available {
        return Err(HeaderError::HeaderBeyondEnd { claimed, available });
    }
    Ok(claimed)
}

impl Header {
    /// Parses the JSON of a header; `data_length` is what follows it in the file.
    ///
    /// # Errors
    /// A [`HeaderError`] for every way in which the header contradicts itself or the file.
    pub fn parse(json: &[u8], data_length: u64) -> Result<Self, HeaderError> {
        let text = std::str::from_utf8(json).map_err(|_| HeaderError::NotUtf8)?;
        let raw: RawHeader = serde_json::from_str(text).map_err(|error| HeaderError::Json {
            reason: error.to_string(),
        })?;
        if let Some(name) = raw.duplicate {
            return Err(HeaderError::DuplicateName { name });
        }
        let mut tensors = raw
            .tensors
            .into_iter()
            .map(|(name, raw)| raw.check(name))
            .collect::<Result<Vec<_>, _>>()?;
        tensors.sort_by(|a, b| (a.start, a.end, &a.name).cmp(&(b.start, b.end, &b.name)));
        let mut previous_end = 0;
        for tensor in &tensors {
            let (name, start) = (tensor.name.clone(), tensor.start);
            if start < previous_end {
                return Err(HeaderError::Overlap {
                    name,
                    start,
                    previous_end,
                });
            }
            if start > previous_end {
                return Err(HeaderError::Gap {
                    name,
                    start,
                    previous_end,
                });
            }
            previous_end = tensor.end;
        }
        if previous_end != data_length {
            return Err(HeaderError::DataLength {
                described: previous_end,
                present: data_length,
            });
        }
        let by_name = tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        let metadata = raw.metadata.unwrap_or_default();
        Ok(Self {
            tensors,
            by_name,
            metadata,
            data_start: LENGTH_FIELD + json.len() as u64,
        })
    }

    /// Parses a whole file held in memory.
    ///
    /// # Errors
    /// As [`header_length`] and [`Header::parse`].
    pub fn from_bytes(file: &[u8]) -> Result<Self, HeaderError> {
        let length = file.len() as u64;
        let first = *file.first_chunk::<8>().ok_or(HeaderError::TooShort { length })?;
        let header = header_length(first, length)?;
        let data_start = LENGTH_FIELD + header;
        Self::parse(&file[LENGTH_FIELD as usize..data_start as usize], length - data_start)
    }

    /// The tensors in the order of their data.
    #[must_use]
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|&i| &self.tensors[i])
    }

    /// `__metadata__`, empty when there is none.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Where the data section begins in the file.
    #[must_use]
    pub fn data_start(&self) -> u64 {
        self.data_start
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl RawTensor {
    fn check(self, name: String) -> Result<TensorInfo, HeaderError> {
        let Self {
            dtype,
            shape,
            data_offsets: (start, end),
        } = self;
        let Some(dtype) = Dtype::from_name(&dtype) else {
            return Err(HeaderError::UnknownDtype { name, dtype });
        };
        if shape.len() > MAX_RANK {
            return Err(HeaderError::RankTooLarge {
                name,
                rank: shape.len(),
                limit: MAX_RANK,
            });
        }
        // Dimensions must fit usize, and so must their product even where one of them is zero: code that multiplies a
        // part of them must not overflow either. In WASM usize has 32 bits, but sizes stay the same everywhere.
        let needed = shape
            .iter()
            .try_fold(dtype.size() as u64, |product, &d| product.checked_mul(d.max(1)));
        let dims: Option<Vec<usize>> = shape.iter().map(|&d| usize::try_from(d).ok()).collect();
        let (Some(needed), Some(dims)) = (needed.filter(|&n| n <= MAX_TENSOR_BYTES), dims) else {
            return Err(HeaderError::ShapeOverflow { name, shape });
        };
        let needed = if shape.contains(&0) { 0 } else { needed };
        let Some(spanned) = end.checked_sub(start) else {
            return Err(HeaderError::ReversedOffsets { name, start, end });
        };
        if needed != spanned {
            return Err(HeaderError::SizeMismatch { name, needed, spanned });
        }
        Ok(TensorInfo {
            name,
            dtype,
            shape: dims,
            start,
            end,
        })
    }
}

/// Largest tensor believed: beyond it sizes would not be exact in JavaScript's numbers, nor safe to add up.
const MAX_TENSOR_BYTES: u64 = 1 << 52;

/// The JSON object with duplicate names noticed, which a map would silently merge.
#[derive(Default)]
struct RawHeader {
    tensors: BTreeMap<String, RawTensor>,
    metadata: Option<BTreeMap<String, String>>,
    duplicate: Option<String>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;
        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut header = RawHeader::default();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        if header.metadata.replace(map.next_value()?).is_some() {
                            header.duplicate = Some(name);
                        }
                    } else {
                        match header.tensors.entry(name) {
                            Entry::Vacant(entry) => {
                                entry.insert(map.next_value()?);
                            }
                            Entry::Occupied(entry) => {
                                map.next_value::<IgnoredAny>()?;
                                header.duplicate = Some(entry.key().clone());
                            }
                        }
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(HeaderVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(json: &str, data: usize) -> Vec<u8> {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(json.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    fn parse(json: &str, data: usize) -> Result<Header, HeaderError> {
        Header::from_bytes(&file(json, data))
    }

    fn code(json: &str, data: usize) -> &'static str {
        parse(json, data).expect_err("hostile header accepted").code()
    }

    #[test]
    fn a_sound_header() {
        let json = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F16","shape":[2,3],"data_offsets":[4,16]},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}  "#;
        let header = parse(json, 16).unwrap();
        assert_eq!(header.tensors()[0].name, "a");
        assert_eq!(header.tensors()[0].elements(), 1);
        assert_eq!(header.get("b").unwrap().shape, [2, 3]);
        assert_eq!(header.metadata()["format"], "pt");
        assert_eq!(header.data_start(), 8 + json.len() as u64);
        assert!(parse("{}", 0).unwrap().tensors().is_empty());
    }

    #[test]
    fn lengths_that_lie() {
        assert_eq!(Header::from_bytes(&[1, 2, 3]).unwrap_err().code(), "too-short");
        assert_eq!(
            Header::from_bytes(&u64::MAX.to_le_bytes()).unwrap_err().code(),
            "header-too-large"
        );
        assert_eq!(
            Header::from_bytes(&[100, 0, 0, 0, 0, 0, 0, 0, b'{', b'}'])
                .unwrap_err()
                .code(),
            "header-beyond-end"
        );
        assert_eq!(
            code(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 4),
            "data-length"
        );
        assert_eq!(
            code(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 12),
            "data-length"
        );
    }

    #[test]
    fn text_that_is_no_header() {
        assert_eq!(Header::from_bytes(&file("\u{0}", 0)).unwrap_err().code(), "header-json");
        let mut bytes = file("{\"a\"}", 0);
        bytes[9] = 0xff;
        assert_eq!(Header::from_bytes(&bytes).unwrap_err().code(), "header-not-utf8");
        for json in [
            "[]",
            "{",
            r#"{"a":1}"#,
            r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
            r#"{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}"#,
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}"#,
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1}}"#,
            r#"{"__metadata__":{"a":1}}"#,
        ] {
            assert_eq!(code(json, 4), "header-json", "{json}");
        }
        assert_eq!(code(&"[".repeat(100_000), 0), "header-json");
    }

    #[test]
    fn names_twice() {
        let tensor = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
        assert_eq!(code(&format!(r#"{{"a":{tensor},"a":{tensor}}}"#), 4), "duplicate-name");
        assert_eq!(code(r#"{"__metadata__":{},"__metadata__":{}}"#, 0), "duplicate-name");
    }

    #[test]
    fn dtypes_and_shapes() {
        assert_eq!(
            code(r#"{"a":{"dtype":"F4","shape":[1],"data_offsets":[0,4]}}"#, 4),
            "unknown-dtype"
        );
        let ranks = "1,".repeat(MAX_RANK) + "1";
        assert_eq!(
            code(
                &format!(r#"{{"a":{{"dtype":"U8","shape":[{ranks}],"data_offsets":[0,1]}}}}"#),
                1
            ),
            "rank-too-large"
        );
        for shape in [
            "9223372036854775808,2",
            "4294967296,4294967296,4294967296",
            "0,18446744073709551615,2",
            "18446744073709551615",
        ] {
            let json = format!(r#"{{"a":{{"dtype":"F64","shape":[{shape}],"data_offsets":[0,0]}}}}"#);
            assert_eq!(code(&json, 0), "shape-overflow", "{shape}");
        }
    }

    #[test]
    fn other_formats_are_named() {
        for (first, name) in [
            (b"PK\x03\x04\x14\x00\x00\x00", "torch.save"),
            (b"\x80\x02\x8a\nl\xfc\x9cF", "pickle"),
            (b"\x80\x04\x95\x00\x00\x00\x00\x00", "pickle"),
            (b"GGUF\x03\x00\x00\x00", "GGUF"),
            (b"version ", "LFS"),
            (b"<!DOCTYP", "web page"),
        ] {
            let error = header_length(*first, 1 << 20).unwrap_err();
            assert_eq!(error.code(), "foreign-format");
            assert!(error.to_string().contains(name), "{error}");
        }
        // A header of 640 bytes begins like an old pickle.
        assert_eq!(header_length(*b"\x80\x02\x00\x00\x00\x00\x00\x00", 1 << 20), Ok(640));
    }

    #[test]
    fn offsets_that_lie() {
        let pair = |a: &str, b: &str| {
            format!(
                r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":[{a}]}},"b":{{"dtype":"U8","shape":[4],"data_offsets":[{b}]}}}}"#
            )
        };
        assert_eq!(code(&pair("0,4", "2,6"), 6), "overlap");
        assert_eq!(code(&pair("0,4", "0,4"), 4), "overlap");
        assert_eq!(code(&pair("0,4", "5,9"), 9), "gap");
        assert_eq!(code(&pair("1,5", "5,9"), 9), "gap");
        assert_eq!(code(&pair("4,0", "4,8"), 8), "reversed-offsets");
        assert_eq!(code(&pair("0,3", "3,7"), 7), "size-mismatch");
        assert_eq!(
            code(&pair("0,4", "18446744073709551612,18446744073709551615"), 8),
            "size-mismatch"
        );
    }
}
