//! What can be wrong with an adapter, and what to do about it.

use std::fmt;
use std::path::PathBuf;

/// Result of every fallible function of this crate.
pub type Result<T> = std::result::Result<T, AdapterError>;

/// A key of an adapter's file and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyProblem {
    /// The key, as stored.
    pub key: String,
    /// What is wrong.
    pub reason: String,
}

/// An error that says what is wrong, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// Keys that belong to no layer of the model, or do not fit it. All of them.
    #[error("{place}: {} keys do not fit {family}{}", problems.len(), Listed(problems))]
    Keys {
        /// The file or folder.
        place: String,
        /// What they were compared with.
        family: String,
        /// Every key that is wrong.
        problems: Vec<KeyProblem>,
    },
    /// A file that is absent or not what it seems.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong and what would help.
        reason: String,
    },
    /// Something that was asked for cannot be done.
    #[error("{what}: {reason}")]
    Input {
        /// What was asked for, or the module that it fails for.
        what: String,
        /// Why not, and what can be done instead.
        reason: String,
    },
    /// An error of reading or writing a file.
    #[error(transparent)]
    Io(#[from] potstill_io::IoError),
    /// An error of the model that an adapter is for.
    #[error(transparent)]
    Model(#[from] potstill_models::ModelError),
    /// An error of the arithmetic.
    #[error(transparent)]
    Engine(#[from] potstill_engine::EngineError),
}

impl From<candle_core::Error> for AdapterError {
    fn from(error: candle_core::Error) -> Self {
        Self::Engine(error.into())
    }
}

impl AdapterError {
    pub(crate) fn file(path: impl Into<PathBuf>, reason: impl fmt::Display) -> Self {
        Self::File {
            path: path.into(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn input(what: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self::Input {
            what: what.to_string(),
            reason: reason.to_string(),
        }
    }
}

struct Listed<'a>(&'a [KeyProblem]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|KeyProblem { key, reason }| write!(f, "\n  {key}: {reason}"))
    }
}
