//! LoRAs on the tiny text encoders against peft: what the encoders give, the gradients, and the files.

mod common;

use std::collections::BTreeMap;

use common::{assert_close, fixture, json, randn, relative_distance, tensor, values};

use potstill_adapters::{Adapter, Dialect, Family, LoraOptions, TrainedLora, WriteOptions, apply, write_adapter};
use potstill_engine::{Device, Tensor, Value, backward, no_grad};
use potstill_io::{Dtype, SafetensorsFile};
use potstill_models::{
    Component, ComponentConfig, Initialisation, ModelKind, TextConfig, TextEncoder, Unet, UnetConfig,
};
use serde_json::Value as Json;

/// Largest error of what an encoder gives, of the reference's scale: f32 here, f64 there.
const OUTPUT_TOLERANCE: f64 = 1e-5;
/// Largest ‖Δ‖ / ‖reference‖ of a gradient.
const GRADIENT_TOLERANCE: f64 = 1e-4;
const KINDS: [(&str, ModelKind); 2] = [("sd15", ModelKind::Sd15), ("sdxl", ModelKind::Sdxl)];
const FOLDERS: [(&str, &str, Component); 2] = [
    ("clip_l_tiny", "CLIPTextModel", Component::TextEncoder),
    ("clip_g_tiny", "CLIPTextModelWithProjection", Component::TextEncoder2),
];

/// Text encoders of a kind, with their token ids.
fn encoders(kind: &str) -> Vec<(TextEncoder, Vec<Vec<u32>>)> {
    let count = if kind == "sdxl" { 2 } else { 1 };
    let encoder = |(name, architecture, _): &(&str, &str, Component)| {
        let Json::Object(mut config) = json(&format!("{name}/config.json")) else {
            panic!("an object")
        };
        config.insert("architectures".to_string(), serde_json::json!([architecture]));
        let expected = json(&format!("{name}/expected.json"));
        let seed = expected["weights"]["base_seed"].as_u64().unwrap();
        let config = TextConfig::parse(config, name).unwrap();
        let encoder = TextEncoder::random(config, seed, Initialisation::Normal, &Device::Cpu).unwrap();
        (encoder, serde_json::from_value(expected["token_ids"].clone()).unwrap())
    };
    FOLDERS[..count].iter().map(encoder).collect()
}

fn options(targets: &[&str]) -> LoraOptions {
    LoraOptions {
        rank: 3,
        alpha: 6.,
        targets: targets.iter().map(ToString::to_string).collect(),
        blocks: Vec::new(),
        dora: false,
        seed: 7,
    }
}

fn lora(encoders: &[(TextEncoder, Vec<Vec<u32>>)], targets: &[&str]) -> TrainedLora {
    let encoders: Vec<&TextEncoder> = encoders.iter().map(|(encoder, _)| encoder).collect();
    TrainedLora::on_text(&encoders, &options(targets)).unwrap()
}

/// With the factors of the fixture.
fn trained(kind: &str, encoders: &[(TextEncoder, Vec<Vec<u32>>)]) -> TrainedLora {
    let (lora, expected) = (lora(encoders, &["transformers"]), expected());
    for param in lora.params().iter() {
        let factor = tensor(&expected, &format!("{kind}.factor.{}", param.name()));
        param.assign(&factor).unwrap();
    }
    lora
}

fn expected() -> SafetensorsFile {
    SafetensorsFile::open(&fixture("adapted_text/expected.safetensors")).unwrap()
}

/// What conditions a UNet of the kind: the parts of the hidden states, and the pooled text.
fn encode(encoders: &[(TextEncoder, Vec<Vec<u32>>)]) -> (Vec<Value>, Option<Value>) {
    let outputs: Vec<_> = encoders
        .iter()
        .map(|(encoder, ids)| encoder.forward(ids).unwrap())
        .collect();
    match &outputs[..] {
        [one] => (vec![one.last_hidden_state.clone()], None),
        both => {
            let second_last = both.iter().map(|o| o.hidden_states[o.hidden_states.len() - 2].clone());
            (second_last.collect(), both[1].text_embeds.clone())
        }
    }
}

fn assert_output(what: &str, found: &Tensor, reference: &Tensor) {
    assert_close(what, found, reference, OUTPUT_TOLERANCE);
}

fn hidden(parts: &[Value]) -> Tensor {
    let parts: Vec<Tensor> = parts.iter().map(|part| part.tensor().clone()).collect();
    Tensor::cat(&parts, 2).unwrap()
}

#[test]
fn outputs_and_gradients_are_pefts() {
    let expected = expected();
    for (kind, _) in KINDS {
        let encoders = encoders(kind);
        let lora = trained(kind, &encoders);
        lora.params().set_trainable(|_| true);
        let (parts, pooled) = encode(&encoders);
        let whole = hidden(&parts);
        assert_output(kind, &whole, &tensor(&expected, &format!("{kind}.hidden")));
        let facts = json("adapted_text/expected.json");
        let seeds = |name: &str| facts["seeds"][name].as_u64().unwrap();
        // The loss is a mean of products: its gradient by an output is the other factor over the number of values.
        let scaled = |random: &Tensor| (random / random.elem_count() as f64).unwrap();
        let seed = scaled(&randn(seeds("hidden"), whole.dims()));
        let mut outputs = Vec::new();
        let mut from = 0;
        for part in parts {
            let width = *part.dims().last().unwrap();
            outputs.push((part, seed.narrow(2, from, width).unwrap().contiguous().unwrap()));
            from += width;
        }
        if let Some(pooled) = pooled {
            assert_output("pooled", pooled.tensor(), &tensor(&expected, &format!("{kind}.pooled")));
            let seed = scaled(&randn(seeds("pooled"), pooled.dims()));
            outputs.push((pooled, seed));
        }
        let mut gradients = backward(&outputs).unwrap();
        let without: Vec<String> = serde_json::from_value(facts["losses"][kind]["without"].clone()).unwrap();
        assert_eq!(
            gradients.len() + without.len(),
            lora.params().len(),
            "nothing but the LoRA has a gradient"
        );
        let mut worst = 0f64;
        for (name, gradient) in lora.params().take_gradients(&mut gradients).unwrap() {
            let Some(gradient) = gradient else {
                assert!(without.contains(&name), "{name} has no gradient");
                continue;
            };
            let reference = tensor(&expected, &format!("{kind}.grad.{name}"));
            worst = worst.max(relative_distance(&gradient, &reference));
        }
        println!("{kind} gradients: {worst:.2e}");
        assert!(worst <= GRADIENT_TOLERANCE, "{kind}: {worst:e}");
        assert!(no_grad(|| encode(&encoders)).0[0].id().is_none());
    }
}

