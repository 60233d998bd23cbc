//! Adapters on the tiny UNets against peft: as branches beside the layers with their gradients, and laid into the weights.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{assert_close, fixture, json, norm, randn, relative_distance, tensor, values};

use potstill_adapters::{
    Adapter, AdapterError, AppliedTo, BlockOptions, Dialect, Family, LoraOptions, Matrix, MergeInput, Resize,
    TrainedLora, WriteOptions, apply, back_merge, extract, write_adapter,
};
use potstill_engine::{DType, Device, Gradients, Tensor, Value, backward, no_grad};
use potstill_io::{Dtype, SafetensorsFile, TensorSpec, f32_to_bytes, write_safetensors};
use potstill_models::{
    Component, ComponentConfig, ForwardOptions, Initialisation, ModelKind, Precision, Unet, UnetConfig, UnetInputs,
};
use serde_json::Value as Json;

/// Largest error of a prediction, of the reference's scale: f32 here, f64 there.
const PREDICTION_TOLERANCE: f64 = 1e-4;
/// Largest ‖Δ‖ / ‖reference‖ of a gradient.
const GRADIENT_TOLERANCE: f64 = 1e-3;
const KINDS: [&str; 2] = ["sd15", "sdxl"];

fn expected() -> SafetensorsFile {
    SafetensorsFile::open(&fixture("adapted/expected.safetensors")).unwrap()
}

fn config(kind: &str) -> UnetConfig {
    UnetConfig::read(&fixture(&format!("unet_{kind}_tiny/config.json"))).unwrap()
}

fn unet(kind: &str) -> Unet {
    unet_in(kind, Precision::F32)
}

fn unet_in(kind: &str, precision: Precision) -> Unet {
    let seed = json(&format!("unet_{kind}_tiny/expected.json"))["weights"]["base_seed"].as_u64();
    Unet::random_in(
        config(kind),
        seed.unwrap(),
        Initialisation::Normal,
        precision,
        &Device::Cpu,
    )
    .unwrap()
}

fn family(kind: &str) -> Family {
    let configs = [(Component::Unet, ComponentConfig::Unet(config(kind)))];
    Family::new(
        ModelKind::from_name(kind).unwrap(),
        "the tiny UNet".to_string(),
        &configs,
    )
    .unwrap()
}

fn adapter(path: &str, kind: &str) -> Adapter {
    Adapter::open(&fixture(path), Some(&family(kind))).unwrap()
}

/// The prediction for the fixtures' case `even`, and the target of its loss.
fn predict(unet: &Unet, kind: &str, recompute: bool) -> (Value, Tensor) {
    let expected = json(&format!("unet_{kind}_tiny/expected.json"));
    let case = &expected["cases"][0];
    let number = |key: &str| case[key].as_u64().unwrap() as usize;
    let seed = |name: &str| expected["input_seeds"][name].as_u64().unwrap();
    let batch = number("batch");
    let image = [batch, 4, number("height"), number("width")];
    let numbers = |json: &Json| {
        json.as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_f64().unwrap())
            .collect::<Vec<_>>()
    };
    let pooled = unet
        .config()
        .text_time
        .map(|c| randn(seed("text_embeds"), &[batch, c.pooled_channels]));
    let time_ids = pooled.as_ref().map(|_| {
        let rows: Vec<f32> = case["time_ids"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(numbers)
            .map(|v| v as f32)
            .collect();
        Value::constant(Tensor::from_vec(rows, (batch, 6), &Device::Cpu).unwrap())
    });
    let text = [batch, 77, unet.config().cross_attention_dim];
    let inputs = UnetInputs {
        sample: Value::constant(randn(seed("sample"), &image)),
        timestep: &numbers(&case["timestep"]),
        encoder_hidden_states: Value::constant(randn(seed("encoder_hidden_states"), &text)),
        text_embeds: pooled.map(Value::constant),
        time_ids,
    };
    let prediction = unet.forward(&inputs, &ForwardOptions { recompute }).unwrap();
    (prediction, randn(seed("target"), &image))
}

fn assert_prediction(what: &str, found: &Tensor, reference: &Tensor) {
    assert_close(what, found, reference, PREDICTION_TOLERANCE);
}

