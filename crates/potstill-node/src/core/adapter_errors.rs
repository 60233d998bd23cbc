//! Errors of adapters as they cross the boundary.

use potstill_adapters::AdapterError;

use super::error::OpError;

impl From<AdapterError> for OpError {
    fn from(error: AdapterError) -> Self {
        match error {
            AdapterError::Keys { ref place, .. } => {
                let place = place.clone();
                let listed = error.to_string();
                let what = listed.strip_prefix(&format!("{place}: ")).unwrap_or(&listed);
                Self::input("ERR_ADAPTER_KEYS", what)
                    .at(place)
                    .remedy("It is for another kind of model than this, or for one of other widths or depth.")
            }
            AdapterError::File { path, reason } => Self::input("ERR_ADAPTER_FILE", reason)
                .at(path.display())
                .remedy("An adapter is a .safetensors file, or a folder as peft saves it."),
            AdapterError::Input { what, reason } => Self::input("ERR_ADAPTER_INPUT", reason).at(what),
            AdapterError::Io(error) => error.into(),
            AdapterError::Model(error) => error.into(),
            other => Self::input("ERR_ADAPTER", other),
        }
    }
}

/// The error with the file that it is about before the layer that it names.
pub fn of_file(error: AdapterError, path: &str) -> OpError {
    match error {
        AdapterError::Input { what, reason } => AdapterError::Input {
            what: format!("{path}, {what}"),
            reason,
        }
        .into(),
        other => other.into(),
    }
}
