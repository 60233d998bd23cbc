//! Weights that are read at every use compute what held ones do. A binary of its own, for the limit is the process's.

mod common;

use common::{fixture, randn, values};
use potstill_engine::{Device, Value, no_grad};
use potstill_models::{ForwardOptions, Unet, UnetConfig, UnetInputs, hold_weights_up_to};

/// Values of the largest parameter that is held even so.
const SMALL: usize = 16 * 1024;

#[test]
fn predictions_are_the_same_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(fixture("unet_sd15_tiny/config.json")).unwrap();
    let config = UnetConfig::parse(serde_json::from_str(&text).unwrap(), "config.json").unwrap();
    let random = Unet::random(config.clone(), 1, common::WEIGHTS, &Device::Cpu).unwrap();
    random.save(folder.path(), potstill_engine::DType::F16).unwrap();
    let predict = || {
        let unet = Unet::load(folder.path(), &Device::Cpu).unwrap();
        let inputs = UnetInputs {
            sample: Value::constant(randn(1, &[1, 4, 8, 8])),
            timestep: &[500.],
            encoder_hidden_states: Value::constant(randn(2, &[1, 77, config.cross_attention_dim])),
            text_embeds: None,
            time_ids: None,
        };
        let prediction = no_grad(|| unet.forward(&inputs, &ForwardOptions::default())).unwrap();
        let largest = unet
            .params()
            .iter()
            .map(|p| p.leaf().tensor().elem_count())
            .max()
            .unwrap();
        (values(prediction.tensor()), largest)
    };
    let (held, largest) = predict();
    assert!(largest > SMALL, "the model is too small for this test");
    hold_weights_up_to(0);
    let (stored, largest) = predict();
    assert!(largest <= SMALL, "a parameter of {largest} values is held");
    assert_eq!(stored, held);
}
