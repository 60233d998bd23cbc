//! Values that are not finite.

use potstill_io::Dtype;

/// The first value that is an infinity or NaN, and where it stands; none of bytes that are no floats.
pub(crate) fn first_not_finite(dtype: Dtype, bytes: &[u8]) -> Option<(usize, f32)> {
    if matches!(dtype, Dtype::F16 | Dtype::Bf16 | Dtype::F32) && all_finite(dtype, bytes) {
        return None;
    }
    let values = dtype.to_f32(bytes).ok()?;
    let at = values.iter().position(|value| !value.is_finite())?;
    Some((at, values[at]))
}

/// Whether no element has an exponent of ones, which infinities and NaN have.
fn all_finite(dtype: Dtype, bytes: &[u8]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU has just said that it has the feature.
        return unsafe { all_finite_avx2(dtype, bytes) };
    }
    all_finite_portable(dtype, bytes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn all_finite_avx2(dtype: Dtype, bytes: &[u8]) -> bool {
    all_finite_portable(dtype, bytes)
}

/// Branch-free, so that it becomes SIMD.
#[inline(always)]
fn all_finite_portable(dtype: Dtype, bytes: &[u8]) -> bool {
    let halves = |mask: u16| {
        !bytes
            .as_chunks::<2>()
            .0
            .iter()
            .fold(false, |bad, word| bad | (u16::from_le_bytes(*word) & mask == mask))
    };
    match dtype {
        Dtype::F16 => halves(0x7c00),
        Dtype::Bf16 => halves(0x7f80),
        _ => {
            let mask = 0x7f80_0000;
            !bytes
                .as_chunks::<4>()
                .0
                .iter()
                .fold(false, |bad, word| bad | (u32::from_le_bytes(*word) & mask == mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use potstill_io::f32_to_bytes;

    #[test]
    fn what_is_not_finite_is_seen_in_every_dtype() {
        for dtype in [Dtype::F16, Dtype::Bf16, Dtype::F32] {
            let mut values = vec![-65_504.0, 0.0, 1e-7, 3.0];
            assert_eq!(first_not_finite(dtype, &f32_to_bytes(&values, dtype).unwrap()), None);
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                values[2] = bad;
                let (at, found) = first_not_finite(dtype, &f32_to_bytes(&values, dtype).unwrap()).unwrap();
                assert_eq!(
                    (at, found.to_bits() | 0x40_0000),
                    (2, bad.to_bits() | 0x40_0000),
                    "{dtype:?}"
                );
            }
        }
    }
}
