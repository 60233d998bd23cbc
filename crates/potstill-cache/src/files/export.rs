//! A cache in shards as the files layout.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use potstill_io::{Dtype, IoError, create_dir_durably};

use super::entry::FilesEntry;
use super::name::{DOWNSCALE, FilesName, MAX_SIDE};
use super::rule::DrawRule;
use super::stage::Stage;
use super::teacher::{TeacherFacts, assumed_time_ids};
use crate::component::ComponentId;
use crate::digest::Digest32;
use crate::error::CacheError;
use crate::plan::{Plan, PredictionField, PredictionKind, StorageDtype, TeacherPlan};
use crate::reader::CacheReader;
use crate::verify::Progress;

/// Version of the names of the first draw: what readers of the layout look for unless told otherwise.
const FIRST_VERSION: &str = "1";

/// What is exported.
pub struct ExportOptions<'a> {
    /// Names of the images (paths in their folder without the ending) by the digest of their files: what readers of the
    /// layout look for. An image that has none is called by its digest.
    pub image_ids: &'a BTreeMap<Digest32, Vec<String>>,
    /// Told of the files that are written and of those there will be.
    pub progress: Option<&'a dyn Progress>,
}

/// What was written, and what the files layout has no place for.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Exported {
    /// Teachers, each a folder.
    pub teachers: Vec<String>,
    /// Files written.
    pub files: u64,
    /// Images that are called by their digests, for want of a name.
    pub unnamed_images: u64,
    /// Samples of mirrored views: a reader knows an image by its name alone.
    pub flipped_samples: u64,
    /// Samples of an image and size that another sample has already: with another caption or crop.
    pub repeated_samples: u64,
    /// Unconditional predictions: a file has one prediction.
    pub uncond_predictions: u64,
    /// Latents.
    pub latents: u64,
    /// Teachers that predict something else than the noise, which readers take a prediction for.
    pub other_predictions: Vec<String>,
    /// Samples of SDXL that were predicted with another size conditioning than readers give, [W, H, 0, 0, W, H].
    pub other_time_ids: u64,
}

/// Writes the conditional predictions of all teachers of a cache as files, `out/{teacher}/{sha1}_{W}x{H}.safetensors`.
///
/// The folders appear when all of them are whole: an export that is stopped leaves none.
///
/// Draw k of an image has the version `1` when k is 0, else `1.k`. Noise is made from its seed and rounded as the
/// predictions are. Metadata say of which image, view and draw a file is, so that verification can make its seed, noise and
/// timestep anew, and of the teacher what it predicts, its plan's digest and the size conditioning.
///
/// # Errors
/// [`CacheError`] of the cache; [`CacheError::Occupied`] when a teacher's folder in `out` is not empty; [`CacheError::Entry`]
/// when a picture is larger than the layout's; [`CacheError::Io`].
pub fn export_files(cache: &CacheReader, out: &Path, options: &ExportOptions<'_>) -> Result<Exported, CacheError> {
    let teachers: Vec<String> = cache.teachers().map(str::to_owned).collect();
    for id in &teachers {
        require_empty(&out.join(id), id)?;
    }
    let mut exported = Exported {
        latents: cache.layout(&ComponentId::Latents)?.records(),
        ..Exported::default()
    };
    let mut todo = Vec::new();
    for id in &teachers {
        let plan = cache.teacher_plan(id)?;
        if plan.fields.contains(&PredictionField::Uncond) {
            exported.uncond_predictions += plan.samples.len() as u64 * u64::from(plan.draws);
        }
        if plan.fields.contains(&PredictionField::Cond) {
            if plan.prediction != PredictionKind::Epsilon {
                exported.other_predictions.push(id.clone());
            }
            let digest = Plan::Teacher(TeacherPlan::clone(plan)).digest()?;
            todo.push((id, plan, digest, samples(cache, plan, options, &mut exported)?));
        }
    }
    let total = todo
        .iter()
        .map(|(_, plan, _, samples)| samples.len() as u64 * u64::from(plan.draws))
        .sum();
    let Some((first, ..)) = todo.first() else {
        return Ok(exported);
    };
    let stage = Stage::begin(out, first)?;
    for (id, plan, digest, samples) in &todo {
        create_dir_durably(&stage.folder(id))?;
        for sample in samples {
            for draw in 0..plan.draws {
                let entry = entry(cache, id, (plan, *digest), sample, draw)?;
                entry.write(&stage.folder(id))?;
                exported.files += 1;
                if let Some(progress) = options.progress {
                    progress.bytes(exported.files, total);
                }
            }
        }
        exported.teachers.push((*id).clone());
    }
    stage.finish(&exported.teachers)?;
    Ok(exported)
}

/// A sample that becomes files.
struct Sample {
    /// Index into the plan's samples.
    index: u64,
    image_id: String,
}

fn require_empty(folder: &Path, id: &str) -> Result<(), CacheError> {
    let occupied = match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(IoError::system("read the folder", folder)(error).into()),
    };
    if occupied {
        return Err(CacheError::Occupied { folder: id.to_owned() });
    }
    Ok(())
}