fn gradients(unet: &Unet, kind: &str, recompute: bool) -> (Tensor, f64, Gradients) {
    let (output, target) = predict(unet, kind, recompute);
    let prediction = output.tensor().clone();
    let difference = (&prediction - &target).unwrap();
    let count = difference.elem_count() as f64;
    let loss = norm(&difference).powi(2) / count;
    let gradients = backward(&[(output, (difference * (2. / count)).unwrap())]).unwrap();
    (prediction, loss, gradients)
}

#[test]
fn predictions_losses_and_gradients_are_pefts() {
    let expected = expected();
    for kind in KINDS {
        let unet = unet(kind);
        let adapter = adapter(&format!("adapters/{kind}_lora_peft"), kind);
        let lora = TrainedLora::of_adapter(&unet, &adapter, 1.).unwrap();
        assert_eq!(lora.layers(), 9);
        lora.params().set_trainable(|_| true);
        let mut results = Vec::new();
        for recompute in [false, true] {
            let (prediction, loss, mut gradients) = gradients(&unet, kind, recompute);
            assert_prediction(
                kind,
                &prediction,
                &tensor(&expected, &format!("{kind}.lora.prediction")),
            );
            let wanted = json("adapted/expected.json")["losses"][format!("{kind}.lora")]
                .as_f64()
                .unwrap();
            assert!((loss / wanted - 1.).abs() < 1e-5, "{loss} {wanted}");
            assert_eq!(gradients.len(), 18, "nothing but the adapter has a gradient");
            let found = lora.params().take_gradients(&mut gradients).unwrap();
            let mut worst = 0f64;
            for (name, gradient) in &found {
                let reference = tensor(&expected, &format!("{kind}.lora.grad.{name}"));
                worst = worst.max(relative_distance(gradient.as_ref().unwrap(), &reference));
            }
            println!("{kind} gradients: {worst:.2e}");
            assert!(worst <= GRADIENT_TOLERANCE, "{kind}: {worst:e}");
            results.push(found.into_iter().map(|(_, g)| values(&g.unwrap())).collect::<Vec<_>>());
        }
        assert_eq!(results[0], results[1], "recomputed gradients are the same to the bit");
    }
}

#[test]
fn doras_on_layers_have_pefts_predictions_and_gradients() {
    let (expected, unet) = (expected(), unet("sd15"));
    let adapter = adapter("adapted/sd15_dora_peft", "sd15");
    let lora = TrainedLora::of_adapter(&unet, &adapter, 1.).unwrap();
    lora.params().set_trainable(|_| true);
    let (prediction, _, mut gradients) = gradients(&unet, "sd15", true);
    assert_prediction("dora", &prediction, &tensor(&expected, "sd15.dora.prediction"));
    let found = lora.params().take_gradients(&mut gradients).unwrap();
    assert_eq!(found.len(), 27);
    for (name, gradient) in &found {
        let gradient = gradient.as_ref().unwrap();
        // peft's magnitudes of convolutions are [1, out, 1, 1].
        let ending = if name.ends_with("vector") { ".weight" } else { "" };
        let reference = tensor(&expected, &format!("sd15.dora.grad.{name}{ending}"));
        let reference = reference.reshape(gradient.dims()).unwrap();
        let distance = relative_distance(gradient, &reference);
        assert!(distance <= GRADIENT_TOLERANCE, "{name}: {distance:e}");
    }
    assert!(TrainedLora::of_adapter(&unet, &adapter, 0.5).is_err(), "half of a DoRA");
}

#[test]
fn a_new_dora_starts_as_its_model_and_is_written_with_its_magnitudes() {
    let trained = unet("sd15");
    let before = values(predict(&trained, "sd15", false).0.tensor());
    let dora = LoraOptions {
        dora: true,
        ..options(&["transformers", "*.resnets.*"])
    };
    let lora = TrainedLora::new(&trained, &dora).unwrap();
    assert_eq!(values(predict(&trained, "sd15", false).0.tensor()), before);
    for param in lora.params().iter() {
        let moved = randn(3, param.tensor().dims()).affine(0.05, 0.).unwrap();
        param.assign(&(param.tensor() + moved).unwrap()).unwrap();
    }
    let wanted = predict(&trained, "sd15", false).0;
    let adapter = lora.adapter(BTreeMap::new(), "train", serde_json::json!({})).unwrap();
    assert!(adapter.modules.values().all(|module| module.kind() == "dora"));
    let other = unet("sd15");
    apply(other.params(), &adapter, Component::Unet, 1.).unwrap();
    assert_prediction(
        "dora as trained",
        predict(&other, "sd15", false).0.tensor(),
        wanted.tensor(),
    );
}

