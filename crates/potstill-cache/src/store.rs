//! Where a cache is written: a folder, or what is like one.

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use potstill_io::{IoError, create_dir_durably, write_atomic, write_atomic_once};

use crate::component::{ComponentId, LOCK_FILE, TEMPORARY_PREFIX};
use crate::error::CacheError;
use crate::folder::FolderSource;
use crate::source::{OwnedSource, Source};

/// Files of a cache that can be written, as they are at the moment. A file is there whole or not at all.
pub trait Store: fmt::Debug + Send + Sync {
    /// The files as they are now: every question is asked anew.
    fn source(&self) -> &dyn Source;

    /// The files as they are now, to be read from front to end.
    fn snapshot(&self) -> Box<dyn OwnedSource + '_>;

    /// The folder of the cache, where it has one: a build locks it, so that it can be alone. Elsewhere every build is a part of
    /// one, and a shard that is there is never replaced unless it is damaged.
    fn folder(&self) -> Option<&Path> {
        None
    }

    /// Writes a file unless there is one; whether there was none.
    ///
    /// # Errors
    /// [`CacheError::Io`], [`CacheError::Source`].
    fn create(&self, path: &str, parts: &[&[u8]]) -> Result<bool, CacheError>;

    /// Writes a file in the place of what is there.
    ///
    /// # Errors
    /// As [`Store::create`].
    fn replace(&self, path: &str, parts: &[&[u8]]) -> Result<(), CacheError>;
}

/// Where a cache is: most often a folder, by its path.
#[derive(Debug, Clone)]
pub struct CachePlace(pub(crate) Arc<dyn Store>);

impl CachePlace {
    /// A place that is no folder.
    #[must_use]
    pub fn new(store: impl Store + 'static) -> Self {
        Self(Arc::new(store))
    }

    /// The files as they are now.
    #[must_use]
    pub fn source(&self) -> &dyn Source {
        self.0.source()
    }
}

impl From<&Path> for CachePlace {
    fn from(folder: &Path) -> Self {
        Self::new(FolderStore {
            source: FolderSource::new(folder),
        })
    }
}

/// A folder on disk.
#[derive(Debug)]
struct FolderStore {
    source: FolderSource,
}

impl FolderStore {
    fn full(&self, path: &str) -> PathBuf {
        self.source.root().join(path)
    }
}

impl Store for FolderStore {
    fn source(&self) -> &dyn Source {
        &self.source
    }

    fn snapshot(&self) -> Box<dyn OwnedSource + '_> {
        Box::new(self.source.clone())
    }

    fn folder(&self) -> Option<&Path> {
        Some(self.source.root())
    }

    fn create(&self, path: &str, parts: &[&[u8]]) -> Result<bool, CacheError> {
        let full = self.full(path);
        write_atomic_once(&full, |writer| write_parts(writer, parts, &full))
    }

    fn replace(&self, path: &str, parts: &[&[u8]]) -> Result<(), CacheError> {
        let full = self.full(path);
        write_atomic(&full, |writer| write_parts(writer, parts, &full))
    }
}

fn write_parts(writer: &mut dyn Write, parts: &[&[u8]], path: &Path) -> Result<(), CacheError> {
    let written = parts.iter().try_for_each(|part| writer.write_all(part));
    Ok(written.map_err(IoError::system("write", path))?)
}

/// A component's folder, made if there is none.
pub(crate) fn make_folder(cache: &Path, component: &ComponentId) -> Result<PathBuf, CacheError> {
    let folder = cache.join(component.to_string());
    create_dir_durably(&folder)?;
    Ok(folder)
}

/// Removes what a killed build left half-written.
pub(crate) fn remove_leftovers(folder: &Path) -> Result<(), CacheError> {
    for entry in fs::read_dir(folder).map_err(IoError::system("list", folder))? {
        let entry = entry.map_err(IoError::system("list", folder))?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX) && entry.file_name() != LOCK_FILE {
            let path = entry.path();
            fs::remove_file(&path).map_err(IoError::system("remove", &path))?;
        }
    }
    Ok(())
}
