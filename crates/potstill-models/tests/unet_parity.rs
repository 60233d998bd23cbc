//! The UNets against diffusers: predictions, losses and every parameter's gradient, on tiny models in the true shapes.

mod common;

use std::collections::HashMap;

use common::{
    assert_close, assert_weights, base_seed, json, numbers, randn, randn_values, tensors, unet_config, values,
};
use potstill_engine::{DType, Device, Gradients, Tensor, Value, backward};
use potstill_models::{ForwardOptions, Precision, Unet, UnetInputs};
use serde_json::Value as Json;

/// Largest error of a prediction, of the reference's scale.
const PREDICTION_TOLERANCE: f64 = 1e-4;
/// Largest error in bf16 over that of torch in bf16, which rounds activations too.
const BF16_TOLERANCE: f64 = 1.5;
/// Largest ‖Δ‖ of a gradient over max(‖reference‖, 1e-3 of the median norm).
const GRADIENT_TOLERANCE: f64 = 1e-3;
const MODELS: [&str; 2] = ["unet_sd15_tiny", "unet_sdxl_tiny"];

struct Fixture {
    expected: Json,
    tensors: HashMap<String, Tensor>,
    unet: Unet,
}

impl Fixture {
    fn load(name: &str) -> Self {
        let fixture = Self::load_in(name, Precision::F32);
        assert_weights(fixture.unet.params(), &fixture.expected);
        fixture
    }

    fn load_in(name: &str, precision: Precision) -> Self {
        let expected = json(&format!("{name}/expected.json"));
        let (config, seed) = (unet_config(name), base_seed(&expected));
        let unet = Unet::random_in(config, seed, common::WEIGHTS, precision, &Device::Cpu).unwrap();
        Self {
            tensors: tensors(&format!("{name}/expected.safetensors")),
            unet,
            expected,
        }
    }

    fn cases(&self) -> &Vec<Json> {
        self.expected["cases"].as_array().expect("cases")
    }
}

