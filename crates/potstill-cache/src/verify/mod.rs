//! Verification of a cache: structure (level 1) and determinism (level 2), the same code natively and in WASM.

mod documents;
mod files;
mod finite;
mod judge;
mod kept_noise;
pub(crate) mod kinds;
mod measure;
mod plausibility;
mod report;
mod shard;
mod stream;
mod swaps;
mod target;

pub use report::{
    Band, ComponentReport, Finding, Level, NoiseShare, Provenance, Report, Severity, TeacherStatistics, Verdict,
};

use std::collections::BTreeMap;

use potstill_io::Dtype;

pub(crate) use stream::read_header;
#[cfg(feature = "fs")]
pub(crate) use stream::{ShardProblem, hash_shard};

use crate::component::{LOCK_FILE, PLAN_FILE, SEAL_FILE, TEMPORARY_PREFIX, shard_file, shard_index};
use crate::error::CacheError;
use crate::files::files_entries;
use crate::layout::{Layout, NOISE, ShardRange};
use crate::plan::{NoiseOfPlan, PredictionField};
use crate::reader::components;
use crate::source::{MaybeSync, Source};
use documents::{Documents, Examined};
use judge::Predictions;
use kept_noise::KeptNoise;
use plausibility::Row;
pub(crate) use report::{Findings, Place};
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
    /// The images that a cache in the files layout was made of, whose files seldom name them: seeds can then be made anew,
    /// and images without a file found.
    pub images: Option<&'a FilesImages>,
}

/// The images of a cache in the files layout.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FilesImages {
    /// Their paths in the folder of images, with `/` between the parts, without the ending.
    pub ids: Vec<String>,
    /// Version in the names of the files: `1` unless chosen otherwise.
    pub version: String,
    /// Base seed of the seeds: 42 unless chosen otherwise.
    pub base_seed: i64,
}

impl FilesImages {
    /// From JSON: `{ ids, version, baseSeed }`, as JavaScript hands it to addon and WASM module alike.
    ///
    /// # Errors
    /// [`CacheError::Json`].
    pub fn parse(json: &str) -> Result<Self, CacheError> {
        serde_json::from_str(json).map_err(|error| CacheError::Json {
            reason: error.to_string(),
        })
    }
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
/// [`CacheError::NoCache`] when there is nothing of a cache, [`CacheError::Source`] when it cannot be listed, or its
/// [source fails](Source::failure).
pub fn verify<S: Source + ?Sized>(source: &S, options: &VerifyOptions<'_>) -> Result<Report, CacheError> {
    // By bytes: sources sort by what their language compares, and the same cache gives the same report everywhere.
    let mut files = source.list()?;
    files.sort_unstable();
    let ids = components(&files);
    // Folders of the files layout may be called as components are; what makes components of them are their documents.
    let folders = files_entries(&files);
    let is_document = |path: &String| [PLAN_FILE, SEAL_FILE].contains(&path.rsplit('/').next().unwrap_or_default());
    if !folders.is_empty() && (ids.is_empty() || !files.iter().any(is_document)) {
        let report = files::verify(source, &files, &folders, options);
        return source.failure().map_or(Ok(report), |error| Err(error.into()));
    }
    if ids.is_empty() {
        return Err(CacheError::NoCache);
    }
    let documents = Documents::read(source, ids);
    let absent: Vec<Vec<u32>> = documents.examined.iter().map(|e| absent_shards(e, &files)).collect();
    let mut findings: Vec<Findings> = Vec::new();
    for (examined, absent) in documents.examined.iter().zip(&absent) {
        let mut own = Findings::default();
        documents.check(examined, absent, &mut own);
        check_files(examined, &files, &mut own);
        findings.push(own);
    }

    let groups = grouped(jobs(source, &documents, &absent));
    let total: u64 = groups.iter().flatten().map(|job| job.bytes).sum();
    let done = std::sync::atomic::AtomicU64::new(0);
    let latents = documents.latents_layout();
    let outcomes = map(&groups, |group| {
        let predictions = |job: &Job<'_>| job.layout.teacher_plan().map_or(0, |plan| plan.fields.len());
        let mut kept = KeptNoise::new(group.iter().map(predictions).sum::<usize>() > 1);
        let check = |job: &Job<'_>| {
            let outcome = check_shard(
                source,
                job.examined,
                job.layout,
                job.range,
                latents,
                options.level,
                &mut kept,
            );
            let so_far = done.fetch_add(job.bytes, std::sync::atomic::Ordering::Relaxed) + job.bytes;
            if let Some(progress) = options.progress {
                progress.bytes(so_far, total);
            }
            outcome
        };
        group.iter().map(check).collect::<Vec<_>>()
    });

