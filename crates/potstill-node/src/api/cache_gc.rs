//! What nothing in a cache refers to.

use std::path::Path;

use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use potstill_cache::{find_garbage, remove_garbage};

use super::cache_errors::cache_error;
use crate::core::run_job;

/// A file that nothing refers to.
#[napi(object)]
pub struct CacheGarbage {
    /// Its path in the cache.
    pub path: String,
    /// Its length.
    pub bytes: f64,
    /// Why: `unfinished`, `lock`, `beyond-plan`, `unusable`, `unplanned`, `teacher`.
    #[napi(ts_type = "'unfinished' | 'lock' | 'beyond-plan' | 'unusable' | 'unplanned' | 'teacher'")]
    pub kind: String,
}

/// What was found, or removed.
#[napi(object)]
pub struct CacheGarbageFound {
    /// Files that nothing refers to, by path.
    pub garbage: Vec<CacheGarbage>,
    /// Folders that were not looked at, for a build or an export is at work there.
    pub busy: Vec<String>,
    /// Components whose plan cannot be used: of their shards none is judged.
    pub unjudged: Vec<String>,
}

/// Finds what nothing refers to and, when told to, removes it. `keep` are the ids of the teachers that are wanted; all when
/// left out.
#[napi(ts_return_type = "Promise<Outcome<CacheGarbageFound>>", catch_unwind)]
pub fn collect_garbage(env: &Env, cache: String, remove: bool, keep: Option<Vec<String>>) -> napi::Result<Object<'_>> {
    run_job(env, "cache", move || {
        let collect = if remove { remove_garbage } else { find_garbage };
        let found = collect(Path::new(&cache), keep.as_deref()).map_err(cache_error(&cache))?;
        let garbage = found.garbage.into_iter().map(|garbage| CacheGarbage {
            path: garbage.path,
            bytes: garbage.bytes as f64,
            kind: garbage.kind.name().to_owned(),
        });
        Ok(CacheGarbageFound {
            garbage: garbage.collect(),
            busy: found.busy,
            unjudged: found.unjudged,
        })
    })
}
