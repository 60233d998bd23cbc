//! What a single file says, or its family implies, about the noise schedule.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use crate::model::ModelKind;

/// Metadata in which training programs state the prediction type: `epsilon` or `v`.
pub(super) const PREDICTION_METADATA: &str = "modelspec.prediction_type";

/// Metadata in which kohya's trainers state that the schedule ends at pure noise: `True` or `False`.
const ZERO_TERMINAL_SNR_METADATA: &str = "ss_zero_terminal_snr";

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
        let stated = |key: &str| metadata.get(key).map(String::as_str);
        let v_prediction = v_prediction || matches!(stated(PREDICTION_METADATA), Some("v" | "v_prediction"));
        let zero_terminal_snr = zero_terminal_snr || stated(ZERO_TERMINAL_SNR_METADATA) == Some("True");
        Self {
            v_prediction,
            // Pure noise says nothing of the picture to a model that predicts noise: as in ComfyUI, the mark counts for
            // velocities alone.
            zero_terminal_snr: v_prediction && zero_terminal_snr,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_say_what_marks_say() {
        let marks = |v, end, entries: &[(&str, &str)]| {
            let metadata = entries.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            let marks = Marks::new(v, end, &metadata);
            (marks.v_prediction, marks.zero_terminal_snr)
        };
        let (v, kohya) = (("modelspec.prediction_type", "v"), ("ss_zero_terminal_snr", "True"));
        assert_eq!(marks(false, false, &[]), (false, false));
        assert_eq!(marks(true, true, &[]), (true, true));
        assert_eq!(marks(false, false, &[v]), (true, false));
        assert_eq!(marks(false, false, &[v, kohya]), (true, true));
        assert_eq!(marks(true, false, &[kohya]), (true, true));
        assert_eq!(marks(true, false, &[("ss_zero_terminal_snr", "False")]), (true, false));
        // Without velocities nothing ends at pure noise.
        assert_eq!(marks(false, true, &[]), (false, false));
        assert_eq!(marks(false, false, &[kohya]), (false, false));
    }
}
