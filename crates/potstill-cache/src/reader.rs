//! Reading records for training.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use potstill_io::{Dtype, Header};

use crate::canonical::sha256;
use crate::component::{ComponentId, PLAN_FILE, SEAL_FILE, shard_file};
use crate::digest::Digest32;
use crate::error::CacheError;
use crate::layout::{Draw, LATENTS, Layout, NOISE};
use crate::plan::{LatentsPlan, MAX_PLAN_BYTES, NoiseOfPlan, Plan, TeacherPlan, TextPlan};
use crate::seal::{MAX_SEAL_BYTES, Seal};
use crate::source::{OwnedSource, Source, SourceError};
use crate::verify::read_header;

/// Values of several records.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Number of records, then the shape of one.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f32>,
}

/// Which records of a component to read, and which field of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    /// The component.
    pub component: ComponentId,
    /// One field for all records, or one for each.
    pub fields: Vec<String>,
    /// Records of one shape, in the order in which they are wanted.
    pub records: Vec<u64>,
}

/// A component's plan and its bytes.
pub(crate) fn read_plan<S: Source + ?Sized>(
    source: &S,
    component: &ComponentId,
) -> Result<(Plan, Vec<u8>), CacheError> {
    let place = component.file(PLAN_FILE);
    let bytes = match source.read_all(&place, MAX_PLAN_BYTES) {
        Err(SourceError::Missing { .. }) => {
            return Err(CacheError::Unplanned {
                component: component.clone(),
            });
        }
        other => other?,
    };
    let plan = Plan::parse(&bytes).map_err(|source| CacheError::Plan {
        place: place.clone(),
        source,
    })?;
    if plan.component() != *component {
        let what = format!("the plan is of {}, not of {component}", plan.component());
        return Err(CacheError::Plan {
            place,
            source: crate::PlanError::Invalid { what },
        });
    }
    Ok((plan, bytes))
}

/// A component's seal and its bytes.
pub(crate) fn read_seal<S: Source + ?Sized>(
    source: &S,
    component: &ComponentId,
) -> Result<(Seal, Vec<u8>), CacheError> {
    let place = component.file(SEAL_FILE);
    let bytes = match source.read_all(&place, MAX_SEAL_BYTES) {
        Err(SourceError::Missing { .. }) => {
            return Err(CacheError::Unsealed {
                component: component.clone(),
            });
        }
        other => other?,
    };
    let seal = Seal::parse(&bytes).map_err(|error| CacheError::Json {
        reason: format!("{place}: {error}"),
    })?;
    Ok((seal, bytes))
}

/// A plan that teachers refer to, and its digest.
#[derive(Debug, Clone)]
pub(crate) struct Reference<P> {
    pub plan: Arc<P>,
    pub digest: Digest32,
}

/// The plans of latents and text, where there are any.
#[derive(Debug, Clone, Default)]
pub(crate) struct References {
    pub latents: Option<Reference<LatentsPlan>>,
    pub text: Option<Reference<TextPlan>>,
}

impl References {
    /// Keeps a plan, if it is one that teachers refer to.
    pub fn keep(&mut self, plan: Plan, digest: Digest32) {
        match plan {
            Plan::Latents(plan) => {
                let plan = Arc::new(plan);
                self.latents = Some(Reference { plan, digest });
            }
            Plan::Text(plan) => {
                let plan = Arc::new(plan);
                self.text = Some(Reference { plan, digest });
            }
            Plan::Teacher(_) => {}
        }
    }
}

