//! Which parameters can be kept in codes.

use crate::error::ModelError;

/// Whether a parameter of diffusers' shape `shape` is put into codes: the weights of linear layers, as bitsandbytes has it. A
/// text encoder's projection makes the pooled text and stays.
pub(crate) fn is_packable(name: &str, shape: &[usize]) -> bool {
    shape.len() == 2 && name.ends_with(".weight") && !name.contains("embeddings.") && name != "text_projection.weight"
}

/// int8 starts from half floats.
pub(crate) fn out_of_range(name: &str) -> ModelError {
    let reason = format!("`{name}` holds values beyond 65504, for which int8 has no code; take nf4 or fp8");
    ModelError::input("weights", reason)
}