    let mut reports: Vec<ComponentReport> = documents.examined.iter().map(Examined::report).collect();
    let mut rows = vec![Vec::new(); documents.examined.len()];
    for (job, outcome) in groups.iter().flatten().zip(outcomes.into_iter().flatten()) {
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
        let mut teachers = Vec::new();
        for (i, examined) in documents.examined.iter().enumerate() {
            documents.check_draws(examined, &mut findings[i]);
            let Some(layout) = &examined.layout else { continue };
            let Some(plan) = layout.teacher_plan() else { continue };
            teachers.extend(
                plan.fields
                    .iter()
                    .map(|&field| (i, layout, plan.schedule.timesteps, field)),
            );
        }
        let judged = map(&teachers, |&(i, layout, timesteps, field)| {
            let of_field = rows[i].iter().filter(|(f, _)| *f == field);
            let of_field: Vec<Row> = of_field.map(|(_, row)| *row).collect();
            let (predictions, mut own) = (ShardPredictions { source, layout, field }, Findings::default());
            judge::judge(&predictions, &of_field, &mut own);
            (own, plausibility::bands(&of_field, timesteps))
        });
        for (&(i, _, _, field), (own, bands)) in teachers.iter().zip(judged) {
            findings[i].merge(own);
            statistics.push(TeacherStatistics {
                component: documents.examined[i].id.to_string(),
                field: field.name(),
                bands,
            });
        }
    }
    if let Some(error) = source.failure() {
        return Err(error.into());
    }
    Ok(Report::new(options.level, reports, findings, statistics))
}

/// The planned shards of a component that are not among the files (which are sorted).
fn absent_shards(examined: &Examined, files: &[String]) -> Vec<u32> {
    let shards = examined.layout.as_ref().map_or(0, Layout::shard_count);
    let is_absent = |&index: &u32| {
        let path = examined.id.file(&shard_file(index));
        files.binary_search(&path).is_err()
    };
    (0..shards).filter(is_absent).collect()
}

/// What is looked at: every planned shard, but for those that a build which has not ended did not write yet.
fn jobs<'a, S: Source + ?Sized>(source: &S, documents: &'a Documents, absent: &[Vec<u32>]) -> Vec<Job<'a>> {
    let mut jobs = Vec::new();
    for (component, examined) in documents.examined.iter().enumerate() {
        let Some(layout) = &examined.layout else { continue };
        let unwritten = if examined.is_unsealed() {
            &absent[component][..]
        } else {
            &[]
        };
        for range in layout.shards() {
            if unwritten.binary_search(&range.index).is_ok() {
                continue;
            }
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

/// With fewer shards every one is looked at by itself, so that all processors have something to do.
const TOGETHER_FROM: usize = if cfg!(feature = "fs") { 32 } else { 1 };

/// What is looked at together: the shards of all teachers that have the same number, for they have noise in common.
fn grouped(jobs: Vec<Job<'_>>) -> Vec<Vec<Job<'_>>> {
    let (teachers, others): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.layout.teacher_plan().is_some());
    let mut by_shard: BTreeMap<u32, Vec<Job<'_>>> = BTreeMap::new();
    for job in teachers {
        by_shard.entry(job.range.index).or_default().push(job);
    }
    let alone = |job| vec![job];
    let others = others.into_iter().map(alone);
    if by_shard.len() < TOGETHER_FROM {
        return others.chain(by_shard.into_values().flatten().map(alone)).collect();
    }
    others.chain(by_shard.into_values()).collect()
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
        let kind = if name.starts_with(TEMPORARY_PREFIX) {
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

/// The predictions of a teacher in shards.
struct ShardPredictions<'a, S: ?Sized> {
    source: &'a S,
    layout: &'a Layout,
    field: PredictionField,
}

impl<S: Source + ?Sized> ShardPredictions<'_, S> {
    /// A field of a record.
    fn floats(&self, row: &Row, field: &str) -> Option<Vec<f32>> {
        let (range, within) = self.layout.locate(row.record).ok()?;
        let path = self.layout.component().file(&shard_file(range.index));
        let (header, _) = read_header(self.source, &path).ok()?;
        let dtype = Dtype::from(self.layout.dtype());
        let length = row.values as usize * dtype.size();
        let tensor = header.get(field)?;
        let mut bytes = vec![0; length];
        let offset = header.data_start() + tensor.start + u64::from(within) * length as u64;
        self.source.read(&path, offset, &mut bytes).ok()?;
        dtype.to_f32(&bytes).ok()
    }
}

impl<S: Source + ?Sized> Predictions for ShardPredictions<'_, S> {
    fn component(&self) -> String {
        self.layout.component().to_string()
    }

    fn field(&self) -> &str {
        self.field.name()
    }

    fn target(&self) -> &str {
        "what the plan says is predicted"
    }

    /// Records are looked up by their names.
    fn file(&self, _: u64) -> String {
        String::new()
    }

    fn name(&self, record: u64) -> String {
        self.layout.name(record).unwrap_or_default()
    }

    fn entry(&self, record: u64) -> String {
        format!("{}|{}", self.name(record), self.field.name())
    }

    fn noise(&self, row: &Row) -> Option<Vec<f32>> {
        match self.layout.teacher_plan()?.noise.generator {
            NoiseOfPlan::Made(generator) => {
                let mut noise = vec![0.0; row.values as usize];
                generator.fill_noise(self.layout.draw(row.record).ok()?.seed, &mut noise);
                Some(noise)
            }
            NoiseOfPlan::Stored => self.floats(row, NOISE),
        }
    }

    fn values(&self, row: &Row) -> Option<Vec<f32>> {
        self.floats(row, self.field.name())
    }
}