#[test]
fn blocks_have_ranks_and_alphas_of_their_own() {
    let block = |layers: &str, rank: usize, alpha: f64| BlockOptions {
        layers: layers.to_string(),
        rank,
        alpha,
    };
    let options = LoraOptions {
        blocks: vec![block("mid_block.*", 2, 1.), block("*.attn2.*", 8, 8.)],
        ..options(&["attention"])
    };
    let unet = unet("sd15");
    let lora = TrainedLora::new(&unet, &options).unwrap();
    let adapter = lora.adapter(BTreeMap::new(), "train", serde_json::json!({})).unwrap();
    for (name, module) in &adapter.modules {
        let wanted = match (name.contains(".attn2."), name.contains("mid_block")) {
            (true, _) => (8, 8.),
            (false, true) => (2, 1.),
            (false, false) => (4, 2.),
        };
        assert_eq!((module.rank().unwrap(), module.alpha), wanted, "{name}");
    }
    let none = LoraOptions {
        blocks: vec![block("*.resnets.*", 2, 1.)],
        ..options
    };
    let error = TrainedLora::new(&unet, &none).err().unwrap().to_string();
    assert!(error.contains("*.resnets.*"), "{error}");
}

#[test]
fn applied_adapters_predict_as_attached_ones_and_as_peft() {
    let expected = expected();
    for (kind, path, name) in [
        ("sd15", "adapters/sd15_lora_peft", "sd15.lora"),
        ("sdxl", "adapters/sdxl_lora_peft", "sdxl.lora"),
        ("sd15", "adapted/sd15_dora_peft", "sd15.dora"),
    ] {
        let unet = unet(kind);
        let before = values(predict(&unet, kind, false).0.tensor());
        let adapter = adapter(path, kind);
        assert_eq!(apply(unet.params(), &adapter, Component::Unet, 1.).unwrap(), 9);
        let (prediction, _) = predict(&unet, kind, false);
        assert_prediction(
            name,
            prediction.tensor(),
            &tensor(&expected, &format!("{name}.prediction")),
        );
        assert_ne!(values(prediction.tensor()), before);
        if name.ends_with("lora") {
            // Taken back, the model is what it was, but for rounding.
            apply(unet.params(), &adapter, Component::Unet, -1.).unwrap();
            let (back, _) = predict(&unet, kind, false);
            let before = Tensor::from_vec(before, back.dims(), &Device::Cpu).unwrap();
            assert_prediction("taken back", back.tensor(), &before);
        }
    }
}

#[test]
fn weights_in_bf16_stay_so_when_an_adapter_is_laid_into_them() {
    /// Half of the distance between a bf16 and the next, relative to it.
    const HALF_STEP: f64 = 1. / 256.;
    let adapter = adapter("adapters/sd15_lora_peft", "sd15");
    let (base, exact, rounded) = (unet("sd15"), unet("sd15"), unet_in("sd15", Precision::Bf16));
    for unet in [&exact, &rounded] {
        assert_eq!(apply(unet.params(), &adapter, Component::Unet, 1.).unwrap(), 9);
    }
    for (param, name) in rounded.params().iter().map(|p| (p, p.name())) {
        let tensor = param.tensor();
        assert_eq!(tensor.dtype(), if tensor.rank() > 1 { DType::BF16 } else { DType::F32 });
        let of = |unet: &Unet| values(&unet.params().get(name).unwrap().tensor());
        let found = values(&tensor.to_dtype(DType::F32).unwrap());
        for ((found, exact), base) in found.iter().zip(of(&exact)).zip(of(&base)) {
            // Rounded twice: as it was loaded, and as it was changed.
            let [found, exact, base] = [*found, exact, base].map(f64::from);
            let allowed = 1.01 * HALF_STEP * (base.abs() + exact.abs()) + 1e-6;
            assert!((found - exact).abs() <= allowed, "{name}: {found} {exact}");
        }
    }
}

