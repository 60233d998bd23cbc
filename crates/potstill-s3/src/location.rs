//! Names of places in S3.

use std::fmt;
use std::str::FromStr;

/// What names in S3 begin with.
pub const SCHEME: &str = "s3://";
/// Lengths of a bucket's name.
const BUCKET: std::ops::RangeInclusive<usize> = 3..=63;
/// Longest key of an object, in bytes; a prefix leaves room for the longest file below it.
const MAX_PREFIX: usize = 1024 - 128;

/// A bucket and what the keys in it begin with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Location {
    bucket: String,
    /// Without `/` at either end; empty for the bucket itself.
    prefix: String,
}

/// What is no [`Location`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} names no place in S3: {reason}")]
pub struct LocationError {
    text: String,
    reason: &'static str,
}

impl Location {
    /// The bucket.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The key of a file, given relative to this place.
    #[must_use]
    pub fn key(&self, path: &str) -> String {
        match self.prefix.as_str() {
            "" => path.to_owned(),
            prefix if path.is_empty() => prefix.to_owned(),
            prefix => format!("{prefix}/{path}"),
        }
    }

    /// A file as people call it: `s3://bucket/key`.
    #[must_use]
    pub fn name(&self, path: &str) -> String {
        format!("{SCHEME}{}/{}", self.bucket, self.key(path))
    }

    /// The path of a key relative to this place; none of what lies elsewhere.
    #[must_use]
    pub fn relative<'a>(&self, key: &'a str) -> Option<&'a str> {
        if self.prefix.is_empty() {
            return Some(key);
        }
        key.strip_prefix(&self.prefix)?.strip_prefix('/')
    }
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        let wrong = |reason| LocationError {
            text: text.to_owned(),
            reason,
        };
        let rest = text.strip_prefix(SCHEME).ok_or(wrong("it does not begin with s3://"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if !BUCKET.contains(&bucket.len()) || !bucket.chars().all(is_plain) {
            return Err(wrong("a bucket has 3 to 63 letters, digits, dots and dashes"));
        }
        let prefix = prefix.trim_end_matches('/');
        let is_part =
            |part: &str| !part.is_empty() && part != "." && part != ".." && !part.chars().any(char::is_control);
        if !prefix.is_empty() && !prefix.split('/').all(is_part) {
            return Err(wrong("what follows the bucket is no path of plain names"));
        }
        if prefix.len() > MAX_PREFIX {
            return Err(wrong("what follows the bucket is too long"));
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.bucket)?;
        if self.prefix.is_empty() {
            return Ok(());
        }
        write!(f, "/{}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_without_slashes_at_the_end() {
        for (text, shown, key) in [
            ("s3://caches", "s3://caches", "text/plan.json"),
            ("s3://caches/", "s3://caches", "text/plan.json"),
            ("s3://caches/a/b c/", "s3://caches/a/b c", "a/b c/text/plan.json"),
        ] {
            let location: Location = text.parse().unwrap();
            assert_eq!(location.to_string(), shown);
            assert_eq!(location.key("text/plan.json"), key);
            assert_eq!(location.relative(key), Some("text/plan.json"));
            assert_eq!(location.name("x"), format!("{shown}/x"));
        }
        let location: Location = "s3://caches/a".parse().unwrap();
        assert_eq!(location.relative("ab/x"), None);
    }

    #[test]
    fn what_is_no_place_says_why() {
        for text in [
            "caches/a",
            "s3://",
            "s3://ab",
            "s3://a b c/x",
            "s3://caches//a",
            "s3://caches/../a",
            "s3://caches/a\n",
        ] {
            assert!(text.parse::<Location>().is_err(), "{text}");
        }
        let error = "s3://caches/./a".parse::<Location>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"s3://caches/./a\" names no place in S3: what follows the bucket is no path of plain names"
        );
    }
}
