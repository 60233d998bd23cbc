//! Canonical JSON (RFC 8785) and the digest of documents.

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::digest::Digest32;
use crate::error::CacheError;

/// A document's canonical JSON: no white space, keys in UTF-16 order, numbers and strings as ECMAScript writes them.
///
/// # Errors
/// [`CacheError::Json`] for what JSON cannot hold: a number that is not finite.
pub fn canonical_json<T: Serialize>(document: &T) -> Result<Vec<u8>, CacheError> {
    serde_json_canonicalizer::to_vec(document).map_err(|error| CacheError::Json {
        reason: error.to_string(),
    })
}

/// SHA-256.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Digest32 {
    Digest32(Sha256::digest(bytes).into())
}
