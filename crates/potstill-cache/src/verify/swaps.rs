//! To which record a prediction belongs that does not know its own noise.

use super::judge::Predictions;
use super::measure::dot;
use super::plausibility::Row;

/// Most predictions that are compared with one another: their number of pairs grows with the square.
const MAX_SUSPECTS: usize = 512;
/// Most multiplications of all comparisons: seconds in WASM.
const MAX_PRODUCTS: u64 = 1 << 31;
/// A product with a foreign noise that chance alone exceeds once in 10¹² pairs.
const FOUND: f64 = 7.0;
/// By how much it must exceed the product with the own noise.
const MARGIN: f64 = 4.0;

/// A prediction found at the wrong record.
pub(crate) struct Swap {
    pub record: u64,
    pub owner: u64,
}

/// Compares each suspect with the noise of the others.
pub(crate) fn find(predictions: &dyn Predictions, suspects: &[Row]) -> Vec<Swap> {
    let mut suspects = suspects.to_vec();
    suspects.sort_by(|a, b| {
        a.moments
            .ownership()
            .total_cmp(&b.moments.ownership())
            .then(a.record.cmp(&b.record))
    });
    suspects.truncate(MAX_SUSPECTS);
    let largest = suspects.iter().map(|s| u64::from(s.values)).max().unwrap_or(1);
    suspects.truncate((MAX_PRODUCTS / largest.max(1)).isqrt() as usize);
    suspects.sort_by_key(|suspect| suspect.record);

    let noise = |suspect: &Row| {
        let noise = predictions.noise(suspect);
        noise.unwrap_or_else(|| vec![0.0; suspect.values as usize])
    };
    let noises: Vec<Vec<f32>> = suspects.iter().map(noise).collect();
    let mut swaps = Vec::new();
    for suspect in &suspects {
        let Some(prediction) = predictions.values(suspect) else {
            continue;
        };
        let length = suspect.moments.pp.sqrt();
        let mut best: Option<(f64, u64)> = None;
        for (other, noise) in suspects.iter().zip(&noises) {
            if other.record == suspect.record || other.values != suspect.values || length == 0.0 {
                continue;
            }
            let product = dot(&prediction, noise) / length;
            if best.is_none_or(|(most, _)| product > most) {
                best = Some((product, other.record));
            }
        }
        if let Some((product, owner)) = best
            && product > FOUND
            && product > suspect.moments.ownership() + MARGIN
        {
            swaps.push(Swap {
                record: suspect.record,
                owner,
            });
        }
    }
    swaps
}
