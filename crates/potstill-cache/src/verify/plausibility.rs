//! Which predictions no teacher like this one makes, from statistics that need no model.
//!
//! A trained teacher minimises the squared error, so what it leaves unexplained is orthogonal to what it predicts: the
//! regression of the target on its prediction has slope 1 (`calibration`) at every timestep. How far an honest prediction
//! is off along itself, measured by the length of what it does not explain (`shortfall`), has much the same spread at
//! all timesteps and for easy and hard records, while a scaled prediction is off by its scale. A corrupted one explains less
//! of the target than its neighbours do (`residual`). What is usual is learnt from the records at neighbouring timesteps,
//! by medians and quantiles that the damaged among them do not move, and how long the tails are from all records.
//! And since noise is white, a prediction that knows nothing of its record's noise has a product with it that is standard
//! normal (`ownership`), whatever else it is; a swapped one betrays itself by the noise of another record.

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
/// Records at the nearest timesteps that say how much of the target remains unexplained, which changes quickly with the
/// timestep; with fewer records in all than the second, even these lie too far apart.
const NEAREST: usize = 33;
const MIN_RESIDUAL_ROWS: usize = 256;
/// From the median absolute deviation to the standard deviation of a normal distribution.
const MAD_TO_SIGMA: f64 = 1.4826;
/// Deviation, in standard deviations, that one of twenty normally distributed values exceeds.
const NORMAL_TWENTIETH: f64 = 1.96;
/// Below this ownership a prediction may be another record's: one in 10⁹ unrelated ones lies above.
const OWNED: f64 = 6.0;
/// Where the neighbours' median lies below this, predictions tell nothing of the noise (v at the last timesteps).
const TELLING: f64 = 3.0;
/// Where nine tenths of the neighbours lie above this, one below [`OWNED`] knows nothing of its noise.
const KNOWING: f64 = 12.0;
/// Slopes between these bounds, and a correlation above the last, are possible for a whole teacher.
const TEACHER_CALIBRATION: (f64, f64) = (0.5, 2.0);
const TEACHER_CORRELATION: f64 = 0.1;
/// With fewer predictions a teacher is not judged as a whole.
const MIN_TEACHER_ROWS: usize = 8;
/// Share of the target below which nobody asks what remains unexplained: rounding to f16, adapters.
const RESIDUAL_FLOOR: f64 = 0.01;
/// Bands of timesteps in the report.
const BANDS: u32 = 10;

/// How far a prediction may be from its neighbours.
struct Bound {
    /// Standard deviations of the shortfall, lengthened by as much as the teacher's tails are longer than normal ones.
    /// Among 31,360 honest predictions of four well-trained teachers the farthest was at 5.9.
    sigmas: f64,
    /// A slope that is off by less does no harm, however regular the neighbours are.
    slope: f64,
    /// So many times the neighbours' median residual. Honest predictions were at 3.9 at most.
    residual: f64,
    /// So many times what nine tenths of the neighbours do not exceed.
    residual_tail: f64,
}

/// Beyond it a deviation is mentioned.
const UNUSUAL: Bound = Bound {
    sigmas: 6.0,
    slope: 0.15,
    residual: 4.0,
    residual_tail: 2.0,
};
/// Beyond it a deviation is an error.
const IMPLAUSIBLE: Bound = Bound {
    sigmas: 9.0,
    slope: 0.25,
    residual: 6.0,
    residual_tail: 3.0,
};

/// In what a prediction stands out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Oddity {
    /// Its slope: the neighbours' median, and by how many standard deviations it is off.
    Slope { usual: f64, sigmas: f64 },
    /// The share of the target that it leaves unexplained: the neighbours' median.
    Residual { usual: f64 },
    /// It knows nothing of its noise.
    Foreign,
    /// Nothing but zeros.
    Empty,
}

/// A prediction that stands out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Outlier {
    pub row: Row,
    pub oddity: Oddity,
    /// Whether it is beyond what any honest teacher shows.
    pub implausible: bool,
}

