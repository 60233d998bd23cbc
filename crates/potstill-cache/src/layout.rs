//! Which record lies where, what its tensors look like, and what can be derived of it.
//!
//! Records stand in the plan's order, so no index is stored: a shard holds `shardRecords` consecutive records of one size,
//! fewer where the size changes or the plan ends.

use std::sync::Arc;

use potstill_io::{Dtype, TensorSpec};
use potstill_noise::{TimestepRange, View, draw_seed, stratified_timestep};

use crate::canonical::sha256;
use crate::component::ComponentId;
use crate::digest::Digest32;
use crate::error::CacheError;
use crate::plan::{LatentsPlan, Plan, StorageDtype, TeacherPlan, TextPlan};
use crate::reader::References;

/// Name of the tensor of record keys.
pub(crate) const KEY: &str = "key";
/// Name of the tensor of draw seeds.
pub(crate) const SEED: &str = "seed";
/// Name of the tensor of timesteps.
pub(crate) const TIMESTEP: &str = "timestep";
/// Name of the tensor of stored noise.
pub(crate) const NOISE: &str = "noise";
/// Name of the tensor of latents.
pub(crate) const LATENTS: &str = "latents";
/// Name of the tensor of encoded captions.
pub(crate) const HIDDEN_STATES: &str = "encoder_hidden_states";
/// Name of the tensor of pooled text states.
pub(crate) const POOLED: &str = "pooled";

/// Most shards of a component: 67 million records of the usual 64 per shard. A plan of a few bytes could otherwise ask for
/// thousands of millions, each of which is looked for.
const MAX_SHARDS: u64 = 1 << 20;

/// The records of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardRange {
    /// Index of the shard.
    pub index: u32,
    /// Its first record.
    pub start: u64,
    /// Number of its records.
    pub records: u32,
}

/// What a draw adds to an image: derived, not chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// Seed of its noise.
    pub seed: u64,
    /// Its timestep.
    pub timestep: u32,
}

/// Consecutive records of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    start: u64,
    records: u64,
    first_shard: u32,
    view: Option<View>,
}

#[derive(Debug, Clone)]
enum Of {
    Latents(Arc<LatentsPlan>),
    Text(Arc<TextPlan>),
    Teacher {
        plan: Arc<TeacherPlan>,
        latents: Arc<LatentsPlan>,
        text: Arc<TextPlan>,
        range: TimestepRange,
    },
}

/// The layout of a component. Cloning shares the plans.
#[derive(Debug, Clone)]
pub struct Layout {
    of: Of,
    runs: Vec<Run>,
    shard_records: u32,
    records: u64,
    shards: u32,
}

impl Layout {
    /// The layout of a checked plan; a teacher needs the plans that it refers to.
    ///
    /// # Errors
    /// [`CacheError::Unplanned`] or [`CacheError::Mismatch`] when a teacher's latents or text are missing or others than
    /// it was planned for; [`CacheError::OutOfRange`] when a sample names a view or caption that they do not have, when
    /// `timeIds` are not one per view, or when there would be too many shards.
    pub(crate) fn new(plan: Plan, references: &References) -> Result<Self, CacheError> {
        match plan {
            Plan::Latents(plan) => Self::of_latents(Arc::new(plan)),
            Plan::Text(plan) => Self::of_text(Arc::new(plan)),
            Plan::Teacher(plan) => {
                let unplanned = |component| CacheError::Unplanned { component };
                let latents = references.latents.as_ref();
                let latents = latents.ok_or_else(|| unplanned(ComponentId::Latents))?;
                let text = references.text.as_ref();
                let text = text.ok_or_else(|| unplanned(ComponentId::Text))?;
                check_reference(
                    &plan,
                    "plan of latents",
                    plan.latents,
                    ComponentId::Latents,
                    latents.digest,
                )?;
                check_reference(&plan, "plan of text", plan.text, ComponentId::Text, text.digest)?;
                Self::teacher(Arc::new(plan), Arc::clone(&latents.plan), Arc::clone(&text.plan))
            }
        }
    }

