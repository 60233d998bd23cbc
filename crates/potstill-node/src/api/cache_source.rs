//! The files of a cache, for jobs that can be cancelled.

use std::path::Path;

use potstill_cache::{FolderSource, Source, SourceError};

use crate::core::CancelToken;

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

    fn check(&self, path: &str) -> Result<(), SourceError> {
        self.cancel.check().map_err(|error| SourceError::Failed {
            path: path.to_owned(),
            reason: error.what,
        })
    }
}

impl Source for Cancellable {
    fn list(&self) -> Result<Vec<String>, SourceError> {
        self.folder.list()
    }

    fn size(&self, path: &str) -> Result<u64, SourceError> {
        self.folder.size(path)
    }

    fn read(&self, path: &str, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        self.check(path)?;
        self.folder.read(path, offset, buffer)
    }

    fn read_into(&self, path: &str, limit: u64, buffer: &mut Vec<u8>) -> Result<(), SourceError> {
        self.check(path)?;
        self.folder.read_into(path, limit, buffer)
    }
}
