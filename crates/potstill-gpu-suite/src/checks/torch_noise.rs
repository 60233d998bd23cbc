//! Noise that torch made on the device against its emulation, by which the verifier recognises it.

use std::path::Path;

use potstill_noise::{TORCH_CUDA_TOLERANCE, TorchCudaNormals};
use serde::Deserialize;

use crate::report::Check;
use crate::{Error, Result};

const GROUP: &str = "torch-noise";

/// What `bench/gpu/torch_noise.py` writes.
#[derive(Deserialize)]
struct Recorded {
    /// Threads that the device holds at once.
    threads: u32,
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    seed: u64,
    /// Number of values of the tensor.
    count: u64,
    /// The values from here on.
    first: u64,
    values: Vec<f32>,
}

/// Compares recorded vectors; skipped when there are none.
pub fn check_torch_noise(file: Option<&Path>) -> Vec<Check> {
    let Some(file) = file else {
        return vec![Check::skipped(
            GROUP,
            "torch's randn on the device",
            "no --torch-noise was given",
        )];
    };
    match read(file) {
        Ok(recorded) => recorded
            .vectors
            .iter()
            .map(|vector| check(recorded.threads, vector))
            .collect(),
        Err(error) => vec![Check::of(GROUP, file.display().to_string(), "f32", 0., Err(error))],
    }
}

fn read(file: &Path) -> Result<Recorded> {
    let wrong = |error: &dyn std::fmt::Display| Error::Input(format!("{}: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
    let recorded: Recorded = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
    if recorded.vectors.iter().all(|vector| vector.values.is_empty()) {
        return Err(wrong(&"there are no values"));
    }
    Ok(recorded)
}

fn check(threads: u32, vector: &Vector) -> Check {
    let mut emulated = vec![0f32; vector.values.len()];
    TorchCudaNormals::new(vector.seed, threads).fill_from(vector.first, &mut emulated);
    let differences = emulated
        .iter()
        .zip(&vector.values)
        .map(|(a, b)| f64::from((a - b).abs()));
    let worst = differences.fold(0f64, |most, d| if d.is_finite() { most.max(d) } else { f64::INFINITY });
    let name = format!(
        "torch's randn of seed {}, {} values from {}",
        vector.seed, vector.count, vector.first
    );
    Check::of(GROUP, name, "f32", f64::from(TORCH_CUDA_TOLERANCE), Ok(worst))
}
