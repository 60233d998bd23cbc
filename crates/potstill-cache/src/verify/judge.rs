//! What the statistics of a teacher's predictions say, as findings.

use std::collections::BTreeSet;

use super::kinds;
use super::plausibility::{self, Oddity, Row};
use super::report::{Findings, Place};
use super::swaps;

/// Predictions of one teacher, of either layout.
pub(crate) trait Predictions {
    /// The component.
    fn component(&self) -> String;
    /// What the predictions are called.
    fn field(&self) -> &str;
    /// What they were compared with.
    fn target(&self) -> &str;
    /// The file of a record, where findings name one.
    fn file(&self, record: u64) -> String;
    /// A record's name.
    fn name(&self, record: u64) -> String;
    /// A record as findings name it.
    fn entry(&self, record: u64) -> String;
    /// The noise of a record.
    fn noise(&self, row: &Row) -> Option<Vec<f32>>;
    /// A prediction.
    fn values(&self, row: &Row) -> Option<Vec<f32>>;
}

/// Judges predictions by their statistics.
pub(crate) fn judge(predictions: &dyn Predictions, rows: &[Row], findings: &mut Findings) {
    let id = predictions.component();
    let judgement = plausibility::judge(rows.to_vec());
    if let Some((calibration, correlation)) = judgement.teacher {
        let found = format!(
            "{}: slope {}, correlation {}",
            predictions.field(),
            plausibility::shorten(calibration),
            plausibility::shorten(correlation)
        );
        let expected = format!(
            "a median slope of 0.5 to 2 and correlation of 0.1 or more with {}",
            predictions.target()
        );
        findings.add(&id, &kinds::TEACHER_IMPLAUSIBLE, Place::default(), expected, found);
        return;
    }
    let swapped = swaps::find(predictions, &judgement.suspects);
    for swap in &swapped {
        let (file, entry) = (predictions.file(swap.record), predictions.entry(swap.record));
        let place = Place {
            file: &file,
            entry: &entry,
        };
        findings.add(
            &id,
            &kinds::PREDICTION_SWAPPED,
            place,
            "a prediction of this entry's noise",
            format!("one of the noise of {}", predictions.name(swap.owner)),
        );
    }
    let swapped: BTreeSet<u64> = swapped.iter().map(|swap| swap.record).collect();
    for outlier in judgement.outliers.iter().filter(|o| !swapped.contains(&o.row.record)) {
        let record = outlier.row.record;
        let (file, entry) = (predictions.file(record), predictions.entry(record));
        let (expected, found) = describe(outlier);
        let place = Place {
            file: &file,
            entry: &entry,
        };
        let kind = if outlier.implausible {
            &kinds::PREDICTION_IMPLAUSIBLE
        } else {
            &kinds::PREDICTION_UNUSUAL
        };
        findings.add(&id, kind, place, expected, found);
    }
}

/// What was expected of a prediction that stands out, and what was found.
fn describe(outlier: &plausibility::Outlier) -> (String, String) {
    let shorten = plausibility::shorten;
    let (moments, timestep) = (&outlier.row.moments, outlier.row.timestep);
    match outlier.oddity {
        Oddity::Slope { usual, sigmas } => (
            format!(
                "a slope of about {}, as of others about timestep {timestep}",
                shorten(usual)
            ),
            format!(
                "{}, off by {} standard deviations",
                shorten(moments.calibration()),
                shorten(sigmas)
            ),
        ),
        Oddity::Residual { usual } => (
            format!(
                "about {} of the target unexplained, as of others about timestep {timestep}",
                shorten(usual)
            ),
            shorten(moments.residual()).to_string(),
        ),
        Oddity::Foreign => (
            format!("a prediction that knows this entry's noise, as others about timestep {timestep}"),
            "one that knows nothing of it".to_owned(),
        ),
        Oddity::Empty => ("a prediction".to_owned(), "nothing but zeros".to_owned()),
    }
}
