//! Writing a component: plan first, shards in any order, the seal last.
//!
//! Every file is written atomically, so a kill at any moment leaves whole files; a build that comes again finds the plan,
//! sees which shards are there, and writes the others.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use potstill_io::{Dtype, IoError, create_dir_durably, f32_to_bytes, layout_header, write_atomic, write_atomic_once};

use crate::canonical::sha256;
use crate::component::{ComponentId, LOCK_FILE, PLAN_FILE, TEMPORARY_PREFIX, shard_file};
use crate::digest::Digest32;
use crate::error::CacheError;
use crate::folder::FolderSource;
use crate::layout::{KEY, Layout, SEED, ShardRange, TIMESTEP};
use crate::lock::{BuildLock, Hold};
use crate::plan::{Plan, StorageDtype};
use crate::reader::{read_plan, read_seal};
use crate::seal::{Seal, ShardInfo};
use crate::site::{Site, metadata};

/// How far a component is built.
#[derive(Debug, Clone, PartialEq)]
pub enum ComponentState {
    /// There is no plan.
    Absent,
    /// Planned as wanted; these shards are written.
    Partial {
        /// Shards that are there and whole.
        done: Vec<u32>,
        /// Number of all shards.
        total: u32,
    },
    /// Sealed as wanted.
    Sealed(Seal),
    /// There is another plan.
    Foreign {
        /// The plan found, as canonical JSON.
        plan: String,
    },
}

/// How far the component of a plan is built in a cache.
///
/// # Errors
/// [`CacheError`]: an unreadable or malformed plan or seal, references that are missing or others.
pub fn component_state(cache: &Path, plan: &Plan) -> Result<ComponentState, CacheError> {
    let source = FolderSource::new(cache);
    let component = plan.component();
    let (found, bytes) = match read_plan(&source, &component) {
        Ok(found) => found,
        Err(CacheError::Unplanned { .. }) => return Ok(ComponentState::Absent),
        Err(error) => return Err(error),
    };
    if found != *plan {
        return Ok(ComponentState::Foreign {
            plan: String::from_utf8_lossy(&bytes).into_owned(),
        });
    }
    match read_seal(&source, &component) {
        Ok((seal, _)) if seal.plan == sha256(&bytes) => return Ok(ComponentState::Sealed(seal)),
        Ok((seal, _)) => {
            return Err(CacheError::Mismatch {
                component,
                what: "plan",
                expected: seal.plan.to_string().into(),
                other: "its plan.json".to_owned(),
                found: sha256(&bytes).to_string().into(),
                remedy: "Remove its seal.json and build it again.",
            });
        }
        Err(CacheError::Unsealed { .. }) => {}
        Err(error) => return Err(error),
    }
    let site = Site::of(cache, plan, &bytes)?;
    Ok(ComponentState::Partial {
        done: site.done()?,
        total: site.layout.shard_count(),
    })
}

/// Whether the build has begun; an error when there is nothing to build.
fn refuse_finished(state: ComponentState, component: &ComponentId, wanted: &[u8]) -> Result<bool, CacheError> {
    match state {
        ComponentState::Absent => Ok(false),
        ComponentState::Partial { .. } => Ok(true),
        ComponentState::Sealed(_) => Err(CacheError::Sealed {
            component: component.clone(),
        }),
        ComponentState::Foreign { plan } => Err(CacheError::ForeignPlan {
            component: component.clone(),
            found: sha256(plan.as_bytes()).to_string(),
            wanted: sha256(wanted).to_string(),
        }),
    }
}

/// A component being built, until it is sealed, [ended](Builder::end) or dropped with all its writers: by nobody else at the
/// same time, or by [parts](Builder::begin_part) that share the work.
#[derive(Debug, Clone)]
pub struct Builder {
    site: Site,
    lock: Arc<BuildLock>,
    hold: Hold,
}

impl Builder {
    /// Begins or continues building: writes the plan if there is none, removes what a killed build left half-written.
    ///
    /// # Errors
    /// [`CacheError::ForeignPlan`] when the folder holds another plan, [`CacheError::Sealed`] when nothing is left to
    /// build, [`CacheError::Busy`] while another build is at work on it, [`CacheError::Mismatch`] or [`CacheError::Unplanned`] for a teacher without its latents and text.
    pub fn begin(cache: &Path, plan: &Plan) -> Result<Self, CacheError> {
        Self::begin_as(cache, plan, Hold::Alone)
    }

    /// Begins or continues building together with other processes, each of which writes other shards. A shard that is
    /// there already is never replaced, so that it stays what a seal meanwhile says of it; what others are writing is not
    /// removed.
    ///
    /// # Errors
    /// As [`Builder::begin`]; [`CacheError::Busy`] while a build is at work that is no part.
    pub fn begin_part(cache: &Path, plan: &Plan) -> Result<Self, CacheError> {
        Self::begin_as(cache, plan, Hold::WithOthers)
    }

