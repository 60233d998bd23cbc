//! Which predictions no teacher like this one makes, from statistics that need no model.
//!
//! A trained teacher minimises the squared error, so the regression of the target on its prediction has slope 1
//! (`calibration`) at every timestep. A scaled prediction has another slope, one that belongs elsewhere about 0, a corrupted
//! one too. What is usual is learnt from the records at neighbouring timesteps: a median and its spread, robust against
//! the damaged among them. And since noise is white, a prediction that knows nothing of its record's noise has a
//! product with it that is standard normal (`ownership`), whatever else it is; a swapped one betrays itself by the
//! noise of another record.

use super::measure::Moments;
use super::report::Band;

/// Statistics of one prediction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Row {
    pub record: u64,
    pub timestep: u32,
    /// Values of the prediction.
    pub values: u32,
    pub moments: Moments,
}

/// Records at neighbouring timesteps that say what is usual.
const WINDOW: usize = 128;
/// Records that are judged by one window.
const BLOCK: usize = 16;
/// With fewer records nothing is usual.
const MIN_ROWS: usize = 32;
/// Records at the nearest timesteps that say how much of the target can be predicted there.
const NEAREST: usize = 9;
/// From the median absolute deviation to the standard deviation of a normal distribution.
const MAD_TO_SIGMA: f64 = 1.4826;
/// Below this ownership a prediction may be another record's: one in 10⁹ unrelated ones lies above.
const OWNED: f64 = 6.0;
/// Where the neighbours' median lies below this, predictions tell nothing of the noise (v at the last timesteps).
const TELLING: f64 = 3.0;
/// Slopes between these bounds, and a correlation above the last, are possible for a whole teacher.
const TEACHER_CALIBRATION: (f64, f64) = (0.5, 2.0);
const TEACHER_CORRELATION: f64 = 0.1;
/// With fewer predictions a teacher is not judged as a whole.
const MIN_TEACHER_ROWS: usize = 8;
/// Bands of timesteps in the report.
const BANDS: u32 = 10;

/// How far a slope may deviate from the neighbours' median: the largest of these.
struct Bound {
    /// However regular the neighbours are: f16, adapters, a student of the teacher's.
    least: f64,
    /// Standard deviations, the neighbours' or those of chance.
    sigmas: f64,
    /// So many times what nine tenths of the neighbours deviate: distributions have long tails.
    tail: f64,
    /// Share of (1 − r²)/r², r the correlation there: where little can be predicted (the first timesteps), teachers are
    /// calibrated least. Slopes of 1.3 were seen at timestep 0 of honest teachers with r = 0.5 to 0.7, and 0.66 at timestep
    /// 15 with r = 0.82, once among 31,360 predictions.
    looseness: f64,
    /// Largest value of that share: a slope of 0 always deviates.
    loosest: f64,
}

/// Beyond it a deviation is mentioned.
const UNUSUAL: Bound = Bound {
    least: 0.2,
    sigmas: 6.0,
    tail: 3.0,
    looseness: 0.5,
    loosest: 0.8,
};
/// Beyond it a deviation is an error.
const IMPLAUSIBLE: Bound = Bound {
    least: 0.3,
    sigmas: 9.0,
    tail: 4.5,
    looseness: 1.0,
    loosest: 0.9,
};

/// A prediction that stands out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Outlier {
    pub row: Row,
    /// The neighbours' median slope.
    pub usual: f64,
    /// How far a slope may deviate from it.
    pub tolerance: f64,
    /// Whether it is beyond what any honest teacher shows.
    pub implausible: bool,
}

/// What the statistics say.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    /// The whole teacher's median slope and correlation, when they are impossible.
    pub teacher: Option<(f64, f64)>,
    /// Slopes that are unusual at their timestep.
    pub outliers: Vec<Outlier>,
    /// Predictions that seem not to know their own noise.
    pub suspects: Vec<Row>,
}

