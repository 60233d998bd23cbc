//! To which record a prediction belongs that does not know its own noise.

use potstill_io::Dtype;

use super::measure::dot;
use super::plausibility::Row;
use super::stream::read_header;
use crate::component::shard_file;
use crate::layout::Layout;
use crate::plan::PredictionField;
use crate::source::Source;

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
pub(crate) fn find<S: Source + ?Sized>(
    source: &S,
    layout: &Layout,
    field: PredictionField,
    suspects: &[Row],
) -> Vec<Swap> {
    let Some(plan) = layout.teacher_plan() else {
        return Vec::new();
    };
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

    let noises: Vec<Vec<f32>> = suspects
        .iter()
        .map(|suspect| {
            let mut noise = vec![0.0; suspect.values as usize];
            if let Ok(draw) = layout.draw(suspect.record) {
                plan.noise.generator.fill_noise(draw.seed, &mut noise);
            }
            noise
        })
        .collect();
    let mut swaps = Vec::new();
    for suspect in &suspects {
        let Some(prediction) = read(source, layout, field, suspect) else {
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

fn read<S: Source + ?Sized>(source: &S, layout: &Layout, field: PredictionField, row: &Row) -> Option<Vec<f32>> {
    let (range, within) = layout.locate(row.record).ok()?;
    let path = layout.component().file(&shard_file(range.index));
    let (header, _) = read_header(source, &path).ok()?;
    let dtype = Dtype::from(layout.dtype());
    let length = row.values as usize * dtype.size();
    let tensor = header.get(field.name())?;
    let mut bytes = vec![0; length];
    let offset = header.data_start() + tensor.start + u64::from(within) * length as u64;
    source.read(&path, offset, &mut bytes).ok()?;
    dtype.to_f32(&bytes).ok()
}