    fn begin_as(cache: &Path, plan: &Plan, hold: Hold) -> Result<Self, CacheError> {
        let component = plan.component();
        plan.validate().map_err(|source| CacheError::Plan {
            place: format!("plan of {component}"),
            source,
        })?;
        let bytes = plan.to_bytes()?;
        let site = Site::of(cache, plan, &bytes)?;
        let folder = site.folder();
        // Before a folder is made for it.
        refuse_finished(component_state(cache, plan)?, &component, &bytes)?;
        create_dir_durably(&folder)?;
        let lock = Arc::new(BuildLock::acquire(&folder, &component, hold)?);
        // Again: another build may have ended since.
        let begun = refuse_finished(component_state(cache, plan)?, &component, &bytes)?;
        if hold == Hold::Alone {
            remove_leftovers(&folder)?;
        }
        if !begun {
            let path = folder.join(PLAN_FILE);
            let is_first = write_atomic_once(&path, |writer| {
                writer.write_all(&bytes).map_err(IoError::system("write", &path))
            })?;
            if !is_first {
                refuse_finished(component_state(cache, plan)?, &component, &bytes)?;
            }
        }
        Ok(Self { site, lock, hold })
    }

    /// The component.
    #[must_use]
    pub fn component(&self) -> &ComponentId {
        &self.site.component
    }

    /// Which record lies where.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.site.layout
    }

    /// The shards that are written: present, whole, and of this plan. (What is in them, the seal and verification tell.)
    ///
    /// # Errors
    /// [`CacheError::Source`] when a file cannot be read at all.
    pub fn done(&self) -> Result<Vec<u32>, CacheError> {
        self.site.done()
    }

    /// Whether a shard is written by now, perhaps by another part.
    ///
    /// # Errors
    /// [`CacheError::OutOfRange`]; [`CacheError::Source`] when the file cannot be read at all.
    pub fn is_done(&self, index: u32) -> Result<bool, CacheError> {
        self.site.is_done(self.site.layout.shard(index)?)
    }

    /// A writer of one shard.
    ///
    /// # Errors
    /// [`CacheError::OutOfRange`].
    pub fn shard(&self, index: u32) -> Result<ShardWriter, CacheError> {
        let range = self.site.layout.shard(index)?;
        let fields = self.site.layout.fields(range.start)?;
        let buffers = fields
            .into_iter()
            .map(|(name, shape)| {
                (
                    name,
                    Field {
                        shape,
                        bytes: Vec::new(),
                    },
                )
            })
            .collect();
        Ok(ShardWriter {
            builder: self.clone(),
            range,
            fields: buffers,
        })
    }

    /// Seals the component, which ends the build. See [`seal`](crate::seal()).
    ///
    /// # Errors
    /// As [`seal`](crate::seal()).
    pub fn seal(&self) -> Result<Seal, CacheError> {
        let seal = self.site.seal()?;
        self.end();
        Ok(seal)
    }

    /// Ends the build: others may go on with it. Its writers write nothing any more.
    pub fn end(&self) {
        self.lock.release();
    }
}

#[derive(Debug)]
struct Field {
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// Collects the records of one shard and writes it at once.
#[derive(Debug)]
pub struct ShardWriter {
    builder: Builder,
    range: ShardRange,
    fields: BTreeMap<&'static str, Field>,
}

impl ShardWriter {
    /// The records of the shard.
    #[must_use]
    pub fn range(&self) -> ShardRange {
        self.range
    }

    /// Appends the values of a field for the next record or records, in the order of the plan.
    ///
    /// # Errors
    /// [`CacheError::Shard`] for an unknown field, values that are no whole number of records, or more than the shard
    /// has; [`CacheError::NotFinite`] naming the record.
    pub fn put(&mut self, field: &str, values: &[f32]) -> Result<(), CacheError> {
        let shard = self.range.index;
        let component = self.builder.site.component.clone();
        let wrong = |reason: String| CacheError::Shard {
            component: component.clone(),
            shard,
            reason,
        };
        let stored = self.builder.site.layout.dtype();
        let dtype = Dtype::from(stored);
        let Some((name, entry)) = self.fields.iter_mut().find(|(name, _)| **name == field) else {
            return Err(wrong(format!("there is no field {field:?}")));
        };
        let per_record: usize = entry.shape.iter().product();
        let present = entry.bytes.len() / (per_record * dtype.size());
        let added = values.len() / per_record;
        if !values.len().is_multiple_of(per_record) || present + added > self.range.records as usize {
            return Err(wrong(format!(
                "{name} takes {} records of {per_record} values; {present} are there, {} values were added",
                self.range.records,
                values.len()
            )));
        }
        let largest = largest_finite(stored);
        if let Some(at) = values.iter().position(|v| v.is_nan() || v.abs() > largest) {
            let record = self.range.start + (present + at / per_record) as u64;
            return Err(CacheError::NotFinite {
                component,
                field: field.to_owned(),
                entry: self.builder.site.layout.name(record)?,
                index: at % per_record,
                value: values[at],
                dtype: dtype.name(),
            });
        }
        let converted = f32_to_bytes(values, dtype).map_err(|error| wrong(error.to_string()))?;
        entry.bytes.extend_from_slice(&converted);
        Ok(())
    }

