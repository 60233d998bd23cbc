//! The configuration of a CLIP text encoder, as transformers writes it.

use std::path::Path;

use serde_json::{Map, Value as Json, json};

use crate::error::Result;
use crate::fields::{Fields, read_object};

/// The value of `eos_token_id` in the encoders that Stable Diffusion ships. It is no token's id: with it, transformers
/// pools at the position of the largest id instead of the first end-of-text token.
const LEGACY_EOS: usize = 2;

/// The activation between the two linear layers of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClipActivation {
    /// x·σ(1.702·x) (CLIP-L).
    QuickGelu,
    /// Exact GELU (OpenCLIP bigG).
    Gelu,
}

/// The architecture of a text encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct TextConfig {
    /// Number of token ids.
    pub vocabulary: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width between the two linear layers of a block.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Number of attention heads.
    pub heads: usize,
    /// Longest sequence, 77.
    pub max_positions: usize,
    /// The activation.
    pub activation: ClipActivation,
    /// Epsilon of the layer normalisations.
    pub norm_eps: f64,
    /// Width of the projected pooled output, for encoders with a projection (`CLIPTextModelWithProjection`).
    pub projection: Option<usize>,
    /// The token whose first position is pooled; none when the position of the largest id is (`eos_token_id` 2).
    pub eos: Option<u32>,
    json: Map<String, Json>,
}

impl TextConfig {
    /// Reads a `config.json`.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(read_object(path)?, &path.display().to_string())
    }

    /// Reads a configuration's JSON object; `place` names it in errors. Absent fields have transformers' defaults.
    pub fn parse(json: Map<String, Json>, place: &str) -> Result<Self> {
        let f = Fields::new(&json, place);
        if f.get("text_config").is_some() {
            let reason = "is a whole CLIP model's; save the text encoder alone (CLIPTextModel)";
            return Err(f.error("text_config", reason));
        }
        f.only("model_type", "clip_text_model")?;
        let architectures = f.strings("architectures", &[])?;
        let activation = match f.str("hidden_act", "quick_gelu")? {
            "quick_gelu" => ClipActivation::QuickGelu,
            "gelu" => ClipActivation::Gelu,
            other => {
                return Err(f.error(
                    "hidden_act",
                    format!("`{other}` is not supported (`quick_gelu` and `gelu` are)"),
                ));
            }
        };
        let hidden_size = f.positive("hidden_size", 512)?;
        let heads = f.positive("num_attention_heads", 8)?;
        if hidden_size % heads != 0 {
            return Err(f.error(
                "num_attention_heads",
                format!("{heads} heads do not divide the width {hidden_size}"),
            ));
        }
        let projection = f.positive("projection_dim", 512)?;
        let eos = f.usize("eos_token_id", 49407)?;
        let config = Self {
            vocabulary: f.positive("vocab_size", 49408)?,
            hidden_size,
            intermediate_size: f.positive("intermediate_size", 2048)?,
            layers: f.layers("num_hidden_layers", 12)?,
            heads,
            max_positions: f.positive("max_position_embeddings", 77)?,
            activation,
            norm_eps: f.f64("layer_norm_eps", 1e-5)?,
            projection: architectures
                .iter()
                .any(|a| a == "CLIPTextModelWithProjection")
                .then_some(projection),
            eos: (eos != LEGACY_EOS).then_some(eos as u32),
            json: Map::new(),
        };
        Ok(Self { json, ..config })
    }

    /// CLIP ViT-L/14's text encoder: SD1.5's, and SDXL's first.
    pub fn clip_l() -> Self {
        Self::built_in(json!({
            "architectures": ["CLIPTextModel"],
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "hidden_act": "quick_gelu",
            "projection_dim": 768,
            "eos_token_id": 2,
        }))
    }

    /// OpenCLIP ViT-bigG/14's text encoder: SDXL's second.
    pub fn clip_g() -> Self {
        Self::built_in(json!({
            "architectures": ["CLIPTextModelWithProjection"],
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_hidden_layers": 32,
            "num_attention_heads": 20,
            "hidden_act": "gelu",
            "projection_dim": 1280,
            "eos_token_id": 2,
        }))
    }

    fn built_in(json: Json) -> Self {
        let Json::Object(map) = json else {
            unreachable!("the literals above are objects")
        };
        Self::parse(map, "built-in configuration").expect("the built-in configurations are valid")
    }

    /// Gives the encoder a projection although `architectures` does not say so (its weights may).
    pub(crate) fn with_projection(mut self, place: &str) -> Result<Self> {
        let width = Fields::new(&self.json, place).positive("projection_dim", 512)?;
        self.projection = Some(width);
        Ok(self)
    }

    /// The JSON object that describes this configuration.
    pub fn json(&self) -> &Map<String, Json> {
        &self.json
    }

    /// Whether the other computes the same, however its JSON says so.
    pub(crate) fn same_architecture(&self, other: &Self) -> bool {
        let bare = |config: &Self| Self {
            json: Map::new(),
            ..config.clone()
        };
        bare(self) == bare(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsupported_values_are_refused_by_name() {
        for (field, value) in [
            ("hidden_act", json!("relu")),
            ("num_attention_heads", json!(7)),
            ("text_config", json!({})),
            ("model_type", json!("t5")),
            ("num_hidden_layers", json!("many")),
        ] {
            let map = json!({field: value}).as_object().expect("an object").clone();
            let error = TextConfig::parse(map, "text_encoder/config.json")
                .unwrap_err()
                .to_string();
            assert!(error.contains(field), "{error}");
        }
    }

    #[test]
    fn the_shipped_eos_means_the_largest_id() {
        assert_eq!(TextConfig::clip_l().eos, None);
        let map = json!({"eos_token_id": 599}).as_object().expect("an object").clone();
        assert_eq!(TextConfig::parse(map, "").unwrap().eos, Some(599));
    }
}