/// What the statistics say.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    /// The whole teacher's median slope and correlation, when they are impossible.
    pub teacher: Option<(f64, f64)>,
    /// Predictions that stand out.
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
    let usual: Vec<Usual> = (0..rows.len())
        .step_by(BLOCK)
        .map(|start| Usual::of(around(&rows, start + BLOCK / 2, WINDOW)))
        .collect();
    let sigmas: Vec<f64> = rows
        .iter()
        .enumerate()
        .map(|(i, row)| usual[i / BLOCK].sigmas(row))
        .collect();
    let tails = (quantile(sigmas.clone(), 19, 20) / NORMAL_TWENTIETH).max(1.0);
    for (i, row) in rows.iter().enumerate() {
        let usual = &usual[i / BLOCK];
        if usual.ownership >= TELLING && row.moments.ownership() < OWNED {
            judgement.suspects.push(*row);
        }
        let residual = (rows.len() >= MIN_RESIDUAL_ROWS).then(|| Residual::of(around(&rows, i, NEAREST)));
        let found = [&IMPLAUSIBLE, &UNUSUAL]
            .into_iter()
            .zip([true, false])
            .find_map(|(bound, implausible)| {
                let off = (row.moments.calibration() - usual.calibration).abs();
                let oddity = if implausible && row.moments.pp <= 0.0 {
                    Oddity::Empty
                } else if implausible && usual.ownership_low >= KNOWING && row.moments.ownership() < OWNED {
                    Oddity::Foreign
                } else if sigmas[i] > bound.sigmas * tails && off > bound.slope {
                    Oddity::Slope {
                        usual: usual.calibration,
                        sigmas: sigmas[i],
                    }
                } else {
                    let residual = residual.as_ref().filter(|residual| residual.is_exceeded(row, bound))?;
                    Oddity::Residual { usual: residual.median }
                };
                Some((oddity, implausible))
            });
        if let Some((oddity, implausible)) = found {
            judgement.outliers.push(Outlier {
                row: *row,
                oddity,
                implausible,
            });
        }
    }
    judgement
}

/// So many rows about the one at `centre`, or all.
fn around(rows: &[Row], centre: usize, count: usize) -> &[Row] {
    let from = centre.saturating_sub(count / 2).min(rows.len().saturating_sub(count));
    &rows[from..(from + count).min(rows.len())]
}

/// What is usual in a window.
struct Usual {
    calibration: f64,
    shortfall: f64,
    /// Standard deviation of the shortfalls: from the median of their deviations, and at least what chance gives to so few
    /// values.
    spread: f64,
    ownership: f64,
    /// Nine tenths lie above.
    ownership_low: f64,
}

impl Usual {
    fn of(window: &[Row]) -> Self {
        let of = |value: fn(&Moments) -> f64| window.iter().map(|r| value(&r.moments)).collect::<Vec<_>>();
        let shortfalls = of(Moments::shortfall);
        let shortfall = median(shortfalls.clone());
        let deviations = shortfalls.iter().map(|s| (s - shortfall).abs()).collect();
        let values = median(window.iter().map(|r| f64::from(r.values)).collect()).max(1.0);
        Self {
            calibration: median(of(Moments::calibration)),
            shortfall,
            spread: (MAD_TO_SIGMA * median(deviations)).max((1.0 / values).sqrt()),
            ownership: median(of(Moments::ownership)),
            ownership_low: quantile(of(Moments::ownership), 1, 10),
        }
    }

    /// By how many standard deviations a shortfall is off.
    fn sigmas(&self, row: &Row) -> f64 {
        (row.moments.shortfall() - self.shortfall).abs() / self.spread
    }
}

/// What neighbours leave unexplained of their targets.
struct Residual {
    median: f64,
    /// Nine tenths lie below.
    high: f64,
}

impl Residual {
    fn of(window: &[Row]) -> Self {
        let residuals: Vec<f64> = window.iter().map(|r| r.moments.residual()).collect();
        Self {
            median: median(residuals.clone()),
            high: quantile(residuals, 9, 10),
        }
    }

