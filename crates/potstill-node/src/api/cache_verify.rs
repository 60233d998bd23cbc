//! Verification of a cache.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use potstill_cache::{FilesImages, Level, Progress, VerifyOptions, verify};

use super::cache_errors::cache_error;
use super::cache_source::Cancellable;
use crate::core::{CancelToken, OpError, run_job};

/// How far a verification is; read by polling, so that it costs the verification nothing.
#[napi]
#[derive(Clone, Default)]
pub struct VerificationProgress {
    counts: Arc<(AtomicU64, AtomicU64)>,
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

impl Progress for VerificationProgress {
    fn bytes(&self, done: u64, total: u64) {
        // Shards are read in parallel, and an earlier count may come later.
        self.counts.0.fetch_max(done, Ordering::Relaxed);
        self.counts.1.store(total, Ordering::Relaxed);
    }
}

/// Verifies the cache in a folder, levels 1 and 2: the report as canonical JSON. `images` names the images of a cache in the
/// files layout, as JSON: `{ ids, version, baseSeed }`.
#[napi(ts_return_type = "Promise<Outcome<string>>", catch_unwind)]
pub fn verify_cache<'env>(
    env: &'env Env,
    cache: String,
    progress: &VerificationProgress,
    cancel: &CancelToken,
    images: Option<String>,
) -> napi::Result<Object<'env>> {
    let (progress, cancel) = (progress.clone(), cancel.clone());
    run_job(env, "verify", move || {
        let failed = cache_error(&cache);
        let images = images
            .map(|json| FilesImages::parse(&json))
            .transpose()
            .map_err(&failed)?;
        let options = VerifyOptions {
            level: Level::Determinism,
            progress: Some(&progress),
            images: images.as_ref(),
        };
        let source = Cancellable::new(Path::new(&cache), &cancel);
        let report = verify(&source, &options);
        cancel.check()?;
        let report = report.map_err(&failed)?;
        let json = report.to_json().map_err(&failed)?;
        String::from_utf8(json).map_err(|error| OpError::bug(format!("the report is not text: {error}")))
    })
}
