//! peft's configuration: which alpha a layer has.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value as Json, json};

use super::read::ALPHA_ZERO;
use crate::error::{AdapterError, Result};

/// What a LoRA's `adapter_config.json` (or diffusers' metadata, which repeats it) says about scales.
pub(super) struct PeftConfig {
    rank: Option<f64>,
    alpha: Option<f64>,
    stabilised: bool,
    alphas: BTreeMap<String, f64>,
}

impl PeftConfig {
    /// From a configuration; `prefix` stands before its keys in diffusers' metadata. None when no key has it.
    pub(super) fn of(json: &Map<String, Json>, prefix: &str, place: &Path) -> Result<Option<Self>> {
        let get = |key: &str| json.get(&format!("{prefix}{key}"));
        if !json.keys().any(|key| key.starts_with(prefix)) {
            return Ok(None);
        }
        if let Some(kind) = get("peft_type").and_then(Json::as_str).filter(|kind| *kind != "LORA") {
            return Err(AdapterError::file(
                place,
                format!("a peft adapter of type {kind}; LORA is read"),
            ));
        }
        if let Some(bias) = get("bias").and_then(Json::as_str).filter(|bias| *bias != "none") {
            return Err(AdapterError::file(
                place,
                format!("`bias` is \"{bias}\"; \"none\" is read"),
            ));
        }
        let patterns = get("alpha_pattern").and_then(Json::as_object);
        let mut alphas = BTreeMap::new();
        for (pattern, value) in patterns.into_iter().flatten() {
            if pattern
                .chars()
                .any(|c| !(c.is_ascii_alphanumeric() || "._^-".contains(c)))
            {
                let reason = format!("the pattern {pattern:?} in `alpha_pattern` is a regular expression; give paths");
                return Err(AdapterError::file(place, reason));
            }
            alphas.insert(pattern.clone(), number(value, "alpha_pattern", place)?);
        }
        let optional = |key: &str| get(key).map(|value| number(value, key, place)).transpose();
        Ok(Some(Self {
            rank: optional("r")?,
            alpha: optional("lora_alpha")?,
            stabilised: get("use_rslora").and_then(Json::as_bool).unwrap_or(false),
            alphas,
        }))
    }

    /// Alpha of a layer in the sense of alpha / rank; the error is why there is none. Of several patterns that fit, peft
    /// takes the first in the file: an order that JSON does not have.
    pub(super) fn alpha(&self, path: &str, rank: usize) -> std::result::Result<f64, String> {
        let rank = rank as f64;
        let mut of_layer = self.alphas.iter().filter(|(pattern, _)| fits(pattern, path));
        let first = of_layer.next();
        if let Some((pattern, alpha)) = first
            && let Some((other, another)) = of_layer.find(|(_, value)| *value != alpha)
        {
            return Err(format!(
                "fits two patterns in `alpha_pattern`, {pattern:?} for {alpha} and {other:?} for {another}; leave one of them"
            ));
        }
        let alpha = match first {
            Some((_, alpha)) => *alpha,
            None => self.alpha.or(self.rank).unwrap_or(rank),
        };
        match alpha {
            0.0 => Err(ALPHA_ZERO.to_string()),
            alpha if self.stabilised => Ok(alpha * rank.sqrt()),
            alpha => Ok(alpha),
        }
    }
}

/// As peft matches names: the whole path, or its end after a dot; `^` allows the whole alone.
fn fits(pattern: &str, path: &str) -> bool {
    match pattern.strip_prefix('^') {
        Some(whole) => whole == path,
        None => path
            .strip_suffix(pattern)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
    }
}

fn number(value: &Json, key: &str, place: &Path) -> Result<f64> {
    value
        .as_f64()
        .filter(|v| v.is_finite())
        .ok_or_else(|| AdapterError::file(place, format!("`{key}` holds {value}, which is no number")))
}

