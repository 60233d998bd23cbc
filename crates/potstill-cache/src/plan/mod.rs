//! Plans: what fixes the content of a component, as canonical JSON.

mod documents;
mod validate;
mod write;

use serde::Deserialize;

pub use documents::{
    Adapter, CacheFormat, EncoderDigest, GivenDraw, LatentsPlan, ModelDigest, NoiseOfPlan, NoisePlan, PredictionField,
    PredictionKind, Sampling, SchedulePlan, StorageDtype, TeacherPlan, TextPlan, TextShape, Unconditional, VaePlan,
    ViewOfImage, WeightStorage,
};
pub use validate::PlanError;

use crate::canonical::sha256;
use crate::component::ComponentId;
use crate::digest::Digest32;
use crate::error::CacheError;

/// Longest plan that is read: a million captions of 200 bytes. Gigabytes would only be an attack on memory.
pub const MAX_PLAN_BYTES: u64 = 256 << 20;

/// The plan of any component.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "a cache has a handful of plans, each with lists far larger than this"
)]
pub enum Plan {
    /// Encoded images.
    Latents(LatentsPlan),
    /// Encoded captions.
    Text(TextPlan),
    /// Predictions of a teacher.
    Teacher(TeacherPlan),
}

impl Plan {
    /// Parses and checks a `plan.json`.
    ///
    /// # Errors
    /// [`PlanError`]: no plan, of another version, contradicting itself, or not in canonical form.
    pub fn parse(bytes: &[u8]) -> Result<Self, PlanError> {
        let plan = match Self::read(bytes) {
            Some(plan) => plan,
            None => Self::refuse(bytes)?,
        };
        plan.validate()?;
        // A digest names bytes; two spellings of one plan would have two names.
        let is_canonical = write::is_canonical(&plan, bytes).map_err(|error| PlanError::Json {
            reason: error.to_string(),
        })?;
        if is_canonical {
            Ok(plan)
        } else {
            Err(PlanError::NotCanonical)
        }
    }

    /// A plan of whichever component. One of another is told by its first keys, so nothing is read twice.
    fn read(bytes: &[u8]) -> Option<Self> {
        let latents = serde_json::from_slice(bytes).map(Self::Latents);
        let text = latents.or_else(|_| serde_json::from_slice(bytes).map(Self::Text));
        text.or_else(|_| serde_json::from_slice(bytes).map(Self::Teacher)).ok()
    }

    /// Why a document is no plan.
    fn refuse(bytes: &[u8]) -> Result<Self, PlanError> {
        #[derive(Deserialize)]
        struct Head {
            format: String,
            version: u64,
            component: String,
        }
        let json = |error: serde_json::Error| PlanError::Json {
            reason: error.to_string(),
        };
        let head: Head = serde_json::from_slice(bytes).map_err(json)?;
        if head.format != "potstill-cache" {
            return Err(PlanError::Format { format: head.format });
        }
        if head.version != u64::from(documents::PLAN_VERSION) {
            return Err(PlanError::Version { version: head.version });
        }
        Ok(match head.component.as_str() {
            "latents" => Self::Latents(serde_json::from_slice(bytes).map_err(json)?),
            "text" => Self::Text(serde_json::from_slice(bytes).map_err(json)?),
            "teacher" => Self::Teacher(serde_json::from_slice(bytes).map_err(json)?),
            _ => {
                return Err(PlanError::Component {
                    component: head.component,
                });
            }
        })
    }

    /// The canonical JSON: the bytes of `plan.json`.
    ///
    /// # Errors
    /// [`CacheError::Json`] for a number that is not finite.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CacheError> {
        write::canonical(self)
    }

    /// SHA-256 of the canonical JSON: the name of what was asked.
    ///
    /// # Errors
    /// As [`Plan::to_bytes`].
    pub fn digest(&self) -> Result<Digest32, CacheError> {
        Ok(sha256(&self.to_bytes()?))
    }

    /// The component that the plan is of.
    #[must_use]
    pub fn component(&self) -> ComponentId {
        match self {
            Self::Latents(_) => ComponentId::Latents,
            Self::Text(_) => ComponentId::Text,
            Self::Teacher(plan) => ComponentId::Teacher(plan.id.clone()),
        }
    }
}
