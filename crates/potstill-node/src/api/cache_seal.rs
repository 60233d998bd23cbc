//! Joining the parts of a build.

use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use potstill_cache::{CacheError, ComponentId, SEAL_FILE, SourceError, coverage, read_components, seal};

use super::cache_errors::cache_error;
use super::cache_source::cache_place;
use crate::core::{Result, run_job};

/// What sealing found in a component's folder.
#[napi(object)]
pub struct CacheCoverage {
    /// Records planned.
    pub records: f64,
    /// Shards planned.
    pub shards: u32,
    /// Shards that are not there, not whole, or of another plan. None of a sealed component, which is not looked at.
    pub missing: Vec<u32>,
    /// `sealed` by this call, sealed `before`, `incomplete` (shards are missing), or `complete`, where it was only looked at.
    #[napi(ts_type = "'sealed' | 'before' | 'incomplete' | 'complete'")]
    pub state: String,
}

/// The components of a cache that have a plan or shards, latents and text first: `latents`, `text`, `teachers/<id>`.
#[napi(ts_return_type = "Promise<Outcome<string[]>>", catch_unwind)]
pub fn cache_components(env: &Env, cache: String) -> napi::Result<Object<'_>> {
    run_job(env, "cache", move || {
        let found = read_components(cache_place(&cache)?.source()).map_err(cache_error(&cache))?;
        Ok(found.iter().map(ComponentId::to_string).collect::<Vec<_>>())
    })
}

/// Seals a component whose shards are all there: reads them, holds their records against the plan, and writes `seal.json`.
/// With `only_look` it says what is there.
#[napi(ts_return_type = "Promise<Outcome<CacheCoverage>>", catch_unwind)]
pub fn seal_cache(env: &Env, cache: String, component: String, only_look: bool) -> napi::Result<Object<'_>> {
    run_job(env, "cache", move || join(&cache, &component, only_look))
}

fn join(cache: &str, component: &str, only_look: bool) -> Result<CacheCoverage> {
    let failed = cache_error(cache);
    let place = cache_place(cache)?;
    let id: ComponentId = component.parse().map_err(&failed)?;
    let mut found = coverage(place.clone(), &id).map_err(&failed)?;
    let is_sealed = match place.source().size(&id.file(SEAL_FILE)) {
        Ok(_) => true,
        Err(SourceError::Missing { .. }) => false,
        Err(error) => return Err(failed(error.into())),
    };
    let state = if is_sealed {
        // What a seal lists and is gone, verification tells.
        found.missing.clear();
        "before"
    } else if !found.missing.is_empty() {
        "incomplete"
    } else if only_look {
        "complete"
    } else {
        match seal(place, &id) {
            Ok(_) => "sealed",
            Err(CacheError::Sealed { .. }) => "before",
            Err(error) => return Err(failed(error)),
        }
    };
    Ok(CacheCoverage {
        records: found.records as f64,
        shards: found.shards,
        missing: found.missing,
        state: state.to_owned(),
    })
}
