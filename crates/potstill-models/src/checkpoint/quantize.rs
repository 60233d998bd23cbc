//! Matrices written in fewer bits: in which codes, which of them, and how far the result is from what was there.

use std::cell::RefCell;
use std::collections::BTreeMap;

pub use potstill_engine::quant::Format as QuantFormat;
use potstill_engine::quant::{CodingError, Packed, nf4};
use potstill_io::Dtype;
use serde_json::{Map, Value as Json, json};

use super::coded::{ABSMAX, MAP, ROW_FORMAT, ROW_SCALES, SCALE, STATE, WEIGHT};
use super::kinds::Component;
use super::opened::{Checkpoint, Layout};
use crate::error::{ModelError, Result};
use crate::nn::{is_packable, out_of_range};

/// Where diffusers' and transformers' `config.json` says how weights are quantized.
pub(super) const QUANTIZATION: &str = "quantization_config";

/// Where programs look for weights in a format: bitsandbytes' in diffusers folders, scaled eight-bit floats in ComfyUI's single
/// files.
fn layout_of(format: QuantFormat) -> Layout {
    match format {
        QuantFormat::Nf4 | QuantFormat::Int8 => Layout::Folder,
        QuantFormat::Fp8 => Layout::File,
    }
}

/// What is to be quantized on its way into another checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct Quantize<'a> {
    /// In which codes.
    pub format: QuantFormat,
    /// Of which components; all others keep their weights. A VAE has too few matrices to be one of them.
    pub components: &'a [Component],
}

/// What quantizing has done to a component.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedComponent {
    /// Which.
    pub component: Component,
    /// Matrices that are in codes now.
    pub tensors: usize,
    /// Values in them.
    pub parameters: u64,
    /// Bytes of their codes and scales.
    pub bytes: u64,
    /// ‖decoded − values‖ / ‖values‖ over all of them.
    pub error: f64,
    /// The matrix with the largest such error.
    pub worst: String,
    /// Its error.
    pub worst_error: f64,
}

/// One of the tensors that a quantized matrix is kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    Codes,
    Scales,
    /// What 4-bit codes stand for.
    Map,
    /// How 4-bit codes are to be read.
    State,
    /// That int8's scales are of rows.
    RowFormat,
}

impl Piece {
    /// Whether it depends on the matrix's values.
    pub(super) fn needs_values(self) -> bool {
        matches!(self, Self::Codes | Self::Scales)
    }
}

/// A tensor to write for a piece.
pub(super) struct PieceSpec {
    pub(super) piece: Piece,
    pub(super) key: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
}

struct Measured {
    error: CodingError,
    parameters: u64,
    bytes: u64,
}

/// Quantizes matrices as they are written, and remembers what that did to them.
pub(super) struct Quantizer<'a> {
    request: Quantize<'a>,
    measured: RefCell<BTreeMap<(Component, String), Measured>>,
}

impl<'a> Quantizer<'a> {
    /// # Errors
    /// When the codes have no place in the layout, a component cannot be quantized or is not there, or is quantized already.
    pub(super) fn new(request: Quantize<'a>, source: &Checkpoint, layout: Layout) -> Result<Self> {
        let format = request.format;
        if layout != layout_of(format) {
            let reason = match layout_of(format) {
                Layout::Folder => format!(
                    "{} is kept in diffusers folders; name a folder, or take fp8",
                    format.name()
                ),
                Layout::File => {
                    "fp8 is kept in single files; name a .safetensors file, or take nf4 or int8".to_string()
                }
            };
            return Err(ModelError::input("format", reason));
        }
        for &component in request.components {
            let allowed = match format {
                QuantFormat::Fp8 => component == Component::Unet,
                QuantFormat::Nf4 | QuantFormat::Int8 => component != Component::Vae,
            };
            if !allowed {
                let reason = format!("{component} is not written in {}; leave it out", format.name());
                return Err(ModelError::input("components", reason));
            }
            let Some(part) = source.parts.iter().find(|part| part.component == component) else {
                return Err(ModelError::file(
                    &source.path,
                    format!("holds no {component} to quantize"),
                ));
            };
            let coded = |name: &str| {
                part.weights
                    .locate(name)
                    .is_some_and(|(place, _)| place.coding.is_some())
            };
            if part.weights.names().any(coded) {
                let reason = format!("its {component} is quantized already; give what it was made from");
                return Err(ModelError::file(&source.path, reason));
            }
        }
        Ok(Self {
            request,
            measured: RefCell::default(),
        })
    }

    /// Whether a parameter is put into codes.
    pub(super) fn takes(&self, component: Component, name: &str, shape: &[usize]) -> bool {
        self.request.components.contains(&component) && is_packable(name, shape)
    }

