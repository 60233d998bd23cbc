//! A single file with the names that ComfyUI, A1111 and kohya read.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use potstill_io::{Dtype, TensorSpec, f32_to_bytes, layout_header, write_safetensors};
use sha2::{Digest, Sha256};

use super::metadata::file_metadata;
use super::values::{bytes_as, dtype_of, piece_bytes};
use crate::checkpoint::coded::SCALED_MARK;
use crate::checkpoint::convert::{ConvertProgress, Job};
use crate::checkpoint::kinds::{Component, Storage};
use crate::checkpoint::names::{Stored, single_file_name};
use crate::checkpoint::opened::LOGIT_SCALE_KEY;
use crate::checkpoint::part::Part;
use crate::checkpoint::quantize::{Piece, PieceSpec, Quantizer};
use crate::checkpoint::scheduler::Marks;
use crate::checkpoint::sort::{V_PREDICTION, ZERO_TERMINAL_SNR};
use crate::checkpoint::weights::transpose;
use crate::error::{ModelError, Result};
use crate::model::ModelKind;

/// ln(1/0.07) rounded up as OpenCLIP trained it to its bound of ln 100; nothing that draws pictures reads it.
const LOGIT_SCALE: f32 = 4.6055;

/// ComfyUI takes a mark of two numbers for: multiply in the precision of the rest, with the weights as they decode.
const SCALED_MARK_LENGTH: usize = 2;

/// What a tensor of the file is made of.
pub(super) enum Content<'a> {
    /// Parameters of a component, one after the other, each so stored.
    Parameters {
        part: &'a Part,
        names: Vec<(String, Vec<usize>)>,
        storage: Storage,
    },
    /// A piece of a quantized parameter of this name and shape.
    Piece {
        part: &'a Part,
        name: String,
        shape: Vec<usize>,
        piece: Piece,
        quantizer: &'a Quantizer<'a>,
    },
    /// Given values.
    Constant(Vec<f32>),
    /// Given bytes.
    Bytes(Vec<u8>),
}

/// The tensors of the file.
pub(super) struct Plan<'a> {
    pub(super) specs: Vec<TensorSpec>,
    contents: Vec<Content<'a>>,
    job: &'a Job<'a>,
}

/// Writes the file.
pub(in crate::checkpoint) fn write_single(
    job: &Job,
    target: &Path,
    progress: &mut ConvertProgress<'_>,
) -> Result<Vec<PathBuf>> {
    let plan = plan(job)?;
    let total: u64 = plan.specs.iter().map(TensorSpec::bytes).sum();
    // Every byte is read twice: for the digest in the header, and for the file.
    let mut done = 0;
    let mut step = |bytes: u64| {
        progress(done, 2 * total)?;
        done += bytes;
        Ok::<(), ModelError>(())
    };
    let (_, order) = layout_header(&plan.specs, &BTreeMap::new()).map_err(potstill_io::IoError::safetensors(target))?;
    let mut digest = Sha256::new();
    for i in order {
        step(plan.specs[i].bytes())?;
        plan.write(i, &mut |bytes| {
            digest.update(bytes);
            Ok(())
        })?;
    }
    let hex: String = digest.finalize().iter().map(|b| format!("{b:02x}")).collect();
    let metadata = file_metadata(job, &plan, &hex)?;
    let mut failure = None;
    let written = write_safetensors(target, &plan.specs, &metadata, &mut |i, writer: &mut dyn Write| {
        let result = step(plan.specs[i].bytes()).and_then(|()| {
            plan.write(i, &mut |bytes| {
                writer.write_all(bytes).map_err(|e| ModelError::file(target, e))
            })
        });
        result.map_err(|error| {
            failure = Some(error);
            io::Error::other("the conversion ended")
        })
    });
    match failure {
        Some(error) => Err(error),
        None => Ok(written.map(|()| vec![target.to_path_buf()])?),
    }
}

/// The prefix of a component's keys. A file without a UNet holds one component, under its bare names.
pub(super) fn prefix(kind: Option<ModelKind>, component: Component) -> &'static str {
    match (kind, component) {
        (None, _) => "",
        (_, Component::Unet) => "model.diffusion_model.",
        (_, Component::Vae) => "first_stage_model.",
        (Some(ModelKind::Sd15), _) => "cond_stage_model.transformer.",
        (Some(ModelKind::Sdxl), Component::TextEncoder) => "conditioner.embedders.0.transformer.",
        (Some(ModelKind::Sdxl), Component::TextEncoder2) => "conditioner.embedders.1.model.",
    }
}

