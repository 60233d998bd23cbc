//! Where files are read from: the system, or in WASM, which has no files, the host.

use std::io::Result;
use std::path::Path;

/// Whether there is a file of this name.
#[must_use]
pub fn is_file(path: &Path) -> bool {
    system::is_file(path)
}

/// Whether there is a folder of this name.
#[must_use]
pub fn is_dir(path: &Path) -> bool {
    system::is_dir(path)
}

/// A file's length in bytes.
///
/// # Errors
/// As the system or the host says.
pub fn length(path: &Path) -> Result<u64> {
    system::length(path)
}

/// A whole file.
///
/// # Errors
/// As the system or the host says.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    system::read(path)
}

/// A whole file in pieces of at most `size` bytes, until `each` has an error.
///
/// # Errors
/// As the system or the host says, and those of `each`.
pub fn read_chunks(path: &Path, size: usize, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    system::read_chunks(path, size, each)
}

#[cfg(not(target_arch = "wasm32"))]
mod system {
    use std::fs;
    use std::io::{Read, Result};
    use std::path::Path;

    pub(super) fn is_file(path: &Path) -> bool {
        path.is_file()
    }

    pub(super) fn is_dir(path: &Path) -> bool {
        path.is_dir()
    }

    pub(super) fn length(path: &Path) -> Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
        fs::read(path)
    }

    pub(super) fn read_chunks(path: &Path, size: usize, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut file = fs::File::open(path)?;
        let mut buffer = vec![0; size];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(()),
                count => each(&buffer[..count])?,
            }
        }
    }
}

#[cfg(target_arch = "wasm32")]
pub use system::{HostFiles, provide_files, read_range};

#[cfg(target_arch = "wasm32")]
mod system {
    use std::cell::RefCell;
    use std::io::{Error, ErrorKind, Result};
    use std::path::Path;

    /// The files that the host lets the module read.
    pub trait HostFiles {
        /// A file's length in bytes.
        ///
        /// # Errors
        /// [`ErrorKind::NotFound`] when there is no such file.
        fn length(&self, path: &str) -> Result<u64>;

        /// Fills `buffer` from `offset` on.
        ///
        /// # Errors
        /// When the file ends before the buffer is full, among others.
        fn read(&self, path: &str, offset: u64, buffer: &mut [u8]) -> Result<()>;

        /// Whether there are files below a folder of this name.
        fn is_folder(&self, path: &str) -> bool;
    }

    thread_local! {
        static FILES: RefCell<Option<Box<dyn HostFiles>>> = const { RefCell::new(None) };
    }

    /// Reads files from `files` from here on.
    pub fn provide_files(files: Box<dyn HostFiles>) {
        FILES.with(|slot| *slot.borrow_mut() = Some(files));
    }

    fn with<T>(path: &Path, f: impl FnOnce(&dyn HostFiles, &str) -> Result<T>) -> Result<T> {
        let name = path.to_str().ok_or_else(|| Error::from(ErrorKind::InvalidInput))?;
        FILES.with(|files| match &*files.borrow() {
            Some(files) => f(&**files, name),
            None => Err(Error::from(ErrorKind::NotFound)),
        })
    }

    pub(super) fn is_file(path: &Path) -> bool {
        length(path).is_ok()
    }

    pub(super) fn is_dir(path: &Path) -> bool {
        with(path, |files, name| Ok(files.is_folder(name))).unwrap_or(false)
    }

    pub(super) fn length(path: &Path) -> Result<u64> {
        with(path, |files, name| files.length(name))
    }

    pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
        let length = usize::try_from(length(path)?).map_err(|_| Error::from(ErrorKind::OutOfMemory))?;
        read_range(path, 0, length)
    }

    pub(super) fn read_chunks(path: &Path, size: usize, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let length = length(path)?;
        let mut offset = 0;
        while offset < length {
            let count = (length - offset).min(size as u64);
            each(&read_range(path, offset, count as usize)?)?;
            offset += count;
        }
        Ok(())
    }

    /// `length` bytes of a file.
    ///
    /// # Errors
    /// As the host says, and when there is no memory for them.
    pub fn read_range(path: &Path, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(length)
            .map_err(|_| Error::from(ErrorKind::OutOfMemory))?;
        bytes.resize(length, 0);
        with(path, |files, name| files.read(name, offset, &mut bytes))?;
        Ok(bytes)
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_the_whole_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let bytes: Vec<u8> = (0..1000u32).map(|i| i as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let mut found = Vec::new();
        read_chunks(&path, 300, &mut |chunk| {
            found.extend_from_slice(chunk);
            Ok(())
        })
        .unwrap();
        let enough = |_: &[u8]| Err(std::io::ErrorKind::Interrupted.into());
        assert!(read_chunks(&path, 300, &mut { enough }).is_err());
        assert!(found == bytes && read(&path).unwrap() == bytes && length(&path).unwrap() == 1000);
        assert!(is_file(&path) && !is_dir(&path) && is_dir(folder.path()) && !is_file(folder.path()));
        assert!(read_chunks(&folder.path().join("b"), 300, &mut |_| Ok(())).is_err());
    }
}
