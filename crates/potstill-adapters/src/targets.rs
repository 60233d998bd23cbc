//! Which layers a LoRA is trained on: presets, and patterns of their paths.

use crate::error::{AdapterError, Result};

/// Names of sets of layers, with what they mean.
pub const PRESETS: [(&str, &str); 3] = [
    ("attention", "queries, keys, values and outputs of all attention"),
    (
        "transformers",
        "all linear layers and projections of the transformers: attention, feed-forward, proj_in, proj_out",
    ),
    ("all", "every linear layer and convolution"),
];

/// The paths among `layers` that presets and patterns choose, in the order of `layers`. A pattern is compared with the
/// whole path; `*` in it stands for any number of characters: `up_blocks.1.*`, `*.ff.*`.
///
/// # Errors
/// For nothing to choose by, and for a word that chooses nothing.
pub fn choose_layers<'a>(words: &[String], layers: &[&'a str]) -> Result<Vec<&'a str>> {
    if words.is_empty() {
        return Err(AdapterError::input(
            "targets",
            "name no layer; give a preset or a pattern",
        ));
    }
    if let Some(word) = words
        .iter()
        .find(|word| !layers.iter().any(|path| is_chosen(word, path)))
    {
        let presets = PRESETS.map(|(name, _)| name).join(", ");
        let reason = format!(
            "fits no layer; presets are {presets}, a pattern is compared with the whole path, such as {:?}",
            "up_blocks.1.*"
        );
        return Err(AdapterError::input(format!("targets: {word:?}"), reason));
    }
    let chosen = layers
        .iter()
        .filter(|path| words.iter().any(|word| is_chosen(word, path)));
    Ok(chosen.copied().collect())
}

/// Whether a preset or a pattern chooses a layer.
#[must_use]
pub fn is_chosen(word: &str, path: &str) -> bool {
    match word {
        // Of UNets, then of text encoders.
        "attention" => [".attn1.", ".attn2.", ".self_attn."]
            .iter()
            .any(|part| path.contains(part)),
        "transformers" => path.contains(".attentions.") || path.contains(".encoder.layers."),
        "all" => true,
        pattern => matches(pattern, path),
    }
}

/// Glob with `*` alone: the first and last pieces are anchored, those between are found in order, each as early as can be.
fn matches(pattern: &str, path: &str) -> bool {
    let pieces: Vec<&str> = pattern.split('*').collect();
    let [first, middle @ .., last] = pieces.as_slice() else {
        return pattern == path;
    };
    let Some(mut rest) = path.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else {
        return false;
    };
    for piece in middle {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYERS: [&str; 8] = [
        "conv_in",
        "down_blocks.1.attentions.0.proj_in",
        "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
        "down_blocks.1.attentions.0.transformer_blocks.0.ff.net.0.proj",
        "down_blocks.1.resnets.0.conv1",
        "mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0",
        "text_encoder.text_model.encoder.layers.0.self_attn.q_proj",
        "text_encoder_2.text_model.encoder.layers.0.mlp.fc1",
    ];

    fn chosen(words: &[&str]) -> Vec<usize> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let paths = choose_layers(&words, &LAYERS).unwrap();
        paths
            .iter()
            .map(|path| LAYERS.iter().position(|l| l == path).unwrap())
            .collect()
    }

    #[test]
    fn presets_and_patterns_choose() {
        assert_eq!(chosen(&["attention"]), [2, 5, 6]);
        assert_eq!(chosen(&["transformers"]), [1, 2, 3, 5, 6, 7]);
        assert_eq!(chosen(&["all"]), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(chosen(&["text_encoder.*"]), [6]);
        assert_eq!(chosen(&["text_encoder*"]), [6, 7]);
        assert_eq!(chosen(&["mid_block.*", "conv_in"]), [0, 5]);
        assert_eq!(chosen(&["*.0.*.0.*"]), [2, 3, 5]);
        assert_eq!(chosen(&["*proj*"]), [1, 3, 6]);
        assert_eq!(chosen(&["*.attn1.*_q", "*.attn2.*"]), [2, 5]);
    }

    #[test]
    fn a_word_that_chooses_nothing_is_an_error() {
        for words in [
            &["attn1"][..],
            &["conv"],
            &["attention", "up_blocks.9.*"],
            &["to_q*to_q"],
            &[],
        ] {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            assert!(choose_layers(&words, &LAYERS).is_err(), "{words:?}");
        }
    }
}
