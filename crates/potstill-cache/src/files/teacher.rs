//! What the metadata of an exported file tell of its teacher, for which the layout has no tensors.

use std::collections::BTreeMap;

use crate::plan::PredictionKind;

pub(crate) const PREDICTION_KIND: &str = "potstill.prediction";
#[cfg(feature = "fs")]
const PLAN: &str = "potstill.plan";
#[cfg(feature = "fs")]
const TIME_IDS: &str = "potstill.time_ids";

/// What of a teacher a file of the layout does not show.
#[cfg(feature = "fs")]
pub(crate) struct TeacherFacts {
    pub prediction: PredictionKind,
    /// SHA-256 of the teacher's plan, which tells its weights, adapters and schedule.
    pub plan: crate::digest::Digest32,
    /// SDXL's size conditioning of the view.
    pub time_ids: Option<[f64; 6]>,
}

#[cfg(feature = "fs")]
impl TeacherFacts {
    /// The entries of a file's metadata.
    pub fn to_metadata(&self) -> impl Iterator<Item = (String, String)> {
        let ids = self.time_ids.map(|ids| ids.map(|id| id.to_string()).join(","));
        let kind = self.prediction.name().to_owned();
        [
            (PREDICTION_KIND, Some(kind)),
            (PLAN, Some(self.plan.to_string())),
            (TIME_IDS, ids),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
    }
}

/// What a file says its teacher predicts: the noise, where it says nothing; none where it says what nobody predicts.
pub(crate) fn prediction_kind(metadata: &BTreeMap<String, String>) -> Option<PredictionKind> {
    let Some(name) = metadata.get(PREDICTION_KIND) else {
        return Some(PredictionKind::Epsilon);
    };
    PredictionKind::ALL.into_iter().find(|kind| kind.name() == name)
}

/// The size conditioning that readers of the layout give SDXL: width first, and no crop.
#[cfg(feature = "fs")]
pub(crate) fn assumed_time_ids(width: u32, height: u32) -> [f64; 6] {
    let (width, height) = (f64::from(width), f64::from(height));
    [width, height, 0.0, 0.0, width, height]
}
