//! A cache in a folder.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::source::{Source, SourceError, room_for};

/// Deepest folder that is listed: `teachers/<id>/file` needs 2. What lies deeper is no part of a cache.
const MAX_DEPTH: usize = 4;

/// The files under a folder. Links within it are listed but never followed. What is not UTF-8 in a name is listed as U+FFFD;
/// a folder with such a name is listed and not entered, for no component has one.
#[derive(Debug, Clone)]
pub struct FolderSource {
    root: PathBuf,
}

impl FolderSource {
    /// The cache at `root` (which itself may be a link).
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// An ordinary file and its length.
    fn open(&self, path: &str) -> Result<(File, u64), SourceError> {
        let full = self.full(path)?;
        let size = size_of_file(path, &full)?;
        let file = File::open(&full).map_err(|error| failure(path, &error))?;
        Ok((file, size))
    }

    /// Refuses whatever could leave the folder.
    fn full(&self, path: &str) -> Result<PathBuf, SourceError> {
        let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', '\0', ':']);
        if !path.split('/').all(plain) {
            return Err(SourceError::Failed {
                path: path.to_owned(),
                reason: "not a path within a cache".to_owned(),
            });
        }
        Ok(self.root.join(path))
    }

    fn walk(&self, relative: &str, depth: usize, files: &mut Vec<String>) -> Result<(), SourceError> {
        let folder = if relative.is_empty() {
            self.root.clone()
        } else {
            self.root.join(relative)
        };
        let failed = |error: std::io::Error| failure(if relative.is_empty() { "." } else { relative }, &error);
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let os_name = entry.file_name();
            let name = os_name.to_string_lossy().into_owned();
            let is_text = os_name.to_str().is_some();
            let path = if relative.is_empty() {
                name
            } else {
                format!("{relative}/{name}")
            };
            if is_text && entry.file_type().map_err(failed)?.is_dir() {
                if depth < MAX_DEPTH {
                    self.walk(&path, depth + 1, files)?;
                }
            } else {
                files.push(path);
            }
        }
        Ok(())
    }
}

/// The system's words for a failure name languages, versions and full paths; a report says the same everywhere.
fn failure(path: &str, error: &std::io::Error) -> SourceError {
    let path = path.to_owned();
    let reason = match (error.kind(), error.raw_os_error()) {
        (ErrorKind::NotFound, _) => return SourceError::Missing { path },
        (ErrorKind::PermissionDenied, _) => "permission denied".to_owned(),
        (_, Some(number)) => format!("the system's error {number}"),
        (kind, None) => kind.to_string(),
    };
    SourceError::Failed { path, reason }
}

impl Source for FolderSource {
    fn list(&self) -> Result<Vec<String>, SourceError> {
        let mut files = Vec::new();
        self.walk("", 0, &mut files)?;
        files.sort();
        Ok(files)
    }

    fn size(&self, path: &str) -> Result<u64, SourceError> {
        size_of_file(path, &self.full(path)?)
    }

    fn read(&self, path: &str, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        read_part(&self.open(path)?.0, path, offset, buffer)
    }

    fn read_into(&self, path: &str, limit: u64, buffer: &mut Vec<u8>) -> Result<(), SourceError> {
        let (file, bytes) = self.open(path)?;
        room_for(path, bytes, limit, buffer)?;
        read_part(&file, path, 0, buffer)
    }
}

/// The length of an ordinary file.
fn size_of_file(path: &str, full: &Path) -> Result<u64, SourceError> {
    let metadata = fs::symlink_metadata(full).map_err(|error| failure(path, &error))?;
    if metadata.is_symlink() {
        return Err(SourceError::Link { path: path.to_owned() });
    }
    if !metadata.is_file() {
        return Err(SourceError::Failed {
            path: path.to_owned(),
            reason: "not an ordinary file".to_owned(),
        });
    }
    Ok(metadata.len())
}

fn read_part(file: &File, path: &str, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
    read_exact_at(file, buffer, offset).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => SourceError::TooShort {
            path: path.to_owned(),
            end: offset.saturating_add(buffer.len() as u64),
        },
        _ => failure(path, &error),
    })
}

#[cfg(unix)]
fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(not(unix))]
fn read_exact_at(mut file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ranges_and_names_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("teachers/a")).unwrap();
        fs::write(folder.path().join("teachers/a/plan.json"), b"0123456789").unwrap();
        let source = FolderSource::new(folder.path());
        assert_eq!(source.list().unwrap(), ["teachers/a/plan.json"]);
        let mut part = [0; 3];
        source.read("teachers/a/plan.json", 4, &mut part).unwrap();
        assert_eq!(&part, b"456");
        assert!(matches!(
            source.read("teachers/a/plan.json", 8, &mut part),
            Err(SourceError::TooShort { end: 11, .. })
        ));
        assert!(matches!(source.size("nothing"), Err(SourceError::Missing { .. })));
        assert!(matches!(
            source.read_all("teachers/a/plan.json", 9),
            Err(SourceError::TooLarge { bytes: 10, .. })
        ));
        assert!(source.size("teachers").is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn names_that_are_no_text_are_listed_all_the_same() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join(std::ffi::OsStr::from_bytes(b"latents\xff"));
        fs::create_dir(&odd).unwrap();
        fs::write(odd.join("plan.json"), "{}").unwrap();
        fs::write(folder.path().join(std::ffi::OsStr::from_bytes(b"a\xe2\x82.b")), "x").unwrap();
        let source = FolderSource::new(folder.path());
        assert_eq!(source.list().unwrap(), ["a\u{fffd}.b", "latents\u{fffd}"]);
        assert!(matches!(source.size("a\u{fffd}.b"), Err(SourceError::Missing { .. })));
    }

    #[test]
    fn failures_name_no_paths_of_the_machine() {
        let error = std::io::Error::from_raw_os_error(5);
        assert_eq!(
            failure("text/plan.json", &error).to_string(),
            "text/plan.json cannot be read: the system's error 5"
        );
        let error = std::io::Error::from(ErrorKind::PermissionDenied);
        assert_eq!(failure("a", &error).to_string(), "a cannot be read: permission denied");
    }

    #[test]
    fn nothing_outside_of_the_folder_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache");
        fs::create_dir(&cache).unwrap();
        fs::write(folder.path().join("secret"), b"x").unwrap();
        let source = FolderSource::new(&cache);
        for path in ["../secret", "/etc/hostname", "a/../../secret", "", "a//b"] {
            assert!(
                source.size(path).is_err() && source.read(path, 0, &mut [0]).is_err(),
                "{path}"
            );
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(folder.path().join("secret"), cache.join("link")).unwrap();
            assert!(matches!(source.size("link"), Err(SourceError::Link { .. })));
            assert!(matches!(
                source.read("link", 0, &mut [0]),
                Err(SourceError::Link { .. })
            ));
        }
    }
}