#[test]
fn weights_scale_attached_and_applied_alike() {
    for path in ["adapters/sd15_lora_peft", "adapters/sd15_rslora_peft"] {
        let adapter = adapter(path, "sd15");
        let (attached, applied) = (unet("sd15"), unet("sd15"));
        TrainedLora::of_adapter(&attached, &adapter, 0.3).unwrap();
        TrainedLora::of_adapter(&attached, &adapter, 0.4).unwrap();
        apply(applied.params(), &adapter, Component::Unet, 0.7).unwrap();
        let [attached, applied] = [&attached, &applied].map(|unet| predict(unet, "sd15", false).0);
        assert_prediction(path, attached.tensor(), applied.tensor());
    }
    // Half of a DoRA is half of the way to what the whole gives, in the weights.
    let dora = adapter("adapted/sd15_dora_peft", "sd15");
    let weight = |share: Option<f64>| {
        let unet = unet("sd15");
        share.map(|share| apply(unet.params(), &dora, Component::Unet, share).unwrap());
        values(&unet.params().get("conv_in.weight").unwrap().tensor())
    };
    let (none, half, whole) = (weight(None), weight(Some(0.5)), weight(Some(1.)));
    for ((n, h), w) in none.iter().zip(&half).zip(&whole) {
        assert!((h - (n + w) / 2.).abs() < 1e-6);
    }
    assert_ne!(none, whole);
}

#[test]
fn other_kinds_are_applied_and_refused_where_gradients_are_asked_for() {
    for name in ["loha", "lokr", "lokr_whole"] {
        let adapter = adapter(&format!("adapters/sd15_{name}.safetensors"), "sd15");
        let unet = unet("sd15");
        let error = TrainedLora::of_adapter(&unet, &adapter, 1.).err().unwrap().to_string();
        assert!(error.contains("a LoRA alone can be attached"), "{error}");
        let path = "down_blocks.0.downsamplers.0.conv";
        let weight =
            || potstill_models::to_file_layout(&unet.params().get(&format!("{path}.weight")).unwrap().tensor());
        let old = values(&weight().unwrap());
        apply(unet.params(), &adapter, Component::Unet, 2.).unwrap();
        let delta = adapter.modules[&format!("unet.{path}")].delta().unwrap();
        for ((new, old), delta) in values(&weight().unwrap()).iter().zip(old).zip(delta.values) {
            assert!((new - (old + 2. * delta)).abs() <= 1e-6 * (1. + new.abs()));
        }
    }
}

#[test]
fn whole_differences_of_weights_norms_and_biases_are_added_and_written_back() {
    let folder = tempfile::tempdir().unwrap();
    let changed = [
        "conv_in.weight",
        "conv_in.bias",
        "conv_norm_out.weight",
        "conv_norm_out.bias",
    ];
    let keys = [
        "conv_in.diff",
        "conv_in.diff_b",
        "conv_norm_out.w_norm",
        "conv_norm_out.b_norm",
    ];
    let (before, unet) = (unet("sd15"), unet("sd15"));
    let file_values = |unet: &Unet, name: &str| {
        let tensor = unet.params().get(name).unwrap().tensor();
        potstill_models::to_file_layout(&tensor).unwrap()
    };
    let differences: Vec<Tensor> = changed
        .iter()
        .zip(1..)
        .map(|(name, seed)| randn(seed, file_values(&before, name).dims()))
        .collect();
    let specs: Vec<TensorSpec> = keys
        .iter()
        .zip(&differences)
        .map(|(key, difference)| TensorSpec {
            name: format!("lora_unet_{key}"),
            dtype: Dtype::F32,
            shape: difference.dims().to_vec(),
        })
        .collect();
    let path = folder.path().join("full.safetensors");
    write_safetensors(&path, &specs, &BTreeMap::new(), &mut |i, w| {
        let values: Vec<f32> = differences[i].flatten_all().unwrap().to_vec1().unwrap();
        w.write_all(&f32_to_bytes(&values, Dtype::F32).unwrap())
    })
    .unwrap();
    let adapter = Adapter::open(&path, Some(&family("sd15"))).unwrap();
    let again = folder.path().join("again.safetensors");
    let kohya = WriteOptions {
        dialect: Dialect::Kohya,
        dtype: None,
        title: None,
        prediction: None,
    };
    write_adapter(&adapter, &again, &kohya).unwrap();
    for (path, weight) in [(&path, 0.5), (&again, 0.25)] {
        let adapter = Adapter::open(path, Some(&family("sd15"))).unwrap();
        assert!(adapter.modules.values().all(|module| module.kind() == "full"));
        assert_eq!(apply(unet.params(), &adapter, Component::Unet, weight).unwrap(), 2);
    }
    for (name, difference) in changed.iter().zip(&differences) {
        let wanted = (file_values(&before, name) + (difference * 0.75).unwrap()).unwrap();
        assert_prediction(name, &file_values(&unet, name), &wanted);
    }
    let others = before.params().iter().filter(|param| !changed.contains(&param.name()));
    for param in others {
        assert_eq!(
            values(&param.tensor()),
            values(&unet.params().get(param.name()).unwrap().tensor())
        );
    }
}