    /// The layout of a checked plan.
    ///
    /// # Errors
    /// [`CacheError::OutOfRange`] when there would be too many shards.
    pub(crate) fn of_latents(plan: Arc<LatentsPlan>) -> Result<Self, CacheError> {
        let of = Of::Latents(Arc::clone(&plan));
        Self::of(of, plan.shard_records, plan.views.iter().map(|v| (Some(v.view), 1)))
    }

    /// As [`Layout::of_latents`].
    pub(crate) fn of_text(plan: Arc<TextPlan>) -> Result<Self, CacheError> {
        let (shard_records, records) = (plan.shard_records, plan.captions.len() as u64);
        Self::of(Of::Text(plan), shard_records, std::iter::once((None, records)))
    }

    fn teacher(plan: Arc<TeacherPlan>, latents: Arc<LatentsPlan>, text: Arc<TextPlan>) -> Result<Self, CacheError> {
        let missing = |what: String| CacheError::OutOfRange {
            component: ComponentId::Teacher(plan.id.clone()),
            what,
        };
        for (i, &(view, caption)) in plan.samples.iter().enumerate() {
            if view as usize >= latents.views.len() {
                return Err(missing(format!("view {view}, which samples[{i}] names")));
            }
            if caption as usize >= text.captions.len() {
                return Err(missing(format!("caption {caption}, which samples[{i}] names")));
            }
        }
        if plan
            .time_ids
            .as_ref()
            .is_some_and(|ids| ids.len() != latents.views.len())
        {
            return Err(missing("timeIds for every view".to_owned()));
        }
        let (min, max) = plan.timesteps;
        let range = TimestepRange::new(min, max).map_err(|error| missing(error.to_string()))?;
        let of = Of::Teacher {
            plan: Arc::clone(&plan),
            latents: Arc::clone(&latents),
            text,
            range,
        };
        let view_of = |view: u32| Some(latents.views[view as usize].view);
        let views = plan
            .samples
            .iter()
            .map(|&(view, _)| (view_of(view), u64::from(plan.draws)));
        Self::of(of, plan.shard_records, views)
    }

    fn of(of: Of, shard_records: u32, groups: impl Iterator<Item = (Option<View>, u64)>) -> Result<Self, CacheError> {
        let size = |view: Option<View>| view.map(|v| (v.width, v.height));
        let mut runs: Vec<Run> = Vec::new();
        let mut records = 0;
        for (view, count) in groups {
            match runs.last_mut() {
                Some(run) if size(run.view) == size(view) => run.records += count,
                _ => runs.push(Run {
                    start: records,
                    records: count,
                    first_shard: 0,
                    view,
                }),
            }
            records += count;
        }
        let mut shards = 0u64;
        for run in &mut runs {
            run.first_shard = shards.min(MAX_SHARDS) as u32;
            shards += run.records.div_ceil(shard_records.into());
        }
        let layout = Self {
            of,
            runs,
            shard_records,
            records,
            shards: shards.min(MAX_SHARDS) as u32,
        };
        if shards > MAX_SHARDS {
            return Err(layout.out_of_range(format!(
                "room for {shards} shards; at most {MAX_SHARDS} are possible: raise shardRecords"
            )));
        }
        Ok(layout)
    }

    /// The component.
    #[must_use]
    pub fn component(&self) -> ComponentId {
        match &self.of {
            Of::Latents(_) => ComponentId::Latents,
            Of::Text(_) => ComponentId::Text,
            Of::Teacher { plan, .. } => ComponentId::Teacher(plan.id.clone()),
        }
    }

    /// Number of records.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Number of shards.
    #[must_use]
    pub fn shard_count(&self) -> u32 {
        self.shards
    }

    /// The records of a shard.
    ///
    /// # Errors
    /// [`CacheError::OutOfRange`].
    pub fn shard(&self, index: u32) -> Result<ShardRange, CacheError> {
        if index >= self.shards {
            return Err(self.out_of_range(format!("shard {index}; it has {}", self.shards)));
        }
        let run = &self.runs[self.runs.partition_point(|run| run.first_shard <= index) - 1];
        let offset = u64::from(index - run.first_shard) * u64::from(self.shard_records);
        let records = (run.records - offset).min(self.shard_records.into()) as u32;
        Ok(ShardRange {
            index,
            start: run.start + offset,
            records,
        })
    }

