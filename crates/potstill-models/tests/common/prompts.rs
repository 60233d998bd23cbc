//! The text encoders of `fixtures/pipelines` with the demo's tokenizer.

use potstill_engine::Device;
use potstill_models::{PromptEncoder, TextConfig, TextEncoder, Tokenizer};
use serde_json::Value as Json;

use crate::common::{WEIGHTS, assert_weights, base_seed, fixture, json};

/// SDXL's second tokenizer pads with this.
const SECOND_PADDING: &str = "!";

/// The encoder or encoders of `pipelines/KIND.json`.
pub fn prompt_encoder(kind: &str) -> PromptEncoder {
    let expected = json(&format!("pipelines/{kind}.json"));
    let encoders = expected["encoders"].as_array().unwrap();
    let second = encoders.get(1).map(|described| part(described, Some(SECOND_PADDING)));
    PromptEncoder::new(part(&encoders[0], None), second).unwrap()
}

fn part(described: &Json, pad: Option<&str>) -> (Tokenizer, TextEncoder) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["vocab.json", "merges.txt"] {
        let source = fixture("../../configs/demo/base/tokenizer").join(name);
        std::fs::copy(source, folder.path().join(name)).unwrap();
    }
    let config = TextConfig::parse(described["config"].as_object().unwrap().clone(), "fixture").unwrap();
    let encoder = TextEncoder::random(config, base_seed(described), WEIGHTS, &Device::Cpu).unwrap();
    assert_weights(encoder.params(), described);
    (Tokenizer::load(folder.path(), pad).unwrap(), encoder)
}
