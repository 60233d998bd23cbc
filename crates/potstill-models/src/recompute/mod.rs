//! Recomputation of a cache's entries (level 3 of its verification) from the weights that its plans name.

mod identity;
mod images;
mod predictor;

use std::path::Path;

use candle_core::Device;
use potstill_cache::{CacheError, CacheReader, OwnedSource, RecomputeOptions, Report, recompute as recompute_entries};
use serde::Deserialize;

use crate::error::ModelError;
pub use images::view_planes;
use predictor::Models;

/// What is to be computed again, as JavaScript hands it to addon and WASM module alike.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecomputeRequest {
    /// Entries of every component.
    pub entries: u64,
    /// What they are drawn by: the verifier's own.
    pub nonce: String,
    /// The models that the cache is said to be made of, or a VAE alone: folders or files.
    pub models: Vec<String>,
    /// The image files; without any, latents are not computed again.
    pub images: Vec<String>,
}

impl RecomputeRequest {
    /// From JSON.
    ///
    /// # Errors
    /// [`CacheError::Json`].
    pub fn parse(json: &str) -> Result<Self, CacheError> {
        serde_json::from_str(json).map_err(|error| CacheError::Json {
            reason: error.to_string(),
        })
    }
}

/// Why entries could not be computed again.
#[derive(Debug, thiserror::Error)]
pub enum RecomputeError {
    /// A model that could not be loaded or run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A cache that cannot be read as a whole.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A model that the cache was not made of.
    #[error("{model}: nothing of this cache was made with this model: {reason}")]
    Foreign {
        /// The model's path.
        model: String,
        /// Which components differ, with the digests on both sides.
        reason: String,
    },
    /// Ended by its caller.
    #[error("interrupted")]
    Interrupted,
    /// Files without plans.
    #[error("this cache is in the files layout, which does not say whose weights made it")]
    NoPlan,
}

impl From<potstill_engine::EngineError> for RecomputeError {
    fn from(error: potstill_engine::EngineError) -> Self {
        Self::Model(error.into())
    }
}

/// A report of the first two levels with the third. Where the first two found a cache that cannot be read as a whole, the
/// report stays as it is.
///
/// `device` computes, in f32. `interrupted` is asked while the models' files are digested, which takes longest of what comes before the first entry.
///
/// # Errors
/// [`RecomputeError`]: a model that is not this cache's is refused by name.
pub fn recompute(
    report: Report,
    source: Box<dyn OwnedSource>,
    request: &RecomputeRequest,
    device: &Device,
    progress: &dyn Fn(u64, u64),
    interrupted: &dyn Fn() -> bool,
) -> Result<Report, RecomputeError> {
    if report.layout.is_some() {
        return Err(RecomputeError::NoPlan);
    }
    let reader = match CacheReader::open(source, None) {
        Ok(reader) => reader,
        Err(error) if !report.ok() && !error.is_remote() => return Ok(report),
        Err(error) => return Err(error.into()),
    };
    let models: Vec<&Path> = request.models.iter().map(Path::new).collect();
    let mut models = Models::open(&reader, &models, &request.images, device, interrupted)?;
    let options = RecomputeOptions {
        entries: request.entries,
        nonce: &request.nonce,
    };
    let recomputed = recompute_entries(&reader, &mut models, options, progress)?;
    Ok(report.with_recomputation(recomputed))
}