fn plan<'a>(job: &'a Job<'a>) -> Result<Plan<'a>> {
    let kind = job.source.kind;
    if kind.is_none() && job.parts.len() > 1 {
        let reason = "has several components but no UNet; only a whole model or one component make a single file";
        return Err(ModelError::file(&job.source.path, reason));
    }
    let mut plan = Plan {
        specs: Vec::new(),
        contents: Vec::new(),
        job,
    };
    for part in job.parts.iter().copied() {
        let mut index: BTreeMap<String, usize> = BTreeMap::new();
        for (name, shape) in part.config.shapes()? {
            let Some(Stored { key, storage }) = single_file_name(part.component, &part.config, &name) else {
                return Err(ModelError::file(
                    &job.source.path,
                    format!("`{name}` has no name in single files; keep this model as a folder"),
                ));
            };
            let key = format!("{}{key}", prefix(kind, part.component));
            if let Some(&i) = index.get(&key) {
                let spec = &mut plan.specs[i];
                spec.dtype = job.dtype.unwrap_or_else(|| holding(spec.dtype, dtype_of(part, &name)));
                if let Content::Parameters { names, .. } = &mut plan.contents[i] {
                    names.push((name, shape));
                }
                continue;
            }
            let quantizer = job.quantizer.filter(|q| q.takes(part.component, &name, &shape));
            if let Some(quantizer) = quantizer.filter(|_| storage == Storage::Same) {
                let rest = job.dtype.unwrap_or_else(|| dtype_of(part, &name));
                add_pieces(
                    &mut plan,
                    quantizer,
                    (part, &name, &shape),
                    quantizer.pieces(&key, &shape, rest),
                );
                continue;
            }
            index.insert(key.clone(), plan.specs.len());
            plan.specs.push(TensorSpec {
                name: key,
                dtype: job.dtype.unwrap_or_else(|| dtype_of(part, &name)),
                shape: stored_shape(&shape, storage),
            });
            plan.contents.push(Content::Parameters {
                part,
                names: vec![(name, shape)],
                storage,
            });
        }
    }
    if kind == Some(ModelKind::Sdxl) {
        add_sdxl_constants(job, &mut plan);
    }
    if job.quantizer.is_some() {
        plan.specs.push(TensorSpec {
            name: format!("{}{SCALED_MARK}", prefix(kind, Component::Unet)),
            dtype: Dtype::F8E4M3,
            shape: vec![SCALED_MARK_LENGTH],
        });
        plan.contents.push(Content::Bytes(vec![0; SCALED_MARK_LENGTH]));
    }
    Ok(plan)
}

fn add_pieces<'a>(
    plan: &mut Plan<'a>,
    quantizer: &'a Quantizer<'a>,
    (part, name, shape): (&'a Part, &str, &[usize]),
    pieces: Vec<PieceSpec>,
) {
    for PieceSpec {
        piece,
        key,
        dtype,
        shape: stored,
    } in pieces
    {
        plan.specs.push(TensorSpec {
            name: key,
            dtype,
            shape: stored,
        });
        plan.contents.push(Content::Piece {
            part,
            name: name.to_string(),
            shape: shape.to_vec(),
            piece,
            quantizer,
        });
    }
}

/// The smallest dtype that has every value of both: thirds of one tensor may be stored in different ones.
fn holding(a: Dtype, b: Dtype) -> Dtype {
    match (a, b) {
        (a, b) if a == b => a,
        (Dtype::F64, _) | (_, Dtype::F64) => Dtype::F64,
        _ => Dtype::F32,
    }
}

/// OpenCLIP's scale, and ComfyUI's marks of the prediction type.
fn add_sdxl_constants(job: &Job, plan: &mut Plan) {
    let mut add = |name: &str, dtype: Dtype, shape: &[usize], values: Vec<f32>| {
        plan.specs.push(TensorSpec {
            name: name.to_string(),
            dtype,
            shape: shape.to_vec(),
        });
        plan.contents.push(Content::Constant(values));
    };
    if let Some(part) = job.parts.iter().find(|part| part.component == Component::TextEncoder2) {
        let (scale, stated) = job.source.logit_scale.unwrap_or((LOGIT_SCALE, None));
        let dtype = job.dtype.or(stated);
        let dtype = dtype.unwrap_or_else(|| dtype_of(part, "text_model.final_layer_norm.weight"));
        add(LOGIT_SCALE_KEY, dtype, &[], vec![scale]);
    }
    let marks = Marks::of_config(&job.source.scheduler);
    if marks.v_prediction {
        add(V_PREDICTION, Dtype::F32, &[0], Vec::new());
        if marks.zero_terminal_snr {
            add(ZERO_TERMINAL_SNR, Dtype::F32, &[0], Vec::new());
        }
    }
}

fn stored_shape(shape: &[usize], storage: Storage) -> Vec<usize> {
    let mut stored = shape.to_vec();
    match storage {
        Storage::Same => {}
        Storage::Squeezed => stored.extend([1, 1]),
        Storage::Transposed => stored.reverse(),
        Storage::Third(_) => stored[0] *= 3,
    }
    stored
}

impl Plan<'_> {
    /// Gives the bytes of tensor `i` to `sink`.
    fn write(&self, i: usize, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let dtype = self.specs[i].dtype;
        let (part, names, storage) = match &self.contents[i] {
            Content::Constant(values) => {
                let bytes = f32_to_bytes(values, dtype).map_err(|e| ModelError::input("dtype", e))?;
                return sink(&bytes);
            }
            Content::Bytes(bytes) => return sink(bytes),
            Content::Piece {
                part,
                name,
                shape,
                piece,
                quantizer,
            } => {
                sink(&piece_bytes(self.job, quantizer, part, (name, shape), *piece)?)?;
                part.weights.release(name);
                return Ok(());
            }
            Content::Parameters { part, names, storage } => (part, names, *storage),
        };
        // Thirds come in the order of the names, which is query, key, value only by chance.
        let third = |name: &str| {
            single_file_name(part.component, &part.config, name).map_or(Storage::Same, |stored| stored.storage)
        };
        let mut ordered: Vec<_> = names.iter().collect();
        ordered.sort_by_key(|(name, _)| third(name));
        for (name, shape) in ordered {
            let bytes = bytes_as(part, name, dtype, self.job.edit)?;
            match storage {
                Storage::Transposed => sink(&transpose(&bytes, shape, dtype.size()))?,
                _ => sink(&bytes)?,
            }
            part.weights.release(name);
        }
        Ok(())
    }
}
