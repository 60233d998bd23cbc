//! What a single file says, or its family implies, about the noise schedule.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use crate::model::ModelKind;

/// Metadata in which training programs state the prediction type: `epsilon` or `v`.
pub(super) const PREDICTION_METADATA: &str = "modelspec.prediction_type";

/// What marks a file's schedule, besides its family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// The model predicts velocities.
    pub(super) v_prediction: bool,
    /// The schedule ends at pure noise.
    pub(super) zero_terminal_snr: bool,
}

impl Marks {
    /// From marker tensors and metadata.
    pub(super) fn new(v_prediction: bool, zero_terminal_snr: bool, metadata: &BTreeMap<String, String>) -> Self {
        let stated = metadata.get(PREDICTION_METADATA).map(String::as_str);
        Self {
            v_prediction: v_prediction || matches!(stated, Some("v" | "v_prediction")),
            zero_terminal_snr,
        }
    }

    /// From a scheduler's configuration.
    pub(super) fn of_config(config: &Map<String, Json>) -> Self {
        Self {
            v_prediction: config.get("prediction_type") == Some(&json!("v_prediction")),
            zero_terminal_snr: config.get("rescale_betas_zero_snr") == Some(&json!(true)),
        }
    }
}

/// The scheduler's configuration as diffusers has it for a family.
pub(super) fn scheduler_config(kind: ModelKind, marks: Marks) -> Map<String, Json> {
    let sdxl = kind == ModelKind::Sdxl;
    // A schedule that ends at pure noise must be entered at its end.
    let spacing = if marks.zero_terminal_snr { "trailing" } else { "leading" };
    let mut config = json!({
        "_class_name": if sdxl { "EulerDiscreteScheduler" } else { "DDIMScheduler" },
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "num_train_timesteps": 1000,
        "prediction_type": if marks.v_prediction { "v_prediction" } else { "epsilon" },
        "rescale_betas_zero_snr": marks.zero_terminal_snr,
        "steps_offset": 1,
        "timestep_spacing": spacing,
        "trained_betas": null,
    });
    if !sdxl {
        config["clip_sample"] = json!(false);
        config["set_alpha_to_one"] = json!(false);
    }
    match config {
        Json::Object(map) => map,
        _ => unreachable!("the literal above is an object"),
    }
}
