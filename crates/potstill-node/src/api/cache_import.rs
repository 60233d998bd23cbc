//! Bringing predictions of the files layout into a cache.

use std::path::Path;

use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use potstill_cache::{FilesName, Plan, StorageDtype, import_teacher, survey_files};

use super::cache_errors::cache_error;
use super::cache_source::Cancellable;
use crate::core::{CancelToken, OpError, Result, run_job};

/// The draw that a file has.
#[napi(object)]
pub struct SurveyedDraw {
    /// Seed that it was drawn with, in decimal.
    pub seed: String,
    /// Its timestep.
    pub timestep: u32,
    /// BLAKE3 of its noise as it will be stored, in hex.
    pub noise: String,
}

/// What came of an import.
#[napi(object)]
pub struct ImportedRecords {
    /// Predictions, all of them there now.
    pub records: f64,
    /// Those whose file has another encoded caption than the cache.
    pub other_texts: f64,
}

/// What a file is called: the SHA-1 of `image_id|WxH|version`, and the size.
#[napi(catch_unwind)]
pub fn files_name(image_id: String, width: u32, height: u32, version: String) -> String {
    FilesName::of(&image_id, width, height, &version).to_string()
}

/// Reads the draws of files of a folder, in the order of their names.
#[napi(ts_return_type = "Promise<Outcome<Array<SurveyedDraw>>>", catch_unwind)]
pub fn survey_cache_files<'env>(
    env: &'env Env,
    files: String,
    folder: String,
    names: Vec<String>,
    #[napi(ts_arg_type = "'f16' | 'f32'")] dtype: String,
    cancel: &CancelToken,
) -> napi::Result<Object<'env>> {
    let cancel = cancel.clone();
    run_job(env, "import", move || {
        let dtype = match dtype.as_str() {
            "f16" => StorageDtype::F16,
            "f32" => StorageDtype::F32,
            _ => return Err(OpError::bug(format!("no dtype of a cache: {dtype}"))),
        };
        let names = parse(&names)?;
        let given = survey_files(&Cancellable::new(Path::new(&files), &cancel), &folder, &names, dtype);
        cancel.check()?;
        let given = given.map_err(cache_error(&files))?;
        let draws = given.into_iter().map(|draw| SurveyedDraw {
            seed: draw.seed.to_string(),
            timestep: draw.timestep,
            noise: draw.noise.to_string(),
        });
        Ok(draws.collect::<Vec<_>>())
    })
}

/// Writes and seals a teacher's component from files, one for each record.
#[napi(ts_return_type = "Promise<Outcome<ImportedRecords>>", catch_unwind)]
pub fn import_cache_files<'env>(
    env: &'env Env,
    cache: String,
    plan: String,
    files: String,
    folder: String,
    names: Vec<String>,
    cancel: &CancelToken,
) -> napi::Result<Object<'env>> {
    let cancel = cancel.clone();
    run_job(env, "import", move || {
        let plan = Plan::parse(plan.as_bytes()).map_err(|error| OpError::input("ERR_CACHE_PLAN", error).at(&cache))?;
        let Plan::Teacher(plan) = plan else {
            return Err(OpError::bug("a plan of a teacher was asked for"));
        };
        let source = Cancellable::new(Path::new(&files), &cancel);
        let imported = import_teacher(Path::new(&cache), &plan, &source, &folder, &parse(&names)?);
        cancel.check()?;
        let imported = imported.map_err(cache_error(&files))?;
        Ok(ImportedRecords {
            records: imported.records as f64,
            other_texts: imported.other_texts as f64,
        })
    })
}

fn parse(names: &[String]) -> Result<Vec<FilesName>> {
    let name = |name: &String| name.parse().map_err(|error| OpError::bug(format!("{error}")));
    names.iter().map(name).collect()
}
