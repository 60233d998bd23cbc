//! Typed reading of a diffusers or transformers `config.json`: absent and `null` fields take the library's default,
//! wrong types and unsupported values are errors that name the field.

use std::path::Path;

use potstill_io::disk;
use serde_json::{Map, Value as Json};

use crate::error::{ModelError, Result};

/// Larger texts are no model's: configurations have a few kilobytes, SDXL's index of shards 200, a tokenizer 3 MB.
const MAX_TEXT_BYTES: u64 = 64 << 20;
/// Sizes beyond this are no model's; the bound keeps products of a few of them from overflowing.
const MAX_SIZE: u64 = 1 << 24;
/// Most layers of one kind in a row (OpenCLIP bigG has 32, SDXL's middle 10): more would only be built to fail.
const MAX_LAYERS: usize = 128;
/// Most levels of a UNet or VAE; all known ones have 3 or 4.
const MAX_LEVELS: usize = 8;

/// Reads a JSON object from a file.
pub(crate) fn read_object(path: &Path) -> Result<Map<String, Json>> {
    match serde_json::from_str(&read_text(path)?) {
        Ok(Json::Object(map)) => Ok(map),
        Ok(_) => Err(ModelError::file(path, "must hold a JSON object")),
        Err(e) => Err(ModelError::file(path, format!("is not valid JSON: {e}"))),
    }
}

/// Reads a text file of reasonable size.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let size = disk::length(path).map_err(|e| ModelError::file(path, format!("cannot be opened: {e}")))?;
    if size > MAX_TEXT_BYTES {
        return Err(ModelError::file(
            path,
            format!("has {size} bytes; more than {MAX_TEXT_BYTES} are not read"),
        ));
    }
    let bytes = disk::read(path).map_err(|e| ModelError::file(path, format!("cannot be read: {e}")))?;
    String::from_utf8(bytes).map_err(|e| ModelError::file(path, format!("is not UTF-8: {e}")))
}

