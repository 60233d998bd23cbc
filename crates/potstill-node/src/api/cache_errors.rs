//! Errors of `potstill-cache`, as errors of operations.

use potstill_cache::{CacheError, SourceError};
use potstill_models::RecomputeError;

use crate::core::OpError;

/// Where `potstill-cache` names the component itself, the place is the cache's folder.
pub fn cache_error(cache: &str) -> impl Fn(CacheError) -> OpError + '_ {
    move |error| {
        let code = match &error {
            CacheError::Io(_) => "ERR_FILE_ACCESS",
            CacheError::Source(source) | CacheError::Record { source, .. } => match source {
                SourceError::Missing { .. } => "ERR_CACHE_MISSING",
                SourceError::Remote(failure) if failure.is_here => "ERR_S3_UNREACHABLE",
                SourceError::Remote(_) => "ERR_S3_REFUSED",
                _ => "ERR_CACHE_UNREADABLE",
            },
            CacheError::Plan { .. } => "ERR_CACHE_PLAN",
            CacheError::NoCache | CacheError::Unplanned { .. } => "ERR_CACHE_MISSING",
            CacheError::Unsealed { .. } => "ERR_CACHE_UNSEALED",
            CacheError::Mismatch { .. } | CacheError::ForeignPlan { .. } => "ERR_CACHE_FOREIGN",
            CacheError::NotFinite { .. } => "ERR_CACHE_NOT_FINITE",
            CacheError::Shard { .. } => "ERR_CACHE_SHARD",
            CacheError::Busy { .. } => "ERR_CACHE_BUSY",
            CacheError::Entry { .. } => "ERR_CACHE_ENTRY",
            CacheError::Occupied { .. } => "ERR_OUT",
            _ => "ERR_CACHE",
        };
        match error {
            CacheError::Io(error) => error.into(),
            CacheError::Source(SourceError::Remote(failure))
            | CacheError::Record {
                source: SourceError::Remote(failure),
                ..
            } => {
                let error = match failure.is_here {
                    true => OpError::machine(code, &failure.reason),
                    false => OpError::input(code, &failure.reason),
                };
                error.at(&failure.place).remedy(failure.remedy)
            }
            other => {
                let remedy = other.remedy();
                let error = OpError::input(code, other).at(cache);
                match remedy {
                    Some(remedy) => error.remedy(remedy),
                    None => error,
                }
            }
        }
    }
}

/// Why the entries of a cache could not be computed again.
pub fn recompute_error(error: RecomputeError, cache: &str) -> OpError {
    match error {
        RecomputeError::Model(error) => error.into(),
        RecomputeError::Cache(error) => cache_error(cache)(error),
        RecomputeError::Foreign { model, reason } => OpError::input(
            "ERR_MODEL_FOREIGN",
            format!("nothing of this cache was made with this model: {reason}"),
        )
        .at(model)
        .remedy("Give the very files that the cache was made with (--model); digests are of whole files."),
        RecomputeError::Interrupted => OpError::interrupted(),
        error @ RecomputeError::NoPlan => OpError::input("ERR_CACHE_PLAN", error)
            .at(cache)
            .remedy("Verify it without --recompute, or import it with `potstill cache import`, which makes plans."),
    }
}
