//! Recomputation (level 3): entries that the verifier draws are computed again from the weights and compared.
//!
//! What computes is a [`Predictor`]; this knows which entries, from which inputs, and what the outcome says. Entries are
//! drawn without replacement by a nonce that is the verifier's own: who made the cache cannot foresee which.

mod compare;
mod sample;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::component::ComponentId;
use crate::error::CacheError;
use crate::layout::{HIDDEN_STATES, LATENTS, Layout, POOLED};
use crate::plan::{PredictionField, TeacherPlan, ViewOfImage};
use crate::reader::CacheReader;
use crate::verify::{Findings, Place, kinds};
use compare::{compare, tolerance};

/// Computes entries of a cache from weights.
pub trait Predictor {
    /// Why it cannot.
    type Error: From<CacheError>;

    /// Why it does not compute a component; none when it does.
    fn omits(&self, component: &ComponentId) -> Option<String>;

    /// Latents of a view, `[channels, height, width]`; none when the image is not at hand.
    ///
    /// # Errors
    /// What keeps it from computing.
    fn latents(&mut self, view: &ViewOfImage) -> Result<Option<Vec<f32>>, Self::Error>;

    /// The encoding of a caption.
    ///
    /// # Errors
    /// What keeps it from computing.
    fn text(&mut self, caption: &str) -> Result<EncodedText, Self::Error>;

    /// A teacher's prediction, `[channels, height, width]`.
    ///
    /// # Errors
    /// What keeps it from computing.
    fn prediction(&mut self, teacher: &TeacherPlan, inputs: PredictionInputs) -> Result<Vec<f32>, Self::Error>;
}

/// An encoded caption.
pub struct EncodedText {
    /// `[tokens, width]`.
    pub hidden_states: Vec<f32>,
    /// `[pooled]`, of SDXL.
    pub pooled: Option<Vec<f32>>,
}

/// What a prediction is made from: entries of the cache, as they are stored, and the draw. Each has one row.
pub struct PredictionInputs {
    /// Clean latents, `[1, channels, height, width]`.
    pub latents: crate::Batch,
    /// Unit noise of the same shape.
    pub noise: crate::Batch,
    /// Where in the schedule.
    pub timestep: u32,
    /// `[1, tokens, width]`.
    pub hidden_states: crate::Batch,
    /// `[1, pooled]`, of SDXL.
    pub pooled: Option<crate::Batch>,
    /// SDXL's size conditioning.
    pub time_ids: Option<[f32; 6]>,
}

/// What to compute again.
#[derive(Debug, Clone, Copy)]
pub struct RecomputeOptions<'a> {
    /// Entries of every component.
    pub entries: u64,
    /// What they are drawn by.
    pub nonce: &'a str,
}

/// What recomputation of one component found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecomputedComponent {
    /// `latents`, `text` or `teachers/<id>`.
    pub component: String,
    /// Entries there are: views, captions, predictions.
    pub entries: u64,
    /// Entries that were computed again and compared.
    pub compared: u64,
    /// Of them, those that differ or cannot be read.
    pub wrong: u64,
    /// How much may differ: root mean square of the difference over that of the values.
    pub tolerance: f64,
    /// The greatest such difference among the entries that are right.
    pub difference: f64,
    /// How many entries could be wrong though all that were compared are right, with 99 % confidence.
    pub undetected: u64,
}

/// A component that was not computed again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OmittedComponent {
    /// As in [`RecomputedComponent::component`].
    pub component: String,
    /// Why not.
    pub reason: String,
}

/// What recomputation found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Recomputation {
    /// The nonce: with it the same entries are drawn again.
    pub nonce: String,
    /// Entries asked for, of every component.
    pub entries: u64,
    /// What was computed again.
    pub components: Vec<RecomputedComponent>,
    /// What was not.
    pub omitted: Vec<OmittedComponent>,
}

/// [`Recomputation`] with its findings.
pub struct Recomputed {
    pub(crate) outcome: Recomputation,
    pub(crate) findings: BTreeMap<String, Findings>,
}

