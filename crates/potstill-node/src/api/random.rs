//! What networks with random weights are made of.

use potstill_models::Initialisation;
use serde_json::{Map, Value as Json};

use crate::core::{OpError, Result};

/// The JSON of a diffusers or transformers configuration.
pub fn parse_config(config: &str) -> Result<Map<String, Json>> {
    serde_json::from_str(config)
        .map_err(|error| OpError::input("ERR_MODEL_CONFIG", format!("is no JSON object: {error}")).at("config"))
}

/// An initialisation by its name.
pub fn parse_initialisation(name: &str) -> Result<Initialisation> {
    match name {
        "training" => Ok(Initialisation::Training),
        "normal" => Ok(Initialisation::Normal),
        other => Err(OpError::input(
            "ERR_MODEL_INPUT",
            format!("there is no initialisation {other:?}"),
        )),
    }
}
