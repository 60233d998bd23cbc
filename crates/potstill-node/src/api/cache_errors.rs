//! Errors of `potstill-cache`, as errors of operations.

use potstill_cache::{CacheError, SourceError};

use crate::core::OpError;

/// Where `potstill-cache` names the component itself, the place is the cache's folder.
pub fn cache_error(cache: &str) -> impl Fn(CacheError) -> OpError + '_ {
    move |error| {
        let code = match &error {
            CacheError::Io(_) => "ERR_FILE_ACCESS",
            CacheError::Source(SourceError::Missing { .. }) => "ERR_CACHE_MISSING",
            CacheError::Source(_) => "ERR_CACHE_UNREADABLE",
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
