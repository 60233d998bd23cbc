//! Where a cache is, as commands name it: a folder, or `s3://bucket/prefix`.

use std::path::Path;

use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use potstill_cache::{CachePlace, FolderSource, OwnedSource, Source, SourceError};

use super::cache_errors::cache_error;
use crate::core::{CancelToken, OpError, Result, run_job};

/// What names places in S3 begin with.
const S3: &str = "s3://";
/// Longest document of a cache that is read, as of plans and seals.
const MAX_DOCUMENT: u64 = 256 << 20;

/// A file of a cache.
#[napi(object)]
pub struct CacheFile {
    /// Relative to the cache, with `/` between the parts.
    pub path: String,
    /// Its length.
    pub bytes: f64,
}

/// Every file of a cache, in order. For places that are no folders.
#[napi(ts_return_type = "Promise<Outcome<CacheFile[]>>", catch_unwind)]
pub fn list_cache<'env>(env: &'env Env, cache: String, cancel: &CancelToken) -> napi::Result<Object<'env>> {
    let cancel = cancel.clone();
    run_job(env, "cache", move || {
        let source = scattered_source(&cache, &cancel)?;
        let failed = |error: SourceError| cache_error(&cache)(error.into());
        let mut files = Vec::new();
        for path in source.list().map_err(failed)? {
            let bytes = source.size(&path).map_err(failed)? as f64;
            files.push(CacheFile { path, bytes });
        }
        Ok(files)
    })
}

/// A document of a cache as text; nothing where there is none. For places that are no folders.
#[napi(ts_return_type = "Promise<Outcome<string | null>>", catch_unwind)]
pub fn read_cache_document(env: &Env, cache: String, path: String) -> napi::Result<Object<'_>> {
    run_job(env, "cache", move || {
        let place = cache_place(&cache)?;
        let bytes = match place.source().read_all(&path, MAX_DOCUMENT) {
            Ok(bytes) => bytes,
            Err(SourceError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(cache_error(&cache)(error.into())),
        };
        let not_text = |_| OpError::input("ERR_CACHE_PLAN", format!("{path} is not text")).at(&cache);
        String::from_utf8(bytes).map(Some).map_err(not_text)
    })
}

/// The files of a cache, to be read from front to end until a token is cancelled.
pub fn streaming_source(cache: &str, cancel: &CancelToken) -> Result<Box<dyn OwnedSource>> {
    if cache.starts_with(S3) {
        return s3::streaming(cache, cancel);
    }
    Ok(Box::new(Cancellable::new(Path::new(cache), cancel)))
}

/// The files of a cache, to be read here and there.
pub fn scattered_source(cache: &str, cancel: &CancelToken) -> Result<Box<dyn OwnedSource>> {
    if cache.starts_with(S3) {
        return s3::scattered(cache, cancel);
    }
    Ok(Box::new(Cancellable::new(Path::new(cache), cancel)))
}

/// Where a cache is written.
pub fn cache_place(cache: &str) -> Result<CachePlace> {
    if cache.starts_with(S3) {
        return s3::place(cache);
    }
    Ok(CachePlace::from(Path::new(cache)))
}

#[cfg(feature = "s3")]
mod s3 {
    use std::sync::Arc;

    use potstill_cache::{CachePlace, OwnedSource};
    use potstill_s3::{Bucket, Interrupted, Location, S3Source, S3Store};

    use crate::core::{CancelToken, OpError, Result};

    pub fn streaming(cache: &str, cancel: &CancelToken) -> Result<Box<dyn OwnedSource>> {
        Ok(Box::new(S3Source::streaming(bucket(cache, until(cancel))?)))
    }

    pub fn scattered(cache: &str, cancel: &CancelToken) -> Result<Box<dyn OwnedSource>> {
        Ok(Box::new(S3Source::scattered(bucket(cache, until(cancel))?)))
    }

    pub fn place(cache: &str) -> Result<CachePlace> {
        Ok(CachePlace::new(S3Store::new(bucket(cache, Arc::new(|| false))?)))
    }

    fn until(cancel: &CancelToken) -> Arc<Interrupted> {
        let cancel = cancel.clone();
        Arc::new(move || cancel.check().is_err())
    }

    fn bucket(cache: &str, interrupted: Arc<Interrupted>) -> Result<Bucket> {
        let location: Location = cache.parse().map_err(|error| {
            OpError::input("ERR_S3_LOCATION", error)
                .at(cache)
                .remedy("Name it as s3://bucket/path/of/the/cache.")
        })?;
        Bucket::open(location, interrupted).map_err(|error| {
            let remedy = error.remedy();
            OpError::input("ERR_S3_ENVIRONMENT", error.reason)
                .at(cache)
                .remedy(remedy)
        })
    }
}

/// A build without S3.
#[cfg(not(feature = "s3"))]
mod s3 {
    use potstill_cache::{CachePlace, OwnedSource};

    use crate::core::{CancelToken, OpError, Result};

    pub fn streaming(cache: &str, _: &CancelToken) -> Result<Box<dyn OwnedSource>> {
        Err(not_built(cache))
    }

    pub fn scattered(cache: &str, _: &CancelToken) -> Result<Box<dyn OwnedSource>> {
        Err(not_built(cache))
    }

    pub fn place(cache: &str) -> Result<CachePlace> {
        Err(not_built(cache))
    }

    fn not_built(cache: &str) -> OpError {
        OpError::input("ERR_NOT_BUILT", "this addon was built without S3")
            .at(cache)
            .remedy("Build it with the feature s3, or copy the cache to a folder.")
    }
}

/// A folder whose files cannot be read any more once a token is cancelled, so that work on a cache ends soon.
pub struct Cancellable {
    folder: FolderSource,
    cancel: CancelToken,
}

impl Cancellable {
    pub fn new(cache: &Path, cancel: &CancelToken) -> Self {
        Self {
            folder: FolderSource::new(cache),
            cancel: cancel.clone(),
        }
    }

    fn check(&self, path: &str) -> std::result::Result<(), SourceError> {
        self.cancel.check().map_err(|error| SourceError::Failed {
            path: path.to_owned(),
            reason: error.what,
        })
    }
}

impl Source for Cancellable {
    fn list(&self) -> std::result::Result<Vec<String>, SourceError> {
        self.folder.list()
    }

    fn size(&self, path: &str) -> std::result::Result<u64, SourceError> {
        self.folder.size(path)
    }

    fn read(&self, path: &str, offset: u64, buffer: &mut [u8]) -> std::result::Result<(), SourceError> {
        self.check(path)?;
        self.folder.read(path, offset, buffer)
    }

    fn read_into(&self, path: &str, limit: u64, buffer: &mut Vec<u8>) -> std::result::Result<(), SourceError> {
        self.check(path)?;
        self.folder.read_into(path, limit, buffer)
    }
}
