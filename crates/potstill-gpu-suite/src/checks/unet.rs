//! UNets against diffusers: predictions, losses, and every parameter's gradient, on tiny models in the true shapes; and in
//! bf16, where they may be about as far from f32 as torch is.

use std::collections::HashMap;

use potstill_engine::{DType, Gradients, Tensor, Value, backward};
use potstill_models::{ForwardOptions, Initialisation, Precision, Unet, UnetInputs};
use serde_json::Value as Json;

use super::{Size, caught};
use crate::compare::{Tolerance, compare, values};
use crate::embedded::{BF16, UNETS, UnetFixture, json};
use crate::place::Place;
use crate::random::{randn, randn_f32};
use crate::report::Check;
use crate::{Error, Result};

const GROUP: &str = "unet";
/// Of a prediction, of its largest value; the bounds are those of the engine's own tests.
const PREDICTION: f64 = 1e-4;
/// ‖Δ‖ of a gradient over max(‖reference‖, 1e-3 of the median norm).
const GRADIENT: f64 = 1e-3;
const LOSS: f64 = 1e-5;
/// Error in bf16 over that of torch in bf16, as in the engine's own tests.
const OF_TORCHS: f64 = 1.5;

/// All cases of both families, in f32 and in bf16.
pub(super) fn check(place: &Place, _size: Size) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    let torch = json(BF16)?;
    for fixture in &UNETS {
        let loaded = Loaded::new(fixture, place, Precision::F32)?;
        loaded.unet.params().set_trainable(|_| true);
        for case in array(&loaded.expected["cases"])? {
            for recompute in [false, true] {
                checks.extend(check_one(fixture.name, &loaded, case, recompute));
            }
        }
        let torch = &torch["errors"][format!("unet_{}_tiny", fixture.name)];
        // On a card, weights that are trained stay f32 while inputs and activations are bf16.
        let trained = place.is_card().then_some((loaded, DType::BF16, "bf16 by f32"));
        let frozen = Loaded::new(fixture, place, Precision::Bf16)?;
        for (loaded, inputs, dtype) in trained.into_iter().chain([(frozen, DType::F32, "bf16")]) {
            for case in array(&loaded.expected["cases"])? {
                let name = format!("{} {}", fixture.name, case["name"].as_str().unwrap_or_default());
                checks.extend(check_in_bf16((&name, dtype), &loaded, case, inputs, torch));
            }
        }
    }
    Ok(checks)
}

struct Loaded {
    place: Place,
    unet: Unet,
    expected: Json,
    tensors: HashMap<String, Tensor>,
}

impl Loaded {
    fn new(fixture: &UnetFixture, place: &Place, precision: Precision) -> Result<Self> {
        let expected = fixture.expected()?;
        let seed = whole(&expected["weights"]["base_seed"])?;
        let (config, normal) = (fixture.config()?, Initialisation::Normal);
        Ok(Self {
            unet: Unet::random_in(config, seed, normal, precision, place.device())?,
            place: place.clone(),
            expected,
            tensors: fixture.tensors()?,
        })
    }

    fn tensor(&self, key: &str) -> Result<&Tensor> {
        let found = self.tensors.get(key);
        found.ok_or_else(|| Error::Input(format!("there is no {key}")))
    }
}

fn check_one(family: &str, loaded: &Loaded, case: &Json, recompute: bool) -> Vec<Check> {
    let label = case["name"].as_str().unwrap_or_default();
    let how = if recompute { ", recomputed" } else { "" };
    let name = |what: &str| format!("{family} {label}{how}: {what}");
    let of = |what: &str, tolerance: f64, error: Result<f64>| Check::of(GROUP, name(what), "f32", tolerance, error);
    let run = match caught(|| loaded.place.run(|| Run::new(loaded, case, DType::F32, recompute))) {
        Ok(run) => run,
        Err(error) => return vec![of("all", 0., Err(error))],
    };
    let key = |what: &str| format!("{label}.{what}");
    let relative = |relative: f64| Tolerance { relative, floor: 0. };
    let mut checks = vec![
        of(
            "prediction",
            PREDICTION,
            loaded
                .tensor(&key("prediction"))
                .and_then(|r| compare(&run.prediction, r, relative(PREDICTION))),
        ),
        of(
            "loss",
            LOSS,
            number(&case["loss_f64"]).map(|wanted| (run.loss / wanted - 1.).abs()),
        ),
    ];
    for (input, value) in &run.inputs {
        let gradient = run
            .gradients
            .get(value)
            .ok_or_else(|| Error::Input("no gradient".to_owned()));
        let error =
            gradient.and_then(|g| compare(g, loaded.tensor(&key(&format!("grad.{input}")))?, relative(GRADIENT)));
        checks.push(of(&format!("gradient by {input}"), GRADIENT, error));
    }
    checks.push(of(
        "gradients by all parameters",
        GRADIENT,
        worst_gradient(loaded, case, run.gradients),
    ));
    checks
}

/// The prediction and the gradients by all inputs: root mean squares of differences, as shares of torch's in bf16.
fn check_in_bf16((name, dtype): (&str, &str), loaded: &Loaded, case: &Json, inputs: DType, torch: &Json) -> Vec<Check> {
    let label = case["name"].as_str().unwrap_or_default();
    let of = |what: &str, error| Check::of(GROUP, format!("{name}: {what}, of torch's"), dtype, OF_TORCHS, error);
    let run = match caught(|| loaded.place.run(|| Run::new(loaded, case, inputs, false))) {
        Ok(run) => run,
        Err(error) => return vec![of("all", Err(error))],
    };
    let mut found = vec![("prediction".to_owned(), Some(&run.prediction))];
    for (input, value) in &run.inputs {
        found.push((format!("grad.{input}"), run.gradients.get(value)));
    }
    let error = |key: &str, found: Option<&Tensor>| -> Result<f64> {
        let found = values(found.ok_or_else(|| Error::Input("no gradient".to_owned()))?)?;
        let wanted = values(loaded.tensor(&format!("{label}.{key}"))?)?;
        let off: f64 = found.iter().zip(&wanted).map(|(a, b)| (a - b).powi(2)).sum();
        let size: f64 = wanted.iter().map(|b| b * b).sum();
        let error = (off / size).sqrt() / number(&torch[label][key])?;
        Ok(if error.is_finite() { error } else { f64::INFINITY })
    };
    let checks = found.into_iter().map(|(key, found)| of(&key, error(&key, found)));
    checks.collect()
}

