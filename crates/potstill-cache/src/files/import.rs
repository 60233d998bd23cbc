//! The predictions of a teacher from the files layout into shards.

use std::path::Path;

use potstill_io::{Dtype, f32_to_bytes};

use super::entry::FilesEntry;
use super::files_path;
use super::name::FilesName;
use crate::builder::Builder;
use crate::component::ComponentId;
use crate::digest::Digest32;
use crate::error::CacheError;
use crate::folder::FolderSource;
use crate::layout::{HIDDEN_STATES, NOISE};
use crate::plan::{GivenDraw, Plan, PredictionField, StorageDtype, TeacherPlan};
use crate::reader::CacheReader;
use crate::source::Source;

/// Relative difference of encoded captions that rounding alone makes: f16 and bf16, and encoders run in them.
const TEXT_TOLERANCE: f64 = 0.02;

/// What came of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImportedTeacher {
    /// Predictions, all of them there now.
    pub records: u64,
    /// Those of them whose file has another encoded caption than the cache that they come into: another encoder, or another
    /// caption.
    pub other_texts: u64,
}

/// The draws of files, in the order of their names, as a plan gives them.
///
/// # Errors
/// [`CacheError`] of the first file that is missing or not of the layout.
pub fn survey_files<S: Source + ?Sized>(
    source: &S,
    folder: &str,
    names: &[FilesName],
    dtype: StorageDtype,
) -> Result<Vec<GivenDraw>, CacheError> {
    let given = |name: &FilesName| {
        let path = files_path(folder, name);
        let entry = FilesEntry::read(source, &path)?;
        let timestep = u32::try_from(entry.timestep).map_err(|_| CacheError::Entry {
            path: path.clone(),
            reason: format!("timestep {} is none", entry.timestep),
        })?;
        // Cannot fail: a dtype of storage is one of floats.
        let bytes = f32_to_bytes(&entry.noise, Dtype::from(dtype)).unwrap_or_default();
        Ok(GivenDraw {
            seed: entry.seed,
            timestep,
            noise: Digest32(blake3::hash(&bytes).into()),
        })
    };
    names.iter().map(given).collect()
}

/// Writes what is missing of a teacher's component and seals it: record i is the file `names[i]` of `folder`, whose draw is
/// that of the plan. Latents and text must be sealed.
///
/// # Errors
/// [`CacheError::Entry`] naming a file that is not of the layout, or not the one that the plan was made of; what
/// [`Builder`] gives, [`CacheError::Sealed`] among it.
pub fn import_teacher<S: Source + ?Sized>(
    cache: &Path,
    plan: &TeacherPlan,
    source: &S,
    folder: &str,
    names: &[FilesName],
) -> Result<ImportedTeacher, CacheError> {
    let reader = CacheReader::open(Box::new(FolderSource::new(cache)), Some(&[]))?;
    let builder = Builder::begin(cache, &Plan::Teacher(plan.clone()))?;
    let done = builder.done()?;
    let mut imported = ImportedTeacher {
        records: builder.layout().records(),
        other_texts: 0,
    };
    for range in builder.layout().shards() {
        let mut writer = builder.shard(range.index)?;
        let is_missing = done.binary_search(&range.index).is_err();
        for record in range.start..range.start + u64::from(range.records) {
            let name = names.get(record as usize).ok_or_else(|| CacheError::OutOfRange {
                component: builder.component().clone(),
                what: format!("file for record {record}"),
            })?;
            let path = files_path(folder, name);
            let entry = FilesEntry::read(source, &path)?;
            let draw = builder.layout().draw(record)?;
            if (entry.seed, entry.timestep) != (draw.seed, i64::from(draw.timestep)) {
                return Err(CacheError::Entry {
                    path,
                    reason: "changed while it was imported".to_owned(),
                });
            }
            let (_, caption) = plan.samples[(record / u64::from(plan.draws)) as usize];
            imported.other_texts += u64::from(!is_same_text(&reader, caption, &entry)?);
            if is_missing {
                writer.put(PredictionField::Cond.name(), &entry.prediction)?;
                writer.put(NOISE, &entry.noise)?;
            }
        }
        if is_missing {
            writer.finish()?;
        }
    }
    builder.seal()?;
    Ok(imported)
}

fn is_same_text(reader: &CacheReader, caption: u32, entry: &FilesEntry) -> Result<bool, CacheError> {
    let states = reader.read(&ComponentId::Text, HIDDEN_STATES, &[caption.into()])?;
    if states.shape[1..] != entry.text {
        return Ok(false);
    }
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let pairs = states.values.iter().zip(&entry.hidden_states);
    let difference = square(&mut pairs.map(|(&a, &b)| f64::from(a) - f64::from(b)));
    let length = square(&mut states.values.iter().map(|&v| f64::from(v)));
    Ok(difference <= TEXT_TOLERANCE * TEXT_TOLERANCE * length)
}