/// The samples of a teacher that readers of the layout can tell apart.
fn samples(
    cache: &CacheReader,
    plan: &TeacherPlan,
    options: &ExportOptions<'_>,
    exported: &mut Exported,
) -> Result<Vec<Sample>, CacheError> {
    let views = &cache.latents_plan().views;
    let (mut kept, mut taken, mut unnamed) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let (mut flipped, mut repeated, mut conditioned) = (0, 0, 0);
    for (index, &(view, _)) in plan.samples.iter().enumerate() {
        let shown = &views[view as usize];
        let (width, height) = (shown.view.width, shown.view.height);
        if width.max(height) > MAX_SIDE || !width.is_multiple_of(DOWNSCALE) || !height.is_multiple_of(DOWNSCALE) {
            return Err(CacheError::Entry {
                path: format!("{}|{}", shown.image, shown.view),
                reason: format!(
                    "a file of the files layout has sides that are multiples of {DOWNSCALE} up to {MAX_SIDE}"
                ),
            });
        }
        if shown.view.flipped {
            flipped += 1;
            continue;
        }
        let ids = match options.image_ids.get(&shown.image) {
            Some(ids) if !ids.is_empty() => ids.clone(),
            _ => {
                unnamed.insert(shown.image);
                vec![shown.image.to_string()]
            }
        };
        let mut new = false;
        for image_id in ids {
            if taken.insert((image_id.clone(), width, height)) {
                new = true;
                kept.push(Sample {
                    index: index as u64,
                    image_id,
                });
            }
        }
        repeated += u64::from(!new);
        let time_ids = plan.time_ids.as_ref().and_then(|ids| ids.get(view as usize));
        let is_other = time_ids.is_some_and(|&ids| ids != assumed_time_ids(width, height));
        conditioned += u64::from(new && is_other);
    }
    // Of every teacher the same samples, or nearly so: the most that any has.
    exported.flipped_samples = exported.flipped_samples.max(flipped);
    exported.repeated_samples = exported.repeated_samples.max(repeated);
    exported.other_time_ids = exported.other_time_ids.max(conditioned);
    exported.unnamed_images = exported.unnamed_images.max(unnamed.len() as u64);
    Ok(kept)
}

fn entry(
    cache: &CacheReader,
    id: &str,
    (plan, digest): (&TeacherPlan, Digest32),
    sample: &Sample,
    draw: u32,
) -> Result<FilesEntry, CacheError> {
    let component = ComponentId::Teacher(id.to_owned());
    let layout = cache.layout(&component)?;
    let record = sample.index * u64::from(plan.draws) + u64::from(draw);
    let drawn = layout.draw(record)?;
    let (view, caption) = plan.samples[sample.index as usize];
    let shown = &cache.latents_plan().views[view as usize];
    let prediction = cache.read(&component, PredictionField::Cond.name(), &[record])?.values;
    let noise = cache.noise(id, &[record])?.values;
    let text = cache.text_plan();
    let states = cache.read(&ComponentId::Text, "encoder_hidden_states", &[u64::from(caption)])?;
    let pooled = match text.shape.pooled {
        Some(_) => Some(cache.read(&ComponentId::Text, "pooled", &[u64::from(caption)])?.values),
        None => None,
    };
    let version = version_of(draw);
    let rule = DrawRule {
        image: shown.image.to_string(),
        view: shown.view,
        draw,
        draws: plan.draws,
        base_seed: plan.noise.base_seed,
        timesteps: plan.timesteps,
    };
    let teacher = TeacherFacts {
        prediction: plan.prediction,
        plan: digest,
        time_ids: plan.time_ids.as_ref().and_then(|ids| ids.get(view as usize).copied()),
    };
    // Given draws follow no rule.
    let mut metadata = match plan.given {
        Some(_) => BTreeMap::new(),
        None => BTreeMap::from(rule.to_metadata()),
    };
    metadata.extend(teacher.to_metadata());
    for (key, value) in [
        ("image_id", sample.image_id.as_str()),
        ("teacher_id", id),
        ("version", &version),
    ] {
        metadata.insert(key.to_owned(), value.to_owned());
    }
    Ok(FilesEntry {
        name: FilesName::of(&sample.image_id, shown.view.width, shown.view.height, &version),
        seed: drawn.seed,
        timestep: drawn.timestep.into(),
        prediction,
        noise,
        text: [text.shape.tokens as usize, text.shape.width as usize],
        hidden_states: states.values,
        pooled,
        dtype: dtype_of(plan.dtype, text.dtype),
        metadata,
    })
}

/// The version in the name of a draw's file.
#[must_use]
pub(crate) fn version_of(draw: u32) -> String {
    if draw == 0 {
        FIRST_VERSION.to_owned()
    } else {
        format!("{FIRST_VERSION}.{draw}")
    }
}

/// One dtype for all floats of a file that loses nothing of either.
fn dtype_of(teacher: StorageDtype, text: StorageDtype) -> Dtype {
    if teacher == text { teacher.into() } else { Dtype::F32 }
}
