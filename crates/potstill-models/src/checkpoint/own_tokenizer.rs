//! Tokenizers, which single files have no place for: their readers take CLIP's.

use std::path::{Path, PathBuf};

use potstill_io::disk::is_file;

use super::convert::Job;
use super::kinds::Component;
use super::opened::Layout;
use crate::error::{ModelError, Result};
use crate::prompt::SECOND_PADDING;
use crate::tokenizer::Tokenizer;

/// Files of a tokenizer.
const TOKENIZER_FILES: [&str; 5] = [
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
];

/// The files of the tokenizer in a folder, those that are there of all that are looked at.
pub(crate) fn tokenizer_files(folder: &Path) -> Vec<PathBuf> {
    TOKENIZER_FILES
        .map(|name| folder.join(name))
        .into_iter()
        .filter(|path| is_file(path))
        .collect()
}

/// The folder of a text encoder's tokenizer.
pub(crate) fn tokenizer_name(component: Component) -> &'static str {
    match component {
        Component::TextEncoder2 => "tokenizer_2",
        _ => "tokenizer",
    }
}

/// The padding of a text encoder's tokenizer; none for the end token.
pub(super) fn padding(component: Component) -> Option<&'static str> {
    (component == Component::TextEncoder2).then_some(SECOND_PADDING)
}

/// The tokenizers of a folder that a file would lose, as they are not CLIP's.
///
/// # Errors
/// When one is not among those that are `allowed` to be left out, or cannot be read.
pub(super) fn lost_tokenizers(job: &Job, allowed: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let mut lost = Vec::new();
    if job.source.layout == Layout::File || job.source.kind.is_none() {
        return Ok(lost);
    }
    let texts = [Component::TextEncoder, Component::TextEncoder2];
    for component in texts {
        let (name, padding) = (tokenizer_name(component), padding(component));
        let folder = job.source.path.join(name);
        if !folder.is_dir() || !job.parts.iter().any(|part| part.component == component) {
            continue;
        }
        if Tokenizer::load(&folder, padding)?.gives_the_ids_of(&Tokenizer::clip(padding)?) {
            continue;
        }
        if !allowed(name) {
            let reason = format!(
                "is not CLIP's tokenizer, and a single file holds none: keep this model as a folder, or allow `{name}` to \
                 be left out"
            );
            return Err(ModelError::file(folder, reason));
        }
        lost.push(name.to_string());
    }
    Ok(lost)
}
