//! Errors of the crates below, as errors of operations.

use std::io::ErrorKind as SystemKind;

use potstill_engine::EngineError;
use potstill_io::{HeaderError, ImageError, IoError};
use potstill_models::ModelError;

use super::error::OpError;

impl From<EngineError> for OpError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Shape { op, detail } => Self::input("ERR_TENSOR_SHAPE", detail).at(op),
            EngineError::DType { op, dtype, remedy } => {
                Self::input("ERR_TENSOR_DTYPE", format!("unsupported dtype {dtype:?}"))
                    .at(op)
                    .remedy(remedy)
            }
            EngineError::Device { op, device } => {
                Self::input("ERR_TENSOR_DEVICE", format!("no kernel for {device}")).at(op)
            }
            error @ EngineError::OutOfMemory { .. } => Self::machine("ERR_GPU_MEMORY", error),
            EngineError::Card { op, detail } => Self::machine("ERR_GPU", detail).at(op),
            EngineError::Graph { op, detail } => Self::input("ERR_GRADIENT_GRAPH", detail).at(op),
            EngineError::State { op, detail } => Self::input("ERR_OPTIMIZER_STATE", detail)
                .at(op)
                .remedy("Use the file that was saved with these weights."),
            EngineError::Candle(error) => Self::from(error),
        }
    }
}

impl From<candle_core::Error> for OpError {
    fn from(error: candle_core::Error) -> Self {
        Self::input("ERR_TENSOR", error)
    }
}

impl From<ModelError> for OpError {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Config { place, field, reason } => {
                Self::input("ERR_MODEL_CONFIG", format!("`{field}`: {reason}"))
                    .at(place)
                    .remedy("Take a model of the SD1.5 or SDXL family, with the configuration that it was saved with.")
            }
            ModelError::Keys { place, mismatch } => Self::input("ERR_MODEL_KEYS", mismatch).at(place).remedy(
                "Take weights and config.json of one model, intact; what is only unexpected, \
                 `potstill model convert --allow KEY` leaves out.",
            ),
            ModelError::Unsupported { place, what } => Self::input("ERR_MODEL_UNSUPPORTED", format!("this is {what}"))
                .at(place)
                .remedy("Only models of the SD1.5 and SDXL (base) families are read."),
            ModelError::File { path, reason } => Self::input("ERR_MODEL_FILE", reason)
                .at(path.display())
                .remedy("Check the path: a model is a single .safetensors file, or a folder as diffusers keeps it."),
            ModelError::Input { what, reason } => Self::input("ERR_MODEL_INPUT", format!("{what} {reason}"))
                .remedy("Compare it with the model's config.json."),
            ModelError::Engine(error) => error.into(),
            ModelError::Io(error) => error.into(),
            other => Self::input("ERR_MODEL", other),
        }
    }
}

impl From<IoError> for OpError {
    fn from(error: IoError) -> Self {
        match error {
            IoError::System { action, path, source } => {
                let what = format!("cannot {action} it: {source}");
                let (error, remedy) = match source.kind() {
                    SystemKind::NotFound | SystemKind::IsADirectory | SystemKind::NotADirectory => {
                        (Self::input("ERR_FILE_NOT_FOUND", what), "Check the path.")
                    }
                    SystemKind::StorageFull | SystemKind::QuotaExceeded => (
                        Self::machine("ERR_DISK_FULL", what),
                        "Free some space or choose another disk.",
                    ),
                    _ => (
                        Self::machine("ERR_FILE_ACCESS", what),
                        "Check its permissions, or choose another place.",
                    ),
                };
                error.at(path.display()).remedy(remedy)
            }
            IoError::Safetensors { path, source } => {
                let remedy = match &source {
                    HeaderError::Foreign { remedy, .. } => capitalised(remedy),
                    _ => "Replace it by an intact copy, or check that it is what this option takes.".to_owned(),
                };
                Self::input("ERR_SAFETENSORS", source).at(path.display()).remedy(remedy)
            }
        }
    }
}

impl From<ImageError> for OpError {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Decode { place, reason } => Self::input("ERR_IMAGE", reason)
                .at(place)
                .remedy("Give an intact PNG, JPEG or WebP picture."),
            other => Self::input("ERR_IMAGE", other),
        }
    }
}

/// As a sentence.
fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        format!("{}{}.", first.to_uppercase(), letters.as_str())
    })
}
