//! How far a result is from its reference.

use potstill_engine::{DType, Device, Tensor};

use crate::{Error, Result};

/// What counts as equal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Largest difference allowed, as a share of the reference's largest value.
    pub relative: f64,
    /// The reference's largest value counts as at least this: where values cancel to almost nothing, the rounding errors of
    /// what cancelled stay.
    pub floor: f64,
}

/// All values in f64.
///
/// # Errors
/// When they cannot be read from the device.
pub fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    let tensor = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
    Ok(tensor.flatten_all()?.to_vec1()?)
}

/// The largest difference as a share of the reference's largest value; infinite where a value is not finite.
///
/// # Errors
/// When the shapes differ, or values cannot be read.
pub fn compare(found: &Tensor, reference: &Tensor, tolerance: Tolerance) -> Result<f64> {
    if found.dims() != reference.dims() {
        return Err(Error::Input(format!(
            "shape {:?}, the reference has {:?}",
            found.dims(),
            reference.dims()
        )));
    }
    Ok(compare_values(&values(found)?, &values(reference)?, tolerance))
}

/// [`compare`] of values.
pub fn compare_values(found: &[f64], reference: &[f64], tolerance: Tolerance) -> f64 {
    let scale = reference.iter().fold(tolerance.floor, |most, v| most.max(v.abs()));
    let worst = found.iter().zip(reference).map(|(a, b)| (a - b).abs());
    // A NaN must not be passed over.
    let worst = worst.fold(
        0.,
        |most: f64, d| if d.is_finite() { most.max(d) } else { f64::INFINITY },
    );
    worst / scale
}