fn options(targets: &[&str]) -> LoraOptions {
    LoraOptions {
        rank: 4,
        alpha: 2.,
        targets: targets.iter().map(ToString::to_string).collect(),
        blocks: Vec::new(),
        dora: false,
        seed: 7,
    }
}

#[test]
fn a_new_lora_changes_nothing_and_all_of_it_is_reached_once_it_has_moved() {
    for kind in KINDS {
        let unet = unet(kind);
        let before = values(predict(&unet, kind, false).0.tensor());
        let lora = TrainedLora::new(&unet, &options(&["all"])).unwrap();
        assert_eq!(lora.layers(), unet.sockets().layers().len());
        assert_eq!(values(predict(&unet, kind, false).0.tensor()), before);
        lora.params().set_trainable(|_| true);
        for param in lora.params().iter().filter(|p| p.name().ends_with("lora_B.weight")) {
            param.assign(&param.tensor().affine(0., 0.01).unwrap()).unwrap();
        }
        let (_, _, mut found) = gradients(&unet, kind, true);
        for (name, gradient) in lora.params().take_gradients(&mut found).unwrap() {
            let norm = norm(&gradient.unwrap_or_else(|| panic!("{name} has no gradient")));
            assert!(norm.is_finite() && norm > 0., "{name}: {norm}");
        }
        assert!(no_grad(|| predict(&unet, kind, false)).0.id().is_none());
        unet.sockets().clear();
        assert_eq!(values(predict(&unet, kind, false).0.tensor()), before);
    }
}

#[test]
fn starting_values_are_torchs_and_do_not_depend_on_the_other_targets() {
    let starts = |targets: &[&str]| -> BTreeMap<String, Vec<f64>> {
        let lora = TrainedLora::new(&unet("sd15"), &options(targets)).unwrap();
        let tensors = lora.params().to_tensors(DType::F32).unwrap();
        tensors.iter().map(|(name, t)| (name.clone(), values(t))).collect()
    };
    let (all, some) = (starts(&["all"]), starts(&["attention", "conv_in"]));
    assert!(some.len() < all.len());
    for (name, values) in &some {
        assert_eq!(&all[name], values, "{name}");
    }
    let down = &all["conv_in.lora_A.weight"];
    assert_eq!(down.len(), 4 * 4 * 9);
    let bound = 1. / 6.;
    assert!(down.iter().all(|v| v.abs() <= bound) && down.iter().any(|v| v.abs() > 0.9 * bound));
    assert!(all["conv_in.lora_B.weight"].iter().all(|v| *v == 0.));
}

#[test]
fn what_was_trained_is_written_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let trained = unet(kind);
        let lora = TrainedLora::new(&trained, &options(&["transformers", "*.resnets.*"])).unwrap();
        for param in lora.params().iter() {
            param
                .assign(&randn(3, param.tensor().dims()).affine(0.1, 0.).unwrap())
                .unwrap();
        }
        let wanted = predict(&trained, kind, false).0;
        let adapter = lora
            .adapter(BTreeMap::new(), "train", serde_json::json!({ "steps": 3 }))
            .unwrap();
        for dialect in Dialect::ALL {
            let path = folder.path().join(format!("{kind}-{}.safetensors", dialect.name()));
            let options = WriteOptions {
                dialect,
                dtype: Some(Dtype::F32),
                title: None,
                prediction: None,
            };
            write_adapter(&adapter, &path, &options).unwrap();
            let read = Adapter::open(&path, Some(&family(kind))).unwrap();
            let other = unet(kind);
            assert_eq!(
                TrainedLora::of_adapter(&other, &read, 1.).unwrap().layers(),
                lora.layers()
            );
            assert_prediction(dialect.name(), predict(&other, kind, false).0.tensor(), wanted.tensor());
            if dialect == Dialect::Kohya {
                assert_eq!(read.provenance()[0]["operation"], "train");
            }
        }
    }
}

