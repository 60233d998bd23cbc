//! Eight bits a value with a scale for each row, as bitsandbytes' LLM.int8 keeps weights.

use half::f16;

/// The largest code.
const MOST: f32 = 127.;
/// 1/127 as bitsandbytes multiplies by it.
const INVERSE: f32 = 7.874_016e-3;

/// The scales of rows of `columns` values: the largest magnitudes. bitsandbytes codes half floats, so values are rounded to
/// those first; what is beyond their range becomes infinite.
pub fn scales(values: &[f32], columns: usize) -> Vec<f32> {
    let largest = |row: &[f32]| row.iter().fold(0f32, |most, &v| most.max(half(v).abs()));
    values.chunks(columns.max(1)).map(largest).collect()
}

/// The codes of rows of `columns` values with these scales, rounded to nearest even.
pub fn encode(values: &[f32], columns: usize, scales: &[f32]) -> Vec<i8> {
    let mut codes = Vec::with_capacity(values.len());
    for (row, &scale) in values.chunks(columns.max(1)).zip(scales) {
        let factor = if scale > 0. { MOST / scale } else { 0. };
        codes.extend(row.iter().map(|&v| (half(v) * factor).round_ties_even() as i8));
    }
    codes
}

/// The values of rows of `columns` codes, which are bytes of two's complement.
pub fn decode(codes: &[u8], columns: usize, scales: &[f32], out: &mut [f32]) {
    let rows = codes.chunks(columns.max(1)).zip(out.chunks_mut(columns.max(1)));
    for ((codes, out), &scale) in rows.zip(scales) {
        for (value, &code) in out.iter_mut().zip(codes) {
            *value = f32::from(code as i8) * scale * INVERSE;
        }
    }
}

fn half(value: f32) -> f32 {
    f16::from_f32(value).to_f32()
}
