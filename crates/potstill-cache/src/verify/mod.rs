//! Verification of a cache: structure (level 1) and determinism (level 2), the same code natively and in WASM.

mod documents;
mod kinds;
mod measure;
mod plausibility;
mod report;
mod shard;
mod stream;
mod swaps;
mod target;

use std::collections::BTreeSet;

pub use report::{Band, ComponentReport, Finding, Level, Report, Severity, TeacherStatistics, Verdict};

pub(crate) use stream::read_header;
#[cfg(feature = "fs")]
pub(crate) use stream::{ShardProblem, hash_shard};

use crate::component::{LOCK_FILE, PLAN_FILE, SEAL_FILE, shard_file, shard_index};
use crate::error::CacheError;
use crate::layout::{Layout, ShardRange};
use crate::plan::PredictionField;
use crate::reader::components;
use crate::source::{MaybeSync, Source};
use documents::{Documents, Examined};
use plausibility::Oddity;
use report::{Findings, Place};
use shard::{ShardOutcome, check_shard};

/// Told of the bytes that were read and of those there are.
pub trait Progress: MaybeSync {
    /// So many of so many bytes are done.
    fn bytes(&self, done: u64, total: u64);
}

impl<F: Fn(u64, u64) + MaybeSync> Progress for F {
    fn bytes(&self, done: u64, total: u64) {
        self(done, total);
    }
}

/// How to verify.
pub struct VerifyOptions<'a> {
    /// How deep.
    pub level: Level,
    /// Whom to tell of progress.
    pub progress: Option<&'a dyn Progress>,
}

/// One shard to look at.
struct Job<'a> {
    component: usize,
    examined: &'a Examined,
    layout: &'a Layout,
    range: ShardRange,
    bytes: u64,
}

/// Verifies a cache.
///
/// Whatever is wrong *in* the cache is a finding of the report; an error is only what keeps one from looking.
///
/// # Errors
/// [`CacheError::NoCache`] when there is nothing of a cache, [`CacheError::Source`] when it cannot be listed.
pub fn verify<S: Source + ?Sized>(source: &S, options: &VerifyOptions<'_>) -> Result<Report, CacheError> {
    // By bytes: sources sort by what their language compares, and the same cache gives the same report everywhere.
    let mut files = source.list()?;
    files.sort_unstable();
    let ids = components(&files);
    if ids.is_empty() {
        return Err(CacheError::NoCache);
    }
    let documents = Documents::read(source, ids);
    let mut findings: Vec<Findings> = Vec::new();
    for examined in &documents.examined {
        let mut own = Findings::default();
        documents.check(examined, &mut own);
        check_files(examined, &files, &mut own);
        findings.push(own);
    }

    let jobs = jobs(source, &documents);
    let total: u64 = jobs.iter().map(|job| job.bytes).sum();
    let done = std::sync::atomic::AtomicU64::new(0);
    let latents = documents.latents_layout();
    let outcomes = map(&jobs, |job| {
        let outcome = check_shard(source, job.examined, job.layout, job.range, latents, options.level);
        let so_far = done.fetch_add(job.bytes, std::sync::atomic::Ordering::Relaxed) + job.bytes;
        if let Some(progress) = options.progress {
            progress.bytes(so_far, total);
        }
        outcome
    });

    let mut reports: Vec<ComponentReport> = documents.examined.iter().map(Examined::report).collect();
    let mut rows = vec![Vec::new(); documents.examined.len()];
    for (job, outcome) in jobs.iter().zip(outcomes) {
        let ShardOutcome {
            findings: own,
            rows: measured,
            bytes,
        } = outcome;
        reports[job.component].bytes += bytes;
        findings[job.component].merge(own);
        rows[job.component].extend(measured);
    }

    let mut statistics = Vec::new();
    if options.level >= Level::Determinism {
        for (i, examined) in documents.examined.iter().enumerate() {
            documents.check_draws(examined, &mut findings[i]);
            let Some(layout) = &examined.layout else { continue };
            let Some(plan) = layout.teacher_plan() else { continue };
            for &field in &plan.fields {
                let of_field: Vec<_> = rows[i]
                    .iter()
                    .filter(|(f, _)| *f == field)
                    .map(|(_, row)| *row)
                    .collect();
                judge_field(source, layout, field, &of_field, &mut findings[i]);
                let bands = plausibility::bands(&of_field, plan.schedule.timesteps);
                statistics.push(TeacherStatistics {
                    component: examined.id.to_string(),
                    field: field.name(),
                    bands,
                });
            }
        }
    }
    let findings = documents.examined.iter().map(|e| e.id.clone()).zip(findings).collect();
    Ok(Report::new(options.level, reports, findings, statistics))
}

