//! What was found, as JSON and as a table.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::timing::Timing;

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "outcome", content = "why")]
pub enum Outcome {
    /// Within the tolerance.
    Passed,
    /// Beyond it, or it could not be computed.
    Failed(String),
    /// Not done here.
    Skipped(String),
}

/// One comparison.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// `operations`, `unet` …
    pub group: &'static str,
    /// What was compared.
    pub name: String,
    /// Number format of the device's side.
    pub dtype: String,
    /// Largest difference as a share of the reference's largest value.
    pub error: Option<f64>,
    /// What is allowed.
    pub tolerance: f64,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Check {
    /// A comparison that came to a result; an error that is not below the tolerance fails.
    pub fn of(group: &'static str, name: String, dtype: &str, tolerance: f64, error: crate::Result<f64>) -> Self {
        let outcome = match &error {
            Ok(error) if *error <= tolerance => Outcome::Passed,
            Ok(error) => Outcome::Failed(format!("off by {error:.2e}, {tolerance:.0e} allowed")),
            Err(error) => Outcome::Failed(error.to_string()),
        };
        Self {
            group,
            name,
            dtype: dtype.to_owned(),
            error: error.ok().filter(|error| error.is_finite()),
            tolerance,
            outcome,
        }
    }

    /// A comparison that is not made.
    pub fn skipped(group: &'static str, name: &str, why: impl Into<String>) -> Self {
        Self {
            group,
            name: name.to_owned(),
            dtype: String::new(),
            error: None,
            tolerance: 0.,
            outcome: Outcome::Skipped(why.into()),
        }
    }

    /// Did it fail?
    pub fn failed(&self) -> bool {
        matches!(self.outcome, Outcome::Failed(_))
    }
}

/// Everything.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Version of the suite.
    pub version: String,
    /// What ran it: `cpu`, `cuda:0`.
    pub device: String,
    /// The device's name.
    pub device_name: String,
    /// Comparisons.
    pub checks: Vec<Check>,
    /// Measurements.
    pub timings: Vec<Timing>,
}

impl Report {
    /// Number of failed checks.
    pub fn failures(&self) -> usize {
        self.checks.iter().filter(|check| check.failed()).count()
    }
}

/// The report as a page for people.
pub fn markdown(report: &Report) -> String {
    let mut page = format!(
        "# {} on {} ({})\n\n| group | format | passed | failed | skipped | largest error | of the allowed |\n| --- | --- | ---: | ---: | ---: | ---: | ---: |\n",
        "potstill's GPU suite", report.device, report.device_name
    );
    let mut groups: BTreeMap<(&str, &str), Vec<&Check>> = BTreeMap::new();
    for check in &report.checks {
        groups.entry((check.group, &check.dtype)).or_default().push(check);
    }
    for ((group, dtype), checks) in groups {
        let count = |is: fn(&Outcome) -> bool| checks.iter().filter(|check| is(&check.outcome)).count();
        let worst = checks.iter().filter_map(|check| check.error).fold(0., f64::max);
        let share = checks
            .iter()
            .filter_map(|check| Some(check.error? / check.tolerance))
            .fold(0., f64::max);
        let _ = writeln!(
            page,
            "| {group} | {dtype} | {} | {} | {} | {worst:.1e} | {:.0} % |",
            count(|o| *o == Outcome::Passed),
            count(|o| matches!(o, Outcome::Failed(_))),
            count(|o| matches!(o, Outcome::Skipped(_))),
            share * 100.,
        );
    }
    for check in &report.checks {
        match &check.outcome {
            Outcome::Passed => {}
            Outcome::Failed(why) => {
                let _ = writeln!(
                    page,
                    "\n**failed** {} {} {}: {why}",
                    check.group, check.name, check.dtype
                );
            }
            Outcome::Skipped(why) => {
                let _ = writeln!(page, "\nskipped {} {}: {why}", check.group, check.name);
            }
        }
    }
    if !report.timings.is_empty() {
        page.push_str("\n| workload | format | seconds | peak memory |\n| --- | --- | ---: | ---: |\n");
        for timing in &report.timings {
            let peak = timing
                .peak_bytes
                .map_or_else(|| "unknown".to_owned(), |b| format!("{:.2} GB", b as f64 / 1e9));
            let seconds = timing
                .median()
                .map_or_else(|| timing.why.clone().unwrap_or_default(), |s| format!("{s:.4}"));
            let _ = writeln!(page, "| {} | {} | {seconds} | {peak} |", timing.name, timing.dtype);
        }
    }
    page
}