/// One case's inputs, prediction, loss and gradients.
struct Run {
    prediction: Tensor,
    loss: f64,
    inputs: Vec<(&'static str, Value)>,
    gradients: Gradients,
}

fn run(fixture: &Fixture, case: &Json, options: &ForwardOptions) -> Run {
    let number = |key: &str| case[key].as_u64().expect("a number") as usize;
    let (batch, size) = (number("batch"), [number("height"), number("width")]);
    let seed = |name: &str| fixture.expected["input_seeds"][name].as_u64().expect("a seed");
    let leaf = |name: &str, shape: &[usize]| Value::leaf(randn(seed(name), shape));
    let sample = leaf("sample", &[batch, 4, size[0], size[1]]);
    let text = leaf(
        "encoder_hidden_states",
        &[batch, 77, fixture.unet.config().cross_attention_dim],
    );
    let pooled = fixture
        .unet
        .config()
        .text_time
        .map(|c| leaf("text_embeds", &[batch, c.pooled_channels]));
    let time_ids = pooled.as_ref().map(|_| {
        let rows: Vec<f32> = case["time_ids"]
            .as_array()
            .expect("rows")
            .iter()
            .flat_map(numbers)
            .map(|v| v as f32)
            .collect();
        Value::constant(Tensor::from_vec(rows, (batch, 6), &Device::Cpu).unwrap())
    });
    let timestep = numbers(&case["timestep"]);
    let inputs = UnetInputs {
        sample: sample.clone(),
        timestep: &timestep,
        encoder_hidden_states: text.clone(),
        text_embeds: pooled.clone(),
        time_ids,
    };
    let output = fixture.unet.forward(&inputs, options).unwrap();
    let prediction = output.tensor().clone();
    let target = randn(seed("target"), prediction.dims());
    let difference = values(&(&prediction - &target).unwrap());
    let count = difference.len() as f64;
    let loss = difference.iter().map(|d| f64::from(*d).powi(2)).sum::<f64>() / count;
    let seed_gradient = ((&prediction - &target).unwrap() * (2. / count)).unwrap();
    let gradients = backward(&[(output, seed_gradient)]).unwrap();
    let mut inputs = vec![("sample", sample), ("encoder_hidden_states", text)];
    inputs.extend(pooled.map(|p| ("text_embeds", p)));
    Run {
        prediction,
        loss,
        inputs,
        gradients,
    }
}

/// The worst error of all gradients against the fixture's norms and projections.
fn worst_gradient(fixture: &Fixture, case: &Json, gradients: &[(String, Option<Tensor>)]) -> (f64, String) {
    let reference = case["gradients"].as_object().expect("gradients");
    assert_eq!(gradients.len(), reference.len());
    let mut norms: Vec<f64> = reference
        .values()
        .map(|g| g["norm"].as_f64().expect("a norm"))
        .collect();
    norms.sort_by(f64::total_cmp);
    let floor = 1e-3 * norms[norms.len() / 2];
    let base = fixture.expected["projection_base_seed"].as_u64().expect("a seed");
    let mut sorted: Vec<_> = gradients.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let mut worst = (0., String::new());
    for (i, (name, gradient)) in sorted.into_iter().enumerate() {
        let gradient = values(gradient.as_ref().unwrap_or_else(|| panic!("{name} has no gradient")));
        let wanted = &reference[name];
        let norm = gradient.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        let wanted_norm = wanted["norm"].as_f64().expect("a norm");
        let mut errors = vec![(norm - wanted_norm).abs()];
        for (k, wanted) in numbers(&wanted["projections"]).into_iter().enumerate() {
            let direction = randn_values(base + 4 * i as u64 + k as u64, gradient.len());
            let dot: f64 = gradient
                .iter()
                .zip(&direction)
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum();
            errors.push((dot - wanted).abs());
        }
        for error in errors {
            let relative = error / wanted_norm.max(floor);
            // A NaN must not win unseen.
            if relative.is_nan() || relative > worst.0 {
                worst = (relative, name.clone());
            }
        }
    }
    worst
}

#[test]
fn predictions_losses_and_gradients_are_diffusers() {
    for name in MODELS {
        let fixture = Fixture::load(name);
        fixture.unet.params().set_trainable(|_| true);
        for case in fixture.cases() {
            let label = case["name"].as_str().expect("a name");
            let Run {
                prediction,
                loss,
                inputs,
                mut gradients,
            } = run(&fixture, case, &ForwardOptions::default());
            let what = format!("{name} {label}");
            let reference = |key: &str| &fixture.tensors[&format!("{label}.{key}")];
            assert_close(
                &format!("{what} prediction"),
                &prediction,
                reference("prediction"),
                PREDICTION_TOLERANCE,
            );
            let expected_loss = case["loss_f64"].as_f64().expect("a loss");
            assert!(
                (loss / expected_loss - 1.).abs() < 1e-5,
                "{what}: loss {loss}, reference {expected_loss}"
            );
            for (key, input) in &inputs {
                let gradient = gradients.take(input).unwrap_or_else(|| panic!("{key} has no gradient"));
                assert_close(
                    &format!("{what} grad.{key}"),
                    &gradient,
                    reference(&format!("grad.{key}")),
                    GRADIENT_TOLERANCE,
                );
            }
            let gradients = fixture.unet.params().take_gradients(&mut gradients).unwrap();
            let (error, parameter) = worst_gradient(&fixture, case, &gradients);
            println!("{what} gradients: {error:.2e} ({parameter})");
            assert!(
                error <= GRADIENT_TOLERANCE,
                "{what}: gradient of {parameter} differs by {error:.3e}"
            );
        }
    }
}

#[test]
fn recomputation_gives_the_same_bits() {
    for name in MODELS {
        let fixture = Fixture::load(name);
        fixture.unet.params().set_trainable(|_| true);
        let case = &fixture.cases()[1];
        let mut kept = run(&fixture, case, &ForwardOptions { recompute: false });
        let mut recomputed = run(&fixture, case, &ForwardOptions { recompute: true });
        assert_eq!(values(&kept.prediction), values(&recomputed.prediction));
        let a = fixture.unet.params().take_gradients(&mut kept.gradients).unwrap();
        let b = fixture.unet.params().take_gradients(&mut recomputed.gradients).unwrap();
        for ((name, a), (_, b)) in a.iter().zip(&b) {
            assert_eq!(values(a.as_ref().unwrap()), values(b.as_ref().unwrap()), "{name}");
        }
        for ((key, a), (_, b)) in kept.inputs.iter().zip(&recomputed.inputs) {
            let (a, b) = (kept.gradients.take(a).unwrap(), recomputed.gradients.take(b).unwrap());
            assert_eq!(values(&a), values(&b), "{name} {key}");
        }
    }
}

#[test]
fn frozen_parameters_get_no_gradient() {
    let fixture = Fixture::load(MODELS[0]);
    let chosen = |name: &str| name.contains("attn2.to_k") || name == "conv_in.weight";
    fixture.unet.params().set_trainable(chosen);
    for recompute in [false, true] {
        let run = run(&fixture, &fixture.cases()[2], &ForwardOptions { recompute });
        for param in fixture.unet.params().iter() {
            assert_eq!(
                run.gradients.get(param.leaf()).is_some(),
                chosen(param.name()),
                "{}",
                param.name()
            );
        }
    }
}

#[test]
fn inputs_that_do_not_fit_are_errors_naming_them() {
    let unet = Unet::random(unet_config("unet_sdxl_tiny"), 0, common::WEIGHTS, &Device::Cpu).unwrap();
    let zeros =
        |shape: &[usize]| Value::constant(Tensor::zeros(shape, potstill_engine::DType::F32, &Device::Cpu).unwrap());
    let width = unet.config().cross_attention_dim;
    let attempt = |sample: &[usize], timestep: &[f64], text: &[usize], pooled: Option<&[usize]>| {
        let inputs = UnetInputs {
            sample: zeros(sample),
            timestep,
            encoder_hidden_states: zeros(text),
            text_embeds: pooled.map(zeros),
            time_ids: Some(zeros(&[1, 6])),
        };
        unet.forward(&inputs, &ForwardOptions::default())
            .unwrap_err()
            .to_string()
    };
    let (sample, text, pooled) = ([1, 4, 8, 8], [1, 77, width], [1, 40]);
    for (message, named) in [
        (attempt(&[1, 3, 8, 8], &[1.], &text, Some(&pooled)), "sample"),
        (attempt(&[4, 8, 8], &[1.], &text, Some(&pooled)), "sample"),
        (attempt(&sample, &[1., 2.], &text, Some(&pooled)), "timestep"),
        (
            attempt(&sample, &[1.], &[1, 77, 768], Some(&pooled)),
            "encoder_hidden_states",
        ),
        (attempt(&sample, &[1.], &text, Some(&[1, 39])), "text_embeds"),
        (attempt(&sample, &[1.], &text, None), "text_embeds"),
    ] {
        assert!(message.starts_with(named), "{message}");
    }
}

#[test]
fn bf16_is_about_as_far_from_f32_as_torch_is() {
    let torch = json("bf16/expected.json");
    for name in MODELS {
        let fixture = Fixture::load_in(name, Precision::Bf16);
        let of_dtype = |dtype| fixture.unet.params().iter().filter(|p| p.dtype() == dtype).count();
        assert!(of_dtype(DType::BF16) > 100 && of_dtype(DType::F32) > 100);
        for case in fixture.cases() {
            let label = case["name"].as_str().expect("a name");
            let Run {
                prediction,
                inputs,
                gradients,
                ..
            } = run(&fixture, case, &ForwardOptions::default());
            let mut found = vec![("prediction".to_string(), prediction)];
            found.extend(inputs.iter().map(|(input, value)| {
                let gradient = gradients.get(value).expect("of an input").clone();
                (format!("grad.{input}"), gradient)
            }));
            let reference = torch["errors"][name][label].as_object().expect("errors");
            assert_eq!(found.len(), reference.len());
            for (key, found) in found {
                let (found, wanted) = (values(&found), values(&fixture.tensors[&format!("{label}.{key}")]));
                let square = |v: f32| f64::from(v).powi(2);
                let off: f64 = found.iter().zip(&wanted).map(|(a, b)| square(a - b)).sum();
                let error = (off / wanted.iter().map(|&b| square(b)).sum::<f64>()).sqrt();
                let torch = reference[&key].as_f64().expect("an error");
                println!(
                    "{name} {label} {key}: {error:.5}, torch {torch:.5}: {:.2}",
                    error / torch
                );
                assert!(
                    error < BF16_TOLERANCE * torch,
                    "{name} {label} {key}: {error}, torch's is {torch}"
                );
            }
        }
    }
}

#[test]
fn weights_in_bf16_are_not_trained() {
    let fixture = Fixture::load_in(MODELS[0], Precision::Bf16);
    fixture.unet.params().set_trainable(|name| name == "conv_in.weight");
    let error = forward_error(&fixture);
    assert!(error.contains("conv2d") && error.contains("frozen"), "{error}");
}

fn forward_error(fixture: &Fixture) -> String {
    let inputs = UnetInputs {
        sample: Value::constant(randn(1, &[1, 4, 16, 16])),
        timestep: &[1.],
        encoder_hidden_states: Value::constant(randn(2, &[1, 77, fixture.unet.config().cross_attention_dim])),
        text_embeds: None,
        time_ids: None,
    };
    let result = fixture.unet.forward(&inputs, &ForwardOptions::default());
    result.expect_err("refused").to_string()
}
