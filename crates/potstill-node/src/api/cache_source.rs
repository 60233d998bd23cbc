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
}

impl Source for Cancellable {
    fn list(&self) -> Result<Vec<String>, SourceError> {
        self.folder.list()
    }

    fn size(&self, path: &str) -> Result<u64, SourceError> {
        self.folder.size(path)
    }

    fn read(&self, path: &str, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        match self.cancel.check() {
            Ok(()) => self.folder.read(path, offset, buffer),
            Err(error) => Err(SourceError::Failed {
                path: path.to_owned(),
                reason: error.what,
            }),
        }
    }
}
