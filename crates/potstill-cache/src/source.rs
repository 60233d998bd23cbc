//! Where the files of a cache come from: a folder, a browser's file picker, memory.

use std::collections::BTreeMap;

/// `Sync` where shards are read in parallel (feature `fs`); nothing in WASM, whose callbacks belong to one thread.
#[cfg(feature = "fs")]
pub trait MaybeSync: Sync {}
#[cfg(feature = "fs")]
impl<T: Sync + ?Sized> MaybeSync for T {}

/// `Sync` where shards are read in parallel (feature `fs`); nothing in WASM, whose callbacks belong to one thread.
#[cfg(not(feature = "fs"))]
pub trait MaybeSync {}
#[cfg(not(feature = "fs"))]
impl<T: ?Sized> MaybeSync for T {}

/// `Send` where a reader is used from other threads (feature `fs`); nothing in WASM.
#[cfg(feature = "fs")]
pub trait MaybeSend: Send {}
#[cfg(feature = "fs")]
impl<T: Send + ?Sized> MaybeSend for T {}

/// `Send` where a reader is used from other threads (feature `fs`); nothing in WASM.
#[cfg(not(feature = "fs"))]
pub trait MaybeSend {}
#[cfg(not(feature = "fs"))]
impl<T: ?Sized> MaybeSend for T {}

/// A file that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// It does not exist.
    #[error("{path} is missing")]
    Missing {
        /// The file, relative to the cache.
        path: String,
    },
    /// It ended before the range asked for.
    #[error("{path} ends before byte {end}: it is shorter than it was said to be, or changed while it was read")]
    TooShort {
        /// The file, relative to the cache.
        path: String,
        /// End of the range.
        end: u64,
    },
    /// It is longer than what is read of such a file.
    #[error("{path} has {bytes} bytes; at most {limit} are read")]
    TooLarge {
        /// The file, relative to the cache.
        path: String,
        /// Its length.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A symbolic link: followed, it could lead out of the cache.
    #[error("{path} is a symbolic link, and links are not followed")]
    Link {
        /// The file, relative to the cache.
        path: String,
    },
    /// A server said no, or did not answer.
    #[error(transparent)]
    Remote(Box<RemoteFailure>),
    /// Anything else.
    #[error("{path} cannot be read: {reason}")]
    Failed {
        /// The file, relative to the cache.
        path: String,
        /// What the system said.
        reason: String,
    },
}

/// A server that said no, or did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct RemoteFailure {
    /// What was asked for, as people call it: `s3://bucket/key`.
    pub place: String,
    /// What is wrong.
    pub reason: String,
    /// What to do about it.
    pub remedy: &'static str,
    /// Whether it is this machine's connection rather than what was asked for.
    pub is_here: bool,
}

impl SourceError {
    /// What to do about it: a sentence with its full stop.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "Copy it from where the cache came from, or build the component again.",
            Self::TooShort { .. } => "Copy the file again, and leave the cache alone while it is read.",
            Self::TooLarge { .. } => "This is no such file of a cache: copy it again, or build the component again.",
            Self::Link { .. } => "Put the file itself there.",
            Self::Remote(failure) => failure.remedy,
            Self::Failed { .. } => "Look at the file's permissions and the disk.",
        }
    }
}

/// The files of a cache. Paths are relative to it, with `/` between the parts.
pub trait Source: MaybeSync {
    /// Every file, in any order.
    ///
    /// # Errors
    /// [`SourceError`] when the cache cannot be listed at all.
    fn list(&self) -> Result<Vec<String>, SourceError>;

    /// A file's length in bytes.
    ///
    /// # Errors
    /// [`SourceError`].
    fn size(&self, path: &str) -> Result<u64, SourceError>;

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// [`SourceError`], among others when the file ends before the buffer is full.
    fn read(&self, path: &str, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError>;

    /// A whole file of at most `limit` bytes.
    ///
    /// # Errors
    /// [`SourceError`].
    fn read_all(&self, path: &str, limit: u64) -> Result<Vec<u8>, SourceError> {
        let mut buffer = Vec::new();
        self.read_into(path, limit, &mut buffer)?;
        Ok(buffer)
    }

    /// [`Source::read_all`] in the place of what a buffer holds.
    ///
    /// # Errors
    /// [`SourceError`].
    fn read_into(&self, path: &str, limit: u64, buffer: &mut Vec<u8>) -> Result<(), SourceError> {
        room_for(path, self.size(path)?, limit, buffer)?;
        self.read(path, 0, buffer)
    }

    /// What has kept from reading any file at all, such as a server that does not answer: no fault of the cache, and so no
    /// finding. None of sources that are on this machine.
    fn failure(&self) -> Option<SourceError> {
        None
    }
}

/// Gives a buffer the length of a file of at most `limit` bytes.
pub(crate) fn room_for(path: &str, bytes: u64, limit: u64, buffer: &mut Vec<u8>) -> Result<(), SourceError> {
    if bytes > limit {
        return Err(SourceError::TooLarge {
            path: path.to_owned(),
            bytes,
            limit,
        });
    }
    buffer.resize(bytes as usize, 0);
    Ok(())
}

/// A source that a reader keeps.
pub trait OwnedSource: Source + MaybeSend {}
impl<T: Source + MaybeSend + ?Sized> OwnedSource for T {}

/// Files held in memory.
#[derive(Debug, Clone, Default)]
pub struct MemorySource {
    /// Content by path.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Source for MemorySource {
    fn list(&self) -> Result<Vec<String>, SourceError> {
        Ok(self.files.keys().cloned().collect())
    }

    fn size(&self, path: &str) -> Result<u64, SourceError> {
        self.files
            .get(path)
            .map(|f| f.len() as u64)
            .ok_or_else(|| SourceError::Missing { path: path.to_owned() })
    }

    fn read(&self, path: &str, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        let file = self
            .files
            .get(path)
            .ok_or_else(|| SourceError::Missing { path: path.to_owned() })?;
        let end = offset + buffer.len() as u64;
        let part = file.get(offset as usize..end as usize);
        buffer.copy_from_slice(part.ok_or_else(|| SourceError::TooShort {
            path: path.to_owned(),
            end,
        })?);
        Ok(())
    }
}
