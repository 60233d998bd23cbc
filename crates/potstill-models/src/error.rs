//! What can go wrong between a folder of files and a prediction.

use std::fmt;
use std::path::PathBuf;

use potstill_engine::EngineError;

/// Result of every fallible function of this crate.
pub type Result<T> = std::result::Result<T, ModelError>;

/// An error that says what is wrong, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A field of a `config.json` (or of a scheduler's or tokenizer's) cannot be used.
    #[error("{place}: `{field}`: {reason}")]
    Config {
        /// The file, or the name of the component when there is no file.
        place: String,
        /// The JSON field.
        field: String,
        /// What is wrong with its value, and what is supported.
        reason: String,
    },
    /// Weights and configuration do not belong together.
    #[error("{place}: {mismatch}")]
    Keys {
        /// The file or folder that the weights came from.
        place: String,
        /// The keys concerned.
        mismatch: Box<KeyMismatch>,
    },
    /// A sound file of something else than a model of the SD1.5 or SDXL family.
    #[error("{place}: this is {what}; only models of the SD1.5 and SDXL (base) families are read")]
    Unsupported {
        /// The file or folder.
        place: String,
        /// What it is.
        what: String,
    },
    /// A file is absent, unreadable or not what its name says.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong and what would help.
        reason: String,
    },
    /// An argument of a call does not fit the model.
    #[error("{what}: {reason}")]
    Input {
        /// The argument.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// An error of the tensor engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An error of reading or writing a file.
    #[error(transparent)]
    Io(#[from] potstill_io::IoError),
}

impl From<candle_core::Error> for ModelError {
    fn from(error: candle_core::Error) -> Self {
        ModelError::Engine(error.into())
    }
}

impl ModelError {
    pub(crate) fn file(path: impl Into<PathBuf>, reason: impl fmt::Display) -> Self {
        ModelError::File {
            path: path.into(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn input(what: &'static str, reason: impl fmt::Display) -> Self {
        ModelError::Input {
            what,
            reason: reason.to_string(),
        }
    }
}

/// Every key in which a checkpoint differs from what its model asks for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct KeyMismatch {
    /// Asked for by the model, absent from the checkpoint.
    pub missing: Vec<String>,
    /// In the checkpoint, unknown to the model.
    pub unexpected: Vec<String>,
    /// In both, with different shapes: name, shape asked for, shape found.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// In both, but not stored as f16, bf16, f32 or f64: name, dtype.
    pub wrong_dtype: Vec<(String, &'static str)>,
    /// Tensors that hold NaN or infinity.
    pub not_finite: Vec<String>,
}

impl KeyMismatch {
    /// True when nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for KeyMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.missing.len(), "missing"),
            (self.unexpected.len(), "unexpected"),
            (self.misshapen.len(), "of another shape"),
            (self.wrong_dtype.len(), "of another dtype than f16, bf16, f32 and f64"),
            (self.not_finite.len(), "with NaN or infinity"),
        ];
        let parts: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        write!(f, "the weights do not fit the model: {}", parts.join(", "))?;
        for name in &self.missing {
            write!(f, "\n  missing: {name}")?;
        }
        for name in &self.unexpected {
            write!(f, "\n  unexpected: {name}")?;
        }
        for (name, wanted, found) in &self.misshapen {
            write!(f, "\n  {name}: shape {found:?}, the model asks for {wanted:?}")?;
        }
        for (name, dtype) in &self.wrong_dtype {
            write!(f, "\n  {name}: dtype {dtype}")?;
        }
        for name in &self.not_finite {
            write!(f, "\n  {name}: holds NaN or infinity")?;
        }
        Ok(())
    }
}