/// A model's folder with nothing but a UNet.
fn save(unet: &Unet, folder: &Path) {
    unet.save(&folder.join("unet"), DType::F32).unwrap();
}

fn difference(a: &Matrix, b: &Matrix) -> f64 {
    let squares = a.values.iter().zip(&b.values).map(|(x, y)| (x - y) * (x - y));
    squares.sum::<f64>().sqrt()
}

fn input(path: &str, weight: f64) -> MergeInput {
    MergeInput {
        adapter: adapter(path, "sd15"),
        name: path.to_string(),
        weight,
        blocks: Vec::new(),
    }
}

fn few(rank: usize) -> Resize {
    Resize {
        rank: Some(rank),
        energy: None,
    }
}

#[test]
fn what_was_laid_into_a_model_is_extracted_from_it() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let (base, tuned) = (folder.path().join("base"), folder.path().join("tuned"));
        let unet = unet(kind);
        save(&unet, &base);
        let adapter = adapter(&format!("adapters/{kind}_lora_peft"), kind);
        apply(unet.params(), &adapter, Component::Unet, 0.5).unwrap();
        let bias = unet.params().get("conv_in.bias").unwrap();
        bias.assign(&(bias.tensor() + 1.).unwrap()).unwrap();
        save(&unet, &tuned);
        let found = extract(&base, &tuned, few(3), &mut || Ok(())).unwrap();
        assert_eq!(found.left_out, ["unet.conv_in.bias"]);
        assert_eq!(found.layers.len(), 9);
        assert_eq!(
            found.adapter.modules.keys().collect::<Vec<_>>(),
            adapter.modules.keys().collect::<Vec<_>>()
        );
        for (name, module) in &adapter.modules {
            let (delta, wanted) = (
                found.adapter.modules[name].delta().unwrap(),
                module.delta().unwrap().scaled(0.5),
            );
            let error = difference(&delta, &wanted) / wanted.norm();
            assert!(error < 1e-5, "{name}: {error:e}");
        }
        assert!(found.layers.iter().all(|layer| layer.lost < 1e-5 && layer.to <= 3));
        let fewer = extract(&base, &tuned, few(1), &mut || Ok(())).unwrap();
        assert!(fewer.layers.iter().all(|layer| layer.to == 1 && layer.lost > 0.01));
        assert!(extract(&base, &base, few(1), &mut || Ok(())).is_err());
        let mut asked = 0;
        let ended = extract(&base, &tuned, few(1), &mut || {
            asked += 1;
            let file = || AdapterError::File {
                path: "here".into(),
                reason: "enough".into(),
            };
            if asked < 3 { Ok(()) } else { Err(file()) }
        });
        assert_eq!(ended.err().unwrap().to_string(), "here: enough");
        assert_eq!(asked, 3);
        assert!(
            extract(
                &base,
                &tuned,
                Resize {
                    rank: None,
                    energy: Some(0.9)
                },
                &mut || Ok(()),
            )
            .is_err()
        );
    }
}

