//! What can go wrong in an operation.

use candle_core::DType;

/// The result of an engine operation.
pub type Result<T> = std::result::Result<T, EngineError>;

/// An operation that could not be done.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Shapes that do not fit together, or a geometry without an output.
    #[error("{op}: {detail}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// The shapes found and what was expected.
        detail: String,
    },
    /// A data type that the operation does not compute in.
    #[error("{op}: unsupported dtype {dtype:?}; {remedy}")]
    DType {
        /// The operation.
        op: &'static str,
        /// The data type found.
        dtype: DType,
        /// What to do instead.
        remedy: &'static str,
    },
    /// A device that has no kernel for the operation.
    #[error("{op}: no kernel for {device}; move the tensors to the CPU")]
    Device {
        /// The operation.
        op: &'static str,
        /// The device found.
        device: String,
    },
    /// A card without enough memory left.
    #[error("{op}: the GPU has too little free memory; use a smaller batch, smaller images, recomputation or bf16")]
    OutOfMemory {
        /// The operation.
        op: &'static str,
    },
    /// A call of the driver or of a CUDA library that failed.
    #[error("{op}: {detail}")]
    Card {
        /// The operation.
        op: &'static str,
        /// What the driver or the library said.
        detail: String,
    },
    /// Misuse of the graph: a second backward, a captured value, a gradient of another shape.
    #[error("{op}: {detail}")]
    Graph {
        /// The operation.
        op: &'static str,
        /// What was wrong.
        detail: String,
    },
    /// State of an optimizer or of a moving average that does not belong to its parameters.
    #[error("{op}: {detail}")]
    State {
        /// Whose state.
        op: &'static str,
        /// What was wrong.
        detail: String,
    },
    /// An error of the tensor library.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl EngineError {
    pub(crate) fn shape(op: &'static str, detail: impl Into<String>) -> Self {
        EngineError::Shape {
            op,
            detail: detail.into(),
        }
    }

    /// An error of a card: told apart when there is no memory left.
    #[cfg(feature = "cuda")]
    pub(crate) fn of_card(op: &'static str, error: candle_core::Error) -> Self {
        let detail = error.to_string();
        if detail.contains("CUDA_ERROR_OUT_OF_MEMORY") || detail.contains("out of memory") {
            return EngineError::OutOfMemory { op };
        }
        EngineError::Card { op, detail }
    }

    pub(crate) fn graph(op: &'static str, detail: impl Into<String>) -> Self {
        EngineError::Graph {
            op,
            detail: detail.into(),
        }
    }

    pub(crate) fn state(op: &'static str, detail: impl Into<String>) -> Self {
        EngineError::State {
            op,
            detail: detail.into(),
        }
    }
}

/// Returns an [`EngineError::Shape`] unless the condition holds.
macro_rules! ensure_shape {
    ($condition:expr, $op:expr, $($detail:tt)+) => {
        if !$condition {
            return Err($crate::error::EngineError::shape($op, format!($($detail)+)));
        }
    };
}
pub(crate) use ensure_shape;
