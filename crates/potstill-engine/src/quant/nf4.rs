//! Four bits a value: the nearest of 16 numbers, times a scale for each block of values (QLoRA's NF4 as bitsandbytes keeps it).

/// Values that share a scale.
pub const BLOCK: usize = 64;

/// What the codes stand for: quantiles of a normal distribution, from −1 to 1.
pub const VALUES: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// The smallest scale that is divided by: blocks of zeros have zero for theirs.
const LEAST: f32 = 1e-38;

/// The scale of each block of [`BLOCK`] values: the largest magnitude.
pub fn scales(values: &[f32]) -> Vec<f32> {
    values
        .chunks(BLOCK)
        .map(|block| {
            let largest = block.iter().fold(0f32, |most, v| most.max(v.abs()));
            // bitsandbytes keeps the scale of a last block that is not whole this way.
            if block.len() == BLOCK {
                largest
            } else {
                largest.max(LEAST)
            }
        })
        .collect()
}

/// The codes of values with the scales of their blocks, two a byte, the first in the high half. The nearest number is taken;
/// of two as near the lower one.
pub fn encode(values: &[f32], scales: &[f32]) -> Vec<u8> {
    let mut between = [0f32; 15];
    for (bound, pair) in between.iter_mut().zip(VALUES.windows(2)) {
        *bound = (pair[0] + pair[1]) / 2.;
    }
    let code = |scaled: f32| between.iter().filter(|&&bound| scaled.clamp(-1., 1.) > bound).count() as u8;
    let mut codes = Vec::with_capacity(values.len() + 1);
    for (block, &scale) in values.chunks(BLOCK).zip(scales) {
        match block.len() {
            BLOCK => {
                let inverse = 1. / scale.max(LEAST);
                codes.extend(block.iter().map(|&v| code(v * inverse)));
            }
            _ => codes.extend(block.iter().map(|&v| code(v / scale))),
        }
    }
    if codes.len() % 2 == 1 {
        codes.push(code(0.));
    }
    codes
        .as_chunks::<2>()
        .0
        .iter()
        .map(|[high, low]| high << 4 | low)
        .collect()
}

/// The first `out.len()` values of packed codes that stand for `map`, with a scale for each `block` values.
///
/// # Panics
/// When there are too few codes or scales, or `block` is odd or 0.
pub fn decode(packed: &[u8], map: &[f32; 16], scales: &[f32], block: usize, out: &mut [f32]) {
    assert!(block > 0 && block.is_multiple_of(2));
    assert!(packed.len() * 2 >= out.len() && scales.len() * block >= out.len());
    for ((values, codes), &scale) in out.chunks_mut(block).zip(packed.chunks(block / 2)).zip(scales) {
        let table = map.map(|value| value * scale);
        for (pair, &byte) in values.chunks_mut(2).zip(codes) {
            pair[0] = table[usize::from(byte >> 4)];
            if let Some(second) = pair.get_mut(1) {
                *second = table[usize::from(byte & 15)];
            }
        }
    }
}
