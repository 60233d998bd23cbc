//! A report as one JSON document, for programs.

use serde_json::{Map, Value as Json, json};

use super::opened::CheckpointReport;
use super::report::ComponentReport;
use super::sort::UnusedKey;
use crate::error::KeyMismatch;

impl CheckpointReport {
    /// The report as JSON: `path`, `layout`, `kind`, `prediction`, `zeroTerminalSnr`, `parameters`, `bytes`, `sound`,
    /// `components` (one object each, with `matched`, `converted`, `unused`, and every misfit), `unused`, `unexpected`,
    /// `scheduler`, `metadata`, `files`.
    pub fn to_json(&self) -> Json {
        let last = self.schedule.alphas_cumprod().last();
        json!({
            "path": self.path.display().to_string(),
            "layout": self.layout.name(),
            "kind": self.kind.map(|kind| kind.name()),
            "prediction": self.schedule.prediction().name(),
            "zeroTerminalSnr": last == Some(&0.),
            "parameters": self.components.iter().map(|c| c.parameters).sum::<u64>(),
            "bytes": self.components.iter().map(|c| c.bytes).sum::<u64>(),
            "sound": self.mismatch().is_empty(),
            "components": self.components.iter().map(component).collect::<Vec<_>>(),
            "unused": self.unused.iter().map(unused).collect::<Vec<_>>(),
            "unexpected": self.unexpected,
            "scheduler": self.scheduler,
            "metadata": self.metadata,
            "files": self.files.iter().map(|(path, bytes)| json!({"path": path.display().to_string(), "bytes": bytes}))
                .collect::<Vec<_>>(),
        })
    }
}

fn component(report: &ComponentReport) -> Json {
    let converted = &report.converted;
    let mut map = Map::new();
    let mut set = |name: &str, value: Json| map.insert(name.to_string(), value);
    set("component", json!(report.component.name()));
    set("names", json!(report.dialect.name()));
    set("matched", json!(report.matched));
    set(
        "converted",
        json!({
            "renamed": converted.renamed, "squeezed": converted.squeezed, "transposed": converted.transposed,
            "split": converted.split,
        }),
    );
    set("parameters", json!(report.parameters));
    set("bytes", json!(report.bytes));
    set("dtypes", json!(report.dtypes));
    let quantized = &report.quantized;
    set(
        "quantized",
        json!({"tensors": quantized.tensors, "parameters": quantized.parameters, "bytes": quantized.bytes}),
    );
    set("unused", report.unused.iter().map(unused).collect());
    let KeyMismatch {
        missing,
        unexpected,
        misshapen,
        wrong_dtype,
        not_finite: _, // found by reading values, which a report does not
    } = &report.mismatch;
    set("missing", json!(missing));
    set("unexpected", json!(unexpected));
    let misshapen = misshapen
        .iter()
        .map(|(key, wanted, found)| json!({"key": key, "wanted": wanted, "found": found}));
    set("misshapen", misshapen.collect());
    let wrong_dtype = wrong_dtype
        .iter()
        .map(|(key, dtype)| json!({"key": key, "dtype": dtype}));
    set("wrongDtype", wrong_dtype.collect());
    set("config", json!(report.config));
    Json::Object(map)
}

fn unused(key: &UnusedKey) -> Json {
    json!({"key": key.key, "reason": key.reason})
}
