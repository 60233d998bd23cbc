//! The VAE against diffusers, forward and backward.

mod common;

use common::{assert_close, assert_weights, base_seed, fixture, json, randn, tensors};
use potstill_engine::{Device, Tensor, Value, backward};
use potstill_models::{Vae, VaeConfig};

/// Largest error, of the reference's scale.
const TOLERANCE: f64 = 1e-4;
/// Largest error of a gradient by an input, of the reference's scale.
const GRADIENT_TOLERANCE: f64 = 1e-3;

#[test]
fn encoding_and_decoding_are_diffusers() {
    let expected = json("vae_tiny/expected.json");
    let reference = tensors("vae_tiny/expected.safetensors");
    let config = VaeConfig::read(&fixture("vae_tiny").join("config.json")).unwrap();
    let vae = Vae::random(config, base_seed(&expected), common::WEIGHTS, &Device::Cpu).unwrap();
    assert_weights(vae.params(), &expected);
    let seeded = |name: &str, shape: &[usize]| randn(expected["input_seeds"][name].as_u64().unwrap(), shape);
    let (height, width) = (
        expected["height"].as_u64().unwrap() as usize,
        expected["width"].as_u64().unwrap() as usize,
    );

    let pixels = Value::leaf((seeded("pixels", &[2, 3, height, width]) * 0.5).unwrap());
    let posterior = vae.encode(&pixels).unwrap();
    let moments = Tensor::cat(&[posterior.mean.tensor(), posterior.log_variance.tensor()], 1).unwrap();
    assert_close("moments", &moments, &reference["moments"], TOLERANCE);
    let latents = posterior.mode().unwrap();
    assert_close("latents", latents.tensor(), &reference["latents"], TOLERANCE);
    let seed = seeded("grad_mean", latents.dims());
    let mut gradients = backward(&[(latents, seed)]).unwrap();
    assert_close(
        "grad.pixels",
        &gradients.take(&pixels).unwrap(),
        &reference["grad.pixels"],
        GRADIENT_TOLERANCE,
    );

    let latents = Value::leaf(seeded("latents", &[2, 4, height / 8, width / 8]));
    let decoded = vae.decode(&latents).unwrap();
    assert_close("decoded", decoded.tensor(), &reference["decoded"], TOLERANCE);
    let seed = seeded("grad_decoded", decoded.dims());
    let mut gradients = backward(&[(decoded, seed)]).unwrap();
    assert_close(
        "grad.latents",
        &gradients.take(&latents).unwrap(),
        &reference["grad.latents"],
        GRADIENT_TOLERANCE,
    );
}

#[test]
fn pictures_that_do_not_fit_are_errors() {
    let config = VaeConfig::read(&fixture("vae_tiny").join("config.json")).unwrap();
    let vae = Vae::random(config, 0, common::WEIGHTS, &Device::Cpu).unwrap();
    for shape in [&[1, 3, 30, 32][..], &[1, 4, 32, 32], &[3, 32, 32], &[1, 3, 0, 8]] {
        let pixels = Tensor::zeros(shape, potstill_engine::DType::F32, &Device::Cpu).unwrap();
        assert!(
            vae.encode_mode(&pixels).unwrap_err().to_string().starts_with("pixels"),
            "{shape:?}"
        );
    }
    let latents = Tensor::zeros((1, 3, 4, 4), potstill_engine::DType::F32, &Device::Cpu).unwrap();
    assert!(
        vae.decode(&Value::constant(latents))
            .err()
            .unwrap()
            .to_string()
            .starts_with("latents")
    );
}
