//! Folders that are filled aside and appear in their place whole: the layout cannot tell half a folder from a whole one.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use potstill_io::{IoError, create_dir_durably, rename_durably};

use crate::component::{ComponentId, LOCK_FILE};
use crate::error::CacheError;
use crate::lock::{BuildLock, Hold};

/// Where folders are filled, in the folder that they are for. Nothing of the layout is looked for in such a folder.
pub(crate) const STAGE: &str = ".potstill-export";

/// The folder that folders are filled in. It goes when it is dropped; what a killed export leaves, the next one removes.
pub(super) struct Stage {
    out: PathBuf,
    folder: PathBuf,
    lock: BuildLock,
}

impl Stage {
    /// Begins an empty one.
    ///
    /// # Errors
    /// [`CacheError::Busy`] when another export into `out` is at work, which is told of as one of `first`;
    /// [`CacheError::Io`].
    pub fn begin(out: &Path, first: &str) -> Result<Self, CacheError> {
        let folder = out.join(STAGE);
        create_dir_durably(&folder)?;
        let lock = BuildLock::acquire(&folder, &ComponentId::Teacher(first.to_owned()), Hold::Alone)?;
        let stage = Self {
            out: out.to_owned(),
            folder,
            lock,
        };
        for entry in fs::read_dir(&stage.folder).map_err(IoError::system("read the folder", &stage.folder))? {
            let entry = entry.map_err(IoError::system("read the folder", &stage.folder))?;
            let path = entry.path();
            let is_folder = entry.file_type().map_err(IoError::system("look at", &path))?.is_dir();
            if is_folder {
                fs::remove_dir_all(&path).map_err(IoError::system("remove the folder", &path))?;
            } else if entry.file_name() != LOCK_FILE {
                fs::remove_file(&path).map_err(IoError::system("remove", &path))?;
            }
        }
        Ok(stage)
    }

    /// Where the folder of this name is filled.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Puts folders where they belong, one right after the other; those that were there must be empty.
    ///
    /// # Errors
    /// [`CacheError::Io`].
    pub fn finish(self, names: &[String]) -> Result<(), CacheError> {
        for name in names {
            let place = self.out.join(name);
            match fs::remove_dir(&place) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(IoError::system("replace the folder", &place)(error).into()),
            }
            rename_durably(&self.folder(name), &place)?;
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.lock.release();
        // What stays is no part of a cache.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