#[test]
fn merged_back_adapters_do_what_they_do_to_the_weights() {
    let folder = tempfile::tempdir().unwrap();
    let unet = unet("sd15");
    save(&unet, folder.path());
    let paths = [
        ("adapted/sd15_dora_peft", 0.7),
        ("adapters/sd15_loha.safetensors", -0.2),
        ("adapters/sd15_lora_peft", 0.5),
    ];
    let inputs = || {
        paths
            .map(|(path, weight)| input(path, weight))
            .into_iter()
            .collect::<Vec<_>>()
    };
    // Everything but rounding is kept with as many ranks as the layers have.
    let (whole, layers) = back_merge(inputs(), Some(folder.path()), few(4096), &mut || Ok(())).unwrap();
    assert_eq!(layers.len(), 9);
    // Each adapter alone: what it does to a DoRA's layer depends on the weights that it meets.
    let mut wanted: BTreeMap<&String, Vec<f64>> = BTreeMap::new();
    for (file, weight) in paths {
        let alone = self::unet("sd15");
        apply(alone.params(), &adapter(file, "sd15"), Component::Unet, weight).unwrap();
        for (name, module) in &whole.modules {
            let of = |unet: &Unet| {
                let param = unet.params().get(&format!("{}.weight", module.site.path)).unwrap();
                values(&potstill_models::to_file_layout(&param.tensor()).unwrap())
            };
            let change = of(&alone).into_iter().zip(of(&unet)).map(|(new, old)| new - old);
            let sum = wanted.entry(name).or_insert_with(|| vec![0.; change.len()]);
            sum.iter_mut().zip(change).for_each(|(x, y)| *x += y);
        }
    }
    let mut worst = 0f64;
    for (name, module) in &whole.modules {
        let delta = module.delta().unwrap();
        let wanted = Matrix {
            values: wanted[name].clone(),
            ..delta.clone()
        };
        assert_eq!(delta.values.len(), wanted.values.len());
        worst = worst.max(difference(&delta, &wanted) / wanted.norm());
    }
    println!("merged back: {worst:.2e}");
    assert!(worst < 1e-4, "{worst:e}");
    let (small, layers) = back_merge(inputs(), Some(folder.path()), few(2), &mut || Ok(())).unwrap();
    assert!(small.modules.values().all(|m| m.rank() == Some(2)) && layers.iter().any(|l| l.lost > 0.01));
    assert_eq!(small.provenance().len(), 2);
    let error = back_merge(inputs(), None, few(2), &mut || Ok(()))
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("--model"), "{error}");
    // LoRAs alone need neither a model nor a rank.
    let plain = || {
        vec![
            input("adapters/sd15_lora_peft", 0.5),
            input("adapters/sd15_rslora_peft", 1.),
        ]
    };
    let energy = Resize {
        rank: None,
        energy: Some(0.999),
    };
    assert_eq!(back_merge(plain(), None, energy, &mut || Ok(())).unwrap().1.len(), 9);
}

#[test]
fn checkpoints_are_written_with_adapters_in_them() {
    let folder = tempfile::tempdir().unwrap();
    let (base, merged) = (folder.path().join("base"), folder.path().join("merged"));
    let unet = unet("sd15");
    save(&unet, &base);
    let all = [
        "adapters/sd15_lora_peft",
        "adapted/sd15_dora_peft",
        "adapters/sd15_lokr.safetensors",
    ];
    let edit = AppliedTo::new(all.map(|path| (adapter(path, "sd15"), 0.6)).into_iter().collect());
    let options = potstill_models::ConvertOptions {
        layout: potstill_models::Layout::Folder,
        dtype: None,
        title: None,
        allow: &[],
        vae: None,
        edit: Some(&edit),
        quantize: None,
    };
    let source = potstill_models::Checkpoint::open(&base).unwrap();
    potstill_models::convert_checkpoint(&source, &merged, &options, &mut |_, _| Ok(())).unwrap();
    let found = Unet::load(&merged.join("unet"), &Device::Cpu).unwrap();
    for path in all {
        apply(unet.params(), &adapter(path, "sd15"), Component::Unet, 0.6).unwrap();
    }
    for (wanted, found) in unet.params().iter().zip(found.params().iter()) {
        assert_eq!(values(&wanted.tensor()), values(&found.tensor()), "{}", wanted.name());
    }
}

#[test]
fn what_cannot_be_attached_is_refused_by_name() {
    let (sd15, sdxl) = (unet("sd15"), adapter("adapters/sdxl_lora_peft", "sdxl"));
    let error = TrainedLora::of_adapter(&sd15, &sdxl, 1.).err().unwrap().to_string();
    assert!(error.contains("sdxl"), "{error}");
    for (wrong, word) in [
        (
            LoraOptions {
                rank: 0,
                ..options(&["all"])
            },
            "rank",
        ),
        (
            LoraOptions {
                alpha: 0.,
                ..options(&["all"])
            },
            "alpha",
        ),
        (options(&["attentoin"]), "attentoin"),
        (options(&[]), "targets"),
    ] {
        let error = TrainedLora::new(&sd15, &wrong).err().unwrap().to_string();
        assert!(error.contains(word), "{error}");
    }
    assert_eq!(
        sd15.sockets().params().len(),
        0,
        "a refused adapter leaves nothing attached"
    );
    assert!(apply(sd15.params(), &sdxl, Component::Unet, 1.).is_err());
}
