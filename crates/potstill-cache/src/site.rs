//! A component's folder on disk: which shards are there, and sealing them.

use std::collections::{BTreeMap, BTreeSet};

use potstill_io::{Header, TensorSpec};
use rayon::prelude::*;

use crate::canonical::sha256;
use crate::component::{ComponentId, SEAL_FILE, shard_file, shard_index};
use crate::digest::Digest32;
use crate::error::CacheError;
use crate::layout::{KEY, Layout, ShardRange};
use crate::lock::{BuildLock, Hold};
use crate::plan::Plan;
use crate::reader::{References, read_plan, read_references, read_seal};
use crate::seal::{Dependencies, Seal, ShardInfo};
use crate::source::{Source, SourceError};
use crate::store::CachePlace;
use crate::verify::{ShardProblem, hash_shard, read_header};

/// What of a planned component is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// Records planned.
    pub records: u64,
    /// Shards planned.
    pub shards: u32,
    /// Shards that are not there, or are not whole, or of another plan.
    pub missing: Vec<u32>,
}

/// Which shards of a component are written, by their headers.
///
/// # Errors
/// [`CacheError`]: an unreadable or malformed plan, references that are missing or others.
pub fn coverage(cache: impl Into<CachePlace>, component: &ComponentId) -> Result<Coverage, CacheError> {
    let site = Site::at(&cache.into(), component)?;
    let done = site.done()?;
    let missing = (0..site.layout.shard_count()).filter(|index| done.binary_search(index).is_err());
    Ok(Coverage {
        records: site.layout.records(),
        shards: site.layout.shard_count(),
        missing: missing.collect(),
    })
}

/// Seals a component: reads every shard, and writes `seal.json` when every record of the plan is there once.
///
/// # Errors
/// [`CacheError::Shard`] naming a shard that is missing, damaged, of another plan or beyond it; [`CacheError::Unsealed`]
/// when a teacher's latents or text are not sealed yet; [`CacheError::Sealed`] when there is a seal already;
/// [`CacheError::Busy`] while it is being built.
pub fn seal(cache: impl Into<CachePlace>, component: &ComponentId) -> Result<Seal, CacheError> {
    let place = cache.into();
    let site = Site::at(&place, component)?;
    let folder = place.0.folder().map(|cache| cache.join(component.to_string()));
    let _lock = folder
        .map(|folder| BuildLock::acquire(&folder, component, Hold::Alone))
        .transpose()?;
    site.seal()
}

/// Where a component's files are and what should be in them.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub place: CachePlace,
    pub component: ComponentId,
    pub layout: Layout,
    pub plan: Digest32,
}

impl Site {
    /// Of a plan and its canonical JSON.
    pub fn of(place: &CachePlace, plan: &Plan, bytes: &[u8]) -> Result<Self, CacheError> {
        let references = match plan {
            Plan::Teacher(_) => read_references(place.source())?,
            _ => References::default(),
        };
        Ok(Self {
            place: place.clone(),
            component: plan.component(),
            layout: Layout::new(plan.clone(), &references)?,
            plan: sha256(bytes),
        })
    }

    /// Of the plan that lies there.
    pub fn at(place: &CachePlace, component: &ComponentId) -> Result<Self, CacheError> {
        let (plan, bytes) = read_plan(place.source(), component)?;
        Self::of(place, &plan, &bytes)
    }

    /// Shards that are there, whole by their headers, and of this plan.
    pub fn done(&self) -> Result<Vec<u32>, CacheError> {
        let prefix = self.component.file("");
        let files = self.place.source().list()?;
        let there: BTreeSet<u32> = files
            .iter()
            .filter_map(|path| path.strip_prefix(&prefix).and_then(shard_index))
            .collect();
        let ranges: Vec<ShardRange> = self
            .layout
            .shards()
            .filter(|shard| there.contains(&shard.index))
            .collect();
        let looked: Vec<_> = ranges
            .par_iter()
            .map(|&shard| Ok(self.is_done(shard)?.then_some(shard.index)))
            .collect();
        let done: Result<Vec<_>, CacheError> = looked.into_iter().collect();
        Ok(done?.into_iter().flatten().collect())
    }

    pub fn is_done(&self, shard: ShardRange) -> Result<bool, CacheError> {
        let path = self.component.file(&shard_file(shard.index));
        match read_header(self.place.source(), &path) {
            Ok((header, _)) => self.belongs(&header, shard),
            Err(ShardProblem::Header(_) | ShardProblem::Source(SourceError::Missing { .. })) => Ok(false),
            Err(ShardProblem::Source(error)) => Err(error.into()),
        }
    }

