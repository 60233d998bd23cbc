//! What verification found.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::canonical::canonical_json;
use crate::error::CacheError;
use crate::recompute::{Recomputation, Recomputed};

/// Version of the reports.
const REPORT_VERSION: u32 = 1;
/// Findings of one code that are listed per component; the others are only counted.
pub(crate) const MAX_LISTED: usize = 50;

/// The level of a report with a recomputation.
const RECOMPUTATION: u32 = 3;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The cache contradicts itself or its plan.
    Error,
    /// Something is unusual, but nothing is contradicted.
    Warning,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// `latents`, `text` or `teachers/<id>`; of the files layout the teacher's folder, `.` for the cache itself.
    pub component: String,
    /// The file, relative to the cache; empty when it is about no single file.
    pub file: String,
    /// Stable name of the kind.
    pub code: &'static str,
    /// The record, or the record and field; empty when it is about no single record.
    pub entry: String,
    /// How bad it is.
    pub severity: Severity,
    /// What should be.
    pub expected: String,
    /// What is.
    pub found: String,
    /// Whether training on the cache would go wrong.
    pub training: bool,
    /// What to do.
    pub remedy: &'static str,
}

/// A kind of finding: everything that its code fixes.
pub(crate) struct Kind {
    pub code: &'static str,
    pub severity: Severity,
    pub training: bool,
    pub remedy: &'static str,
}

/// Findings of one component, counted, and listed up to a limit.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    listed: Vec<Finding>,
    counts: Counts,
}

/// How often each code was found.
pub(crate) type Counts = BTreeMap<&'static str, (Severity, u64)>;

/// Where a finding is.
#[derive(Clone, Copy, Default)]
pub(crate) struct Place<'a> {
    pub file: &'a str,
    pub entry: &'a str,
}

impl Findings {
    pub fn add(
        &mut self,
        component: &(impl ToString + ?Sized),
        kind: &Kind,
        place: Place<'_>,
        expected: impl ToString,
        found: impl ToString,
    ) {
        let count = self.counts.entry(kind.code).or_insert((kind.severity, 0));
        count.1 += 1;
        if count.1 <= MAX_LISTED as u64 {
            self.listed.push(Finding {
                component: component.to_string(),
                file: place.file.to_owned(),
                code: kind.code,
                entry: place.entry.to_owned(),
                severity: kind.severity,
                expected: expected.to_string(),
                found: found.to_string(),
                training: kind.training,
                remedy: kind.remedy,
            });
        }
    }

    /// Joins the findings of shards, in their order.
    pub fn merge(&mut self, other: Self) {
        for (code, (severity, count)) in other.counts {
            self.counts.entry(code).or_insert((severity, 0)).1 += count;
        }
        self.listed.extend(other.listed);
    }

    /// Sorted, and cut to the limit again.
    pub fn finish(mut self) -> (Vec<Finding>, Counts) {
        self.listed.sort();
        let mut seen: BTreeMap<&'static str, usize> = BTreeMap::new();
        self.listed.retain(|finding| {
            let n = seen.entry(finding.code).or_default();
            *n += 1;
            *n <= MAX_LISTED
        });
        (self.listed, self.counts)
    }
}

/// How deep to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Files, digests, shapes, finite values, coverage.
    Structure = 1,
    /// Also seeds, timesteps and noise made anew, and statistics of the predictions.
    Determinism = 2,
}

/// The outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// No errors.
    Ok,
    /// At least one error.
    Damaged,
}

/// A component that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ComponentReport {
    /// As in [`Finding::component`].
    pub component: String,
    /// SHA-256 of the plan; empty when there is none.
    pub plan: String,
    /// SHA-256 of the seal; empty when there is none.
    pub seal: String,
    /// Records planned; of the files layout, files.
    pub records: u64,
    /// Shards planned; none in the files layout.
    pub shards: u32,
    /// Bytes read.
    pub bytes: u64,
}

/// Predictions of a range of timesteps, all records together.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Band {
    /// First timestep.
    pub from: u32,
    /// Timestep after the last.
    pub to: u32,
    /// Predictions.
    pub count: u64,
    /// Root mean square.
    pub rms: f64,
    /// Correlation (about zero) with what a perfect teacher would predict.
    pub correlation: f64,
    /// Slope of the regression of the perfect prediction on the teacher's: near 1 for a trained teacher.
    pub calibration: f64,
}

