//! Verification of a cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use potstill_cache::{FilesImages, Level, Progress, VerifyOptions, verify};
use potstill_models::{RecomputeRequest, recompute};

use super::cache_errors::{cache_error, recompute_error};
use super::cache_source::streaming_source;
use crate::core::{CancelToken, OpError, open_device, run_job};

/// How far a verification is; read by polling, so that it costs the verification nothing.
#[napi]
#[derive(Clone, Default)]
pub struct VerificationProgress {
    counts: Arc<(AtomicU64, AtomicU64)>,
    recomputed: Arc<(AtomicU64, AtomicU64)>,
}

#[napi]
impl VerificationProgress {
    /// Nothing is read yet.
    #[napi(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes read.
    #[napi(getter)]
    pub fn done(&self) -> f64 {
        self.counts.0.load(Ordering::Relaxed) as f64
    }

    /// Bytes there are; 0 until that is known.
    #[napi(getter)]
    pub fn total(&self) -> f64 {
        self.counts.1.load(Ordering::Relaxed) as f64
    }
}

#[napi]
impl VerificationProgress {
    /// Entries computed again.
    #[napi(getter)]
    pub fn recomputed(&self) -> f64 {
        self.recomputed.0.load(Ordering::Relaxed) as f64
    }

    /// Entries to compute again; 0 until that is known.
    #[napi(getter)]
    pub fn to_recompute(&self) -> f64 {
        self.recomputed.1.load(Ordering::Relaxed) as f64
    }
}

impl Progress for VerificationProgress {
    fn bytes(&self, done: u64, total: u64) {
        // Shards are read in parallel, and an earlier count may come later.
        self.counts.0.fetch_max(done, Ordering::Relaxed);
        self.counts.1.store(total, Ordering::Relaxed);
    }
}

/// Verifies the cache in a folder or at an `s3://` location, levels 1 and 2: the report as canonical JSON. `images` names the images of a cache in the
/// files layout, as JSON: `{ ids, version, baseSeed }`. With `recomputation`, `{ entries, nonce, models, images }` as JSON,
/// also level 3, computed on `device`: `cpu` unless given, or `cuda:0`.
#[napi(ts_return_type = "Promise<Outcome<string>>", catch_unwind)]
pub fn verify_cache<'env>(
    env: &'env Env,
    cache: String,
    progress: &VerificationProgress,
    cancel: &CancelToken,
    images: Option<String>,
    recomputation: Option<String>,
    device: Option<String>,
) -> napi::Result<Object<'env>> {
    let (progress, cancel) = (progress.clone(), cancel.clone());
    run_job(env, "verify", move || {
        let failed = cache_error(&cache);
        let images = images
            .map(|json| FilesImages::parse(&json))
            .transpose()
            .map_err(&failed)?;
        let request = recomputation
            .map(|json| RecomputeRequest::parse(&json))
            .transpose()
            .map_err(&failed)?;
        let options = VerifyOptions {
            level: Level::Determinism,
            progress: Some(&progress),
            images: images.as_ref(),
        };
        let source = streaming_source(&cache, &cancel)?;
        let report = verify(&*source, &options);
        cancel.check()?;
        let mut report = report.map_err(&failed)?;
        if let Some(request) = &request {
            let device = open_device(device.as_deref().unwrap_or("cpu"))?;
            let tell = |done, total| {
                progress.recomputed.0.store(done, Ordering::Relaxed);
                progress.recomputed.1.store(total, Ordering::Relaxed);
            };
            let recomputed = recompute(report, source, request, &device, &tell, &|| cancel.check().is_err());
            cancel.check()?;
            report = recomputed.map_err(|error| recompute_error(error, &cache))?;
        }
        let json = report.to_json().map_err(&failed)?;
        String::from_utf8(json).map_err(|error| OpError::bug(format!("the report is not text: {error}")))
    })
}