/// Computes entries of all components again that the predictor does not omit. `progress` is told of entries: so many of so
/// many are done.
///
/// # Errors
/// The predictor's, and what keeps a cache from being read as a whole; an entry that cannot be read is a finding.
pub fn recompute<P: Predictor>(
    reader: &CacheReader,
    predictor: &mut P,
    options: RecomputeOptions<'_>,
    progress: &dyn Fn(u64, u64),
) -> Result<Recomputed, P::Error> {
    let mut omitted = Vec::new();
    let mut jobs = Vec::new();
    let teachers: Vec<ComponentId> = reader
        .teachers()
        .map(|id| ComponentId::Teacher(id.to_owned()))
        .collect();
    for component in [ComponentId::Latents, ComponentId::Text].into_iter().chain(teachers) {
        if let Some(reason) = predictor.omits(&component) {
            omitted.push(OmittedComponent {
                component: component.to_string(),
                reason,
            });
            continue;
        }
        let entries = population(reader.layout(&component)?);
        let drawn = sample::draw(options.nonce, &component.to_string(), entries, options.entries);
        jobs.push((component, entries, drawn));
    }
    let total: u64 = jobs.iter().map(|(_, _, drawn)| drawn.len() as u64).sum();
    let mut done = 0;
    let mut components = Vec::new();
    let mut findings = BTreeMap::new();
    for (component, entries, drawn) in jobs {
        let mut check = Check::new(reader, &component)?;
        for entry in drawn {
            progress(done, total);
            check.entry(predictor, entry)?;
            // What a server did not give is no finding.
            if let Some(error) = reader.failure() {
                return Err(error.into());
            }
            done += 1;
        }
        components.push(check.finish(entries));
        findings.insert(component.to_string(), check.findings);
    }
    progress(done, total);
    Ok(Recomputed {
        outcome: Recomputation {
            nonce: options.nonce.to_owned(),
            entries: options.entries,
            components,
            omitted,
        },
        findings,
    })
}

/// Entries of a component: its records, a teacher's for each of its fields.
fn population(layout: &Layout) -> u64 {
    layout.records() * layout.teacher_plan().map_or(1, |plan| plan.fields.len() as u64)
}

/// The look at one component.
struct Check<'a> {
    reader: &'a CacheReader,
    component: &'a ComponentId,
    layout: &'a Layout,
    findings: Findings,
    compared: u64,
    wrong: u64,
    difference: f64,
}

/// An entry as it is stored, as it was computed, and what it is called.
struct Entry {
    name: String,
    pairs: Vec<(Vec<f32>, Vec<f32>)>,
}

impl<'a> Check<'a> {
    fn new(reader: &'a CacheReader, component: &'a ComponentId) -> Result<Self, CacheError> {
        Ok(Self {
            reader,
            component,
            layout: reader.layout(component)?,
            findings: Findings::default(),
            compared: 0,
            wrong: 0,
            difference: 0.,
        })
    }

    fn finish(&self, entries: u64) -> RecomputedComponent {
        RecomputedComponent {
            component: self.component.to_string(),
            entries,
            compared: self.compared,
            wrong: self.wrong,
            tolerance: tolerance(self.layout.dtype()),
            difference: self.difference,
            undetected: sample::undetected(entries, self.compared),
        }
    }

    fn entry<P: Predictor>(&mut self, predictor: &mut P, entry: u64) -> Result<(), P::Error> {
        let fields = population(self.layout) / self.layout.records().max(1);
        let (record, field) = (entry / fields, entry % fields);
        let name = self.layout.name(record)?;
        let computed = match self.component {
            ComponentId::Latents => self.latents(predictor, record, name),
            ComponentId::Text => self.text(predictor, record, name),
            ComponentId::Teacher(_) => self.prediction(predictor, record, field as usize, name),
        }?;
        if let Some(computed) = computed {
            self.judge(&computed);
        }
        Ok(())
    }

    /// Reads a field of a record; what cannot be read is a finding.
    fn read(&mut self, component: &ComponentId, field: &str, record: u64, name: &str) -> Option<crate::Batch> {
        let read = self.reader.read(component, field, &[record]);
        self.sound(read, name)
    }

    fn sound(&mut self, read: Result<crate::Batch, CacheError>, name: &str) -> Option<crate::Batch> {
        match read {
            Ok(batch) => Some(batch),
            Err(error) => {
                self.compared += 1;
                self.wrong += 1;
                let place = Place { file: "", entry: name };
                self.findings
                    .add(self.component, &kinds::UNREADABLE, place, "the entry's values", error);
                None
            }
        }
    }

