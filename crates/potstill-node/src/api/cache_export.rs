//! Writing a cache in another layout.

use std::collections::BTreeMap;
use std::path::Path;

use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use potstill_cache::{CacheReader, Digest32, ExportOptions, export_files};

use super::cache_errors::cache_error;
use super::cache_source::scattered_source;
use super::cache_verify::VerificationProgress;
use crate::core::{CancelToken, OpError, run_job};

/// What the files layout calls an image.
#[napi(object)]
pub struct NamedImage {
    /// SHA-256 of its file, in hex.
    pub digest: String,
    /// Its path in the folder of images, without the ending.
    pub id: String,
}

/// What was written, and what the files layout has no place for.
#[napi(object)]
pub struct ExportedCache {
    /// Teachers, each a folder.
    pub teachers: Vec<String>,
    /// Files written.
    pub files: f64,
    /// Images that are called by their digests, for want of a name.
    pub unnamed_images: f64,
    /// Samples of mirrored views.
    pub flipped_samples: f64,
    /// Samples of an image and size that another sample has already.
    pub repeated_samples: f64,
    /// Unconditional predictions.
    pub uncond_predictions: f64,
    /// Latents.
    pub latents: f64,
    /// Teachers that predict something else than the noise.
    pub other_predictions: Vec<String>,
    /// Samples of SDXL that were predicted with another size conditioning than readers give.
    pub other_time_ids: f64,
}

/// Writes a cache in the files layout. Progress counts files.
#[napi(ts_return_type = "Promise<Outcome<ExportedCache>>", catch_unwind)]
pub fn export_cache<'env>(
    env: &'env Env,
    cache: String,
    out: String,
    images: Vec<NamedImage>,
    progress: &VerificationProgress,
    cancel: &CancelToken,
) -> napi::Result<Object<'env>> {
    let (progress, cancel) = (progress.clone(), cancel.clone());
    run_job(env, "export", move || {
        let mut image_ids: BTreeMap<Digest32, Vec<String>> = BTreeMap::new();
        for NamedImage { digest, id } in images {
            let key = Digest32::from_hex(&digest).ok_or_else(|| OpError::bug(format!("{digest} is no digest")))?;
            image_ids.entry(key).or_default().push(id);
        }
        let source = scattered_source(&cache, &cancel)?;
        let options = ExportOptions {
            image_ids: &image_ids,
            progress: Some(&progress),
        };
        let exported =
            CacheReader::open(source, None).and_then(|reader| export_files(&reader, Path::new(&out), &options));
        cancel.check()?;
        let exported = exported.map_err(cache_error(&cache))?;
        Ok(ExportedCache {
            teachers: exported.teachers,
            files: exported.files as f64,
            unnamed_images: exported.unnamed_images as f64,
            flipped_samples: exported.flipped_samples as f64,
            repeated_samples: exported.repeated_samples as f64,
            uncond_predictions: exported.uncond_predictions as f64,
            latents: exported.latents as f64,
            other_predictions: exported.other_predictions,
            other_time_ids: exported.other_time_ids as f64,
        })
    })
}