    /// The tensors of a matrix of this shape whose key is `key`.
    pub(super) fn pieces(&self, key: &str, shape: &[usize], rest: Dtype) -> Vec<PieceSpec> {
        let layer = key.strip_suffix(WEIGHT).unwrap_or(key);
        let count: usize = shape.iter().product();
        let spec = |piece: Piece, key: String, dtype: Dtype, shape: &[usize]| PieceSpec {
            piece,
            key,
            dtype,
            shape: shape.to_vec(),
        };
        match self.request.format {
            QuantFormat::Nf4 => vec![
                spec(Piece::Codes, key.to_string(), Dtype::U8, &[count.div_ceil(2), 1]),
                spec(
                    Piece::Scales,
                    format!("{key}{ABSMAX}"),
                    Dtype::F32,
                    &[count.div_ceil(nf4::BLOCK)],
                ),
                spec(Piece::Map, format!("{key}{MAP}"), Dtype::F32, &[nf4::VALUES.len()]),
                spec(
                    Piece::State,
                    format!("{key}{STATE}nf4"),
                    Dtype::U8,
                    &[state(shape, rest).len()],
                ),
            ],
            QuantFormat::Int8 => vec![
                spec(Piece::Codes, key.to_string(), Dtype::I8, shape),
                spec(Piece::Scales, format!("{layer}{ROW_SCALES}"), Dtype::F32, &shape[..1]),
                spec(Piece::RowFormat, format!("{layer}{ROW_FORMAT}"), Dtype::U8, &[]),
            ],
            QuantFormat::Fp8 => vec![
                spec(Piece::Codes, key.to_string(), Dtype::F8E4M3, shape),
                spec(Piece::Scales, format!("{layer}{SCALE}"), Dtype::F32, &[]),
            ],
        }
    }

    /// The bytes of a piece of a matrix with these values.
    ///
    /// # Errors
    /// When a value is not finite, or int8, which starts from half floats, has no room for it.
    pub(super) fn bytes(
        &self,
        (component, name): (Component, &str),
        piece: Piece,
        values: &[f32],
        (shape, rest): (&[usize], Dtype),
    ) -> Result<Vec<u8>> {
        let columns = shape.last().copied().unwrap_or(1);
        let format = self.request.format;
        match piece {
            Piece::Map => return Ok(floats(&nf4::VALUES)),
            Piece::State => return Ok(state(shape, rest)),
            Piece::RowFormat => return Ok(vec![0]),
            Piece::Scales => return Ok(floats(&format.scales(values, columns))),
            Piece::Codes => {}
        }
        if !values.iter().all(|v| v.is_finite()) {
            return Err(ModelError::input("weights", format!("`{name}` holds NaN or infinity")));
        }
        let packed = Packed::of(values, columns, format).ok_or_else(|| out_of_range(name))?;
        let measured = Measured {
            error: CodingError::between(values, &packed.values()),
            parameters: values.len() as u64,
            bytes: packed.bytes() as u64,
        };
        // A single file's tensors are asked for twice; what was measured is the same.
        let key = (component, name.to_string());
        self.measured.borrow_mut().insert(key, measured);
        Ok(packed.codes().to_vec())
    }

    /// What diffusers and transformers keep in a quantized component's `config.json`; none for codes that they do not read.
    pub(super) fn config(&self, component: Component, rest: Dtype) -> Option<Map<String, Json>> {
        let four_bit = match self.request.format {
            QuantFormat::Nf4 => true,
            QuantFormat::Int8 => false,
            QuantFormat::Fp8 => return None,
        };
        if !self.request.components.contains(&component) {
            return None;
        }
        let kept = match component {
            Component::TextEncoder | Component::TextEncoder2 => json!(["text_projection"]),
            Component::Unet | Component::Vae => Json::Null,
        };
        let config = json!({
            "quant_method": "bitsandbytes",
            "load_in_4bit": four_bit,
            "load_in_8bit": !four_bit,
            "bnb_4bit_compute_dtype": torch_name(rest),
            "bnb_4bit_quant_storage": "uint8",
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": false,
            "llm_int8_enable_fp32_cpu_offload": false,
            "llm_int8_has_fp16_weight": false,
            "llm_int8_skip_modules": kept,
            "llm_int8_threshold": 6.0,
        });
        config.as_object().cloned()
    }

    /// What was done, by component.
    pub(super) fn report(&self) -> Vec<QuantizedComponent> {
        let measured = self.measured.borrow();
        let of = |&component: &Component| {
            let mut all = measured.iter().filter(|((owner, _), _)| *owner == component).peekable();
            let ((_, first), _) = all.peek()?;
            let mut report = QuantizedComponent {
                component,
                tensors: 0,
                parameters: 0,
                bytes: 0,
                error: 0.,
                worst: first.clone(),
                worst_error: 0.,
            };
            let mut sum = CodingError::default();
            for ((_, name), one) in all {
                report.tensors += 1;
                report.parameters += one.parameters;
                report.bytes += one.bytes;
                sum = sum.plus(one.error);
                if one.error.relative() > report.worst_error {
                    (report.worst, report.worst_error) = (name.clone(), one.error.relative());
                }
            }
            report.error = sum.relative();
            Some(report)
        };
        Component::ALL.iter().filter_map(of).collect()
    }
}

/// How bitsandbytes is to read 4-bit codes: JSON.
fn state(shape: &[usize], rest: Dtype) -> Vec<u8> {
    let state = json!({"quant_type": "nf4", "blocksize": nf4::BLOCK, "dtype": torch_name(rest), "shape": shape});
    state.to_string().into_bytes()
}

fn torch_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F16 => "float16",
        Dtype::Bf16 => "bfloat16",
        _ => "float32",
    }
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}
