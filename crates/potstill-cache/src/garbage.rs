//! What lies in a cache and belongs to nothing: left by builds that were killed, or named by no plan.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use potstill_io::IoError;

use crate::component::{ComponentId, LOCK_FILE, PLAN_FILE, SEAL_FILE, TEMPORARY_PREFIX, shard_index};
use crate::error::CacheError;
use crate::files::{STAGE, files_entries};
use crate::folder::FolderSource;
use crate::lock::{BuildLock, Hold};
use crate::reader::components;
use crate::site::Site;
use crate::source::{Source, SourceError};

/// Ends the names of temporary files, as `potstill_io::write_atomic` gives them.
const TEMPORARY_SUFFIX: &str = ".tmp";

/// Why nothing refers to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GarbageKind {
    /// Begun by a build or an export that was killed.
    Unfinished,
    /// The lock of a build that was killed: nobody holds it.
    Lock,
    /// A shard beyond the plan.
    BeyondPlan,
    /// A shard of a component without a seal that is cut short or of another plan: a build would write it anew.
    Unusable,
    /// A shard, or a whole folder, without a plan.
    Unplanned,
    /// Of a teacher that is not among those to keep.
    Teacher,
}

impl GarbageKind {
    /// Its name in documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unfinished => "unfinished",
            Self::Lock => "lock",
            Self::BeyondPlan => "beyond-plan",
            Self::Unusable => "unusable",
            Self::Unplanned => "unplanned",
            Self::Teacher => "teacher",
        }
    }
}

/// A file that nothing refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Garbage {
    /// Its path in the cache.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Why.
    pub kind: GarbageKind,
}

/// What was found, or removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GarbageFound {
    /// Files that nothing refers to, by path.
    pub garbage: Vec<Garbage>,
    /// Folders that were not looked at, for a build or an export is at work there.
    pub busy: Vec<String>,
    /// Components whose plan cannot be used: of their shards none is judged.
    pub unjudged: Vec<String>,
}

/// Finds what nothing refers to in a cache of either layout; writes nothing. Only files with names that potstill gives are
/// ever among it: what somebody else put there is not potstill's to judge. Links are never followed. With `keep`, the ids
/// of the teachers that are wanted, the others are garbage too.
///
/// # Errors
/// [`CacheError::NoCache`]; [`CacheError::Source`] when a file cannot be looked at.
pub fn find_garbage(cache: &Path, keep: Option<&[String]>) -> Result<GarbageFound, CacheError> {
    sweep(cache, |place| place.look(cache, keep).map(Some))
}

/// Removes what [`find_garbage`] finds, with folders that are empty then, and says what it was. Nobody can build in a folder
/// meanwhile.
///
/// # Errors
/// As [`find_garbage`]; [`CacheError::Io`].
pub fn remove_garbage(cache: &Path, keep: Option<&[String]>) -> Result<GarbageFound, CacheError> {
    sweep(cache, |place| place.empty(cache, keep))
}

/// Visits every place of a cache that is not busy.
fn sweep(cache: &Path, visit: impl Fn(&Place) -> Result<Option<Look>, CacheError>) -> Result<GarbageFound, CacheError> {
    let mut all = GarbageFound::default();
    let places = Place::all(&FolderSource::new(cache).list()?);
    if places.is_empty() {
        return Err(CacheError::NoCache);
    }
    for place in places {
        let found = if is_busy(&cache.join(place.folder()))? {
            None
        } else {
            visit(&place)?
        };
        let Some(found) = found else {
            all.busy.push(place.folder());
            continue;
        };
        if found.is_unjudged {
            all.unjudged.push(place.folder());
        }
        all.garbage.extend(found.garbage);
    }
    all.garbage.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(all)
}

/// What was found in one place.
#[derive(Default)]
struct Look {
    garbage: Vec<Garbage>,
    is_unjudged: bool,
}

/// A folder that potstill writes to.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Component(ComponentId),
    /// A teacher's, in the files layout; empty when it is the cache itself.
    Files(String),
    /// Where exports are made ready.
    Stage,
}

