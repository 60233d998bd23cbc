//! Writing a cache to S3.

use bytes::Bytes;
use object_store::PutPayload;
use potstill_cache::{CacheError, OwnedSource, Source, SourceError, Store};

use crate::bucket::Bucket;
use crate::error::S3Error;
use crate::source::S3Source;

/// A cache in S3 as it is now: every question is asked anew. There are no locks, so every build is a part of one: of two
/// that write the same file the first wins. An object is there whole or not at all.
#[derive(Debug)]
pub struct S3Store {
    bucket: Bucket,
}

impl S3Store {
    /// The cache at a place.
    #[must_use]
    pub fn new(bucket: Bucket) -> Self {
        Self { bucket }
    }
}

impl Source for S3Store {
    fn list(&self) -> Result<Vec<String>, SourceError> {
        let found = self.bucket.list().map_err(|error| error.into_source("", 0))?;
        Ok(found.into_iter().map(|(path, _)| path).collect())
    }

    fn size(&self, path: &str) -> Result<u64, SourceError> {
        let found = self.bucket.head(path).map_err(|error| error.into_source(path, 0))?;
        Ok(found.bytes)
    }

    fn read(&self, path: &str, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        let end = offset.saturating_add(buffer.len() as u64);
        let answer = self.bucket.read(path, offset..end, None);
        let bytes = self.bucket.await_answer(path, answer);
        buffer.copy_from_slice(&bytes.map_err(|error| error.into_source(path, end))?);
        Ok(())
    }
}

impl Store for S3Store {
    fn source(&self) -> &dyn Source {
        self
    }

    fn snapshot(&self) -> Box<dyn OwnedSource + '_> {
        Box::new(S3Source::streaming(self.bucket.clone()))
    }

    fn create(&self, path: &str, parts: &[&[u8]]) -> Result<bool, CacheError> {
        self.bucket.create(path, payload(parts)).map_err(failed(path))
    }

    fn replace(&self, path: &str, parts: &[&[u8]]) -> Result<(), CacheError> {
        self.bucket.replace(path, payload(parts)).map_err(failed(path))
    }
}

fn payload(parts: &[&[u8]]) -> PutPayload {
    parts.iter().map(|part| Bytes::copy_from_slice(part)).collect()
}

fn failed(path: &str) -> impl Fn(S3Error) -> CacheError + '_ {
    move |error| error.into_source(path, 0).into()
}
