//! The plans and seals of a cache, and whether they belong together.

use potstill_io::Header;

use super::kinds;
use super::report::{ComponentReport, Findings, Place};
use super::stream::read_header;
use crate::canonical::sha256;
use crate::component::{ComponentId, PLAN_FILE, SEAL_FILE, shard_file};
use crate::digest::Digest32;
use crate::error::CacheError;
use crate::layout::Layout;
use crate::plan::{GivenDraw, Plan, TeacherPlan};
use crate::reader::{References, read_plan, read_seal};
use crate::seal::Seal;
use crate::source::Source;

/// A component as far as it could be read.
pub(crate) struct Examined {
    pub id: ComponentId,
    pub plan: Result<Plan, CacheError>,
    pub plan_digest: Option<Digest32>,
    pub seal: Result<Seal, CacheError>,
    pub seal_digest: Option<Digest32>,
    /// Where records lie, when the plan and what it refers to are sound.
    pub layout: Option<Layout>,
    layout_error: Option<CacheError>,
    /// The plan that the first shard names in its header.
    shard_plan: Option<String>,
}

impl Examined {
    fn read<S: Source + ?Sized>(source: &S, id: ComponentId) -> Self {
        let (plan, plan_digest) = match read_plan(source, &id) {
            Ok((plan, bytes)) => (Ok(plan), Some(sha256(&bytes))),
            Err(error) => (Err(error), None),
        };
        let (seal, seal_digest) = match read_seal(source, &id) {
            Ok((seal, bytes)) => (Ok(seal), Some(sha256(&bytes))),
            Err(error) => (Err(error), None),
        };
        let named = |header: Header| header.metadata().get("plan").cloned();
        let shard_plan = read_header(source, &id.file(&shard_file(0)))
            .ok()
            .and_then(|(header, _)| named(header));
        Self {
            id,
            plan,
            plan_digest,
            seal,
            seal_digest,
            layout: None,
            layout_error: None,
            shard_plan,
        }
    }

    pub fn report(&self) -> ComponentReport {
        let hex = |digest: Option<Digest32>| digest.map(|d| d.to_string()).unwrap_or_default();
        ComponentReport {
            component: self.id.to_string(),
            plan: hex(self.plan_digest),
            seal: hex(self.seal_digest),
            records: self.layout.as_ref().map_or(0, Layout::records),
            shards: self.layout.as_ref().map_or(0, Layout::shard_count),
            bytes: 0,
        }
    }

    /// Whether it has no seal, so that what is not there was perhaps not written yet.
    pub fn is_unsealed(&self) -> bool {
        matches!(self.seal, Err(CacheError::Unsealed { .. }))
    }

    fn teacher(&self) -> Option<&TeacherPlan> {
        match &self.plan {
            Ok(Plan::Teacher(plan)) => Some(plan),
            _ => None,
        }
    }
}

/// All components.
pub(crate) struct Documents {
    pub examined: Vec<Examined>,
}

impl Documents {
    pub fn read<S: Source + ?Sized>(source: &S, ids: Vec<ComponentId>) -> Self {
        let mut examined: Vec<Examined> = ids.into_iter().map(|id| Examined::read(source, id)).collect();
        let mut references = References::default();
        // Latents and text come before the teachers that refer to them.
        for component in &mut examined {
            let (Ok(plan), Some(digest)) = (&component.plan, component.plan_digest) else {
                continue;
            };
            if !matches!(plan, Plan::Teacher(_)) {
                references.keep(plan.clone(), digest);
            }
            match Layout::new(plan.clone(), &references) {
                Ok(layout) => component.layout = Some(layout),
                Err(error) => component.layout_error = Some(error),
            }
        }
        Self { examined }
    }

    fn get(&self, id: &ComponentId) -> Option<&Examined> {
        self.examined.iter().find(|e| e.id == *id)
    }

    pub fn latents_layout(&self) -> Option<&Layout> {
        self.get(&ComponentId::Latents)?.layout.as_ref()
    }

    /// Plan, seal and references of a component. `absent` are its shards that are not there.
    pub fn check(&self, examined: &Examined, absent: &[u32], findings: &mut Findings) {
        let id = &examined.id;
        let (plan_file, seal_file) = (id.file(PLAN_FILE), id.file(SEAL_FILE));
        let at_plan = Place {
            file: &plan_file,
            entry: "",
        };
        let at_seal = Place {
            file: &seal_file,
            entry: "",
        };
        match &examined.plan {
            Ok(_) => {}
            Err(CacheError::Unplanned { .. }) => findings.add(id, &kinds::PLAN_MISSING, at_plan, "a plan", "no file"),
            Err(CacheError::Source(error)) => findings.add(id, &kinds::UNREADABLE, at_plan, "a readable file", error),
            Err(error) => findings.add(id, &kinds::PLAN_INVALID, at_plan, "a sound plan", error),
        }
        if let Some(error) = &examined.layout_error {
            match error {
                CacheError::OutOfRange { .. } => findings.add(id, &kinds::PLAN_INVALID, at_plan, "a sound plan", error),
                _ => findings.add(
                    id,
                    &kinds::DEPENDENCY_PLAN,
                    at_plan,
                    "the plans that it was made for",
                    error,
                ),
            }
        }
        match &examined.seal {
            Ok(seal) => {
                self.check_seal(examined, seal, at_seal, findings);
                if let Some(layout) = &examined.layout {
                    check_coverage(id, layout, seal, at_seal, findings);
                }
            }
            Err(CacheError::Unsealed { .. }) => {
                let shards = examined.layout.as_ref().map(Layout::shard_count);
                findings.add(id, &kinds::UNSEALED, at_seal, "a seal", unsealed(shards, absent));
            }
            Err(CacheError::Source(error)) => findings.add(id, &kinds::UNREADABLE, at_seal, "a readable file", error),
            Err(error) => findings.add(id, &kinds::SEAL_INVALID, at_seal, "a sound seal", error),
        }
    }

