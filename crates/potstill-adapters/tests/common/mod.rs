//! Fixtures, random tensors, and how far tensors are from their references.

use std::path::{Path, PathBuf};

use potstill_engine::{DType, Device, Tensor};
use potstill_io::SafetensorsFile;
use potstill_noise::TorchGenerator;
use serde_json::Value as Json;

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../test/fixtures")
        .join(name)
}

pub fn json(name: &str) -> Json {
    serde_json::from_str(&std::fs::read_to_string(fixture(name)).unwrap()).unwrap()
}

pub fn tensor(file: &SafetensorsFile, name: &str) -> Tensor {
    let shape = file.tensor(name).unwrap().shape.to_vec();
    Tensor::from_vec(file.tensor_f32(name).unwrap(), shape, &Device::Cpu).unwrap()
}

/// Normal numbers as torch draws them.
pub fn randn(seed: u64, shape: &[usize]) -> Tensor {
    let mut values = vec![0f32; shape.iter().product()];
    TorchGenerator::new(seed).randn(&mut values);
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

pub fn values(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    flat.to_vec1().unwrap()
}

pub fn norm(tensor: &Tensor) -> f64 {
    values(tensor).iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// ‖found − reference‖ / ‖reference‖.
pub fn relative_distance(found: &Tensor, reference: &Tensor) -> f64 {
    assert_eq!(found.dims(), reference.dims());
    let pairs = values(found).into_iter().zip(values(reference));
    let squares = pairs.map(|(a, b)| (a - b) * (a - b));
    squares.sum::<f64>().sqrt() / norm(reference)
}

/// Asserts that the largest difference, of the reference's scale, is within a tolerance.
pub fn assert_close(what: &str, found: &Tensor, reference: &Tensor, tolerance: f64) {
    assert_eq!(found.dims(), reference.dims(), "{what}");
    let reference = values(reference);
    let scale = reference.iter().fold(0f64, |m, v| m.max(v.abs()));
    let pairs = values(found).into_iter().zip(&reference);
    let worst = pairs.fold(0f64, |m, (a, b)| m.max((a - b).abs())) / scale;
    println!("{what}: {worst:.2e}");
    assert!(worst <= tolerance, "{what}: {worst:e}");
}