/// One forward and backward pass.
struct Run {
    prediction: Tensor,
    loss: f64,
    inputs: Vec<(&'static str, Value)>,
    gradients: Gradients,
}

impl Run {
    fn new(loaded: &Loaded, case: &Json, dtype: DType, recompute: bool) -> Result<Self> {
        let config = loaded.unet.config();
        let [batch, height, width] = ["batch", "height", "width"].map(|key| whole(&case[key]).map(|n| n as usize));
        let (batch, height, width) = (batch?, height?, width?);
        let drawn = |input: &str, shape: &[usize]| -> Result<Tensor> {
            let seed = whole(&loaded.expected["input_seeds"][input])?;
            Ok(randn(seed, shape)?.to_dtype(dtype)?.to_device(loaded.unet.device())?)
        };
        let sample = Value::leaf(drawn("sample", &[batch, 4, height, width])?);
        let text = Value::leaf(drawn(
            "encoder_hidden_states",
            &[batch, 77, config.cross_attention_dim],
        )?);
        let mut inputs = vec![("sample", sample.clone()), ("encoder_hidden_states", text.clone())];
        let (mut text_embeds, mut time_ids) = (None, None);
        if let Some(added) = config.text_time {
            let pooled = Value::leaf(drawn("text_embeds", &[batch, added.pooled_channels])?);
            inputs.push(("text_embeds", pooled.clone()));
            text_embeds = Some(pooled);
            let mut rows = Vec::new();
            for row in array(&case["time_ids"])? {
                rows.extend(numbers(row)?.into_iter().map(|v| v as f32));
            }
            time_ids = Some(Value::constant(Tensor::from_vec(
                rows,
                (batch, 6),
                loaded.unet.device(),
            )?));
        }
        let timestep = numbers(&case["timestep"])?;
        let unet_inputs = UnetInputs {
            sample,
            timestep: &timestep,
            encoder_hidden_states: text,
            text_embeds,
            time_ids,
        };
        let output = loaded.unet.forward(&unet_inputs, &ForwardOptions { recompute })?;
        let prediction = output.tensor().clone();
        let difference = (&prediction - drawn("target", prediction.dims())?)?;
        let count = difference.elem_count() as f64;
        let loss = values(&difference)?.iter().map(|d| d * d).sum::<f64>() / count;
        let gradients = backward(&[(output, (difference * (2. / count))?)])?;
        Ok(Self {
            prediction,
            loss,
            inputs,
            gradients,
        })
    }
}

/// The worst error of all parameters' gradients: their norms, and their products with random directions.
fn worst_gradient(loaded: &Loaded, case: &Json, mut gradients: Gradients) -> Result<f64> {
    let found = loaded.unet.params().take_gradients(&mut gradients)?;
    let reference = case["gradients"]
        .as_object()
        .ok_or_else(|| Error::Input("no gradients".to_owned()))?;
    if found.len() != reference.len() {
        return Err(Error::Input(format!(
            "{} gradients, {} are known",
            found.len(),
            reference.len()
        )));
    }
    let mut norms = reference
        .values()
        .map(|g| number(&g["norm"]))
        .collect::<Result<Vec<_>>>()?;
    norms.sort_by(f64::total_cmp);
    let floor = 1e-3 * norms[norms.len() / 2];
    let base = whole(&loaded.expected["projection_base_seed"])?;
    let mut sorted: Vec<_> = found.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let mut worst = 0f64;
    for ((name, gradient), i) in sorted.into_iter().zip(0..) {
        let gradient = gradient
            .as_ref()
            .ok_or_else(|| Error::Input(format!("{name} has no gradient")))?;
        let gradient = values(gradient)?;
        let wanted = &reference[name];
        let wanted_norm = number(&wanted["norm"])?;
        let norm = gradient.iter().map(|v| v * v).sum::<f64>().sqrt();
        let mut errors = vec![(norm - wanted_norm).abs()];
        for (projection, k) in numbers(&wanted["projections"])?.into_iter().zip(0..) {
            let direction = randn_f32(base + 4 * i + k, gradient.len());
            let product: f64 = gradient.iter().zip(&direction).map(|(a, b)| a * f64::from(*b)).sum();
            errors.push((product - projection).abs());
        }
        for error in errors {
            let error = error / wanted_norm.max(floor);
            worst = if error.is_finite() {
                worst.max(error)
            } else {
                f64::INFINITY
            };
        }
    }
    Ok(worst)
}

fn number(json: &Json) -> Result<f64> {
    json.as_f64()
        .ok_or_else(|| Error::Input("a number is missing".to_owned()))
}

fn whole(json: &Json) -> Result<u64> {
    json.as_u64()
        .ok_or_else(|| Error::Input("a whole number is missing".to_owned()))
}

fn array(json: &Json) -> Result<&Vec<Json>> {
    json.as_array()
        .ok_or_else(|| Error::Input("a list is missing".to_owned()))
}

fn numbers(json: &Json) -> Result<Vec<f64>> {
    array(json)?.iter().map(number).collect()
}