fn jobs<'a, S: Source + ?Sized>(source: &S, documents: &'a Documents) -> Vec<Job<'a>> {
    let mut jobs = Vec::new();
    for (component, examined) in documents.examined.iter().enumerate() {
        let Some(layout) = &examined.layout else { continue };
        for range in layout.shards() {
            let bytes = source.size(&examined.id.file(&shard_file(range.index))).unwrap_or(0);
            jobs.push(Job {
                component,
                examined,
                layout,
                range,
                bytes,
            });
        }
    }
    jobs
}

#[cfg(feature = "fs")]
fn map<J: Sync, T: Send>(jobs: &[J], f: impl Fn(&J) -> T + Sync) -> Vec<T> {
    use rayon::prelude::*;
    jobs.par_iter().map(&f).collect()
}

#[cfg(not(feature = "fs"))]
fn map<J, T>(jobs: &[J], f: impl Fn(&J) -> T) -> Vec<T> {
    jobs.iter().map(f).collect()
}

/// Files in a component's folder that are neither its documents nor its shards.
fn check_files(examined: &Examined, files: &[String], findings: &mut Findings) {
    let prefix = format!("{}/", examined.id);
    let shards = examined.layout.as_ref().map_or(0, Layout::shard_count);
    for path in files {
        let Some(name) = path.strip_prefix(&prefix).filter(|name| !name.contains('/')) else {
            continue;
        };
        let known = [PLAN_FILE, SEAL_FILE, LOCK_FILE].contains(&name);
        if known || shard_index(name).is_some_and(|index| index < shards) {
            continue;
        }
        let kind = if name.starts_with(".potstill-") {
            &kinds::LEFTOVER
        } else if name.starts_with("shard-") && name.ends_with(".safetensors") {
            if examined.layout.is_none() {
                continue;
            }
            &kinds::SHARD_EXTRA
        } else {
            &kinds::FILE_UNKNOWN
        };
        let place = Place { file: path, entry: "" };
        findings.add(&examined.id, kind, place, "no such file", "a file");
    }
}

/// What the statistics of a teacher's field say.
fn judge_field<S: Source + ?Sized>(
    source: &S,
    layout: &Layout,
    field: PredictionField,
    rows: &[plausibility::Row],
    findings: &mut Findings,
) {
    let id = layout.component();
    let judgement = plausibility::judge(rows.to_vec());
    if let Some((calibration, correlation)) = judgement.teacher {
        let found = format!(
            "{}: slope {}, correlation {}",
            field.name(),
            plausibility::shorten(calibration),
            plausibility::shorten(correlation)
        );
        let expected = "a median slope of 0.5 to 2 and correlation of 0.1 or more with what the plan says is predicted";
        findings.add(&id, &kinds::TEACHER_IMPLAUSIBLE, Place::default(), expected, found);
        return;
    }
    let swapped = swaps::find(source, layout, field, &judgement.suspects);
    for swap in &swapped {
        let entry = entry(layout, swap.record, field);
        let owner = layout.name(swap.owner).unwrap_or_default();
        let place = Place {
            file: "",
            entry: &entry,
        };
        findings.add(
            &id,
            &kinds::PREDICTION_SWAPPED,
            place,
            "a prediction of this entry's noise",
            format!("one of the noise of {owner}"),
        );
    }
    let swapped: BTreeSet<u64> = swapped.iter().map(|swap| swap.record).collect();
    for outlier in judgement.outliers.iter().filter(|o| !swapped.contains(&o.row.record)) {
        let entry = entry(layout, outlier.row.record, field);
        let (expected, found) = describe(outlier);
        let place = Place {
            file: "",
            entry: &entry,
        };
        let kind = if outlier.implausible {
            &kinds::PREDICTION_IMPLAUSIBLE
        } else {
            &kinds::PREDICTION_UNUSUAL
        };
        findings.add(&id, kind, place, expected, found);
    }
}

/// What was expected of a prediction that stands out, and what was found.
fn describe(outlier: &plausibility::Outlier) -> (String, String) {
    let shorten = plausibility::shorten;
    let (moments, timestep) = (&outlier.row.moments, outlier.row.timestep);
    match outlier.oddity {
        Oddity::Slope { usual, sigmas } => (
            format!(
                "a slope of about {}, as of others about timestep {timestep}",
                shorten(usual)
            ),
            format!(
                "{}, off by {} standard deviations",
                shorten(moments.calibration()),
                shorten(sigmas)
            ),
        ),
        Oddity::Residual { usual } => (
            format!(
                "about {} of the target unexplained, as of others about timestep {timestep}",
                shorten(usual)
            ),
            shorten(moments.residual()).to_string(),
        ),
        Oddity::Foreign => (
            format!("a prediction that knows this entry's noise, as others about timestep {timestep}"),
            "one that knows nothing of it".to_owned(),
        ),
        Oddity::Empty => ("a prediction".to_owned(), "nothing but zeros".to_owned()),
    }
}

/// A teacher's record and field, as findings name them.
fn entry(layout: &Layout, record: u64, field: PredictionField) -> String {
    format!("{}|{}", layout.name(record).unwrap_or_default(), field.name())
}