    /// All shards in order.
    pub fn shards(&self) -> impl Iterator<Item = ShardRange> {
        self.runs.iter().flat_map(|run| {
            let size = u64::from(self.shard_records);
            (0..run.records.div_ceil(size)).map(move |i| ShardRange {
                index: run.first_shard + i as u32,
                start: run.start + i * size,
                records: (run.records - i * size).min(size) as u32,
            })
        })
    }

    /// The shard of a record and its place there.
    ///
    /// # Errors
    /// [`CacheError::OutOfRange`].
    pub fn locate(&self, record: u64) -> Result<(ShardRange, u32), CacheError> {
        let run = self.run(record)?;
        let within = record - run.start;
        let shard = self.shard(run.first_shard + (within / u64::from(self.shard_records)) as u32)?;
        Ok((shard, (record - shard.start) as u32))
    }

    fn run(&self, record: u64) -> Result<&Run, CacheError> {
        if record >= self.records {
            return Err(self.out_of_range(format!("record {record}; it has {}", self.records)));
        }
        Ok(&self.runs[self.runs.partition_point(|run| run.start <= record) - 1])
    }

    pub(crate) fn out_of_range(&self, what: String) -> CacheError {
        CacheError::OutOfRange {
            component: self.component(),
            what,
        }
    }

    /// The fields that a builder supplies, with the shape of one record.
    ///
    /// # Errors
    /// [`CacheError::OutOfRange`].
    pub fn fields(&self, record: u64) -> Result<Vec<(&'static str, Vec<usize>)>, CacheError> {
        let run = self.run(record)?;
        let latent = |latents: &LatentsPlan| {
            let (vae, view) = (&latents.vae, run.view);
            let side = |pixels: u32| (pixels / vae.downscale) as usize;
            view.map_or_else(Vec::new, |v| vec![vae.channels as usize, side(v.height), side(v.width)])
        };
        Ok(match &self.of {
            Of::Latents(plan) => vec![(LATENTS, latent(plan))],
            Of::Text(plan) => {
                let shape = plan.shape;
                let states = (HIDDEN_STATES, vec![shape.tokens as usize, shape.width as usize]);
                std::iter::once(states)
                    .chain(shape.pooled.map(|p| (POOLED, vec![p as usize])))
                    .collect()
            }
            Of::Teacher { plan, latents, .. } => plan
                .fields
                .iter()
                .map(|field| (field.name(), latent(latents)))
                .chain(plan.given.as_ref().map(|_| (NOISE, latent(latents))))
                .collect(),
        })
    }

    /// The tensors of a shard, in the order of their names.
    ///
    /// # Errors
    /// [`CacheError::OutOfRange`].
    pub fn tensors(&self, shard: ShardRange) -> Result<Vec<TensorSpec>, CacheError> {
        let dtype = Dtype::from(self.dtype());
        let mut specs: Vec<TensorSpec> = Vec::new();
        let mut push = |name: &str, dtype, record: &[usize]| {
            let shape = std::iter::once(shard.records as usize)
                .chain(record.iter().copied())
                .collect();
            specs.push(TensorSpec {
                name: name.to_owned(),
                dtype,
                shape,
            });
        };
        for (name, shape) in self.fields(shard.start)? {
            push(name, dtype, &shape);
        }
        if matches!(self.of, Of::Teacher { .. }) {
            push(SEED, Dtype::U64, &[]);
            push(TIMESTEP, Dtype::I64, &[]);
        }
        push(KEY, Dtype::U8, &[32]);
        specs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(specs)
    }

    /// How the fields are stored.
    #[must_use]
    pub fn dtype(&self) -> StorageDtype {
        match &self.of {
            Of::Latents(plan) => plan.dtype,
            Of::Text(plan) => plan.dtype,
            Of::Teacher { plan, .. } => plan.dtype,
        }
    }

