//! Writing a cache: the plan, shards of records, the seal.

use std::sync::{Arc, Mutex, PoisonError};

use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use potstill_cache::{Builder, CacheError, Plan, ShardWriter};

use super::cache_errors::cache_error;
use super::cache_source::cache_place;
use crate::core::{Engine, OpError, Outcome, Result, id, run_job, tensor, values};

/// A shard of a plan: the records `from` to `to`, and whether its file is there and of this plan.
#[napi(object)]
#[derive(Clone)]
pub struct PlannedShard {
    /// Index of the shard.
    pub index: u32,
    /// First record.
    pub from: f64,
    /// Record after the last.
    pub to: f64,
    /// Nothing needs to be built.
    pub whole: bool,
}

/// A component being built.
#[napi]
pub struct CacheBuilder {
    cache: String,
    builder: Builder,
    shards: Vec<PlannedShard>,
}

/// Begins or continues building the component of a plan: writes `plan.json` if there is none, removes what a killed build
/// left half-written, and looks which shards are there. Nobody else can build it until it is sealed or ended; as a `part`
/// of a build, other parts can, and what they are writing is left alone.
#[napi(ts_return_type = "Promise<Outcome<CacheBuilder>>", catch_unwind)]
pub fn begin_cache(env: &Env, cache: String, plan: String, part: Option<bool>) -> napi::Result<Object<'_>> {
    run_job(env, "cache", move || begin(cache, &plan, part.unwrap_or_default()))
}

fn begin(cache: String, plan: &str, part: bool) -> Result<CacheBuilder> {
    let failed = cache_error(&cache);
    let plan = Plan::parse(plan.as_bytes()).map_err(|error| OpError::input("ERR_CACHE_PLAN", error).at(&cache))?;
    let place = cache_place(&cache)?;
    let builder = match part {
        true => Builder::begin_part(place, &plan),
        false => Builder::begin(place, &plan),
    };
    let builder = builder.map_err(&failed)?;
    let done = builder.done().map_err(&failed)?;
    let shards = builder.layout().shards().map(|shard| PlannedShard {
        index: shard.index,
        from: shard.start as f64,
        to: (shard.start + u64::from(shard.records)) as f64,
        whole: done.binary_search(&shard.index).is_ok(),
    });
    let shards = shards.collect();
    drop(failed);
    Ok(CacheBuilder { cache, builder, shards })
}

#[napi]
impl CacheBuilder {
    /// All shards, in order.
    #[napi(getter)]
    pub fn shards(&self) -> Vec<PlannedShard> {
        self.shards.clone()
    }

    /// Whether a shard is written by now, perhaps by another part.
    #[napi(ts_return_type = "Promise<Outcome<boolean>>", catch_unwind)]
    pub fn is_whole<'env>(&self, env: &'env Env, index: u32) -> napi::Result<Object<'env>> {
        let (cache, builder) = (self.cache.clone(), self.builder.clone());
        run_job(env, "cache", move || {
            builder.is_done(index).map_err(cache_error(&cache))
        })
    }

    /// A writer of one shard.
    #[napi(ts_return_type = "Outcome<CacheShard>", catch_unwind)]
    pub fn shard(&self, index: u32) -> Outcome<CacheShard> {
        let writer = self.builder.shard(index).map_err(cache_error(&self.cache));
        Outcome(writer.map(|writer| CacheShard {
            cache: self.cache.clone(),
            writer: Arc::new(Mutex::new(Some(writer))),
        }))
    }

    /// Reads every shard and writes `seal.json`, which ends the build.
    #[napi(ts_return_type = "Promise<Outcome<undefined>>", catch_unwind)]
    pub fn seal<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let (cache, builder) = (self.cache.clone(), self.builder.clone());
        run_job(env, "cache", move || {
            builder.seal().map_err(cache_error(&cache))?;
            Ok(())
        })
    }

    /// Ends the build: another one may go on with it. After sealing it does nothing.
    #[napi(catch_unwind)]
    pub fn end(&self) {
        self.builder.end();
    }
}

/// The records of one shard on their way to disk.
#[napi]
pub struct CacheShard {
    cache: String,
    /// Gone once the file is written.
    writer: Arc<Mutex<Option<ShardWriter>>>,
}

#[napi]
impl CacheShard {
    /// Writes the file, which appears whole or not at all.
    #[napi(ts_return_type = "Promise<Outcome<undefined>>", catch_unwind)]
    pub fn finish<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let (cache, writer) = (self.cache.clone(), Arc::clone(&self.writer));
        run_job(env, "cache", move || {
            let writer = writer.lock().unwrap_or_else(PoisonError::into_inner).take();
            writer.ok_or_else(written)?.finish().map_err(cache_error(&cache))?;
            Ok(())
        })
    }
}

#[napi]
impl Engine {
    /// Appends a tensor [records, …] to a field of a shard. `labels` are what errors call the records.
    #[napi(ts_return_type = "Promise<Outcome<undefined>>", catch_unwind)]
    pub fn append_to_cache<'env>(
        &self,
        env: &'env Env,
        shard: &CacheShard,
        field: String,
        records: f64,
        labels: Vec<String>,
    ) -> napi::Result<Object<'env>> {
        let (cache, writer) = (shard.cache.clone(), Arc::clone(&shard.writer));
        self.query(env, "cache", move |state| {
            let values = values(tensor(state, id(records))?.tensor())?;
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            append(writer.as_mut().ok_or_else(written)?, &cache, &field, &values, &labels)
        })
    }
}

fn append(writer: &mut ShardWriter, cache: &str, field: &str, values: &[f32], labels: &[String]) -> Result<()> {
    if labels.is_empty() || !values.len().is_multiple_of(labels.len()) {
        return Err(OpError::bug(format!(
            "{} values are no {} records of {field}",
            values.len(),
            labels.len()
        )));
    }
    for (record, label) in values.chunks(values.len() / labels.len()).zip(labels) {
        writer.put(field, record).map_err(|error| match error {
            CacheError::NotFinite {
                value, index, dtype, ..
            } => not_finite(label, field, value, index, dtype),
            other => cache_error(cache)(other),
        })?;
    }
    Ok(())
}

fn not_finite(label: &str, field: &str, value: f32, index: usize, dtype: &str) -> OpError {
    let (what, remedy) = match value.is_finite() {
        true => (
            format!("{value} at value {index} of {field} is beyond what {dtype} holds"),
            "Set cache.dtype to \"f32\".",
        ),
        false => (
            format!("value {index} of {field} is {value}"),
            "The model computes no numbers here: try its weights in f32, and check that they are whole.",
        ),
    };
    OpError::input("ERR_CACHE_NOT_FINITE", what).at(label).remedy(remedy)
}

fn written() -> OpError {
    OpError::bug("a shard was used after it was written")
}