impl Place {
    /// The places that a list of files shows.
    fn all(files: &[String]) -> Vec<Self> {
        let ids = components(files);
        let of_files = |folder: &String| !ids.iter().any(|id| id.to_string() == *folder);
        let folders: Vec<String> = files_entries(files).into_keys().filter(of_files).collect();
        let stage = files.iter().any(|path| path.starts_with(&format!("{STAGE}/")));
        ids.into_iter()
            .map(Self::Component)
            .chain(folders.into_iter().map(Self::Files))
            .chain(stage.then_some(Self::Stage))
            .collect()
    }

    /// Relative to the cache.
    fn folder(&self) -> String {
        match self {
            Self::Component(id) => id.to_string(),
            Self::Files(folder) => folder.clone(),
            Self::Stage => STAGE.to_owned(),
        }
    }

    fn look(&self, cache: &Path, keep: Option<&[String]>) -> Result<Look, CacheError> {
        let source = FolderSource::new(cache);
        let files: Vec<String> = source.list()?.into_iter().filter(|path| self.has(path)).collect();
        let mut look = Look::default();
        let judge = match self {
            Self::Component(id) => Judge::of(cache, id, &files, keep)?,
            Self::Files(_) => Judge::Names,
            Self::Stage => Judge::All(GarbageKind::Unfinished),
        };
        look.is_unjudged = matches!(judge, Judge::Unknown);
        for path in files {
            let name = path.rsplit_once('/').map_or(path.as_str(), |(_, name)| name);
            let Some(kind) = judge.kind(name)? else { continue };
            match source.size(&path) {
                Ok(bytes) => look.garbage.push(Garbage { path, bytes, kind }),
                // Not a file of potstill's making; or gone meanwhile.
                Err(SourceError::Link { .. } | SourceError::Missing { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(look)
    }

    /// Whether a file lies in it: of the stage at any depth.
    fn has(&self, path: &str) -> bool {
        let folder = self.folder();
        match self {
            Self::Stage => path.starts_with(&format!("{folder}/")),
            _ => path.rsplit_once('/').map_or("", |(parent, _)| parent) == folder,
        }
    }

    /// Removes what there is to remove, and the folder itself when nothing else is in it; nothing and none when a build has
    /// begun.
    fn empty(&self, cache: &Path, keep: Option<&[String]>) -> Result<Option<Look>, CacheError> {
        let found = self.look(cache, keep)?;
        if found.garbage.is_empty() {
            return Ok(Some(found));
        }
        let folder = cache.join(self.folder());
        let lock = match self {
            Self::Component(id) => Some(BuildLock::acquire(&folder, id, Hold::Alone)),
            Self::Stage => Some(BuildLock::acquire(&folder, &ComponentId::Latents, Hold::Alone)),
            Self::Files(_) => None,
        };
        let lock = match lock.transpose() {
            Err(CacheError::Busy { .. }) => return Ok(None),
            lock => lock?,
        };
        // Again, now that nobody writes: what a build has finished since is no garbage any more.
        let still = self.look(cache, keep)?;
        for Garbage { path, .. } in still.garbage.iter().filter(|garbage| found.garbage.contains(garbage)) {
            // The lock that is held goes when it is released.
            if path.rsplit('/').next() != Some(LOCK_FILE) {
                let path = within(cache, path)?;
                fs::remove_file(&path).map_err(IoError::system("remove", &path))?;
            }
        }
        drop(lock);
        if !matches!(self, Self::Files(_)) {
            remove_empty_folders(&folder)?;
        }
        Ok(Some(Look {
            garbage: found.garbage,
            ..still
        }))
    }
}

/// By what the files of a folder are judged.
enum Judge {
    /// All are garbage.
    All(GarbageKind),
    /// By their names alone: temporary files.
    Names,
    /// As that, for what the shards are cannot be told.
    Unknown,
    /// By a plan; of a sealed component no shard is touched that is in the plan, for its seal refers to it.
    Plan { site: Box<Site>, is_sealed: bool },
    /// There is no plan, so no shard belongs to anything.
    NoPlan,
}

impl Judge {
    fn of(cache: &Path, id: &ComponentId, files: &[String], keep: Option<&[String]>) -> Result<Self, CacheError> {
        if let (ComponentId::Teacher(teacher), Some(keep)) = (id, keep)
            && !keep.contains(teacher)
        {
            return Ok(Self::All(GarbageKind::Teacher));
        }
        let has = |name: &str| files.contains(&id.file(name));
        match Site::at(&cache.into(), id) {
            Ok(site) => Ok(Self::Plan {
                site: Box::new(site),
                is_sealed: has(SEAL_FILE),
            }),
            // With a seal, the plan was lost and may come back.
            Err(CacheError::Unplanned { .. }) if !has(PLAN_FILE) && !has(SEAL_FILE) => Ok(Self::NoPlan),
            Err(CacheError::Source(error))
                if !matches!(error, SourceError::Missing { .. } | SourceError::Link { .. }) =>
            {
                Err(error.into())
            }
            Err(_) => Ok(Self::Unknown),
        }
    }

    fn kind(&self, name: &str) -> Result<Option<GarbageKind>, CacheError> {
        if let Self::All(kind) = self {
            let is_own = *kind != GarbageKind::Teacher || is_named_by_potstill(name);
            return Ok(is_own.then_some(*kind));
        }
        if name == LOCK_FILE {
            return Ok(Some(GarbageKind::Lock));
        }
        if is_temporary(name) {
            return Ok(Some(GarbageKind::Unfinished));
        }
        let Some(index) = shard_index(name) else {
            return Ok(None);
        };
        Ok(match self {
            Self::NoPlan => Some(GarbageKind::Unplanned),
            Self::Plan { site, .. } if index >= site.layout.shard_count() => Some(GarbageKind::BeyondPlan),
            Self::Plan { site, is_sealed: false } if !site.is_done(site.layout.shard(index)?)? => {
                Some(GarbageKind::Unusable)
            }
            _ => None,
        })
    }
}

fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY_PREFIX) && name.ends_with(TEMPORARY_SUFFIX)
}

fn is_named_by_potstill(name: &str) -> bool {
    [PLAN_FILE, SEAL_FILE, LOCK_FILE].contains(&name) || is_temporary(name) || shard_index(name).is_some()
}

/// Whether somebody holds the lock of a folder.
fn is_busy(folder: &Path) -> Result<bool, CacheError> {
    let path = folder.join(LOCK_FILE);
    // Followed, a link would lead out of the cache.
    if !fs::symlink_metadata(&path).is_ok_and(|found| found.is_file()) {
        return Ok(false);
    }
    // Shared, so that parts of a build are not disturbed.
    match File::open(&path).map(|file| file.try_lock_shared()) {
        Ok(Err(TryLockError::WouldBlock)) => Ok(true),
        Ok(Ok(())) => Ok(is_shared(&path)),
        Ok(Err(TryLockError::Error(_))) => Ok(false),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(IoError::system("open", &path)(error).into()),
    }
}

/// Whether parts of a build hold a lock.
fn is_shared(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// A file of the cache with no link on the way to it: one could have been put there since it was listed.
fn within(cache: &Path, path: &str) -> Result<PathBuf, CacheError> {
    let mut full = cache.to_owned();
    for part in path.split('/') {
        full.push(part);
        if fs::symlink_metadata(&full).is_ok_and(|found| found.is_symlink()) {
            let path = path.to_owned();
            return Err(SourceError::Link { path }.into());
        }
    }
    Ok(full)
}

/// Removes a folder and those in it, as far as they are empty.
fn remove_empty_folders(folder: &Path) -> Result<(), CacheError> {
    let listed = |error| IoError::system("list", folder)(error);
    for entry in fs::read_dir(folder).map_err(listed)? {
        let entry = entry.map_err(listed)?;
        if entry.file_type().map_err(listed)?.is_dir() {
            remove_empty_folders(&entry.path())?;
        }
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != ErrorKind::DirectoryNotEmpty => {
            Err(IoError::system("remove the folder", folder)(error).into())
        }
        _ => Ok(()),
    }
}
