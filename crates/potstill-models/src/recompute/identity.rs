//! Which files a model computes with, by digest, as the plans of caches record them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use potstill_cache::{Digest32, ModelDigest, canonical_json, sha256};
use potstill_io::{IoError, disk};
use serde_json::{Map, Value as Json};
use sha2::{Digest, Sha256};

use super::RecomputeError;
use crate::checkpoint::Component;
use crate::model::Model;

/// Bytes that are read at once.
const CHUNK: usize = 4 << 20;

/// SHA-256 of files, each of which is read once.
pub(super) struct Digests<'a> {
    known: BTreeMap<PathBuf, Digest32>,
    interrupted: &'a dyn Fn() -> bool,
}

impl<'a> Digests<'a> {
    pub(super) fn new(interrupted: &'a dyn Fn() -> bool) -> Self {
        Self {
            known: BTreeMap::new(),
            interrupted,
        }
    }

    /// The digest of a file.
    pub(super) fn of(&mut self, path: &Path) -> Result<Digest32, RecomputeError> {
        if let Some(digest) = self.known.get(path) {
            return Ok(*digest);
        }
        let mut hash = Sha256::new();
        let read = disk::read_chunks(path, CHUNK, &mut |chunk| {
            hash.update(chunk);
            match (self.interrupted)() {
                true => Err(std::io::ErrorKind::Interrupted.into()),
                false => Ok(()),
            }
        });
        if (self.interrupted)() {
            return Err(RecomputeError::Interrupted);
        }
        read.map_err(IoError::system("read", path))
            .map_err(crate::ModelError::from)?;
        let digest = Digest32(hash.finalize().into());
        self.known.insert(path.to_path_buf(), digest);
        Ok(digest)
    }

    /// The digests of files, by their names.
    pub(super) fn by_name(&mut self, paths: &[PathBuf]) -> Result<BTreeMap<String, Digest32>, RecomputeError> {
        paths
            .iter()
            .map(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                Ok((name, self.of(path)?))
            })
            .collect()
    }

    /// What fixes what a component computes.
    pub(super) fn component(&mut self, model: &Model, component: Component) -> Result<ModelDigest, RecomputeError> {
        let (config, files) = model.component(component)?;
        self.of_parts(config.json(), &files)
    }

    /// The same of a configuration and weight files.
    pub(super) fn of_parts(
        &mut self,
        config: &Map<String, Json>,
        files: &[PathBuf],
    ) -> Result<ModelDigest, RecomputeError> {
        // Keys that begin with `_` say who saved the file, and with which version: they change nothing.
        let kept: BTreeMap<_, _> = config.iter().filter(|(key, _)| !key.starts_with('_')).collect();
        Ok(ModelDigest {
            weights: self.by_name(files)?,
            config: sha256(&canonical_json(&kept)?),
        })
    }
}
