//! The parts of a cache and their places.

use std::fmt;
use std::str::FromStr;

use crate::error::CacheError;

/// Name of a component's plan in its folder.
pub const PLAN_FILE: &str = "plan.json";
/// Name of a component's seal in its folder.
pub const SEAL_FILE: &str = "seal.json";
/// Begins the names of what is not finished, as `potstill_io::write_atomic` gives them to temporary files.
pub(crate) const TEMPORARY_PREFIX: &str = ".potstill-";
/// Name of the file that a build locks in the component's folder. It locks nobody out by being there, so it may stay.
pub(crate) const LOCK_FILE: &str = ".potstill-build.lock";
/// Longest teacher id: it is a folder's name and stands in messages.
const MAX_ID: usize = 64;

/// A component of a cache: a folder with a plan, shards and a seal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ComponentId {
    /// Encoded images: folder `latents`.
    Latents,
    /// Encoded captions: folder `text`.
    Text,
    /// The predictions of a teacher: folder `teachers/<id>`.
    Teacher(String),
}

impl fmt::Display for ComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latents => f.write_str("latents"),
            Self::Text => f.write_str("text"),
            Self::Teacher(id) => write!(f, "teachers/{id}"),
        }
    }
}

impl FromStr for ComponentId {
    type Err = CacheError;

    fn from_str(text: &str) -> Result<Self, CacheError> {
        match (text, text.strip_prefix("teachers/")) {
            ("latents", _) => Ok(Self::Latents),
            ("text", _) => Ok(Self::Text),
            (_, Some(id)) if is_teacher_id(id) => Ok(Self::Teacher(id.to_owned())),
            _ => Err(CacheError::NoSuchComponent {
                component: text.to_owned(),
            }),
        }
    }
}

impl ComponentId {
    /// A file of the component, relative to the cache, with `/` between the parts.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        format!("{self}/{name}")
    }
}

/// Whether a teacher may be called so: 1 to 64 letters, digits, `.`, `_` and `-`, the first a letter or digit. It is a
/// folder's name, so it can neither leave the cache nor hide.
#[must_use]
pub(crate) fn is_teacher_id(id: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    id.len() <= MAX_ID && id.bytes().all(allowed) && id.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric())
}

/// Name of a shard's file.
#[must_use]
pub fn shard_file(index: u32) -> String {
    format!("shard-{index:05}.safetensors")
}

/// The index that a shard's file name stands for.
#[must_use]
pub(crate) fn shard_index(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("shard-")?.strip_suffix(".safetensors")?;
    digits.parse().ok().filter(|&index| shard_file(index) == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for text in ["latents", "text", "teachers/animals-v1.5"] {
            assert_eq!(text.parse::<ComponentId>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn shard_names_have_one_spelling() {
        assert_eq!(shard_index(&shard_file(7)), Some(7));
        assert_eq!(shard_index(&shard_file(1_234_567)), Some(1_234_567));
        for name in [
            "shard-7.safetensors",
            "shard-+0007.safetensors",
            "shard-000007.safetensors",
            "shard-00007",
        ] {
            assert_eq!(shard_index(name), None, "{name}");
        }
    }

    #[test]
    fn names_that_could_leave_the_cache_are_refused() {
        for text in [
            "",
            "teachers/",
            "teachers/..",
            "teachers/a/b",
            "teachers/.a",
            "../latents",
            "teachers/a\\b",
            "latents/",
        ] {
            assert!(text.parse::<ComponentId>().is_err(), "{text}");
        }
        assert!(!is_teacher_id(&"a".repeat(65)));
    }
}
