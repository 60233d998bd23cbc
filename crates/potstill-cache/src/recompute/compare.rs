//! Whether a stored entry is what was computed again.

use crate::plan::StorageDtype;

/// Root mean square of what kernels of other instruction sets and batches may differ by, as a share of that of the values.
/// Measured between the classes with and without fused multiply-add: 2.6e-7 of the demo's UNet, 1.9e-7 of its VAE, 4.2e-7 of
/// its text encoder. Full-size models have more layers.
const KERNELS: f64 = 2e-5;
/// The same of a single value, as a share of the root mean square of all. Measured: 1.8e-6.
const KERNELS_ONE: f64 = 2e-4;

/// Greatest relative error of rounding to a dtype: half a unit in the last place.
fn rounding(dtype: StorageDtype) -> f64 {
    match dtype {
        StorageDtype::F16 => 2f64.powi(-11),
        StorageDtype::Bf16 => 2f64.powi(-9),
        StorageDtype::F32 => 2f64.powi(-24),
    }
}

/// Greatest error of rounding what is too small for a dtype's normal numbers.
fn smallest(dtype: StorageDtype) -> f64 {
    match dtype {
        StorageDtype::F16 => 2f64.powi(-25),
        StorageDtype::Bf16 | StorageDtype::F32 => 0.,
    }
}

/// The share of its root mean square by which an entry may differ.
pub(crate) fn tolerance(dtype: StorageDtype) -> f64 {
    rounding(dtype) + KERNELS
}

/// A stored entry against the computed one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Comparison {
    /// Root mean square of the difference over that of the computed values; infinite or NaN when there are none.
    pub difference: f64,
    /// Greatest difference of one value, over the root mean square of the computed values.
    pub greatest: f64,
    /// By what factor the computed values fit the stored ones best.
    pub scale: f64,
    /// Correlation (about zero) of the two.
    pub correlation: f64,
    /// Whether the two are the same within rounding and what kernels differ by.
    pub same: bool,
}

/// Compares slices of one length.
pub(crate) fn compare(stored: &[f32], computed: &[f32], dtype: StorageDtype) -> Comparison {
    let (mut dd, mut ss, mut sc, mut cc) = (0f64, 0f64, 0f64, 0f64);
    for (&s, &c) in stored.iter().zip(computed) {
        let (s, c) = (f64::from(s), f64::from(c));
        dd += (s - c) * (s - c);
        ss += s * s;
        sc += s * c;
        cc += c * c;
    }
    let rms = (cc / computed.len().max(1) as f64).sqrt();
    let (mut greatest, mut within) = (0f64, true);
    for (&s, &c) in stored.iter().zip(computed) {
        let c = f64::from(c);
        let d = (f64::from(s) - c).abs();
        greatest = greatest.max(d);
        within &= d <= rounding(dtype) * c.abs() + smallest(dtype) + KERNELS_ONE * rms;
    }
    let difference = (dd / cc).sqrt();
    Comparison {
        difference,
        greatest: greatest / rms,
        scale: sc / cc,
        correlation: sc / (ss * cc).sqrt(),
        same: stored == computed || (difference <= tolerance(dtype) && within),
    }
}

impl Comparison {
    /// In words, for a finding.
    pub fn describe(&self) -> String {
        /// From here on two entries are the same but for their length.
        const ALIKE: f64 = 0.9999;
        let how = if self.correlation >= ALIKE && self.difference > self.greatest / 3. {
            format!("{:.4} times what the weights give", self.scale)
        } else if self.correlation >= ALIKE {
            format!("single values differ, by up to {:.2} of the mean length", self.greatest)
        } else {
            format!("correlation {:.3} with what the weights give", self.correlation)
        };
        format!("differs by {:.2e}: {how}", self.difference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Vec<f32> {
        (0..1000).map(|i| ((i * 37 % 101) as f32 - 50.) / 30.).collect()
    }

    #[test]
    fn rounding_passes_and_a_hundredth_does_not() {
        let computed = values();
        for (dtype, unit) in [(StorageDtype::F16, 2f32.powi(-11)), (StorageDtype::F32, 0.)] {
            let rounded: Vec<f32> = computed.iter().map(|v| v * (1. + unit)).collect();
            assert!(compare(&rounded, &computed, dtype).same);
            let scaled: Vec<f32> = computed.iter().map(|v| v * 1.01).collect();
            let found = compare(&scaled, &computed, dtype);
            assert!(!found.same && (found.difference - 0.01).abs() < 1e-6);
            assert!(found.describe().contains("1.0100 times"), "{}", found.describe());
        }
    }

    #[test]
    fn one_value_among_a_thousand_is_seen() {
        let computed = values();
        let mut stored = computed.clone();
        stored[7] += 0.01;
        let found = compare(&stored, &computed, StorageDtype::F16);
        assert!(
            found.difference < tolerance(StorageDtype::F16) && !found.same,
            "{found:?}"
        );
        assert!(found.describe().contains("single values"), "{}", found.describe());
    }

    #[test]
    fn something_else_zeros_and_nan_differ() {
        let computed = values();
        let other: Vec<f32> = computed.iter().rev().map(|v| v * v - 0.5).collect();
        assert!(
            compare(&other, &computed, StorageDtype::F16)
                .describe()
                .contains("correlation")
        );
        for wrong in [vec![0.; 1000], vec![f32::NAN; 1000]] {
            assert!(!compare(&wrong, &computed, StorageDtype::F16).same);
            assert!(!compare(&computed, &wrong, StorageDtype::F16).same);
        }
        assert!(compare(&[0., 0.], &[0., 0.], StorageDtype::F16).same);
    }
}
