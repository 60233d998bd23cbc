//! Reading records of a cache into tensors.

use std::path::Path;
use std::sync::Arc;

use napi::Env;
use napi::bindgen_prelude::{Float64Array, Object};
use napi_derive::napi;
use potstill_cache::{CacheReader, ComponentId, FolderSource};
use potstill_engine::{Device, Tensor, Value};

use super::cache_errors::cache_error;
use crate::core::{Engine, OpError, Result, run_job};

/// Sealed components of a cache, opened for reading.
#[napi]
pub struct CacheHandle {
    cache: String,
    reader: Arc<CacheReader>,
}

/// Opens the latents, the text and some teachers of a cache. Plans and seals are checked; no shard is read.
#[napi(ts_return_type = "Promise<Outcome<CacheHandle>>", catch_unwind)]
pub fn open_cache(env: &Env, cache: String, teachers: Vec<String>) -> napi::Result<Object<'_>> {
    run_job(env, "cache", move || {
        let source = Box::new(FolderSource::new(Path::new(&cache)));
        let reader = CacheReader::open(source, Some(&teachers)).map_err(cache_error(&cache))?;
        Ok(CacheHandle {
            cache,
            reader: Arc::new(reader),
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
        let records: Vec<u64> = records.iter().map(|&record| record as u64).collect();
        self.submit(out, "cache", move |_| {
            read(&reader, &place, &component, &fields, &records)
        });
    }
}

fn read(reader: &CacheReader, place: &str, component: &str, fields: &[String], records: &[u64]) -> Result<Value> {
    let failed = cache_error(place);
    let component: ComponentId = component.parse().map_err(&failed)?;
    let batch = match fields {
        [field] => reader.read(&component, field, records).map_err(&failed)?,
        _ if fields.len() == records.len() => {
            let mut whole: Option<potstill_cache::Batch> = None;
            for (field, &record) in fields.iter().zip(records) {
                let row = reader.read(&component, field, &[record]).map_err(&failed)?;
                match &mut whole {
                    None => whole = Some(row),
                    Some(whole) if whole.shape[1..] == row.shape[1..] => {
                        whole.shape[0] += 1;
                        whole.values.extend(row.values);
                    }
                    Some(_) => return Err(OpError::bug("records of different shapes in one batch")),
                }
            }
            whole.ok_or_else(|| OpError::bug("a batch of no records"))?
        }
        _ => return Err(OpError::bug("one field is needed for all records, or one for each")),
    };
    Ok(Value::constant(Tensor::from_vec(
        batch.values,
        batch.shape,
        &Device::Cpu,
    )?))
}
