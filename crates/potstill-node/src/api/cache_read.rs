//! Reading records of a cache into tensors.

use std::sync::Arc;

use napi::Env;
use napi::bindgen_prelude::{Float64Array, Object};
use napi_derive::napi;
use potstill_cache::{CacheError, CacheReader, ReadAhead, Rows};
use potstill_engine::{Tensor, Value};

use super::cache_errors::cache_error;
use super::cache_source::scattered_source;
use crate::core::{CancelToken, Engine, Result, run_job};

/// Sealed components of a cache, opened for reading.
#[napi]
pub struct CacheHandle {
    cache: String,
    reader: Arc<ReadAhead>,
}

#[napi]
impl CacheHandle {
    /// Begins to read what [`Engine::read_cache`] with the same arguments will want, on threads of its own. What is wrong
    /// with it is told there.
    #[napi(catch_unwind)]
    pub fn read_ahead(&self, component: String, fields: Vec<String>, records: Float64Array) {
        if let Ok(rows) = rows(&component, fields, &records) {
            self.reader.ask(rows);
        }
    }

    /// Seconds that the engine has waited for records so far.
    #[napi(getter)]
    pub fn waited_seconds(&self) -> f64 {
        self.reader.waited().as_secs_f64()
    }
}

/// Opens the latents, the text and some teachers of a cache. Plans and seals are checked; no shard is read.
#[napi(ts_return_type = "Promise<Outcome<CacheHandle>>", catch_unwind)]
pub fn open_cache(env: &Env, cache: String, teachers: Vec<String>) -> napi::Result<Object<'_>> {
    run_job(env, "cache", move || {
        let source = scattered_source(&cache, &CancelToken::new())?;
        let reader = CacheReader::open(source, Some(&teachers)).map_err(cache_error(&cache))?;
        Ok(CacheHandle {
            cache,
            reader: Arc::new(ReadAhead::new(reader)),
        })
    })
}

#[napi]
impl Engine {
    /// Reads records of a component, one field of each: `[records, …]`. Fields are given once for all records, or one for
    /// each.
    #[napi(catch_unwind)]
    pub fn read_cache(
        &self,
        out: f64,
        cache: &CacheHandle,
        component: String,
        fields: Vec<String>,
        records: Float64Array,
    ) {
        let (place, reader) = (cache.cache.clone(), Arc::clone(&cache.reader));
        let rows = rows(&component, fields, &records);
        self.submit(out, "cache", move |state| -> Result<Value> {
            let failed = cache_error(&place);
            let batch = rows.and_then(|rows| reader.take(&rows)).map_err(&failed)?;
            Ok(Value::constant(Tensor::from_vec(
                batch.values,
                batch.shape,
                state.device()?,
            )?))
        });
    }
}

fn rows(component: &str, fields: Vec<String>, records: &[f64]) -> std::result::Result<Rows, CacheError> {
    Ok(Rows {
        component: component.parse()?,
        fields,
        records: records.iter().map(|&record| record as u64).collect(),
    })
}