    /// Writes the shard: keys, and of a teacher seeds and timesteps, come from the plan.
    ///
    /// # Errors
    /// [`CacheError::Shard`] when records are missing; [`CacheError::Io`].
    pub fn finish(self) -> Result<ShardInfo, CacheError> {
        let Self {
            builder,
            range,
            mut fields,
        } = self;
        let Builder { site, lock, hold } = builder;
        let wrong = |reason: String| CacheError::Shard {
            component: site.component.clone(),
            shard: range.index,
            reason,
        };
        if !lock.is_held() {
            return Err(wrong("its build was ended before it was written".to_owned()));
        }
        let specs = site.layout.tensors(range)?;
        let records = range.start..range.start + u64::from(range.records);
        let mut data: Vec<Vec<u8>> = Vec::with_capacity(specs.len());
        for spec in &specs {
            let bytes = match spec.name.as_str() {
                KEY => records
                    .clone()
                    .map(|r| Ok(site.layout.key(r)?.0))
                    .collect::<Result<Vec<_>, CacheError>>()?
                    .concat(),
                SEED => draws(&site.layout, records.clone(), |draw| draw.seed.to_le_bytes())?,
                TIMESTEP => draws(&site.layout, records.clone(), |draw| {
                    i64::from(draw.timestep).to_le_bytes()
                })?,
                name => fields.remove(name).map(|field| field.bytes).unwrap_or_default(),
            };
            if bytes.len() as u64 != spec.bytes() {
                return Err(wrong(format!(
                    "{} has {} bytes of {}: records are missing",
                    spec.name,
                    bytes.len(),
                    spec.bytes()
                )));
            }
            data.push(bytes);
        }
        let (header, order) =
            layout_header(&specs, &metadata(site.plan, range.index)).map_err(|error| wrong(error.to_string()))?;
        let file = shard_file(range.index);
        let path = site.folder().join(&file);
        let mut hasher = blake3::Hasher::new();
        let parts = || std::iter::once(&header).chain(order.iter().map(|&i| &data[i]));
        let write = |writer: &mut dyn Write| {
            parts()
                .try_for_each(|part| writer.write_all(part))
                .map_err(IoError::system("write", &path))
        };
        match hold {
            Hold::Alone => write_atomic(&path, write)?,
            // Another part was here first, or the file is damaged.
            Hold::WithOthers => {
                if !write_atomic_once(&path, write)? {
                    if site.is_done(range)? {
                        return site.inspect(range);
                    }
                    write_atomic(&path, write)?;
                }
            }
        }
        parts().for_each(|part| {
            hasher.update(part);
        });
        let bytes = parts().map(|part| part.len() as u64).sum();
        Ok(ShardInfo {
            file,
            bytes,
            records: range.records,
            blake3: Digest32(hasher.finalize().into()),
        })
    }
}

fn draws(
    layout: &Layout,
    records: std::ops::Range<u64>,
    part: impl Fn(crate::layout::Draw) -> [u8; 8],
) -> Result<Vec<u8>, CacheError> {
    Ok(records
        .map(|r| Ok(part(layout.draw(r)?)))
        .collect::<Result<Vec<_>, CacheError>>()?
        .concat())
}

/// Largest magnitude that still rounds to a finite number of the dtype.
fn largest_finite(dtype: StorageDtype) -> f32 {
    match dtype {
        // Half a unit above 65,504 rounds up to infinity.
        StorageDtype::F16 => 65_519.996,
        StorageDtype::Bf16 => f32::from_bits(0x7f7f_7fff),
        StorageDtype::F32 => f32::MAX,
    }
}

fn remove_leftovers(folder: &Path) -> Result<(), CacheError> {
    for entry in fs::read_dir(folder).map_err(IoError::system("list", folder))? {
        let entry = entry.map_err(IoError::system("list", folder))?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX) && entry.file_name() != LOCK_FILE {
            let path = entry.path();
            fs::remove_file(&path).map_err(IoError::system("remove", &path))?;
        }
    }
    Ok(())
}
