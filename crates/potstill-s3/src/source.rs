//! The files of a cache in S3.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use potstill_cache::{Source, SourceError};

use crate::blocks::{BLOCK, Blocks};
use crate::bucket::{Bucket, Listed};
use crate::error::S3Error;

/// Deepest folder that is listed, as of a cache on disk: `teachers/<id>/file` needs 2.
const MAX_DEPTH: usize = 4;

/// How the files of a cache will be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// From front to end, in small pieces.
    Streaming,
    /// Here and there.
    Scattered,
}

/// A cache in S3 as it was when it was listed first. An object that changes after that is refused where its server tags
/// contents.
pub struct S3Source {
    bucket: Bucket,
    reading: Reading,
    listing: OnceLock<Result<BTreeMap<String, Listed>, S3Error>>,
    blocks: Blocks,
    /// The first failure that was no fault of an object. After it nothing more is asked for.
    failure: Mutex<Option<S3Error>>,
}

impl S3Source {
    /// To be read from front to end.
    #[must_use]
    pub fn streaming(bucket: Bucket) -> Self {
        Self::new(bucket, Reading::Streaming)
    }

    /// To be read here and there.
    #[must_use]
    pub fn scattered(bucket: Bucket) -> Self {
        Self::new(bucket, Reading::Scattered)
    }

    fn new(bucket: Bucket, reading: Reading) -> Self {
        Self {
            bucket,
            reading,
            listing: OnceLock::new(),
            blocks: Blocks::default(),
            failure: Mutex::default(),
        }
    }

    fn files(&self) -> Result<&BTreeMap<String, Listed>, SourceError> {
        let listed = self.listing.get_or_init(|| self.bucket.list().map(files_among));
        listed.as_ref().map_err(|error| self.fail(error.clone(), "", 0))
    }

    fn file(&self, path: &str) -> Result<&Listed, SourceError> {
        let missing = || SourceError::Missing { path: path.to_owned() };
        self.files()?.get(path).ok_or_else(missing)
    }

    /// Remembers what keeps from reading anything.
    fn fail(&self, error: S3Error, path: &str, end: u64) -> SourceError {
        if error.is_of_all() {
            self.first_failure().get_or_insert_with(|| error.clone());
        }
        error.into_source(path, end)
    }

    fn first_failure(&self) -> std::sync::MutexGuard<'_, Option<S3Error>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_blocks(&self, path: &str, file: &Listed, offset: u64, buffer: &mut [u8]) -> Result<(), S3Error> {
        let mut filled = 0;
        while filled < buffer.len() {
            let at = offset + filled as u64;
            let block = self.blocks.get(&self.bucket, path, file, at / BLOCK);
            let bytes = self.bucket.await_answer(path, block)?;
            let from = &bytes[(at % BLOCK) as usize..];
            let take = from.len().min(buffer.len() - filled);
            buffer[filled..filled + take].copy_from_slice(&from[..take]);
            filled += take;
        }
        Ok(())
    }

    fn read_range(&self, path: &str, file: &Listed, offset: u64, buffer: &mut [u8]) -> Result<(), S3Error> {
        let range = offset..offset + buffer.len() as u64;
        let answer = self.bucket.read(path, range, Some(file));
        buffer.copy_from_slice(&self.bucket.await_answer(path, answer)?);
        Ok(())
    }
}

/// What a folder would have: no deeper than is looked, and without the empty objects that tools make for folders.
fn files_among(objects: Vec<(String, Listed)>) -> BTreeMap<String, Listed> {
    let mut files: BTreeMap<String, Listed> = objects.into_iter().collect();
    let parents: std::collections::BTreeSet<String> = files
        .keys()
        .flat_map(|path| path.match_indices('/').map(|(at, _)| path[..at].to_owned()))
        .collect();
    files.retain(|path, file| {
        let is_folder = file.bytes == 0 && parents.contains(path);
        !is_folder && path.matches('/').count() <= MAX_DEPTH
    });
    files
}

impl Source for S3Source {
    fn list(&self) -> Result<Vec<String>, SourceError> {
        Ok(self.files()?.keys().cloned().collect())
    }

    fn size(&self, path: &str) -> Result<u64, SourceError> {
        Ok(self.file(path)?.bytes)
    }

    fn read(&self, path: &str, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        let file = self.file(path)?;
        let end = offset.saturating_add(buffer.len() as u64);
        if end > file.bytes {
            let path = path.to_owned();
            return Err(SourceError::TooShort { path, end });
        }
        if let Some(error) = self.failure() {
            return Err(error);
        }
        let read = match self.reading {
            Reading::Streaming => self.read_blocks(path, file, offset, buffer),
            Reading::Scattered => self.read_range(path, file, offset, buffer),
        };
        read.map_err(|error| self.fail(error, path, end))
    }

    fn failure(&self) -> Option<SourceError> {
        let error = self.first_failure().clone()?;
        Some(error.into_source("", 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_for_folders_are_no_files() {
        let object = |path: &str, bytes| (path.to_owned(), Listed::new(bytes, None));
        let files = files_among(vec![
            object("teachers", 0),
            object("teachers/a", 0),
            object("teachers/a/plan.json", 2),
            object("text/empty", 0),
            object("a/b/c/d/e", 1),
            object("a/b/c/d/e/f", 1),
        ]);
        assert_eq!(
            files.keys().collect::<Vec<_>>(),
            ["a/b/c/d/e", "teachers/a/plan.json", "text/empty"]
        );
    }
}
