//! What the parity tests share: fixture files, the fixtures' random numbers, comparisons.

#![allow(dead_code)] // each test binary uses a part

use std::collections::HashMap;
use std::path::PathBuf;

use potstill_engine::{Device, Tensor};
use potstill_io::SafetensorsFile;
use potstill_models::{Initialisation, Params, UnetConfig};
use potstill_noise::TorchGenerator;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

/// How fixtures draw weights.
pub const WEIGHTS: Initialisation = Initialisation::Normal;

pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../test/fixtures")
        .join(name)
}

pub fn json(name: &str) -> Json {
    let path = fixture(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("valid JSON")
}

/// The tensors of a fixture file.
pub fn tensors(name: &str) -> HashMap<String, Tensor> {
    let file = SafetensorsFile::open(&fixture(name)).expect("a sound fixture");
    file.names()
        .map(|key| {
            let shape = file.tensor(key).expect("listed").shape.to_vec();
            let values = file.tensor_f32(key).expect("floats");
            (
                key.to_string(),
                Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor"),
            )
        })
        .collect()
}

/// `torch.randn(shape, generator=torch.Generator().manual_seed(seed))`.
pub fn randn(seed: u64, shape: &[usize]) -> Tensor {
    Tensor::from_vec(randn_values(seed, shape.iter().product()), shape, &Device::Cpu).expect("a tensor")
}

pub fn randn_values(seed: u64, count: usize) -> Vec<f32> {
    let mut values = vec![0f32; count];
    TorchGenerator::new(seed).randn(&mut values);
    values
}

pub fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|t| t.to_vec1()).expect("an f32 tensor")
}

/// Largest difference over the reference's largest value.
pub fn relative_error(found: &Tensor, reference: &Tensor) -> f64 {
    assert_eq!(found.dims(), reference.dims());
    let (found, reference) = (values(found), values(reference));
    let scale = reference.iter().fold(0f64, |m, v| m.max(f64::from(v.abs())));
    let difference = found.iter().zip(&reference).map(|(a, b)| f64::from((a - b).abs()));
    difference.fold(0f64, |m, d| if d.is_nan() { f64::INFINITY } else { m.max(d) }) / scale
}

/// Panics unless a tensor equals its reference within `tolerance` of the reference's largest value; prints the error.
pub fn assert_close(what: &str, found: &Tensor, reference: &Tensor, tolerance: f64) {
    let error = relative_error(found, reference);
    println!("{what}: {error:.2e}");
    assert!(
        error <= tolerance,
        "{what}: error {error:.3e} of the reference's scale, allowed {tolerance:e}"
    );
}

/// Panics unless the regenerated weights are the fixture's.
pub fn assert_weights(params: &Params, expected: &Json) {
    let tensors = params.to_tensors(potstill_engine::DType::F32).expect("f32 weights");
    let mut digest = Sha256::new();
    // All names share their prefix, so sorting with or without it is the same.
    for tensor in tensors.values() {
        let bytes: Vec<u8> = values(tensor).iter().flat_map(|v| v.to_le_bytes()).collect();
        digest.update(&bytes);
    }
    let hex: String = digest.finalize().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(
        hex,
        expected["weights"]["sha256"].as_str().expect("a digest"),
        "the weights are not the fixture's"
    );
}

/// The seed of a fixture's weights.
pub fn base_seed(expected: &Json) -> u64 {
    expected["weights"]["base_seed"].as_u64().expect("a seed")
}

pub fn unet_config(name: &str) -> UnetConfig {
    UnetConfig::read(&fixture(name).join("config.json")).expect("a supported configuration")
}

pub fn numbers(json: &Json) -> Vec<f64> {
    json.as_array()
        .expect("a list")
        .iter()
        .map(|v| v.as_f64().expect("a number"))
        .collect()
}
