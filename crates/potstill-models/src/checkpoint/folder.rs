//! Finding the files of one component of a model.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use potstill_io::disk::{is_dir, is_file};
use serde_json::Value as Json;

use super::weights::{KeyRules, Weights};
use crate::error::{ModelError, Result};
use crate::fields::read_object;

/// Stems of weight files: diffusers' and transformers'.
const STEMS: [&str; 2] = ["diffusion_pytorch_model", "model"];
/// Variants, in the order of preference; the plain one has the most exact weights.
const VARIANTS: [&str; 3] = ["", ".bf16", ".fp16"];
/// More shards than any published model has.
const MAX_SHARDS: usize = 1000;

/// A component's folder with its `config.json` and its weight files.
pub(crate) struct ComponentFolder {
    folder: PathBuf,
    config: PathBuf,
    files: Vec<PathBuf>,
}

impl ComponentFolder {
    /// Finds the files; nothing is read but a sharded checkpoint's index.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        if !is_dir(folder) {
            return Err(ModelError::file(
                folder,
                "is not a folder; a diffusers model has one for each component",
            ));
        }
        let config = folder.join("config.json");
        if !is_file(&config) {
            return Err(ModelError::file(
                config,
                "does not exist; copy it from the model that the weights belong to",
            ));
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            config,
            files: weight_files(folder)?,
        })
    }

    pub(crate) fn config_path(&self) -> &Path {
        &self.config
    }

    /// Maps the weight files; also gives the keys that the rules drop.
    pub(crate) fn weights(&self, rules: KeyRules) -> Result<(Weights<'static>, Vec<String>)> {
        Weights::open(&self.files, rules, self.folder.display().to_string())
    }

    /// The weight files, for digests.
    pub(crate) fn into_files(self) -> Vec<PathBuf> {
        self.files
    }
}

fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
    for stem in STEMS {
        for variant in VARIANTS {
            let whole = folder.join(format!("{stem}{variant}.safetensors"));
            if is_file(&whole) {
                return Ok(vec![whole]);
            }
            let index = folder.join(format!("{stem}.safetensors.index{variant}.json"));
            if is_file(&index) {
                return shards(folder, &index);
            }
        }
    }
    let pickled = ["diffusion_pytorch_model.bin", "pytorch_model.bin"]
        .iter()
        .any(|name| is_file(&folder.join(name)));
    let reason = match pickled {
        true => "has weights in pickle (.bin) only, which are not read: save the model with safe_serialization=True",
        false => "has no weights: expected diffusion_pytorch_model.safetensors or model.safetensors, or their index",
    };
    Err(ModelError::file(folder, reason))
}

/// The files that a sharded checkpoint's index names.
fn shards(folder: &Path, index: &Path) -> Result<Vec<PathBuf>> {
    let object = read_object(index)?;
    let Some(Json::Object(map)) = object.get("weight_map") else {
        return Err(ModelError::file(index, "has no `weight_map` object"));
    };
    let mut names = BTreeSet::new();
    for (key, name) in map {
        // A plain file name beside the index: a path could lead anywhere.
        match name.as_str() {
            Some(name) if !name.is_empty() && !name.contains(['/', '\\', ':']) && name != ".." && name != "." => {
                names.insert(name);
            }
            _ => {
                return Err(ModelError::file(
                    index,
                    format!("`{key}` is not mapped to a file name but to {name}"),
                ));
            }
        }
    }
    if names.is_empty() || names.len() > MAX_SHARDS {
        return Err(ModelError::file(
            index,
            format!("names {} files, must be 1 to {MAX_SHARDS}", names.len()),
        ));
    }
    names
        .into_iter()
        .map(|name| match folder.join(name) {
            path if is_file(&path) => Ok(path),
            path => Err(ModelError::file(
                path,
                format!("does not exist, but {} names it", index.display()),
            )),
        })
        .collect()
}
