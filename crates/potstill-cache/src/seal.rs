//! Seals: what was written.

use serde::{Deserialize, Serialize};

use crate::canonical::canonical_json;
use crate::component::ComponentId;
use crate::digest::Digest32;
use crate::error::CacheError;

/// Version of the seals.
const SEAL_VERSION: u32 = 1;
/// Longest seal that is read: a million shards of 130 bytes each.
pub(crate) const MAX_SEAL_BYTES: u64 = 256 << 20;

/// The constant `format` of a seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SealFormat {
    /// `"potstill-seal"`.
    #[default]
    #[serde(rename = "potstill-seal")]
    PotstillSeal,
}

/// A finished shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardInfo {
    /// Name of the file in the component's folder.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// Records in it.
    pub records: u32,
    /// BLAKE3 of the file.
    pub blake3: Digest32,
}

/// Seals (SHA-256 of their files) of the components that a teacher's predictions were made on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dependencies {
    /// Of the latents.
    pub latents: Digest32,
    /// Of the text.
    pub text: Digest32,
}

/// A component's `seal.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// Constant.
    pub format: SealFormat,
    /// Version of the seals.
    pub version: u32,
    /// `latents`, `text` or `teachers/<id>`.
    pub component: String,
    /// SHA-256 of the plan.
    pub plan: Digest32,
    /// Records in all shards.
    pub records: u64,
    /// The shards in order.
    pub shards: Vec<ShardInfo>,
    /// What a teacher depends on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub dependencies: Option<Dependencies>,
}

impl Seal {
    /// The seal of these shards.
    #[must_use]
    pub fn new(
        component: &ComponentId,
        plan: Digest32,
        shards: Vec<ShardInfo>,
        dependencies: Option<Dependencies>,
    ) -> Self {
        Self {
            format: SealFormat::PotstillSeal,
            version: SEAL_VERSION,
            component: component.to_string(),
            plan,
            records: shards.iter().map(|s| u64::from(s.records)).sum(),
            shards,
            dependencies,
        }
    }

    /// Parses a `seal.json`.
    ///
    /// # Errors
    /// [`CacheError::Json`]: no seal, of another version, or not canonical.
    pub fn parse(bytes: &[u8]) -> Result<Self, CacheError> {
        let json = |reason: String| CacheError::Json { reason };
        let seal: Self = serde_json::from_slice(bytes).map_err(|error| json(error.to_string()))?;
        if seal.version != SEAL_VERSION {
            return Err(json(format!(
                "the seal has version {}; this potstill reads version {SEAL_VERSION}",
                seal.version
            )));
        }
        if seal.to_bytes()? != bytes {
            return Err(json("the seal is not in canonical form (RFC 8785)".to_owned()));
        }
        Ok(seal)
    }

    /// The canonical JSON: the bytes of `seal.json`.
    ///
    /// # Errors
    /// [`CacheError::Json`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, CacheError> {
        canonical_json(self)
    }
}
