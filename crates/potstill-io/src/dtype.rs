//! Element types of safetensors files.

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

/// Halves that are looked at together.
const PIECE: usize = 256;

/// Halves as f32.
fn half_to_f32(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    if dtype == Dtype::Bf16 {
        for (value, chunk) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *value = bf16::from_le_bytes(*chunk).to_f32();
        }
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if cpu_converts() {
        // SAFETY: the CPU has just said that it does.
        return unsafe { f16_to_f32_by_cpu(bytes, out) };
    }
    for (source, target) in bytes.chunks(2 * PIECE).zip(out.chunks_mut(PIECE)) {
        let halves = source.as_chunks::<2>().0;
        let is_special = |chunk: &[u8; 2]| u16::from_le_bytes(*chunk) & INFINITY == INFINITY;
        if halves.iter().fold(false, |any, chunk| any | is_special(chunk)) {
            for (value, chunk) in target.iter_mut().zip(halves) {
                *value = widen(u16::from_le_bytes(*chunk));
            }
        } else {
            for (value, chunk) in target.iter_mut().zip(halves) {
                *value = widen_finite(u16::from_le_bytes(*chunk));
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn cpu_converts() -> bool {
    std::arch::is_x86_feature_detected!("avx") && std::arch::is_x86_feature_detected!("f16c")
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx,f16c")]
fn f16_to_f32_by_cpu(bytes: &[u8], out: &mut [f32]) {
    use std::arch::x86_64::{_mm_loadu_si128, _mm256_cvtph_ps, _mm256_storeu_ps};
    let ((sources, bytes_left), (targets, left)) = (bytes.as_chunks::<16>(), out.as_chunks_mut::<8>());
    for (source, target) in sources.iter().zip(targets) {
        // SAFETY: both have as many bytes as are read and written, and no alignment is asked for.
        unsafe {
            let halves = _mm_loadu_si128(source.as_ptr().cast());
            _mm256_storeu_ps(target.as_mut_ptr(), _mm256_cvtph_ps(halves));
        }
    }
    for (value, chunk) in left.iter_mut().zip(bytes_left.as_chunks::<2>().0) {
        *value = widen(u16::from_le_bytes(*chunk));
    }
}

/// Values as halves, rounded to nearest even.
fn f32_to_f16(values: &[f32], bytes: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if cpu_converts() {
        // SAFETY: the CPU has just said that it does.
        return unsafe { f32_to_f16_by_cpu(values, bytes) };
    }
    for (chunk, value) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(values) {
        *chunk = f16::from_f32(*value).to_le_bytes();
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx,f16c")]
fn f32_to_f16_by_cpu(values: &[f32], bytes: &mut [u8]) {
    use std::arch::x86_64::{_MM_FROUND_TO_NEAREST_INT, _mm_storeu_si128, _mm256_cvtps_ph, _mm256_loadu_ps};
    let ((sources, left), (targets, bytes_left)) = (values.as_chunks::<8>(), bytes.as_chunks_mut::<16>());
    for (source, target) in sources.iter().zip(targets) {
        // SAFETY: both have as many bytes as are read and written, and no alignment is asked for.
        unsafe {
            let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(source.as_ptr()));
            _mm_storeu_si128(target.as_mut_ptr().cast(), halves);
        }
    }
    for (chunk, value) in bytes_left.as_chunks_mut::<2>().0.iter_mut().zip(left) {
        *chunk = f16::from_f32(*value).to_le_bytes();
    }
}

/// Bits of an f16 that are infinity, and that every NaN has.
const INFINITY: u16 = 0x7c00;

/// The value of the bits of an f16, without branches, so that loops become SIMD where no instruction converts (WASM).
#[inline(always)]
fn widen(bits: u16) -> f32 {
    let (magnitude, sign) = (u32::from(bits & 0x7fff), u32::from(bits & 0x8000) << 16);
    // The CPU's instructions make every NaN a quiet one.
    let quiet = if magnitude > INFINITY.into() { 1 << 22 } else { 0 };
    let special = f32::from_bits(sign | 0x7f80_0000 | magnitude << 13 | quiet);
    if magnitude >= INFINITY.into() {
        special
    } else {
        widen_finite(bits)
    }
}

/// [`widen`] of what is neither an infinity nor NaN: the bits in their places, and the exponent's other bias.
#[inline(always)]
fn widen_finite(bits: u16) -> f32 {
    /// Between the exponents' biases: 2^(127 − 15).
    const REBIAS: f32 = f32::from_bits((127 + 112) << 23);
    /// All but copies of the sign, which shifting leaves beside it.
    const PLACES: u32 = 0x8fff_e000;
    let places = (i32::from(bits as i16) << 13) as u32 & PLACES;
    // Exact: the product of subnormal numbers, too, is a normal one.
    f32::from_bits(places) * REBIAS
}

/// Values as little-endian bytes of `dtype`, rounded to nearest even, into a buffer of their size.
///
/// # Errors
/// [`HeaderError::NotFloat`] for types other than f16, bf16, f32 and f64; [`HeaderError::PartialElement`] for a buffer of
/// another size.
pub fn f32_to_bytes_into(values: &[f32], dtype: Dtype, bytes: &mut [u8]) -> Result<(), HeaderError> {
    if bytes.len() != values.len() * dtype.size() {
        return Err(HeaderError::PartialElement {
            bytes: bytes.len(),
            dtype: dtype.name(),
        });
    }
    match dtype {
        Dtype::F32 => {
            for (chunk, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
                *chunk = value.to_le_bytes();
            }
        }
        Dtype::F64 => {
            for (chunk, value) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(values) {
                *chunk = f64::from(*value).to_le_bytes();
            }
        }
        Dtype::F16 => f32_to_f16(values, bytes),
        Dtype::Bf16 => {
            for (chunk, value) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(values) {
                *chunk = bf16::from_f32(*value).to_le_bytes();
            }
        }
        _ => return Err(HeaderError::NotFloat { dtype: dtype.name() }),
    }
    Ok(())
}

/// [`f32_to_bytes_into`] a new buffer.
///
/// # Errors
/// [`HeaderError::NotFloat`] for types other than f16, bf16, f32 and f64.
pub fn f32_to_bytes(values: &[f32], dtype: Dtype) -> Result<Vec<u8>, HeaderError> {
    let mut bytes = vec![0; values.len() * dtype.size()];
    f32_to_bytes_into(values, dtype, &mut bytes)?;
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
    fn every_half_is_the_float_that_it_should_be() {
        for bits in 0..=u16::MAX {
            let (own, other) = (widen(bits), f16::from_bits(bits).to_f32());
            assert_eq!(own.to_bits(), other.to_bits(), "{bits:#06x}");
            // Enough for the instructions that convert many, and some more.
            let converted = Dtype::F16.to_f32(&bits.to_le_bytes().repeat(9)).unwrap();
            assert!(
                converted.iter().all(|value| value.to_bits() == other.to_bits()),
                "{bits:#06x}"
            );
            let is_special = bits & INFINITY == INFINITY;
            assert!(
                is_special || widen_finite(bits).to_bits() == other.to_bits(),
                "{bits:#06x}"
            );
            let back = f32_to_bytes(&converted, Dtype::F16).unwrap();
            assert!(other.is_nan() || back == bits.to_le_bytes().repeat(9), "{bits:#06x}");
        }
    }

    #[test]
    fn halves_are_rounded_to_nearest_even() {
        for (value, bits) in [
            (1.0 + 1.0 / 2048.0, 0x3c00u16),
            (1.0 + 3.0 / 2048.0, 0x3c02),
            (65_520.0, 0x7c00),
        ] {
            assert_eq!(
                f32_to_bytes(&[value; 9], Dtype::F16).unwrap(),
                bits.to_le_bytes().repeat(9)
            );
        }
    }

    #[test]
    fn integers_and_ragged_lengths_are_refused() {
        assert_eq!(Dtype::I64.to_f32(&[0; 8]), Err(HeaderError::NotFloat { dtype: "I64" }));
        assert_eq!(
            Dtype::F16.to_f32(&[0; 3]),
            Err(HeaderError::PartialElement { bytes: 3, dtype: "F16" })
        );
        assert!(f32_to_bytes(&[1.0], Dtype::Bool).is_err());
        assert!(f32_to_bytes_into(&[1.0], Dtype::F16, &mut [0; 4]).is_err());
    }
}