/// Statistics of a teacher's predictions.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TeacherStatistics {
    /// As in [`Finding::component`].
    pub component: String,
    /// `cond` or `uncond`; `teacher_pred` of the files layout.
    pub field: &'static str,
    /// By timestep; bands without predictions are left out.
    pub bands: Vec<Band>,
}

/// Entries whose noise one generator made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NoiseShare {
    /// The generator, and whether its values were rounded to bf16: `torch-cpu-avx2`, `torch-cuda, rounded to bf16` …;
    /// `unknown` where none is recognised.
    pub noise: String,
    /// How many.
    pub entries: u64,
}

/// What the entries of a teacher in the files layout tell of their making.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Provenance {
    /// As in [`Finding::component`].
    pub component: String,
    /// Generators of the noise, the most frequent first.
    pub noise: Vec<NoiseShare>,
    /// Half-open range that the timesteps were drawn from, where it is recognised.
    pub timesteps: Option<(u32, u32)>,
    /// What the seeds were made from: `image`, `image and teacher`, `image, view and draw` (as potstill's own), or `unknown`.
    pub seeds: &'static str,
}

/// What verification found. Its JSON holds no paths, times or machines: the same cache gives the same bytes everywhere.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    format: &'static str,
    version: u32,
    /// `files` for the files layout; absent for shards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<&'static str>,
    /// Level of verification: 1 to 3.
    pub level: u32,
    /// The outcome.
    pub verdict: Verdict,
    /// What was looked at.
    pub components: Vec<ComponentReport>,
    /// How often each code was found, by component.
    pub counts: BTreeMap<String, BTreeMap<&'static str, u64>>,
    /// The findings, at most 50 of a code and component.
    pub findings: Vec<Finding>,
    /// Level 2: statistics of the predictions.
    pub statistics: Vec<TeacherStatistics>,
    /// Level 2 of the files layout: what is recognised of each teacher.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub provenance: Vec<Provenance>,
    /// Level 3: what was computed again. Differences depend on the kernels; verdicts do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recomputation: Option<Recomputation>,
}

impl Report {
    /// `findings` are those of `components`, in their order.
    pub(crate) fn new(
        level: Level,
        components: Vec<ComponentReport>,
        findings: Vec<Findings>,
        statistics: Vec<TeacherStatistics>,
    ) -> Self {
        let (mut listed, mut counts, mut errors) = (Vec::new(), BTreeMap::new(), false);
        for (report, findings) in components.iter().zip(findings) {
            let (mut list, count) = findings.finish();
            errors |= count.values().any(|(severity, _)| *severity == Severity::Error);
            listed.append(&mut list);
            if !count.is_empty() {
                counts.insert(
                    report.component.clone(),
                    count.into_iter().map(|(code, (_, n))| (code, n)).collect(),
                );
            }
        }
        Self {
            format: "potstill-verification",
            version: REPORT_VERSION,
            layout: None,
            level: level as u32,
            verdict: if errors { Verdict::Damaged } else { Verdict::Ok },
            components,
            counts,
            findings: listed,
            statistics,
            provenance: Vec::new(),
            recomputation: None,
        }
    }

    /// With what recomputation found.
    #[must_use]
    pub fn with_recomputation(mut self, Recomputed { outcome, findings }: Recomputed) -> Self {
        for (component, findings) in findings {
            let (mut list, count) = findings.finish();
            if count.values().any(|(severity, _)| *severity == Severity::Error) {
                self.verdict = Verdict::Damaged;
            }
            self.findings.append(&mut list);
            let counts = self.counts.entry(component).or_default();
            for (code, (_, n)) in count {
                *counts.entry(code).or_default() += n;
            }
        }
        self.counts.retain(|_, counts| !counts.is_empty());
        self.findings.sort();
        self.level = RECOMPUTATION;
        self.recomputation = Some(outcome);
        self
    }

    /// The same of the files layout.
    pub(crate) fn of_files(self, provenance: Vec<Provenance>) -> Self {
        Self {
            layout: Some("files"),
            provenance,
            ..self
        }
    }

    /// Whether there are no errors.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.verdict == Verdict::Ok
    }

    /// Canonical JSON.
    ///
    /// # Errors
    /// [`CacheError::Json`], which finite statistics exclude.
    pub fn to_json(&self) -> Result<Vec<u8>, CacheError> {
        canonical_json(self)
    }
}