    fn is_exceeded(&self, row: &Row, bound: &Bound) -> bool {
        let least = (bound.residual * self.median).max(bound.residual_tail * self.high);
        row.moments.residual() > least.max(RESIDUAL_FLOOR)
    }
}

/// The value that so many of so many do not reach.
fn quantile(mut values: Vec<f64>, part: usize, of: usize) -> f64 {
    let at = values.len() * part / of;
    if at >= values.len() {
        return 0.0;
    }
    *values.select_nth_unstable_by(at, f64::total_cmp).1
}

fn median(values: Vec<f64>) -> f64 {
    quantile(values, 1, 2)
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

    /// Records and whether they are errors.
    fn outliers(judgement: &Judgement) -> Vec<(u64, bool)> {
        judgement
            .outliers
            .iter()
            .map(|o| (o.row.record, o.implausible))
            .collect()
    }

    #[test]
    fn scaled_and_foreign_predictions_stand_out() {
        let mut rows = clean(4096);
        for (record, r2, scale) in [
            (20, 0.43, 1.5),
            (200, 0.7, 1.5),
            (220, 0.72, 0.67),
            (240, 0.75, 2.0),
            (350, 0.92, 0.5),
        ] {
            rows[record as usize] = row(record, (record * 1000 / 400) as u32, 4096, r2, scale, true);
        }
        rows[300] = row(300, 750, 4096, 0.84, 1.0, false);
        let judgement = judge(rows);
        let found = outliers(&judgement);
        assert_eq!(found, [20, 200, 220, 240, 300, 350].map(|record| (record, true)));
        assert_eq!(judgement.suspects.iter().map(|r| r.record).collect::<Vec<_>>(), [300]);
        assert_eq!(judgement.outliers[4].oddity, Oddity::Foreign);
    }

    /// Teachers are not equally calibrated everywhere; what is usual is learnt from them.
    #[test]
    fn an_honest_bad_teacher_passes_where_a_good_one_would_not() {
        // Off by up to a half in either direction, and differently at each record.
        let factor = |record: u64| 0.75 + 0.5 * ((record * 7919) % 101) as f32 / 100.0;
        let bad: Vec<Row> = clean(1024)
            .iter()
            .map(|r| row(r.record, r.timestep, 1024, 0.5, factor(r.record), true))
            .collect();
        assert_eq!(outliers(&judge(bad.clone())), []);
        let mut good = clean(1024);
        good[100] = row(100, 250, 1024, 0.5, 1.45, true);
        assert_eq!(outliers(&judge(good)).len(), 1);
        // Three times as long stands out in both.
        let mut damaged = bad;
        damaged[100] = row(100, 250, 1024, 0.5, 3.0, true);
        assert_eq!(outliers(&judge(damaged)), [(100, true)]);
    }

    #[test]
    fn hard_records_may_be_farther_off() {
        // As measured of a real one: slopes of 0.66 to 1.27 at the first timesteps, of records of which little is predicted.
        let mut rows = clean(1024);
        for (record, r2, scale) in [(0, 0.25, 1.0 / 1.27), (1, 0.25, 1.0 / 1.18), (6, 0.17, 1.0 / 0.78)] {
            rows[record as usize] = row(record, 2 * record as u32, 1024, r2, scale, true);
        }
        assert_eq!(outliers(&judge(rows.clone())), []);
        rows[0] = row(0, 0, 1024, 0.25, 0.3, true);
        assert_eq!(outliers(&judge(rows)), [(0, true)]);
    }

    #[test]
    fn a_prediction_that_explains_less_than_others_stands_out() {
        // Calibrated, and related to its noise; but at this timestep nine tenths can be explained.
        let mut rows = clean(1024);
        rows[380] = row(380, 950, 1024, 0.3, 1.0, true);
        let judgement = judge(rows);
        assert_eq!(outliers(&judgement), [(380, true)]);
        assert!(matches!(judgement.outliers[0].oddity, Oddity::Residual { usual } if usual < 0.1));
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
