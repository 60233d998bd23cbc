//! A checkpoint in another layout or dtype. What is not asked to change stays the same to the bit.

use std::path::{Path, PathBuf};

use potstill_io::Dtype;

use super::kinds::Component;
use super::opened::{Checkpoint, Layout};
use super::own_tokenizer::lost_tokenizers;
use super::part::Part;
use super::quantize::{Quantize, QuantizedComponent, Quantizer};
use super::write::{write_folder, write_single};
use crate::error::{ModelError, Result};

/// What [`convert_checkpoint`] is to write.
pub struct ConvertOptions<'a> {
    /// As a file or a folder.
    pub layout: Layout,
    /// f32, f16 or bf16; none keeps each tensor's own.
    pub dtype: Option<Dtype>,
    /// `modelspec.title`; none keeps the source's, else takes the source's name.
    pub title: Option<String>,
    /// Keys that belong to nothing known and may be left out: exact, or with a final `*` for the rest. Also `tokenizer` and
    /// `tokenizer_2`, which a file has no place for: one that is not CLIP's is lost.
    pub allow: &'a [String],
    /// A checkpoint whose VAE takes the place of the source's.
    pub vae: Option<&'a Checkpoint>,
    /// What changes weights on their way.
    pub edit: Option<&'a dyn WeightEdit>,
    /// What of the result is to be in fewer bits.
    pub quantize: Option<Quantize<'a>>,
}

/// Changes weights on their way into a converted checkpoint.
pub trait WeightEdit {
    /// Whether it changes the parameter of a component with this diffusers name. All others keep their bytes.
    fn changes(&self, component: Component, name: &str) -> bool;

    /// Changes the values of such a parameter, which are in diffusers' order. The same values give the same result: a
    /// file's are asked for twice, for its digest first.
    fn change(&self, component: Component, name: &str, values: &mut [f32]) -> Result<()>;
}

/// What [`convert_checkpoint`] has written.
#[derive(Debug, Clone, PartialEq)]
pub struct Converted {
    /// The files, in the order in which they were written.
    pub files: Vec<PathBuf>,
    /// Keys, and tokenizers' folders, that were left out because they were allowed to be.
    pub left_out: Vec<String>,
    /// Components of which the target has none because the source has none.
    pub absent: Vec<Component>,
    /// What was quantized.
    pub quantized: Vec<QuantizedComponent>,
}

/// Called before each tensor with the bytes written so far and in all; an error ends the conversion, leaving nothing.
pub type ConvertProgress<'a> = dyn FnMut(u64, u64) -> Result<()> + 'a;

/// What the writers need to know.
pub(super) struct Job<'a> {
    pub(super) source: &'a Checkpoint,
    pub(super) parts: Vec<&'a Part>,
    pub(super) dtype: Option<Dtype>,
    pub(super) title: String,
    pub(super) edit: Option<&'a dyn WeightEdit>,
    pub(super) quantizer: Option<&'a Quantizer<'a>>,
}

/// Writes `source` to `target`, which must not exist. It appears whole or not at all.
///
/// # Errors
/// [`ModelError::Keys`] with every key of the source that is missing, of another shape or dtype, or unexpected and not
/// allowed; [`ModelError::File`] when the target exists, or a file would lose a tokenizer that is not CLIP's;
/// [`ModelError::Input`] for codes that the layout or a component has no place for.
pub fn convert_checkpoint(
    source: &Checkpoint,
    target: &Path,
    options: &ConvertOptions,
    progress: &mut ConvertProgress<'_>,
) -> Result<Converted> {
    if target.exists() {
        return Err(ModelError::file(
            target,
            "exists already; remove it or choose another name",
        ));
    }
    if let Some(dtype) = options.dtype
        && !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::Bf16)
    {
        let reason = format!(
            "{} is not a dtype that weights are written in: f32, f16 or bf16",
            dtype.name()
        );
        return Err(ModelError::input("dtype", reason));
    }
    let mut left_out = refuse_misfits(source, options.allow)?;
    let mut parts: Vec<&Part> = source.parts.iter().collect();
    if let Some(other) = options.vae {
        refuse_misfits(other, options.allow)?;
        let vae = other
            .parts
            .iter()
            .find(|part| part.component == Component::Vae)
            .ok_or_else(|| ModelError::file(&other.path, "holds no vae; give a file or folder that has one"))?;
        parts.retain(|part| part.component != Component::Vae);
        parts.push(vae);
        parts.sort_by_key(|part| part.component);
    }
    let quantizer = options
        .quantize
        .map(|request| Quantizer::new(request, source, options.layout))
        .transpose()?;
    let job = Job {
        source,
        dtype: options.dtype,
        title: title(source, options),
        edit: options.edit,
        quantizer: quantizer.as_ref(),
        parts,
    };
    let files = match options.layout {
        Layout::File => {
            left_out.extend(lost_tokenizers(&job, |name| is_allowed(name, options.allow))?);
            write_single(&job, target, progress)?
        }
        Layout::Folder => write_folder(&job, target, progress)?,
    };
    let wanted = match source.kind {
        Some(kind) => kind.components(),
        None => &[],
    };
    let has = |component: &&Component| !job.parts.iter().any(|part| part.component == **component);
    Ok(Converted {
        files,
        left_out,
        absent: wanted.iter().filter(has).copied().collect(),
        quantized: quantizer.as_ref().map(Quantizer::report).unwrap_or_default(),
    })
}

/// The unexpected keys that may be left out.
fn refuse_misfits(checkpoint: &Checkpoint, allow: &[String]) -> Result<Vec<String>> {
    let mut mismatch = checkpoint.report()?.mismatch();
    let allowed = |key: &String| is_allowed(key, allow);
    let (left_out, unexpected) = mismatch.unexpected.into_iter().partition(allowed);
    mismatch.unexpected = unexpected;
    match mismatch.is_empty() {
        true => Ok(left_out),
        false => Err(ModelError::Keys {
            place: checkpoint.path.display().to_string(),
            mismatch: Box::new(mismatch),
        }),
    }
}

fn is_allowed(key: &str, allow: &[String]) -> bool {
    allow.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(start) => key.starts_with(start),
        None => key == pattern,
    })
}

fn title(source: &Checkpoint, options: &ConvertOptions) -> String {
    let kept = || source.metadata.get("modelspec.title").cloned();
    let name = || match source.layout {
        Layout::File => source.path.file_stem(),
        Layout::Folder => source.path.file_name(),
    };
    options
        .title
        .clone()
        .or_else(kept)
        .or_else(|| Some(name()?.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "model".to_string())
}