/// Judges the predictions of one teacher and field.
pub(crate) fn judge(mut rows: Vec<Row>) -> Judgement {
    let mut judgement = Judgement::default();
    if rows.len() >= MIN_TEACHER_ROWS {
        let calibration = median(rows.iter().map(|r| r.moments.calibration()).collect());
        let correlation = median(rows.iter().map(|r| r.moments.correlation()).collect());
        let (low, high) = TEACHER_CALIBRATION;
        if !(low..=high).contains(&calibration) || correlation < TEACHER_CORRELATION {
            judgement.teacher = Some((calibration, correlation));
            return judgement;
        }
    }
    if rows.len() < MIN_ROWS {
        return judgement;
    }
    rows.sort_by_key(|row| (row.timestep, row.record));
    for start in (0..rows.len()).step_by(BLOCK) {
        let end = (start + BLOCK).min(rows.len());
        let from = (start + BLOCK / 2)
            .saturating_sub(WINDOW / 2)
            .min(rows.len().saturating_sub(WINDOW));
        let window = &rows[from..(from + WINDOW).min(rows.len())];
        let usual = Usual::of(window);
        for (i, row) in rows.iter().enumerate().take(end).skip(start) {
            let deviation = (row.moments.calibration() - usual.calibration).abs();
            let nearest = &rows[i.saturating_sub(NEAREST / 2)..(i + NEAREST / 2 + 1).min(rows.len())];
            let loose = Looseness::of(nearest);
            let tolerance = usual.tolerance(&UNUSUAL, loose);
            if deviation > tolerance {
                let implausible = deviation > usual.tolerance(&IMPLAUSIBLE, loose);
                judgement.outliers.push(Outlier {
                    row: *row,
                    usual: usual.calibration,
                    tolerance,
                    implausible,
                });
            }
            if usual.ownership >= TELLING && row.moments.ownership() < OWNED {
                judgement.suspects.push(*row);
            }
        }
    }
    judgement
}

/// How loosely the target is related to predictions at a timestep.
#[derive(Clone, Copy)]
struct Looseness {
    /// (1 − r²)/r².
    unexplained: f64,
    /// Standard deviation that chance alone gives a slope of so few values.
    chance: f64,
}

impl Looseness {
    fn of(rows: &[Row]) -> Self {
        let r = median(rows.iter().map(|r| r.moments.correlation()).collect()).clamp(0.01, 1.0);
        let values = median(rows.iter().map(|r| f64::from(r.values)).collect()).max(1.0);
        let unexplained = (1.0 - r * r) / (r * r);
        Self {
            unexplained,
            chance: (unexplained / values).sqrt(),
        }
    }
}

struct Usual {
    calibration: f64,
    /// Standard deviation of the slopes, estimated from the median of their deviations.
    spread: f64,
    /// What nine tenths of the slopes deviate at most.
    tail: f64,
    ownership: f64,
}

impl Usual {
    fn of(window: &[Row]) -> Self {
        let calibration = median(window.iter().map(|r| r.moments.calibration()).collect());
        let mut deviations: Vec<f64> = window
            .iter()
            .map(|r| (r.moments.calibration() - calibration).abs())
            .collect();
        deviations.sort_by(f64::total_cmp);
        Self {
            calibration,
            spread: MAD_TO_SIGMA * deviations[deviations.len() / 2],
            tail: deviations[deviations.len() * 9 / 10],
            ownership: median(window.iter().map(|r| r.moments.ownership()).collect()),
        }
    }