    fn check_seal(&self, examined: &Examined, seal: &Seal, place: Place<'_>, findings: &mut Findings) {
        let id = &examined.id;
        if seal.component != id.to_string() {
            findings.add(id, &kinds::SEAL_FOREIGN, place, id, &seal.component);
        }
        if let Some(plan) = examined.plan_digest.filter(|&plan| plan != seal.plan) {
            // The shards name their plan too, and so say which of the two documents was exchanged.
            let plan_file = id.file(PLAN_FILE);
            if examined.shard_plan.as_deref() == Some(&seal.plan.to_string()) {
                findings.add(
                    id,
                    &kinds::PLAN_EDITED,
                    Place {
                        file: &plan_file,
                        entry: "",
                    },
                    seal.plan,
                    plan,
                );
            } else {
                findings.add(id, &kinds::SEAL_FOREIGN, place, plan, seal.plan);
            }
        }
        let is_teacher = matches!(id, ComponentId::Teacher(_));
        match &seal.dependencies {
            Some(dependencies) if is_teacher => {
                for (other, expected) in [
                    (ComponentId::Latents, dependencies.latents),
                    (ComponentId::Text, dependencies.text),
                ] {
                    let found = self.get(&other).and_then(|e| e.seal_digest);
                    if let Some(found) = found.filter(|&found| found != expected) {
                        let (expected, found) = (format!("seal {expected} of {other}"), format!("seal {found}"));
                        findings.add(id, &kinds::DEPENDENCY_SEAL, place, expected, found);
                    }
                }
            }
            None if !is_teacher => {}
            _ => findings.add(
                id,
                &kinds::SEAL_INVALID,
                place,
                "dependencies for teachers, and for them only",
                "otherwise",
            ),
        }
    }

    /// That all teachers have the draws of the first.
    pub fn check_draws(&self, examined: &Examined, findings: &mut Findings) {
        let Some(plan) = examined.teacher() else { return };
        let Some(first) = self.examined.iter().find_map(Examined::teacher) else {
            return;
        };
        let draws = |plan: &TeacherPlan| {
            let (min, max) = plan.timesteps;
            let noise = &plan.noise;
            format!(
                "generator {}, base seed {}, {} draws of [{min}, {max})",
                noise.generator, noise.base_seed, plan.draws
            )
        };
        let (expected, found) = (draws(first), draws(plan));
        // A given draw says which noise it has, by digest.
        if let (Some(others), Some(own)) = (&first.given, &plan.given)
            && expected == found
            && first.samples == plan.samples
            && let Some(record) = (0..own.len()).find(|&i| own.get(i) != others.get(i))
        {
            let file = examined.id.file(PLAN_FILE);
            let text = |given: &[GivenDraw]| {
                given.get(record).map_or_else(
                    || "none".to_owned(),
                    |draw| format!("seed {}, timestep {}, noise {}", draw.seed, draw.timestep, draw.noise),
                )
            };
            let count = (0..own.len()).filter(|&i| own.get(i) != others.get(i)).count();
            let expected = format!("{}, as teacher {} has for record {record}", text(others), first.id);
            let found = format!("{}; {count} of {} draws differ", text(own), own.len());
            findings.add(
                &examined.id,
                &kinds::DRAWS_DIFFER,
                Place { file: &file, entry: "" },
                expected,
                found,
            );
        }
        if expected != found {
            let file = examined.id.file(PLAN_FILE);
            let expected = format!("{expected}, as teacher {}", first.id);
            findings.add(
                &examined.id,
                &kinds::DRAWS_DIFFER,
                Place { file: &file, entry: "" },
                expected,
                found,
            );
        }
    }
}

/// Shards that are named when they are not written yet.
const NAMED_SHARDS: usize = 8;

/// How far a component is built that has no seal.
fn unsealed(shards: Option<u32>, absent: &[u32]) -> String {
    let Some(shards) = shards else {
        return "no seal".to_owned();
    };
    if absent.is_empty() {
        return format!("no seal; all of {shards} shards");
    }
    let written = shards as usize - absent.len();
    let named: Vec<String> = absent.iter().take(NAMED_SHARDS).map(u32::to_string).collect();
    let more = match absent.len() - named.len() {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    };
    format!(
        "no seal; {written} of {shards} shards, without {}{more}",
        named.join(", ")
    )
}

/// That the seal lists the plan's shards, all and no others.
fn check_coverage(id: &ComponentId, layout: &Layout, seal: &Seal, place: Place<'_>, findings: &mut Findings) {
    let planned = (layout.shard_count() as usize, layout.records());
    let sealed = (seal.shards.len(), seal.records);
    let listed: u64 = seal.shards.iter().map(|s| u64::from(s.records)).sum();
    let named = layout
        .shards()
        .zip(&seal.shards)
        .all(|(range, info)| info.file == shard_file(range.index) && info.records == range.records);
    if planned != sealed || listed != seal.records || !named {
        let text = |(shards, records): (usize, u64)| format!("{records} records in {shards} shards");
        let found = if planned == sealed {
            "other shards than the plan's".to_owned()
        } else {
            text(sealed)
        };
        findings.add(id, &kinds::SEAL_COVERAGE, place, text(planned), found);
    }
}
