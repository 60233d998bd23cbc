//! Verification in a browser or in Node without a native binary: conversions, no logic.
//!
//! Built twice: without features, a small module that verifies a cache's structure and determinism; with `recompute`, a large
//! one that also has the engine and the models, and is loaded only to compute.
//!
//! Empty on other targets, so that a build of the whole workspace passes over it.
#![cfg(target_arch = "wasm32")]

#[cfg(feature = "recompute")]
mod compute;
#[cfg(feature = "recompute")]
mod files;
mod noise;
mod source;

use js_sys::{Error, Function, Reflect};
use potstill_cache::{CacheError, FilesImages, Level, Report, VerifyOptions};
use wasm_bindgen::prelude::*;

#[cfg(feature = "recompute")]
pub use compute::{Unet, Workload, hold_weights_up_to, kernel_class, recompute, use_kernels, workloads};
#[cfg(feature = "recompute")]
pub use files::JsFiles;
pub use noise::{TorchGenerator, draw_seed, philox_normals, stratified_timestep};
pub use source::JsSource;

/// Makes a panic an exception with its message; without this it would be a nameless trap.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|info| {
        wasm_bindgen::throw_str(&format!("potstill failed: {info}"))
    }));
}

/// The version of potstill.
#[wasm_bindgen]
#[must_use]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

/// Verifies a cache and returns the report as canonical JSON, byte for byte as the native addon does.
///
/// `level` is 1 (structure) or 2 (and determinism). `progress(done, total)` is told bytes. `images` names the images of a
/// cache in the files layout, as JSON: `{ ids, version, baseSeed }`.
///
/// # Errors
/// An `Error` with a stable `code` (`no-cache`, `unreadable`, `level` …) and mostly a `remedy`.
#[wasm_bindgen]
pub fn verify(
    source: JsSource,
    level: u32,
    progress: Option<Function>,
    images: Option<String>,
) -> Result<String, Error> {
    let level = match level {
        1 => Level::Structure,
        2 => Level::Determinism,
        _ => {
            let what = format!("there is no level {level} here");
            return Err(failure("level", &what, Some("Use 1 or 2.")));
        }
    };
    text(&report(&source, level, progress, images)?)
}

fn failed(error: CacheError) -> Error {
    failure(error.code(), &error.to_string(), error.remedy().as_deref())
}

fn text(report: &Report) -> Result<String, Error> {
    let json = report.to_json().map_err(failed)?;
    String::from_utf8(json).map_err(|error| failure("json", &error.to_string(), None))
}

fn report(
    source: &JsSource,
    level: Level,
    progress: Option<Function>,
    images: Option<String>,
) -> Result<Report, Error> {
    let tell = progress.map(teller);
    let images = images
        .map(|json| FilesImages::parse(&json))
        .transpose()
        .map_err(failed)?;
    let options = VerifyOptions {
        level,
        images: images.as_ref(),
        progress: tell.as_ref().map(|tell| tell as &dyn potstill_cache::Progress),
    };
    potstill_cache::verify(source, &options).map_err(failed)
}

/// Tells a callback of progress. What it throws is its own affair: verification goes on.
fn teller(callback: Function) -> impl Fn(u64, u64) {
    move |done: u64, total: u64| {
        let _ = callback.call2(
            &JsValue::NULL,
            &JsValue::from(done as f64),
            &JsValue::from(total as f64),
        );
    }
}

fn failure(code: &str, what: &str, remedy: Option<&str>) -> Error {
    let error = Error::new(what);
    for (key, text) in [("code", Some(code)), ("remedy", remedy)] {
        if let Some(text) = text {
            // A new object takes any property.
            let _ = Reflect::set(&error, &JsValue::from_str(key), &JsValue::from_str(text));
        }
    }
    error
}
