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

/// Whether bytes are the same. Where the library compares them one by one (WASM), many at a time.
#[must_use]
pub(crate) fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    if !cfg!(target_arch = "wasm32") {
        return a == b;
    }
    same_in_blocks(a, b)
}

fn same_in_blocks(a: &[u8], b: &[u8]) -> bool {
    const BLOCK: usize = 64;
    let ((a_blocks, a_rest), (b_blocks, b_rest)) = (a.as_chunks::<BLOCK>(), b.as_chunks::<BLOCK>());
    // Without a branch for every byte, so that it becomes SIMD.
    let same = |(a, b): (&[u8; BLOCK], &[u8; BLOCK])| a.iter().zip(b).fold(0, |or, (a, b)| or | (a ^ b)) == 0;
    a.len() == b.len() && a_blocks.iter().zip(b_blocks).all(same) && a_rest == b_rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_makes_a_difference() {
        for length in [0, 1, 63, 64, 65, 200] {
            let bytes: Vec<u8> = (0..length).map(|i| i as u8).collect();
            assert!(same_bytes(&bytes, &bytes) && same_in_blocks(&bytes, &bytes));
            for at in 0..length {
                let mut other = bytes.clone();
                other[at] ^= 0x80;
                assert!(
                    !same_bytes(&bytes, &other) && !same_in_blocks(&bytes, &other),
                    "{at} of {length}"
                );
            }
            let longer = [&bytes[..], b"x"].concat();
            assert!(!same_in_blocks(&bytes, &longer) && !same_in_blocks(&longer, &bytes));
        }
    }
}