    fn belongs(&self, header: &Header, shard: ShardRange) -> Result<bool, CacheError> {
        let same = |spec: &TensorSpec| {
            header
                .get(&spec.name)
                .is_some_and(|t| t.dtype == spec.dtype && t.shape == spec.shape)
        };
        let specs = self.layout.tensors(shard)?;
        Ok(*header.metadata() == metadata(self.plan, shard.index)
            && header.tensors().len() == specs.len()
            && specs.iter().all(same))
    }

    pub fn seal(&self) -> Result<Seal, CacheError> {
        let source = &*self.place.0.snapshot();
        let component = &self.component;
        match read_seal(source, component) {
            Err(CacheError::Unsealed { .. }) => {}
            Ok(_) => {
                return Err(CacheError::Sealed {
                    component: component.clone(),
                });
            }
            Err(error) => return Err(error),
        }
        let dependencies = match component {
            ComponentId::Teacher(_) => Some(Dependencies {
                latents: sha256(&read_seal(source, &ComponentId::Latents)?.1),
                text: sha256(&read_seal(source, &ComponentId::Text)?.1),
            }),
            _ => None,
        };
        self.refuse_extra_shards(source)?;
        let ranges: Vec<ShardRange> = self.layout.shards().collect();
        let inspected: Vec<_> = ranges.par_iter().map(|&range| self.inspect_in(source, range)).collect();
        if let Some(error) = source.failure() {
            return Err(error.into());
        }
        // Of several errors the first in the plan's order, whatever thread met it.
        let shards = inspected.into_iter().collect::<Result<Vec<_>, _>>()?;
        let seal = Seal::new(component, self.plan, shards, dependencies);
        self.place.0.replace(&component.file(SEAL_FILE), &[&seal.to_bytes()?])?;
        Ok(seal)
    }

    /// Reads a shard: what the seal says of it.
    pub fn inspect(&self, range: ShardRange) -> Result<ShardInfo, CacheError> {
        self.inspect_in(self.place.source(), range)
    }

    fn inspect_in<S: Source + ?Sized>(&self, source: &S, range: ShardRange) -> Result<ShardInfo, CacheError> {
        let file = shard_file(range.index);
        let path = self.component.file(&file);
        let wrong = |reason: String| self.wrong(range.index, reason);
        let (header, bytes) = read_header(source, &path).map_err(|problem| wrong(problem.to_string()))?;
        if !self.belongs(&header, range)? {
            return Err(wrong(format!("{path} is of another plan")));
        }
        self.check_keys(source, &header, range)?;
        let blake3 = hash_shard(source, &path, bytes).map_err(|error| wrong(error.to_string()))?;
        Ok(ShardInfo {
            file,
            bytes,
            records: range.records,
            blake3,
        })
    }

    /// That a shard's records are those of the plan, each at its place.
    fn check_keys<S: Source + ?Sized>(&self, source: &S, header: &Header, range: ShardRange) -> Result<(), CacheError> {
        let wrong = |reason: String| self.wrong(range.index, reason);
        let path = self.component.file(&shard_file(range.index));
        let Some(tensor) = header.get(KEY) else {
            return Err(wrong(format!("{path} has no keys")));
        };
        let mut keys = vec![[0; 32]; range.records as usize];
        source
            .read(&path, header.data_start() + tensor.start, keys.as_flattened_mut())
            .map_err(|error| wrong(error.to_string()))?;
        for (record, key) in (range.start..).zip(&keys) {
            if self.layout.key(record)?.0 != *key {
                let name = self.layout.name(record)?;
                return Err(wrong(format!("{path} has another record in the place of {name}")));
            }
        }
        Ok(())
    }

    /// A shard beyond the plan would hold records that are there already, or that nobody asked for.
    fn refuse_extra_shards<S: Source + ?Sized>(&self, source: &S) -> Result<(), CacheError> {
        let prefix = self.component.file("");
        for path in source.list()? {
            let index = path.strip_prefix(&prefix).and_then(shard_index);
            if let Some(index) = index.filter(|&index| index >= self.layout.shard_count()) {
                return Err(self.wrong(
                    index,
                    format!(
                        "{path} is beyond the plan, which has {} shards",
                        self.layout.shard_count()
                    ),
                ));
            }
        }
        Ok(())
    }

    fn wrong(&self, shard: u32, reason: String) -> CacheError {
        CacheError::Shard {
            component: self.component.clone(),
            shard,
            reason,
        }
    }
}

/// What a shard says of itself in its header.
pub(crate) fn metadata(plan: Digest32, shard: u32) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("plan".to_owned(), plan.to_string()),
        ("shard".to_owned(), shard.to_string()),
    ])
}
