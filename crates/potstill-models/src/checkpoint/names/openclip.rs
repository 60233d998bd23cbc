//! OpenCLIP's names of a text encoder's parameters. Query, key and value are one matrix there, and the projection is
//! applied from the other side.

use super::{Stored, numbered, replace_prefix};
use crate::checkpoint::kinds::Storage;

const TOP: [(&str, &str); 4] = [
    ("text_model.embeddings.token_embedding", "token_embedding"),
    (
        "text_model.embeddings.position_embedding.weight",
        "positional_embedding",
    ),
    ("text_model.final_layer_norm", "ln_final"),
    ("text_projection.weight", "text_projection"),
];
const BLOCK: [(&str, &str); 5] = [
    ("layer_norm1", "ln_1"),
    ("layer_norm2", "ln_2"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
    ("self_attn.out_proj", "attn.out_proj"),
];

pub(super) fn name(name: &str) -> Option<Stored> {
    let Some(rest) = name.strip_prefix("text_model.encoder.layers.") else {
        let storage = match name {
            "text_projection.weight" => Storage::Transposed,
            _ => Storage::Same,
        };
        let key = replace_prefix(name, &TOP)?;
        return Some(Stored { key, storage });
    };
    let (layer, rest) = numbered(rest)?;
    let fused = ["q", "k", "v"].iter().enumerate().find_map(|(third, letter)| {
        let kind = rest.strip_prefix(&format!("self_attn.{letter}_proj."))?;
        Some((format!("attn.in_proj_{kind}"), Storage::Third(third)))
    });
    let (inside, storage) = match fused {
        Some(fused) => fused,
        None => (replace_prefix(rest, &BLOCK)?, Storage::Same),
    };
    let key = format!("transformer.resblocks.{layer}.{inside}");
    Some(Stored { key, storage })
}
