//! The *files* layout: a file for every image and teacher, `{folder}/{teacher}/{sha1}_{W}x{H}.safetensors`, each with its own
//! noise and text. It has neither plans nor latents nor seals; what can be known of it is in the files.

mod entry;
#[cfg(feature = "fs")]
mod export;
#[cfg(feature = "fs")]
mod import;
mod name;
mod origin;
mod rule;
#[cfg(feature = "fs")]
mod stage;
mod teacher;
#[cfg(feature = "fs")]
mod write;

use std::collections::BTreeMap;

use crate::component::TEMPORARY_PREFIX;

pub use entry::FilesEntry;
#[cfg(feature = "fs")]
pub use export::{ExportOptions, Exported, export_files};
#[cfg(feature = "fs")]
pub use import::{ImportedTeacher, import_teacher, survey_files};
pub use name::{FilesName, FilesNameError, files_seed};
pub use origin::{NoiseOrigin, NoiseSource};

pub(crate) use entry::{HIDDEN_STATES, Loaded, NOISE, POOLED, PREDICTION, Problem, SEED, TIMESTEP, load, problems};
pub(crate) use name::teacher_seed;
pub(crate) use rule::DrawRule;
#[cfg(feature = "fs")]
pub(crate) use stage::STAGE;
pub(crate) use teacher::{PREDICTION_KIND, prediction_kind};

/// The entries of the folders of a cache in the files layout: teachers by folder (empty for the one that was named itself),
/// each with its entries in the order of their names. Empty when this is no such cache. Folders that are being filled are none.
#[must_use]
pub fn files_entries(files: &[String]) -> BTreeMap<String, Vec<FilesName>> {
    let mut folders: BTreeMap<String, Vec<FilesName>> = BTreeMap::new();
    for path in files {
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
        if folder.split('/').any(|part| part.starts_with(TEMPORARY_PREFIX)) {
            continue;
        }
        if let Some(name) = FilesName::of_file(file) {
            folders.entry(folder.to_owned()).or_default().push(name);
        }
    }
    for names in folders.values_mut() {
        names.sort_unstable();
        names.dedup();
    }
    folders
}

/// The path of an entry, relative to the cache.
#[must_use]
pub fn files_path(folder: &str, name: &FilesName) -> String {
    if folder.is_empty() {
        name.file()
    } else {
        format!("{folder}/{}", name.file())
    }
}