    /// A record's name: `image|view`, the caption's SHA-256, or `image|view|caption's SHA-256|draw`.
    ///
    /// # Errors
    /// [`CacheError::OutOfRange`].
    pub fn name(&self, record: u64) -> Result<String, CacheError> {
        let missing = || self.out_of_range(format!("record {record}; it has {}", self.records));
        let index = usize::try_from(record).map_err(|_| missing())?;
        Ok(match &self.of {
            Of::Latents(plan) => {
                let entry = plan.views.get(index).ok_or_else(missing)?;
                format!("{}|{}", entry.image, entry.view)
            }
            Of::Text(plan) => sha256(plan.captions.get(index).ok_or_else(missing)?.as_bytes()).to_string(),
            Of::Teacher {
                plan, latents, text, ..
            } => {
                let (sample, draw) = (index / plan.draws as usize, index % plan.draws as usize);
                let &(view, caption) = plan.samples.get(sample).ok_or_else(missing)?;
                let entry = &latents.views[view as usize];
                let caption = sha256(text.captions[caption as usize].as_bytes());
                format!("{}|{}|{caption}|{draw}", entry.image, entry.view)
            }
        })
    }

    /// A record's key, as stored: SHA-256 of its name; of text, of the caption itself, which is the name.
    ///
    /// # Errors
    /// [`CacheError::OutOfRange`].
    pub fn key(&self, record: u64) -> Result<Digest32, CacheError> {
        match &self.of {
            Of::Text(plan) if record < self.records => Ok(sha256(plan.captions[record as usize].as_bytes())),
            _ => Ok(sha256(self.name(record)?.as_bytes())),
        }
    }

    /// The draw of a teacher's record.
    ///
    /// # Errors
    /// [`CacheError::OutOfRange`], also for components without draws.
    pub fn draw(&self, record: u64) -> Result<Draw, CacheError> {
        let Of::Teacher {
            plan, latents, range, ..
        } = &self.of
        else {
            return Err(self.out_of_range("draws".to_owned()));
        };
        self.run(record)?;
        if let Some(given) = &plan.given {
            let given = given.get(record as usize);
            let given = given.ok_or_else(|| self.out_of_range(format!("given draw {record}")))?;
            return Ok(Draw {
                seed: given.seed,
                timestep: given.timestep,
            });
        }
        let draw = (record % u64::from(plan.draws)) as u32;
        let (view, _) = plan.samples[(record / u64::from(plan.draws)) as usize];
        let entry = &latents.views[view as usize];
        let seed = draw_seed(&entry.image.to_string(), &entry.view, draw, plan.noise.base_seed);
        let timestep = stratified_timestep(seed, draw, plan.draws, *range)
            .map_err(|error| self.out_of_range(error.to_string()))?;
        Ok(Draw { seed, timestep })
    }

    /// The record of the latents that a teacher's record was predicted on.
    ///
    /// # Errors
    /// [`CacheError::OutOfRange`], also for components other than teachers.
    pub fn latents_record(&self, record: u64) -> Result<u64, CacheError> {
        let Of::Teacher { plan, .. } = &self.of else {
            return Err(self.out_of_range("latents".to_owned()));
        };
        self.run(record)?;
        Ok(plan.samples[(record / u64::from(plan.draws)) as usize].0.into())
    }

    /// A teacher's plan.
    #[must_use]
    pub fn teacher_plan(&self) -> Option<&Arc<TeacherPlan>> {
        match &self.of {
            Of::Teacher { plan, .. } => Some(plan),
            _ => None,
        }
    }
}

/// That the plan which a teacher refers to is the one at hand.
fn check_reference(
    plan: &TeacherPlan,
    what: &'static str,
    expected: Digest32,
    other: ComponentId,
    found: Digest32,
) -> Result<(), CacheError> {
    if found == expected {
        return Ok(());
    }
    Err(CacheError::Mismatch {
        component: ComponentId::Teacher(plan.id.clone()),
        what,
        expected: expected.to_string().into(),
        other: format!("that of {other}"),
        found: found.to_string().into(),
        remedy: "Build this teacher again, or bring back the component that it was built on.",
    })
}
