//! Element types of safetensors files.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::error::HeaderError;

/// An element type that safetensors names and that fills whole bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // the names say it all
pub enum Dtype {
    Bool,
    U8,
    I8,
    F8E4M3,
    F8E5M2,
    U16,
    I16,
    F16,
    Bf16,
    U32,
    I32,
    F32,
    U64,
    I64,
    F64,
}

impl Dtype {
    const NAMES: [(&'static str, Self, usize); 15] = [
        ("BOOL", Self::Bool, 1),
        ("U8", Self::U8, 1),
        ("I8", Self::I8, 1),
        ("F8_E4M3", Self::F8E4M3, 1),
        ("F8_E5M2", Self::F8E5M2, 1),
        ("U16", Self::U16, 2),
        ("I16", Self::I16, 2),
        ("F16", Self::F16, 2),
        ("BF16", Self::Bf16, 2),
        ("U32", Self::U32, 4),
        ("I32", Self::I32, 4),
        ("F32", Self::F32, 4),
        ("U64", Self::U64, 8),
        ("I64", Self::I64, 8),
        ("F64", Self::F64, 8),
    ];

    /// The type of a name such as `"F16"`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|entry| entry.0 == name).map(|entry| entry.1)
    }

    /// The name in a header, such as `"F16"`.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize].0
    }

    /// Bytes of one element.
    #[must_use]
    pub fn size(self) -> usize {
        Self::NAMES[self as usize].2
    }

    /// Whether [`Dtype::to_f32`] converts it.
    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16 | Self::F32 | Self::F64)
    }

    /// Little-endian elements as f32: exact for f16, bf16 and f32, rounded for f64.
    ///
    /// # Errors
    /// [`HeaderError::NotFloat`] for other types; [`HeaderError::PartialElement`] when `bytes` is no whole number of
    /// elements.
    pub fn to_f32(self, bytes: &[u8]) -> Result<Vec<f32>, HeaderError> {
        let mut out = vec![0.0; bytes.len() / self.size()];
        self.to_f32_into(bytes, &mut out)?;
        Ok(out)
    }

    /// [`Dtype::to_f32`] into a buffer of as many elements.
    ///
    /// # Errors
    /// As [`Dtype::to_f32`].
    pub fn to_f32_into(self, bytes: &[u8], out: &mut [f32]) -> Result<(), HeaderError> {
        if bytes.len() != out.len() * self.size() {
            return Err(HeaderError::PartialElement {
                bytes: bytes.len(),
                dtype: self.name(),
            });
        }
        match self {
            Self::F32 => {
                for (value, chunk) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *value = f32::from_le_bytes(*chunk);
                }
            }
            Self::F64 => {
                for (value, chunk) in out.iter_mut().zip(bytes.as_chunks::<8>().0) {
                    *value = f64::from_le_bytes(*chunk) as f32;
                }
            }
            Self::F16 | Self::Bf16 => half_to_f32(self, bytes, out),
            _ => return Err(HeaderError::NotFloat { dtype: self.name() }),
        }
        Ok(())
    }
}

/// Appends values as f16, many at a time where the CPU converts so.
fn f32_to_f16(values: &[f32], bytes: &mut Vec<u8>) {
    const PIECE: usize = 1024;
    let mut halves = [f16::ZERO; PIECE];
    for source in values.chunks(PIECE) {
        let halves = &mut halves[..source.len()];
        halves.convert_from_f32_slice(source);
        bytes.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
    }
}

/// Converts through a small aligned buffer, so that `half` can use the CPU's own conversion on any input alignment.
fn half_to_f32(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    const PIECE: usize = 1024;
    let mut words = [0u16; PIECE];
    for (source, target) in bytes.chunks(2 * PIECE).zip(out.chunks_mut(PIECE)) {
        for (word, chunk) in words.iter_mut().zip(source.as_chunks::<2>().0) {
            *word = u16::from_le_bytes(*chunk);
        }
        if dtype == Dtype::F16 {
            let mut halves = [f16::ZERO; PIECE];
            for (half, &word) in halves.iter_mut().zip(&words) {
                *half = f16::from_bits(word);
            }
            halves[..target.len()].convert_to_f32_slice(target);
        } else {
            for (value, &word) in target.iter_mut().zip(&words) {
                *value = bf16::from_bits(word).to_f32();
            }
        }
    }
}

/// Little-endian bytes of values stored as `dtype`, rounded to nearest even.
///
/// # Errors
/// [`HeaderError::NotFloat`] for types other than f16, bf16, f32 and f64.
pub fn f32_to_bytes(values: &[f32], dtype: Dtype) -> Result<Vec<u8>, HeaderError> {
    let mut bytes = Vec::with_capacity(values.len() * dtype.size());
    match dtype {
        Dtype::F32 => values.iter().for_each(|v| bytes.extend_from_slice(&v.to_le_bytes())),
        Dtype::F64 => values
            .iter()
            .for_each(|v| bytes.extend_from_slice(&f64::from(*v).to_le_bytes())),
        Dtype::F16 => f32_to_f16(values, &mut bytes),
        Dtype::Bf16 => values
            .iter()
            .for_each(|v| bytes.extend_from_slice(&bf16::from_f32(*v).to_le_bytes())),
        _ => return Err(HeaderError::NotFloat { dtype: dtype.name() }),
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_order_agree() {
        for (name, dtype, size) in Dtype::NAMES {
            assert_eq!((dtype.name(), dtype.size()), (name, size));
            assert_eq!(Dtype::from_name(name), Some(dtype));
        }
        assert_eq!(Dtype::from_name("F4"), None);
    }

    #[test]
    fn floats_round_trip() {
        let values: Vec<f32> = (0..4_000).map(|i| (i as f32 - 2_000.0) / 8.0).collect();
        for dtype in [Dtype::F16, Dtype::F32, Dtype::F64] {
            assert!(dtype.to_f32(&f32_to_bytes(&values, dtype).unwrap()).unwrap() == values);
        }
        let small: Vec<f32> = (0..200).map(|i| i as f32).collect();
        assert_eq!(
            Dtype::Bf16.to_f32(&f32_to_bytes(&small, Dtype::Bf16).unwrap()).unwrap(),
            small
        );
    }

    #[test]
    fn integers_and_ragged_lengths_are_refused() {
        assert_eq!(Dtype::I64.to_f32(&[0; 8]), Err(HeaderError::NotFloat { dtype: "I64" }));
        assert_eq!(
            Dtype::F16.to_f32(&[0; 3]),
            Err(HeaderError::PartialElement { bytes: 3, dtype: "F16" })
        );
        assert!(f32_to_bytes(&[1.0], Dtype::Bool).is_err());
    }
}