#[test]
fn a_new_one_changes_nothing_and_sits_where_its_targets_say() {
    let encoders = encoders("sdxl");
    let before = values(&hidden(&encode(&encoders).0));
    for (targets, layers) in [
        (&["attention"][..], 2 * 3 * 4),
        (&["transformers"], 2 * 3 * 6),
        (&["text_encoder_2.*.mlp.*"], 3 * 2),
        (&["text_encoder.*"], 3 * 6),
    ] {
        let lora = lora(&encoders, targets);
        assert_eq!(lora.layers(), layers, "{targets:?}");
        assert_eq!(values(&hidden(&encode(&encoders).0)), before);
        encoders.iter().for_each(|(encoder, _)| encoder.sockets().clear());
    }
    let refused = TrainedLora::on_text(&[&encoders[0].0], &options(&["text_encoder_2.*"]));
    assert!(refused.err().unwrap().to_string().contains("fits no layer"));
}

fn family(kind: &str, of: ModelKind) -> Family {
    let mut configs: Vec<_> = encoders(kind)
        .iter()
        .zip(FOLDERS)
        .map(|((encoder, _), (.., component))| (component, ComponentConfig::Text(encoder.config().clone())))
        .collect();
    let unet = UnetConfig::read(&fixture(&format!("unet_{kind}_tiny/config.json"))).unwrap();
    configs.push((Component::Unet, ComponentConfig::Unet(unet)));
    Family::new(of, "the tiny model".to_string(), &configs).unwrap()
}

#[test]
fn one_file_holds_it_beside_a_unets_in_every_dialect_and_is_laid_into_weights_alike() {
    let folder = tempfile::tempdir().unwrap();
    for (kind, of) in KINDS {
        let encoders = encoders(kind);
        let text = trained(kind, &encoders);
        let config = UnetConfig::read(&fixture(&format!("unet_{kind}_tiny/config.json"))).unwrap();
        let unet = Unet::random(config, 1, Initialisation::Normal, &Device::Cpu).unwrap();
        let own = TrainedLora::new(&unet, &options(&["attention"])).unwrap();
        let mut adapter = own.adapter(BTreeMap::new(), "train", serde_json::json!({})).unwrap();
        text.add_to(&mut adapter).unwrap();
        assert_eq!(adapter.modules.len(), own.layers() + text.layers());
        let wanted = hidden(&encode(&encoders).0);
        for dialect in Dialect::ALL {
            let path = folder.path().join(format!("{kind}-{}.safetensors", dialect.name()));
            let options = WriteOptions {
                dialect,
                dtype: Some(Dtype::F32),
                title: None,
                prediction: None,
            };
            write_adapter(&adapter, &path, &options).unwrap();
            let read = Adapter::open(&path, Some(&family(kind, of))).unwrap();
            assert_eq!(read.modules.len(), adapter.modules.len(), "{}", dialect.name());
            let others = self::encoders(kind);
            for ((encoder, _), (.., component)) in others.iter().zip(FOLDERS) {
                assert!(apply(encoder.params(), &read, component, 1.).unwrap() > 0);
            }
            assert_output(dialect.name(), &hidden(&encode(&others).0), &wanted);
            let anew = self::encoders(kind);
            let attached: Vec<&TextEncoder> = anew.iter().map(|(encoder, _)| encoder).collect();
            let again = TrainedLora::of_text_adapter(&attached, &read, 1.).unwrap();
            assert_eq!(again.params().shapes(), text.params().shapes());
            assert_output("attached", &hidden(&encode(&anew).0), &wanted);
        }
        let without = own.adapter(BTreeMap::new(), "train", serde_json::json!({})).unwrap();
        let first: Vec<&TextEncoder> = encoders.iter().map(|(encoder, _)| encoder).collect();
        let refused = TrainedLora::of_text_adapter(&first, &without, 1.)
            .err()
            .unwrap()
            .to_string();
        assert!(refused.contains("does nothing to text_encoder"), "{refused}");
        let kohya = SafetensorsFile::open(&folder.path().join(format!("{kind}-kohya.safetensors"))).unwrap();
        let prefixes: &[&str] = match of {
            ModelKind::Sd15 => &["lora_unet_", "lora_te_text_model_encoder_layers_0_self_attn_q_proj."],
            ModelKind::Sdxl => &["lora_unet_", "lora_te1_text_model_", "lora_te2_text_model_"],
        };
        for prefix in prefixes {
            assert!(kohya.names().any(|name| name.starts_with(prefix)), "{prefix}");
        }
    }
}
