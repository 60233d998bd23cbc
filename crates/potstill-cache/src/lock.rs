//! One build at a time in a component's folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use potstill_io::IoError;

use crate::component::{ComponentId, LOCK_FILE};
use crate::error::CacheError;
use crate::source::SourceError;

/// Longest process number that is read from a lock file, in bytes.
const MAX_PID: u64 = 20;

/// How long a part of a build waits for another that is just ending, and holds the folder alone while it removes the lock's
/// file.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Who else may build in a folder at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Nobody.
    Alone,
    /// Other parts of the same build.
    WithOthers,
}

/// A lock of the operating system on a file in the folder: it ends with the process that holds it, however that ends. What a
/// killed build leaves is a file that nobody holds.
#[derive(Debug)]
pub(crate) struct BuildLock {
    path: PathBuf,
    hold: Hold,
    /// Gone once released.
    file: Mutex<Option<File>>,
}

impl BuildLock {
    /// Locks an existing folder. On file systems that know no locks the folder is not protected.
    ///
    /// # Errors
    /// [`CacheError::Busy`] when another build holds it; [`CacheError::Io`].
    pub fn acquire(folder: &Path, component: &ComponentId, hold: Hold) -> Result<Self, CacheError> {
        let path = folder.join(LOCK_FILE);
        let begun = Instant::now();
        loop {
            // Followed, it would be emptied wherever it leads to.
            if fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink()) {
                let path = component.file(LOCK_FILE);
                return Err(SourceError::Link { path }.into());
            }
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(IoError::system("open", &path))?;
            let locked = match hold {
                Hold::Alone => file.try_lock(),
                Hold::WithOthers => file.try_lock_shared(),
            };
            match locked {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if hold == Hold::WithOthers && begun.elapsed() < PATIENCE => {
                    std::thread::sleep(PAUSE);
                    continue;
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(CacheError::Busy {
                        component: component.clone(),
                        process: process_in(&file),
                    });
                }
                Err(TryLockError::Error(error)) if knows_no_locks(&error) => {}
                Err(TryLockError::Error(error)) => return Err(IoError::system("lock", &path)(error).into()),
            }
            // Whoever held it before may have removed it after it was opened here: then the lock is on a file without a name.
            if !is_at(&file, &path) {
                continue;
            }
            // Of several parts none is the process that holds it.
            let named = match hold {
                Hold::Alone => format!("{}\n", std::process::id()),
                Hold::WithOthers => String::new(),
            };
            file.set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| file.write_all(named.as_bytes()))
                .map_err(IoError::system("write", &path))?;
            return Ok(Self {
                path,
                hold,
                file: Mutex::new(Some(file)),
            });
        }
    }

    /// Is it held still?
    pub fn is_held(&self) -> bool {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Gives the folder to others. Again: nothing.
    pub fn release(&self) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = file.as_ref().filter(|_| cfg!(unix))
            && self.is_last(file)
        {
            // Before the lock goes, or it might be another's. A file that stays (elsewhere, or after a kill) locks nobody out,
            // and verification passes over it.
            let _ = fs::remove_file(&self.path);
        }
        *file = None;
    }

    /// Whether nobody else holds the file: then it is held alone here.
    fn is_last(&self, file: &File) -> bool {
        match self.hold {
            Hold::Alone => true,
            Hold::WithOthers => file.unlock().is_ok() && file.try_lock().is_ok() && is_at(file, &self.path),
        }
    }
}

impl Drop for BuildLock {
    fn drop(&mut self) {
        self.release();
    }
}

/// `ENOLCK`, which `ErrorKind` has no name for: what a network drive says whose server has no lock service.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NO_LOCKS: Option<i32> = Some(37);
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
const NO_LOCKS: Option<i32> = Some(77);
#[cfg(not(unix))]
const NO_LOCKS: Option<i32> = None;

/// Whether a lock failed because the file system has none to give.
fn knows_no_locks(error: &io::Error) -> bool {
    error.kind() == ErrorKind::Unsupported || (NO_LOCKS.is_some() && error.raw_os_error() == NO_LOCKS)
}

fn process_in(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(MAX_PID).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// Elsewhere the file is never removed.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::{Duration, Instant};

    #[test]
    fn only_one_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let lock = BuildLock::acquire(folder.path(), &ComponentId::Text, Hold::Alone).unwrap();
        let error = BuildLock::acquire(folder.path(), &ComponentId::Text, Hold::Alone).unwrap_err();
        assert!(
            matches!(error, CacheError::Busy { process: Some(pid), .. } if pid == std::process::id()),
            "{error}"
        );
        lock.release();
        assert!(!lock.is_held());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        BuildLock::acquire(folder.path(), &ComponentId::Text, Hold::Alone).unwrap();
    }

    #[test]
    fn parts_hold_it_together_and_nobody_alone_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let acquire = |hold| BuildLock::acquire(folder.path(), &ComponentId::Text, hold);
        let (one, two) = (acquire(Hold::WithOthers).unwrap(), acquire(Hold::WithOthers).unwrap());
        for held in [one, two] {
            assert!(matches!(
                acquire(Hold::Alone),
                Err(CacheError::Busy { process: None, .. })
            ));
            held.release();
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let alone = acquire(Hold::Alone).unwrap();
        assert!(matches!(
            acquire(Hold::WithOthers),
            Err(CacheError::Busy { process: Some(_), .. })
        ));
        drop(alone);
    }

    #[test]
    fn what_a_killed_build_left_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join(LOCK_FILE),
            "4194304999\nlonger than any process number",
        )
        .unwrap();
        let lock = BuildLock::acquire(folder.path(), &ComponentId::Text, Hold::Alone).unwrap();
        let written = fs::read_to_string(folder.path().join(LOCK_FILE)).unwrap();
        assert_eq!(written, format!("{}\n", std::process::id()));
        drop(lock);
    }

    #[test]
    fn a_file_system_without_locks_is_told_from_a_fault() {
        assert!(knows_no_locks(&io::Error::from(ErrorKind::Unsupported)));
        assert!(!knows_no_locks(&io::Error::from(ErrorKind::PermissionDenied)));
        #[cfg(target_os = "linux")]
        {
            let named = io::Error::from_raw_os_error(37);
            assert!(named.to_string().starts_with("No locks available"), "{named}");
            assert!(knows_no_locks(&named));
            // A disk that fails: nothing to build on.
            assert!(!knows_no_locks(&io::Error::from_raw_os_error(5)));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let precious = folder.path().join("precious");
        fs::write(&precious, "kept").unwrap();
        std::os::unix::fs::symlink(&precious, folder.path().join(LOCK_FILE)).unwrap();
        let error = BuildLock::acquire(folder.path(), &ComponentId::Text, Hold::Alone).unwrap_err();
        assert!(matches!(error, CacheError::Source(SourceError::Link { .. })), "{error}");
        assert_eq!(fs::read(&precious).unwrap(), b"kept");
    }

    /// Far longer than 500 locks take on any machine.
    const GIVE_UP: Duration = Duration::from_secs(120);

    /// Locks are released by removing the file, while others are about to lock it.
    #[test]
    fn never_two_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, entered) = (AtomicU32::new(0), AtomicU32::new(0));
        let started = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while entered.load(Ordering::SeqCst) < 500 {
                        assert!(started.elapsed() < GIVE_UP, "nobody gets in any more");
                        let Ok(lock) = BuildLock::acquire(folder.path(), &ComponentId::Text, Hold::Alone) else {
                            continue;
                        };
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        entered.fetch_add(1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
    }
}
