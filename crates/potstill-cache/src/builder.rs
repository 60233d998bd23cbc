//! Writing a component: plan first, shards in any order, the seal last.
//!
//! Every file is written atomically, so a kill at any moment leaves whole files; a build that comes again finds the plan,
//! sees which shards are there, and writes the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use potstill_io::{Dtype, f32_to_bytes, layout_header};

use crate::canonical::sha256;
use crate::component::{ComponentId, PLAN_FILE, shard_file};
use crate::digest::Digest32;
use crate::error::CacheError;
use crate::layout::{KEY, Layout, SEED, ShardRange, TIMESTEP};
use crate::lock::{BuildLock, Hold};
use crate::plan::{Plan, StorageDtype};
use crate::reader::{read_plan, read_seal};
use crate::seal::{Seal, ShardInfo};
use crate::site::{Site, metadata};
use crate::store::{CachePlace, make_folder, remove_leftovers};

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
pub fn component_state(cache: impl Into<CachePlace>, plan: &Plan) -> Result<ComponentState, CacheError> {
    state_in(&cache.into(), plan)
}

fn state_in(place: &CachePlace, plan: &Plan) -> Result<ComponentState, CacheError> {
    let source = place.source();
    let component = plan.component();
    let (found, bytes) = match read_plan(source, &component) {
        Ok(found) => found,
        Err(CacheError::Unplanned { .. }) => return Ok(ComponentState::Absent),
        Err(error) => return Err(error),
    };
    if found != *plan {
        return Ok(ComponentState::Foreign {
            plan: String::from_utf8_lossy(&bytes).into_owned(),
        });
    }
    match read_seal(source, &component) {
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
    let site = Site::of(place, plan, &bytes)?;
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
    claim: Arc<Claim>,
    hold: Hold,
}

/// That a build is at work on a component.
#[derive(Debug)]
struct Claim {
    /// Of the folder, where there is one.
    lock: Option<BuildLock>,
    ended: AtomicBool,
}

impl Claim {
    fn is_held(&self) -> bool {
        !self.ended.load(Ordering::Acquire) && self.lock.as_ref().is_none_or(BuildLock::is_held)
    }

    fn release(&self) {
        self.ended.store(true, Ordering::Release);
        if let Some(lock) = &self.lock {
            lock.release();
        }
    }
}

impl Builder {
    /// Begins or continues building: writes the plan if there is none, removes what a killed build left half-written. Where there
    /// is no folder to lock, as [`Builder::begin_part`].
    ///
    /// # Errors
    /// [`CacheError::ForeignPlan`] when the folder holds another plan, [`CacheError::Sealed`] when nothing is left to
    /// build, [`CacheError::Busy`] while another build is at work on it, [`CacheError::Mismatch`] or [`CacheError::Unplanned`] for a teacher without its latents and text.
    pub fn begin(cache: impl Into<CachePlace>, plan: &Plan) -> Result<Self, CacheError> {
        Self::begin_as(&cache.into(), plan, Hold::Alone)
    }

    /// Begins or continues building together with other processes, each of which writes other shards. A shard that is
    /// there already is never replaced, so that it stays what a seal meanwhile says of it; what others are writing is not
    /// removed.
    ///
    /// # Errors
    /// As [`Builder::begin`]; [`CacheError::Busy`] while a build is at work that is no part.
    pub fn begin_part(cache: impl Into<CachePlace>, plan: &Plan) -> Result<Self, CacheError> {
        Self::begin_as(&cache.into(), plan, Hold::WithOthers)
    }

    fn begin_as(place: &CachePlace, plan: &Plan, hold: Hold) -> Result<Self, CacheError> {
        let component = plan.component();
        plan.validate().map_err(|source| CacheError::Plan {
            place: format!("plan of {component}"),
            source,
        })?;
        let bytes = plan.to_bytes()?;
        let site = Site::of(place, plan, &bytes)?;
        // Before a folder is made for it.
        let mut begun = refuse_finished(state_in(place, plan)?, &component, &bytes)?;
        let mut lock = None;
        let mut hold = hold;
        match place.0.folder() {
            Some(cache) => {
                let folder = make_folder(cache, &component)?;
                lock = Some(BuildLock::acquire(&folder, &component, hold)?);
                // Again: another build may have ended since.
                begun = refuse_finished(state_in(place, plan)?, &component, &bytes)?;
                if hold == Hold::Alone {
                    remove_leftovers(&folder)?;
                }
            }
            None => hold = Hold::WithOthers,
        }
        if !begun && !place.0.create(&component.file(PLAN_FILE), &[&bytes])? {
            refuse_finished(state_in(place, plan)?, &component, &bytes)?;
        }
        let ended = AtomicBool::new(false);
        let claim = Arc::new(Claim { lock, ended });
        Ok(Self { site, claim, hold })
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
        self.claim.release();
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
        let Builder { site, claim, hold } = builder;
        let wrong = |reason: String| CacheError::Shard {
            component: site.component.clone(),
            shard: range.index,
            reason,
        };
        if !claim.is_held() {
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
        let path = site.component.file(&file);
        let parts: Vec<&[u8]> = std::iter::once(&header[..])
            .chain(order.iter().map(|&i| &data[i][..]))
            .collect();
        let store = &site.place.0;
        match hold {
            Hold::Alone => store.replace(&path, &parts)?,
            // Another part was here first, or the file is damaged.
            Hold::WithOthers => {
                if !store.create(&path, &parts)? {
                    if site.is_done(range)? {
                        return site.inspect(range);
                    }
                    store.replace(&path, &parts)?;
                }
            }
        }
        let mut hasher = blake3::Hasher::new();
        for part in &parts {
            hasher.update(part);
        }
        let bytes = parts.iter().map(|part| part.len() as u64).sum();
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