/// The plans that teachers refer to.
pub(crate) fn read_references<S: Source + ?Sized>(source: &S) -> Result<References, CacheError> {
    let mut references = References::default();
    for component in [ComponentId::Latents, ComponentId::Text] {
        match read_plan(source, &component) {
            Ok((plan, bytes)) => references.keep(plan, sha256(&bytes)),
            Err(CacheError::Unplanned { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(references)
}

struct Component {
    layout: Layout,
    seal: Seal,
    seal_digest: Digest32,
    plan: Digest32,
    /// Headers of the shards that have been read.
    headers: Mutex<BTreeMap<u32, Arc<Header>>>,
}

/// A cache opened for reading: latents, text and any number of teachers, all sealed and made for one another.
pub struct CacheReader {
    source: Box<dyn OwnedSource>,
    latents_plan: Arc<LatentsPlan>,
    text_plan: Arc<TextPlan>,
    components: BTreeMap<ComponentId, Component>,
}

impl CacheReader {
    /// Why the source itself fails, where it does: then nothing that could not be read is the cache's fault.
    #[must_use]
    pub fn failure(&self) -> Option<CacheError> {
        self.source.failure().map(CacheError::from)
    }

    /// Opens a cache with these teachers; with `None`, with all that it has.
    ///
    /// Checks that every component is sealed, that seals name their plans, and that teachers refer to the latents and text
    /// at hand: digests of a few documents, no shard is read.
    ///
    /// # Errors
    /// [`CacheError`] naming both sides and the remedy.
    pub fn open(source: Box<dyn OwnedSource>, teachers: Option<&[String]>) -> Result<Self, CacheError> {
        let teachers: Vec<ComponentId> = match teachers {
            Some(ids) => ids
                .iter()
                .map(|id| format!("teachers/{id}").parse())
                .collect::<Result<_, _>>()?,
            None => components(&source.list()?)
                .into_iter()
                .filter(|c| matches!(c, ComponentId::Teacher(_)))
                .collect(),
        };
        let references = read_references(&*source)?;
        let unplanned = |component| CacheError::Unplanned { component };
        let (latents, text) = match (&references.latents, &references.text) {
            (Some(latents), Some(text)) => (latents, text),
            (None, None) if teachers.is_empty() => return Err(CacheError::NoCache),
            (None, _) => return Err(unplanned(ComponentId::Latents)),
            (_, None) => return Err(unplanned(ComponentId::Text)),
        };
        let mut components = BTreeMap::new();
        for id in [ComponentId::Latents, ComponentId::Text].into_iter().chain(teachers) {
            let (layout, plan) = match &id {
                ComponentId::Latents => (Layout::of_latents(Arc::clone(&latents.plan))?, latents.digest),
                ComponentId::Text => (Layout::of_text(Arc::clone(&text.plan))?, text.digest),
                ComponentId::Teacher(_) => {
                    let (plan, bytes) = read_plan(&*source, &id)?;
                    (Layout::new(plan, &references)?, sha256(&bytes))
                }
            };
            let (seal, seal_bytes) = read_seal(&*source, &id)?;
            let component = Component {
                layout,
                seal,
                seal_digest: sha256(&seal_bytes),
                plan,
                headers: Mutex::default(),
            };
            check_seal(&id, &component, &components)?;
            components.insert(id, component);
        }
        let (latents_plan, text_plan) = (Arc::clone(&latents.plan), Arc::clone(&text.plan));
        Ok(Self {
            source,
            latents_plan,
            text_plan,
            components,
        })
    }

    /// The plan of the latents.
    #[must_use]
    pub fn latents_plan(&self) -> &Arc<LatentsPlan> {
        &self.latents_plan
    }

    /// The plan of the text.
    #[must_use]
    pub fn text_plan(&self) -> &Arc<TextPlan> {
        &self.text_plan
    }

    /// The ids of the teachers.
    pub fn teachers(&self) -> impl Iterator<Item = &str> {
        self.components.keys().filter_map(|id| match id {
            ComponentId::Teacher(id) => Some(id.as_str()),
            _ => None,
        })
    }

    /// The plan of a teacher.
    ///
    /// # Errors
    /// [`CacheError::Unplanned`] when it was not opened.
    pub fn teacher_plan(&self, id: &str) -> Result<&Arc<TeacherPlan>, CacheError> {
        let component = ComponentId::Teacher(id.to_owned());
        self.component(&component)?
            .layout
            .teacher_plan()
            .ok_or(CacheError::Unplanned { component })
    }

    /// Which record lies where.
    ///
    /// # Errors
    /// [`CacheError::Unplanned`] when the component was not opened.
    pub fn layout(&self, component: &ComponentId) -> Result<&Layout, CacheError> {
        Ok(&self.component(component)?.layout)
    }

    fn component(&self, id: &ComponentId) -> Result<&Component, CacheError> {
        self.components
            .get(id)
            .ok_or_else(|| CacheError::Unplanned { component: id.clone() })
    }

    /// Reads a field of records of one shape, as f32.
    ///
    /// # Errors
    /// [`CacheError::OutOfRange`], [`CacheError::MixedShapes`], [`CacheError::Shard`] or [`CacheError::Record`].
    pub fn read(&self, id: &ComponentId, field: &str, records: &[u64]) -> Result<Batch, CacheError> {
        let component = self.component(id)?;
        let mut shape: Option<Vec<usize>> = None;
        let mut values = Vec::new();
        for &record in records {
            let fields = component.layout.fields(record)?;
            let Some((_, record_shape)) = fields.into_iter().find(|(name, _)| *name == field) else {
                return Err(component.layout.out_of_range(format!("field {field:?}")));
            };
            if shape.get_or_insert_with(|| record_shape.clone()) != &record_shape {
                return Err(CacheError::MixedShapes {
                    component: id.clone(),
                    first: records[0],
                    other: record,
                });
            }
            let start = values.len();
            values.resize(start + record_shape.iter().product::<usize>(), 0.0);
            self.read_record(id, component, field, record, &mut values[start..])?;
        }
        let mut batch = vec![records.len()];
        batch.extend(shape.unwrap_or_default());
        Ok(Batch { shape: batch, values })
    }

    /// Reads rows, as f32.
    ///
    /// # Errors
    /// As [`CacheReader::read`]; [`CacheError::OutOfRange`] also when there are neither one field nor as many as records.
    pub fn rows(&self, rows: &Rows) -> Result<Batch, CacheError> {
        let Rows {
            component: id,
            fields,
            records,
        } = rows;
        if let [field] = fields.as_slice() {
            return self.read(id, field, records);
        }
        let out_of_range = |what| CacheError::OutOfRange {
            component: id.clone(),
            what,
        };
        if fields.len() != records.len() {
            let what = format!("{} fields for {} records", fields.len(), records.len());
            return Err(out_of_range(what));
        }
        let mut whole: Option<Batch> = None;
        for (field, &record) in fields.iter().zip(records) {
            let row = self.read(id, field, &[record])?;
            match &mut whole {
                None => whole = Some(row),
                Some(whole) if whole.shape[1..] == row.shape[1..] => {
                    whole.shape[0] += 1;
                    whole.values.extend(row.values);
                }
                Some(_) => {
                    return Err(CacheError::MixedShapes {
                        component: id.clone(),
                        first: records[0],
                        other: record,
                    });
                }
            }
        }
        whole.ok_or_else(|| out_of_range("no records".to_owned()))
    }

    fn read_record(
        &self,
        id: &ComponentId,
        component: &Component,
        field: &str,
        record: u64,
        out: &mut [f32],
    ) -> Result<(), CacheError> {
        let (shard, within) = component.layout.locate(record)?;
        let path = id.file(&shard_file(shard.index));
        let wrong = |reason: String| CacheError::Shard {
            component: id.clone(),
            shard: shard.index,
            reason: format!("{reason}; run `potstill cache verify`"),
        };
        let header = self.header(component, shard.index, &path).map_err(&wrong)?;
        let dtype = Dtype::from(component.layout.dtype());
        let bytes = out.len() * dtype.size();
        let tensor = header
            .get(field)
            .filter(|t| t.dtype == dtype && t.bytes() == bytes as u64 * u64::from(shard.records));
        let tensor = tensor.ok_or_else(|| wrong(format!("{field} is missing or has another shape")))?;
        let mut buffer = vec![0; bytes];
        let start = header.data_start() + tensor.start + u64::from(within) * bytes as u64;
        if let Err(source) = self.source.read(&path, start, &mut buffer) {
            return Err(CacheError::Record {
                component: id.clone(),
                field: field.to_owned(),
                entry: component.layout.name(record)?,
                source,
            });
        }
        dtype
            .to_f32_into(&buffer, out)
            .map_err(|error| wrong(error.to_string()))
    }

    fn header(&self, component: &Component, shard: u32, path: &str) -> Result<Arc<Header>, String> {
        // A panic while the lock is held cannot leave the map half-changed.
        let mut headers = component.headers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(header) = headers.get(&shard) {
            return Ok(Arc::clone(header));
        }
        let (header, size) = read_header(&*self.source, path).map_err(|problem| problem.to_string())?;
        if component
            .seal
            .shards
            .get(shard as usize)
            .is_none_or(|info| info.bytes != size)
        {
            return Err(format!("{path} has {size} bytes, which the seal does not say"));
        }
        let header = Arc::new(header);
        headers.insert(shard, Arc::clone(&header));
        Ok(header)
    }

    /// Latents by index into the plan's views.
    ///
    /// # Errors
    /// As [`CacheReader::read`].
    pub fn latents(&self, views: &[u64]) -> Result<Batch, CacheError> {
        self.read(&ComponentId::Latents, LATENTS, views)
    }

    /// Seed and timestep of a teacher's record.
    ///
    /// # Errors
    /// As [`Layout::draw`].
    pub fn draw(&self, teacher: &str, record: u64) -> Result<Draw, CacheError> {
        self.component(&ComponentId::Teacher(teacher.to_owned()))?
            .layout
            .draw(record)
    }

    /// The noise of a teacher's records, made anew, or read where it is stored.
    ///
    /// # Errors
    /// [`CacheError::OutOfRange`], [`CacheError::MixedShapes`].
    pub fn noise(&self, teacher: &str, records: &[u64]) -> Result<Batch, CacheError> {
        let id = ComponentId::Teacher(teacher.to_owned());
        let layout = &self.component(&id)?.layout;
        let NoiseOfPlan::Made(generator) = self.teacher_plan(teacher)?.noise.generator else {
            return self.read(&id, NOISE, records);
        };
        let mut shape: Option<Vec<usize>> = None;
        let mut values = Vec::new();
        for &record in records {
            let Some((_, record_shape)) = layout.fields(record)?.into_iter().next() else {
                continue;
            };
            if shape.get_or_insert_with(|| record_shape.clone()) != &record_shape {
                return Err(CacheError::MixedShapes {
                    component: id,
                    first: records[0],
                    other: record,
                });
            }
            let start = values.len();
            values.resize(start + record_shape.iter().product::<usize>(), 0.0);
            generator.fill_noise(layout.draw(record)?.seed, &mut values[start..]);
        }
        let mut batch = vec![records.len()];
        batch.extend(shape.unwrap_or_default());
        Ok(Batch { shape: batch, values })
    }
}

/// The components of a cache that have any file: latents, text, then the teachers by name.
///
/// # Errors
/// [`CacheError::NoCache`] when there are none; [`CacheError::Source`].
pub fn read_components<S: Source + ?Sized>(source: &S) -> Result<Vec<ComponentId>, CacheError> {
    let found = components(&source.list()?);
    if found.is_empty() {
        Err(CacheError::NoCache)
    } else {
        Ok(found)
    }
}

/// The components that a list of files shows, in the order of verification.
pub(crate) fn components(files: &[String]) -> Vec<ComponentId> {
    let mut found: Vec<ComponentId> = files
        .iter()
        .filter_map(|path| path.rsplit_once('/')?.0.parse().ok())
        .collect();
    found.sort();
    found.dedup();
    found
}

fn check_seal(
    id: &ComponentId,
    component: &Component,
    others: &BTreeMap<ComponentId, Component>,
) -> Result<(), CacheError> {
    let mismatch = |what, expected: Digest32, other: &str, found: Digest32, remedy| CacheError::Mismatch {
        component: id.clone(),
        what,
        expected: expected.to_string().into(),
        other: other.to_owned(),
        found: found.to_string().into(),
        remedy,
    };
    let seal = &component.seal;
    if seal.plan != component.plan || seal.component != id.to_string() {
        let remedy =
            "the plan or the seal was exchanged or edited: bring back the original, or build the component again";
        return Err(mismatch("plan", seal.plan, "its plan.json", component.plan, remedy));
    }
    if let Some(dependencies) = &seal.dependencies {
        for (what, expected, other) in [
            ("build of latents", dependencies.latents, ComponentId::Latents),
            ("build of text", dependencies.text, ComponentId::Text),
        ] {
            let found = others.get(&other).map(|c| c.seal_digest);
            if let Some(found) = found.filter(|&found| found != expected) {
                let remedy = "they were built again since: build this teacher again too";
                return Err(mismatch(what, expected, &format!("the seal of {other}"), found, remedy));
            }
        }
    }
    Ok(())
}
