//! Files that are there whole or not at all.

use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::IoError;

/// Size of the write buffer: few system calls, little memory.
const BUFFER: usize = 1 << 20;

/// Writes a file through a temporary one in the same folder: written, fsynced, renamed over the target, folder fsynced.
///
/// A crash at any moment leaves the old file or the new one. On an error, of `write` too, the temporary file is removed.
///
/// # Errors
/// [`IoError::System`] naming the target, or what `write` returns.
pub fn write_atomic<T, E: From<IoError>>(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<T, E>,
) -> Result<T, E> {
    let (temporary, result) = write_beside(path, write)?;
    temporary
        .persist(path)
        .map_err(|e| IoError::system("rename the finished file to", path)(e.error))?;
    sync_folder(folder_of(path))?;
    Ok(result)
}

/// As [`write_atomic`], unless there is a file already: of several that write the same one, the first wins and the others
/// leave it alone. On file systems that can neither rename without replacing nor link, the last one wins.
///
/// Returns whether the file was written.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_atomic_once<E: From<IoError>>(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<bool, E> {
    let (temporary, ()) = write_beside(path, write)?;
    if let Err(failed) = temporary.persist_noclobber(path) {
        match failed.error.kind() {
            ErrorKind::AlreadyExists => return Ok(false),
            ErrorKind::Unsupported | ErrorKind::PermissionDenied => {
                let renamed = failed.file.persist(path);
                renamed.map_err(|e| IoError::system("rename the finished file to", path)(e.error))?;
            }
            _ => return Err(IoError::system("rename the finished file to", path)(failed.error).into()),
        }
    }
    sync_folder(folder_of(path))?;
    Ok(true)
}

/// A flushed temporary file in the folder of `path`.
fn write_beside<T, E: From<IoError>>(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<T, E>,
) -> Result<(NamedTempFile, T), E> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".potstill-").suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As an ordinary new file: the umask decides, not the private mode of temporary files.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let temporary = builder
        .tempfile_in(folder_of(path))
        .map_err(IoError::system("create a temporary file beside", path))?;
    let mut writer = BufWriter::with_capacity(BUFFER, temporary);
    let result = write(&mut writer)?;
    let temporary = writer
        .into_inner()
        .map_err(|e| IoError::system("write", path)(e.into_error()))?;
    temporary.as_file().sync_all().map_err(IoError::system("flush", path))?;
    Ok((temporary, result))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Creates a folder and its parents, and makes the new names durable.
///
/// # Errors
/// [`IoError::System`] naming the folder.
pub fn create_dir_durably(path: &Path) -> Result<(), IoError> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(IoError::system("create the folder", path))?;
    sync_folder(
        path.parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new(".")),
    )
}

/// Gives a folder another name on the same drive, and makes it durable. There must be nothing of that name.
///
/// # Errors
/// [`IoError::System`] naming the new place.
pub fn rename_durably(from: &Path, to: &Path) -> Result<(), IoError> {
    fs::rename(from, to).map_err(IoError::system("rename the finished folder to", to))?;
    sync_folder(
        to.parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new(".")),
    )
}

fn sync_folder(folder: &Path) -> Result<(), IoError> {
    // Windows opens no folder as a file; NTFS journals the rename itself.
    if cfg!(unix) {
        File::open(folder)
            .and_then(|f| f.sync_all())
            .map_err(IoError::system("flush the folder", folder))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn replaces_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.bin");
        for content in [b"one".as_slice(), b"two"] {
            write_atomic(&path, |w| w.write_all(content).map_err(IoError::system("write", &path))).unwrap();
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        assert_eq!(names(folder.path()), ["out.bin"]);
    }

    #[test]
    fn a_failed_write_keeps_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.bin");
        fs::write(&path, "old").unwrap();
        let error = write_atomic(&path, |w| {
            w.write_all(b"half").map_err(IoError::system("write", &path))?;
            Err::<(), _>(IoError::system("write", &path)(std::io::Error::other("disk full")))
        });
        assert!(error.unwrap_err().to_string().contains("disk full"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["out.bin"]);
    }

    #[test]
    fn of_several_the_first_wins() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.bin");
        for (content, is_first) in [(b"one", true), (b"two", false)] {
            let written = write_atomic_once(&path, |w| w.write_all(content).map_err(IoError::system("write", &path)));
            assert_eq!(written.unwrap(), is_first);
            assert_eq!(fs::read(&path).unwrap(), b"one");
        }
        assert_eq!(names(folder.path()), ["out.bin"]);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = write_atomic(Path::new("/nowhere/at/all"), |_| Ok::<_, IoError>(())).unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    }
}
