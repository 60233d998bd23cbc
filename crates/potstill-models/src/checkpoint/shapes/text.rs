//! A text encoder's configuration from its tensors, under transformers' names or OpenCLIP's.
//!
//! Both encoders have heads of 64 channels; the first's activation is quick GELU, the second's exact GELU.

use serde_json::{Map, Value as Json, json};

use super::Keys;
use crate::checkpoint::kinds::{Component, Dialect};
use crate::clip::TextConfig;
use crate::error::{ModelError, Result};

/// Channels of an attention head.
const HEAD_CHANNELS: usize = 64;

/// The configuration that the keys (transformers' with the leading `text_model.`) imply.
pub(in crate::checkpoint) fn text_config(
    keys: &Keys,
    dialect: Dialect,
    component: Component,
    place: &str,
) -> Result<TextConfig> {
    let config = implied(keys, dialect, component).ok_or_else(|| ModelError::Unsupported {
        place: place.to_string(),
        what: format!("a {component} that is no CLIP text encoder"),
    })?;
    TextConfig::parse(config, place)
}

fn implied(keys: &Keys, dialect: Dialect, component: Component) -> Option<Map<String, Json>> {
    let second = component == Component::TextEncoder2;
    let (tokens, positions, fc1, projection) = match dialect {
        Dialect::OpenClip => (
            "token_embedding.weight",
            "positional_embedding",
            ("transformer.resblocks", "mlp.c_fc"),
            keys.size("text_projection", 1),
        ),
        _ => (
            "text_model.embeddings.token_embedding.weight",
            "text_model.embeddings.position_embedding.weight",
            ("text_model.encoder.layers", "mlp.fc1"),
            keys.size("text_projection.weight", 0),
        ),
    };
    let block = |i: usize| format!("{}.{i}.{}.weight", fc1.0, fc1.1);
    let width = keys.size(tokens, 1)?;
    let value = json!({
        "architectures": [if second { "CLIPTextModelWithProjection" } else { "CLIPTextModel" }],
        "model_type": "clip_text_model",
        "vocab_size": keys.size(tokens, 0)?,
        "hidden_size": width,
        "intermediate_size": keys.size(&block(0), 0)?,
        "num_hidden_layers": keys.count(block),
        "num_attention_heads": (width / HEAD_CHANNELS).max(1),
        "max_position_embeddings": keys.size(positions, 0)?,
        "hidden_act": if second { "gelu" } else { "quick_gelu" },
        "layer_norm_eps": 1e-5,
        "projection_dim": if second { projection? } else { width },
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    });
    value.as_object().cloned()
}