/// One configuration, with the place that its errors name.
pub(crate) struct Fields<'a> {
    map: &'a Map<String, Json>,
    place: &'a str,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(map: &'a Map<String, Json>, place: &'a str) -> Self {
        Self { map, place }
    }

    /// The value of a field; `null` counts as absent, as in diffusers.
    pub(crate) fn get(&self, field: &str) -> Option<&'a Json> {
        self.map.get(field).filter(|v| !v.is_null())
    }

    /// Whether a field is there and `null`.
    pub(crate) fn is_null(&self, field: &str) -> bool {
        self.map.get(field).is_some_and(Json::is_null)
    }

    pub(crate) fn error(&self, field: &str, reason: impl Into<String>) -> ModelError {
        ModelError::Config {
            place: self.place.to_string(),
            field: field.to_string(),
            reason: reason.into(),
        }
    }

    fn wrong_type(&self, field: &str, found: &Json, wanted: &str) -> ModelError {
        self.error(field, format!("is {found}, must be {wanted}"))
    }

    pub(crate) fn optional_usize(&self, field: &str) -> Result<Option<usize>> {
        self.get(field).map(|v| self.to_usize(field, v)).transpose()
    }

    pub(crate) fn usize(&self, field: &str, default: usize) -> Result<usize> {
        Ok(self.optional_usize(field)?.unwrap_or(default))
    }

    fn to_usize(&self, field: &str, value: &Json) -> Result<usize> {
        match value.as_u64() {
            Some(n) if n <= MAX_SIZE => Ok(n as usize),
            _ => Err(self.wrong_type(field, value, "a whole number of reasonable size")),
        }
    }

    /// A positive number.
    pub(crate) fn positive(&self, field: &str, default: usize) -> Result<usize> {
        match self.usize(field, default)? {
            0 => Err(self.error(field, "is 0, must be positive")),
            n => Ok(n),
        }
    }

    /// A number of layers.
    pub(crate) fn layers(&self, field: &str, default: usize) -> Result<usize> {
        let count = self.positive(field, default)?;
        self.at_most_layers(field, &[count])?;
        Ok(count)
    }

    /// A number of layers for each of `count` levels.
    pub(crate) fn layers_per_level(&self, field: &str, default: usize, count: usize) -> Result<Vec<usize>> {
        let list = self.per_level(field, default, count)?;
        self.at_most_layers(field, &list)?;
        Ok(list)
    }

    /// A number of layers for every item of every level: one number for all, or one entry per level, which is a number
    /// or a list of as many numbers as `counts` has for that level. Absent: 1.
    pub(crate) fn layer_lists(&self, field: &str, counts: &[usize]) -> Result<Vec<Vec<usize>>> {
        let same = |n: usize| counts.iter().map(|count| vec![n; *count]).collect();
        let lists: Vec<Vec<usize>> = match self.get(field) {
            None => same(1),
            Some(Json::Array(levels)) => {
                if levels.len() != counts.len() {
                    let reason = format!("has {} entries, block_out_channels has {}", levels.len(), counts.len());
                    return Err(self.error(field, reason));
                }
                let level = |(entry, &count): (&Json, &usize)| match entry {
                    Json::Array(items) if items.len() == count => {
                        items.iter().map(|item| self.to_usize(field, item)).collect()
                    }
                    Json::Array(_) => Err(self.wrong_type(
                        field,
                        entry,
                        &format!("a list of {count} numbers, as many as its level has layers"),
                    )),
                    one => Ok(vec![self.to_usize(field, one)?; count]),
                };
                levels.iter().zip(counts).map(level).collect::<Result<_>>()?
            }
            Some(one) => same(self.to_usize(field, one)?),
        };
        for list in &lists {
            if list.contains(&0) {
                return Err(self.error(field, "entries must be positive"));
            }
            self.at_most_layers(field, list)?;
        }
        Ok(lists)
    }

    fn at_most_layers(&self, field: &str, counts: &[usize]) -> Result<()> {
        match counts.iter().find(|n| **n > MAX_LAYERS) {
            Some(n) => Err(self.error(field, format!("is {n}; more than {MAX_LAYERS} layers are not read"))),
            None => Ok(()),
        }
    }

    /// The widths of a model's levels: positive, and 1 to [`MAX_LEVELS`] of them.
    pub(crate) fn levels(&self, field: &str, default: &[usize]) -> Result<Vec<usize>> {
        let widths = self.usizes(field, default)?;
        match !widths.contains(&0) && (1..=MAX_LEVELS).contains(&widths.len()) {
            true => Ok(widths),
            false => Err(self.error(field, format!("must be a list of 1 to {MAX_LEVELS} positive widths"))),
        }
    }

    pub(crate) fn f64(&self, field: &str, default: f64) -> Result<f64> {
        match self.get(field) {
            None => Ok(default),
            Some(v) => v.as_f64().ok_or_else(|| self.wrong_type(field, v, "a number")),
        }
    }

    pub(crate) fn bool(&self, field: &str, default: bool) -> Result<bool> {
        match self.get(field) {
            None => Ok(default),
            Some(v) => v.as_bool().ok_or_else(|| self.wrong_type(field, v, "true or false")),
        }
    }

    pub(crate) fn optional_str(&self, field: &str) -> Result<Option<&'a str>> {
        self.get(field)
            .map(|v| v.as_str().ok_or_else(|| self.wrong_type(field, v, "a string")))
            .transpose()
    }

    pub(crate) fn str(&self, field: &str, default: &'a str) -> Result<&'a str> {
        Ok(self.optional_str(field)?.unwrap_or(default))
    }

    pub(crate) fn usizes(&self, field: &str, default: &[usize]) -> Result<Vec<usize>> {
        match self.get(field) {
            None => Ok(default.to_vec()),
            Some(Json::Array(items)) => items.iter().map(|v| self.to_usize(field, v)).collect(),
            Some(v) => Err(self.wrong_type(field, v, "a list of whole numbers")),
        }
    }

    pub(crate) fn strings(&self, field: &str, default: &[&str]) -> Result<Vec<String>> {
        match self.get(field) {
            None => Ok(default.iter().map(|s| s.to_string()).collect()),
            Some(Json::Array(items)) => items
                .iter()
                .map(|v| {
                    Ok(v.as_str()
                        .ok_or_else(|| self.wrong_type(field, v, "a list of strings"))?
                        .to_string())
                })
                .collect(),
            Some(v) => Err(self.wrong_type(field, v, "a list of strings")),
        }
    }

    /// A number for all `count` levels, or a list with one number per level.
    pub(crate) fn per_level(&self, field: &str, default: usize, count: usize) -> Result<Vec<usize>> {
        let list = match self.get(field) {
            Some(Json::Array(_)) => self.usizes(field, &[])?,
            _ => vec![self.usize(field, default)?; count],
        };
        if list.len() != count {
            return Err(self.error(
                field,
                format!("has {} entries, block_out_channels has {count}", list.len()),
            ));
        }
        match list.iter().all(|&n| n > 0) {
            true => Ok(list),
            false => Err(self.error(field, "entries must be positive")),
        }
    }

    /// Refuses every value of a field but the one that is implemented (absent and `null` pass).
    pub(crate) fn only(&self, field: &str, supported: impl Into<Json>) -> Result<()> {
        let supported = supported.into();
        match self.get(field) {
            Some(v) if !same(v, &supported) => {
                Err(self.error(field, format!("is {v}, which is not supported (only {supported} is)")))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a field that is set to anything but `null`.
    pub(crate) fn unset(&self, field: &str) -> Result<()> {
        self.only(field, Json::Null)
    }
}

/// Equality that does not distinguish 1 from 1.0.
fn same(a: &Json, b: &Json) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Json) -> Map<String, Json> {
        value.as_object().expect("an object").clone()
    }

    #[test]
    fn null_is_absent_and_numbers_compare_by_value() {
        let m = map(json!({"a": null, "b": 1.0, "c": [1, 2]}));
        let f = Fields::new(&m, "config.json");
        assert_eq!(f.usize("a", 7).unwrap(), 7);
        f.only("b", 1).unwrap();
        f.unset("a").unwrap();
        assert_eq!(f.per_level("c", 0, 2).unwrap(), [1, 2]);
        assert_eq!(f.per_level("a", 3, 2).unwrap(), [3, 3]);
    }

    #[test]
    fn sizes_that_could_only_exhaust_memory_are_refused() {
        let m =
            map(json!({"depth": 1_000_000, "depths": [2, 4096], "widths": [1, 1, 1, 1, 1, 1, 1, 1, 1], "size": 1e18}));
        let f = Fields::new(&m, "config.json");
        assert!(f.layers("depth", 1).is_err());
        assert!(f.layers_per_level("depths", 1, 2).is_err());
        assert!(f.levels("widths", &[]).is_err());
        assert!(f.levels("absent", &[]).is_err());
        assert!(f.usize("size", 1).is_err());
    }

    #[test]
    fn errors_name_place_and_field() {
        let m = map(json!({"act_fn": "mish", "layers": [1], "n": -1, "zero": 0}));
        let f = Fields::new(&m, "unet/config.json");
        for (error, field) in [
            (f.only("act_fn", "silu").unwrap_err(), "act_fn"),
            (f.per_level("layers", 1, 4).unwrap_err(), "layers"),
            (f.usize("n", 1).unwrap_err(), "`n`"),
            (f.positive("zero", 1).unwrap_err(), "zero"),
            (f.bool("act_fn", true).unwrap_err(), "act_fn"),
        ] {
            let text = error.to_string();
            assert!(text.starts_with("unet/config.json") && text.contains(field), "{text}");
        }
    }
}