    fn latents<P: Predictor>(
        &mut self,
        predictor: &mut P,
        record: u64,
        name: String,
    ) -> Result<Option<Entry>, P::Error> {
        let view = self.reader.latents_plan().views[record as usize];
        let Some(computed) = predictor.latents(&view)? else {
            let place = Place { file: "", entry: &name };
            let found = "none of the images has this SHA-256";
            self.findings
                .add(self.component, &kinds::IMAGE_ABSENT, place, view.image, found);
            return Ok(None);
        };
        let stored = self.read(&ComponentId::Latents, LATENTS, record, &name);
        Ok(stored.map(|stored| Entry {
            name,
            pairs: vec![(stored.values, computed)],
        }))
    }

    fn text<P: Predictor>(&mut self, predictor: &mut P, record: u64, name: String) -> Result<Option<Entry>, P::Error> {
        let computed = predictor.text(&self.reader.text_plan().captions[record as usize])?;
        let Some(states) = self.read(&ComponentId::Text, HIDDEN_STATES, record, &name) else {
            return Ok(None);
        };
        let mut pairs = vec![(states.values, computed.hidden_states)];
        if self.reader.text_plan().shape.pooled.is_some() {
            let Some(pooled) = self.read(&ComponentId::Text, POOLED, record, &name) else {
                return Ok(None);
            };
            pairs.push((pooled.values, computed.pooled.unwrap_or_default()));
        }
        Ok(Some(Entry { name, pairs }))
    }

    fn prediction<P: Predictor>(
        &mut self,
        predictor: &mut P,
        record: u64,
        field: usize,
        name: String,
    ) -> Result<Option<Entry>, P::Error> {
        let Some(plan) = self.layout.teacher_plan() else {
            return Ok(None);
        };
        let field = plan.fields[field];
        let name = format!("{name}|{}", field.name());
        let Some(stored) = self.read(self.component, field.name(), record, &name) else {
            return Ok(None);
        };
        match self.inputs(plan, field, record, &name)? {
            Some(inputs) => {
                let computed = predictor.prediction(plan, inputs)?;
                Ok(Some(Entry {
                    name,
                    pairs: vec![(stored.values, computed)],
                }))
            }
            None => Ok(None),
        }
    }

    /// What `cache build` predicts on: latents and text as they are stored, rounding included.
    fn inputs(
        &mut self,
        plan: &TeacherPlan,
        field: PredictionField,
        record: u64,
        name: &str,
    ) -> Result<Option<PredictionInputs>, CacheError> {
        let (view, caption) = plan.samples[(record / u64::from(plan.draws)) as usize];
        let caption = match field {
            PredictionField::Cond => u64::from(caption),
            PredictionField::Uncond => 0, // the first caption is the empty one
        };
        let Some(latents) = self.read(&ComponentId::Latents, LATENTS, view.into(), name) else {
            return Ok(None);
        };
        let noise = self.reader.noise(&plan.id, &[record]);
        let Some(noise) = self.sound(noise, name) else {
            return Ok(None);
        };
        let Some(hidden_states) = self.read(&ComponentId::Text, HIDDEN_STATES, caption, name) else {
            return Ok(None);
        };
        let mut pooled = None;
        if self.reader.text_plan().shape.pooled.is_some() {
            pooled = self.read(&ComponentId::Text, POOLED, caption, name);
            if pooled.is_none() {
                return Ok(None);
            }
        }
        let time_ids = plan.time_ids.as_ref().and_then(|ids| ids.get(view as usize));
        Ok(Some(PredictionInputs {
            latents,
            noise,
            timestep: self.layout.draw(record)?.timestep,
            hidden_states,
            pooled,
            time_ids: time_ids.map(|ids| ids.map(|n| n as f32)),
        }))
    }

    fn judge(&mut self, Entry { name, pairs }: &Entry) {
        self.compared += 1;
        let dtype = self.layout.dtype();
        let mut same = true;
        let mut difference = 0f64;
        for (stored, computed) in pairs {
            let expected = format!("within {:.1e} of what the weights give", tolerance(dtype));
            let found = match stored.len() == computed.len() {
                true => {
                    let comparison = compare(stored, computed, dtype);
                    difference = difference.max(comparison.difference);
                    (!comparison.same).then(|| comparison.describe())
                }
                false => Some(format!("{} values; the weights give {}", stored.len(), computed.len())),
            };
            if let Some(found) = found.filter(|_| same) {
                same = false;
                let place = Place { file: "", entry: name };
                self.findings
                    .add(self.component, &kinds::RECOMPUTED_DIFFERS, place, expected, found);
            }
        }
        match same {
            true => self.difference = self.difference.max(difference),
            false => self.wrong += 1,
        }
    }
}
