//! The bytes of a large file.

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use mapped::Map;
#[cfg(target_arch = "wasm32")]
pub(crate) use read::Map;

/// Mapped into memory: the system reads what is touched.
#[cfg(not(target_arch = "wasm32"))]
mod mapped {
    use std::borrow::Cow;
    use std::fs::File;
    use std::path::{Path, PathBuf};

    use memmap2::Mmap;

    use crate::error::IoError;
    use crate::header::Header;

    pub(crate) struct Map {
        path: PathBuf,
        map: Mmap,
    }

    impl Map {
        pub(crate) fn open(path: &Path) -> Result<Self, IoError> {
            let file = File::open(path).map_err(IoError::system("open", path))?;
            // SAFETY: the map is only read; what concurrent truncation does is documented on `SafetensorsFile`.
            let map = unsafe { Mmap::map(&file) }.map_err(IoError::system("map", path))?;
            Ok(Self {
                path: path.to_owned(),
                map,
            })
        }

        pub(crate) fn header(&self) -> Result<Header, IoError> {
            Header::from_bytes(&self.map).map_err(IoError::safetensors(&self.path))
        }

        /// Bytes that the header says are there.
        pub(crate) fn bytes(&self, start: u64, length: u64) -> Result<Cow<'_, [u8]>, IoError> {
            Ok(Cow::Borrowed(&self.map[start as usize..(start + length) as usize]))
        }

        /// Gives the pages back to the system.
        pub(crate) fn release(&self, start: u64, length: u64) {
            // SAFETY: the map is read-only and of a file, so that dropped pages come back with the same content. Advice
            // that the system does not take changes nothing.
            #[cfg(unix)]
            let _ = unsafe {
                self.map
                    .unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start as usize, length as usize)
            };
            #[cfg(not(unix))]
            let _ = (start, length);
        }
    }
}

/// Read from the host when asked for.
#[cfg(target_arch = "wasm32")]
mod read {
    use std::borrow::Cow;
    use std::path::{Path, PathBuf};

    use crate::disk::{length, read_range};
    use crate::error::{HeaderError, IoError};
    use crate::header::{Header, header_length};

    /// Length of a safetensors file's length field.
    const LENGTH_FIELD: u64 = 8;

    pub(crate) struct Map {
        path: PathBuf,
        length: u64,
    }

    impl Map {
        pub(crate) fn open(path: &Path) -> Result<Self, IoError> {
            let length = length(path).map_err(IoError::system("open", path))?;
            Ok(Self {
                path: path.to_owned(),
                length,
            })
        }

        pub(crate) fn header(&self) -> Result<Header, IoError> {
            let sound = IoError::safetensors(&self.path);
            let first = self.bytes(0, LENGTH_FIELD.min(self.length))?;
            let header = match first.first_chunk::<8>() {
                Some(first) => header_length(*first, self.length),
                None => Err(HeaderError::TooShort { length: self.length }),
            };
            let length = match header {
                Ok(length) => length,
                Err(error) => return Err(sound(error)),
            };
            let json = self.bytes(LENGTH_FIELD, length)?;
            Header::parse(&json, self.length - LENGTH_FIELD - length).map_err(sound)
        }

        /// Bytes that the header says are there.
        pub(crate) fn bytes(&self, start: u64, length: u64) -> Result<Cow<'_, [u8]>, IoError> {
            match read_range(&self.path, start, length as usize) {
                Ok(bytes) => Ok(Cow::Owned(bytes)),
                Err(error) => Err(IoError::system("read", &self.path)(error)),
            }
        }

        /// Nothing is kept.
        pub(crate) fn release(&self, _start: u64, _length: u64) {}
    }
}
