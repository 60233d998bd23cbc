//! What can be wrong with a file.

use std::path::{Path, PathBuf};

/// A safetensors header (or one of its tensors) that does not mean what it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the fields are named in the messages
pub enum HeaderError {
    #[error("the file has {length} bytes, fewer than the 8 of a safetensors length field")]
    TooShort { length: u64 },
    #[error("it is {format}, which is not read")]
    Foreign { format: &'static str, remedy: &'static str },
    #[error("the header claims {claimed} bytes; at most {limit} are read")]
    HeaderTooLarge { claimed: u64, limit: u64 },
    #[error(
        "the header claims {claimed} bytes, but only {available} follow the length field: truncated, or no safetensors file"
    )]
    HeaderBeyondEnd { claimed: u64, available: u64 },
    #[error("the header is not UTF-8")]
    NotUtf8,
    #[error("the header is no JSON object of tensors: {reason}")]
    Json { reason: String },
    #[error("the name {name:?} appears twice in the header")]
    DuplicateName { name: String },
    #[error("tensor {name:?} has the unknown dtype {dtype:?}")]
    UnknownDtype { name: String, dtype: String },
    #[error("tensor {name:?} has {rank} dimensions; at most {limit} are read")]
    RankTooLarge { name: String, rank: usize, limit: usize },
    #[error("the size of tensor {name:?} with shape {shape:?} overflows")]
    ShapeOverflow { name: String, shape: Vec<u64> },
    #[error("tensor {name:?} has offsets [{start}, {end}): the end lies before the start")]
    ReversedOffsets { name: String, start: u64, end: u64 },
    #[error("tensor {name:?} needs {needed} bytes for its shape, but its offsets span {spanned}")]
    SizeMismatch { name: String, needed: u64, spanned: u64 },
    #[error("tensor {name:?} starts at {start}, before the previous one's end at {previous_end}: they overlap")]
    Overlap {
        name: String,
        start: u64,
        previous_end: u64,
    },
    #[error("tensor {name:?} starts at {start}, after the previous one's end at {previous_end}: there is a gap")]
    Gap {
        name: String,
        start: u64,
        previous_end: u64,
    },
    #[error("the tensors end at {described} of {present} data bytes: {}", if described > present { "the file is truncated" } else { "it has bytes that nothing describes" })]
    DataLength { described: u64, present: u64 },
    #[error("a tensor of dtype {dtype} is not one of floats (F16, BF16, F32, F64)")]
    NotFloat { dtype: &'static str },
    #[error("{bytes} bytes do not fit the elements of dtype {dtype} that are expected")]
    PartialElement { bytes: usize, dtype: &'static str },
    #[error("there is no tensor {name:?}")]
    NoSuchTensor { name: String },
}

impl HeaderError {
    /// A stable name of the kind of damage, for reports.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooShort { .. } => "too-short",
            Self::Foreign { .. } => "foreign-format",
            Self::HeaderTooLarge { .. } => "header-too-large",
            Self::HeaderBeyondEnd { .. } => "header-beyond-end",
            Self::NotUtf8 => "header-not-utf8",
            Self::Json { .. } => "header-json",
            Self::DuplicateName { .. } => "duplicate-name",
            Self::UnknownDtype { .. } => "unknown-dtype",
            Self::RankTooLarge { .. } => "rank-too-large",
            Self::ShapeOverflow { .. } => "shape-overflow",
            Self::ReversedOffsets { .. } => "reversed-offsets",
            Self::SizeMismatch { .. } => "size-mismatch",
            Self::Overlap { .. } => "overlap",
            Self::Gap { .. } => "gap",
            Self::DataLength { .. } => "data-length",
            Self::NotFloat { .. } => "not-float",
            Self::PartialElement { .. } => "partial-element",
            Self::NoSuchTensor { .. } => "no-such-tensor",
        }
    }
}

/// A failed read or write, with the file that it was about.
#[derive(Debug, thiserror::Error)]
pub enum IoError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    System {
        /// What was tried: "open", "write" …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is no sound safetensors file.
    #[error("{}: {source}{}", path.display(), remedy(source))]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: HeaderError,
    },
}

impl IoError {
    /// For `map_err`: an I/O error of `action` on `path`.
    pub fn system(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::System { action, path, source }
    }

    /// For `map_err`: a malformed file.
    pub fn safetensors(path: &Path) -> impl FnOnce(HeaderError) -> Self {
        let path = path.to_owned();
        move |source| Self::Safetensors { path, source }
    }
}

/// What to do about a malformed file, as the end of its message.
fn remedy(error: &HeaderError) -> String {
    match error {
        HeaderError::Foreign { remedy, .. } => format!("; {remedy}"),
        _ => "; replace it by an intact copy".to_owned(),
    }
}