/// What peft's configuration says of a layer.
pub(crate) struct LayerScale<'a> {
    pub(crate) path: &'a str,
    pub(crate) rank: usize,
    pub(crate) alpha: f64,
    pub(crate) dora: bool,
}

/// The configuration of layers; the commonest rank and alpha become the general ones.
pub(super) fn config_of(modules: &[LayerScale]) -> Map<String, Json> {
    let rank = commonest(modules.iter().map(|m| m.rank as u64)) as usize;
    let alpha = f64::from_bits(commonest(modules.iter().map(|m| m.alpha.to_bits())));
    let ranks: Map<_, _> = modules
        .iter()
        .filter(|m| m.rank != rank)
        .map(|m| (m.path.to_string(), json!(m.rank)))
        .collect();
    let alphas: Map<_, _> = modules
        .iter()
        .filter(|m| m.alpha != alpha)
        .map(|m| (m.path.to_string(), json!(m.alpha)))
        .collect();
    let paths: Vec<&str> = modules.iter().map(|m| m.path).collect();
    let config = json!({
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "target_modules": paths,
        "use_rslora": false,
        "use_dora": modules.iter().any(|m| m.dora),
        "bias": "none",
        "lora_dropout": 0.0,
        "fan_in_fan_out": false,
        "init_lora_weights": true,
        "inference_mode": true,
    });
    config.as_object().cloned().unwrap_or_default()
}

fn commonest(values: impl Iterator<Item = u64>) -> u64 {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    values.for_each(|value| *counts.entry(value).or_default() += 1);
    counts.into_iter().max_by_key(|(_, n)| *n).map_or(0, |(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alphas_by_pattern_and_root() {
        let json = json!({ "r": 4, "lora_alpha": 8, "use_rslora": true, "alpha_pattern": { "to_q": 2, "^a.to_k": 3 } });
        let config = PeftConfig::of(json.as_object().unwrap(), "", Path::new("x"))
            .unwrap()
            .unwrap();
        for (path, alpha) in [("a.to_q", 4.0), ("a.xto_q", 16.0), ("a.to_k", 6.0), ("b.a.to_k", 16.0)] {
            assert_eq!(config.alpha(path, 4), Ok(alpha), "{path}");
        }
        for json in [
            json!({ "alpha_pattern": { "to_[qk]": 2 } }),
            json!({ "peft_type": "LOHA" }),
            json!({ "r": "x" }),
        ] {
            assert!(
                PeftConfig::of(json.as_object().unwrap(), "", Path::new("x")).is_err(),
                "{json}"
            );
        }
    }

    #[test]
    fn alphas_that_cannot_be_known_are_refused() {
        let json = json!({ "lora_alpha": 0, "alpha_pattern": { "to_q": 4, "attn1.to_q": 2, "attn2.to_q": 4 } });
        let config = PeftConfig::of(json.as_object().unwrap(), "", Path::new("x"))
            .unwrap()
            .unwrap();
        let two = config.alpha("a.attn1.to_q", 4).unwrap_err();
        assert!(two.contains("\"attn1.to_q\" for 2 and \"to_q\" for 4"), "{two}");
        assert_eq!(config.alpha("a.attn2.to_q", 4), Ok(4.0));
        assert!(config.alpha("a.to_k", 4).unwrap_err().contains("alpha is 0"));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let layer = |path, rank, alpha, dora| LayerScale {
            path,
            rank,
            alpha,
            dora,
        };
        let layers = [
            layer("a", 4, 4.0, false),
            layer("b", 4, 2.5, false),
            layer("c", 8, 4.0, true),
        ];
        let json = config_of(&layers);
        let config = PeftConfig::of(&json, "", Path::new("x")).unwrap().unwrap();
        for LayerScale { path, rank, alpha, .. } in layers {
            assert_eq!(config.alpha(path, rank), Ok(alpha));
        }
        assert_eq!(json["use_dora"], true);
    }
}