    fn tolerance(&self, bound: &Bound, loose: Looseness) -> f64 {
        let regular = bound
            .least
            .max(bound.sigmas * self.spread.max(loose.chance))
            .max(bound.tail * self.tail);
        regular.max((bound.looseness * loose.unexplained).min(bound.loosest))
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Statistics by timestep, of a schedule of so many.
pub(crate) fn bands(rows: &[Row], timesteps: u32) -> Vec<Band> {
    let bound = |band: u32| (u64::from(band) * u64::from(timesteps) / u64::from(BANDS)) as u32;
    // In the order of the records, so that the sums do not depend on how shards were scheduled.
    let mut ordered: Vec<&Row> = rows.iter().collect();
    ordered.sort_by_key(|row| row.record);
    let band = |i: u32| {
        let (from, to) = (bound(i), bound(i + 1));
        let mut sum = Moments::default();
        let (mut count, mut values) = (0u64, 0u64);
        for row in ordered.iter().filter(|row| (from..to).contains(&row.timestep)) {
            sum.pp += row.moments.pp;
            sum.pt += row.moments.pt;
            sum.tt += row.moments.tt;
            count += 1;
            values += u64::from(row.values);
        }
        (count > 0).then(|| Band {
            from,
            to,
            count,
            rms: shorten((sum.pp / values.max(1) as f64).sqrt()),
            correlation: shorten(sum.correlation()),
            calibration: shorten(sum.calibration()),
        })
    };
    (0..BANDS).filter_map(band).collect()
}

/// Four decimals: what a reader can use.
pub(crate) fn shorten(x: f64) -> f64 {
    let scaled = (x * 1e4).round() / 1e4;
    if scaled.is_finite() { scaled } else { f64::MAX }
}

#[cfg(test)]
mod tests {
    use super::*;
    use potstill_noise::{PhiloxNormals, Stream};

    /// A calibrated prediction of `noise` with squared correlation `r2`, times `scale`.
    fn row(record: u64, timestep: u32, n: usize, r2: f64, scale: f32, own: bool) -> Row {
        let (mut noise, mut error, mut p) = (vec![0f32; n], vec![0f32; n], vec![0f32; n]);
        PhiloxNormals::new(record, Stream::Noise).fill(&mut noise);
        PhiloxNormals::new(record, Stream::VaeSample).fill(&mut error);
        let seen = if own { record } else { record + 1_000_000 };
        PhiloxNormals::new(seen, Stream::Noise).fill(&mut p);
        let b = (r2 - r2 * r2).sqrt() as f32;
        p.iter_mut()
            .zip(&error)
            .for_each(|(p, e)| *p = scale * (*p * r2 as f32 + b * e));
        Row {
            record,
            timestep,
            values: n as u32,
            moments: Moments::of(&p, &noise, &noise),
        }
    }

    fn clean(n: usize) -> Vec<Row> {
        (0..400u64)
            .map(|i| {
                let t = (i * 1000 / 400) as u32;
                row(i, t, n, 0.4 + 0.59 * f64::from(t) / 1000.0, 1.0, true)
            })
            .collect()
    }

    #[test]
    fn clean_predictions_pass() {
        for n in [256, 4096] {
            let judgement = judge(clean(n));
            assert!(judgement.teacher.is_none() && judgement.outliers.is_empty());
            assert!(n == 256 || judgement.suspects.is_empty());
        }
    }

    #[test]
    fn scaled_and_foreign_predictions_stand_out() {
        let mut rows = clean(4096);
        // Half as much again is an error where most of the target is known, and only unusual where honest teachers were
        // seen as far off; twice as much is an error in both places.
        rows[200] = row(200, 500, 4096, 0.7, 1.5, true);
        rows[220] = row(220, 550, 4096, 0.72, 2.0, true);
        rows[300] = row(300, 750, 4096, 0.84, 1.0, false);
        rows[350] = row(350, 875, 4096, 0.92, 1.5, true);
        let judgement = judge(rows);
        let outliers: Vec<_> = judgement
            .outliers
            .iter()
            .map(|o| (o.row.record, o.implausible))
            .collect();
        assert_eq!(outliers, [(200, false), (220, true), (300, true), (350, true)]);
        assert_eq!(judgement.suspects.iter().map(|r| r.record).collect::<Vec<_>>(), [300]);
    }

    #[test]
    fn honest_teachers_may_be_off_at_the_first_timesteps() {
        // As measured of a real one: slopes of 1.27 and 1.18 at timesteps 0 and 2, where r is about 0.5.
        let mut rows = clean(1024);
        for (record, scale) in [(0, 1.0 / 1.27), (1, 1.0 / 1.18)] {
            rows[record as usize] = row(record, 2 * record as u32, 1024, 0.25, scale, true);
        }
        assert!(judge(rows.clone()).outliers.is_empty());
        rows[0] = row(0, 0, 1024, 0.25, 0.3, true);
        assert_eq!(judge(rows).outliers.len(), 1);
    }

    #[test]
    fn a_teacher_of_another_kind_is_named_once() {
        let rows = (0..100).map(|i| row(i, i as u32 * 10, 256, 0.8, 1.0, false)).collect();
        let judgement = judge(rows);
        assert!(judgement.teacher.is_some() && judgement.outliers.is_empty());
        assert!(judge(Vec::new()).teacher.is_none());
    }

    #[test]
    fn bands_cover_the_schedule() {
        let bands = bands(&clean(256), 1000);
        assert_eq!(bands.len(), 10);
        assert_eq!(bands.iter().map(|b| b.count).sum::<u64>(), 400);
        assert!(bands.iter().all(|b| (b.calibration - 1.0).abs() < 0.05), "{bands:?}");
        assert!(bands[9].correlation > bands[0].correlation);
    }
}
