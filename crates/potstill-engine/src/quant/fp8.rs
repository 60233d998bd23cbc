//! Floats of eight bits: `e4m3fn` (finite, to 448) and `e5m2`, as torch has them.

/// The largest number of e4m3fn.
pub const E4M3_MOST: f32 = 448.;

/// The scale of a tensor: what its largest magnitude becomes [`E4M3_MOST`] by; 1 for zeros.
pub fn scale(values: &[f32]) -> f32 {
    let largest = values.iter().fold(0f32, |most, v| most.max(v.abs()));
    if largest > 0. { largest / E4M3_MOST } else { 1. }
}

/// A finite value as e4m3fn: the nearest, of two as near the even one; beyond the range its end.
pub fn to_e4m3(value: f32) -> u8 {
    let sign = (value.to_bits() >> 24) as u8 & 0x80;
    let magnitude = value.abs().min(E4M3_MOST);
    // Below the smallest normal number, 2⁻⁶, the distance of neighbours stays the same.
    let exponent = ((magnitude.to_bits() >> 23) as i32 - 127).max(-6);
    let eighths = (magnitude / power_of_two(exponent - 3)).round_ties_even() as u8; // up to 16, which is the next exponent's 8
    sign | (((exponent + 6) as u8) * 8 + eighths)
}

/// What an e4m3fn number stands for.
pub fn from_e4m3(code: u8) -> f32 {
    let (exponent, fraction) = (i32::from(code >> 3 & 15), f32::from(code & 7));
    let magnitude = match (exponent, code & 7) {
        (0, _) => fraction * power_of_two(-9),
        (15, 7) => f32::NAN,
        _ => (8. + fraction) * power_of_two(exponent - 10),
    };
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

/// What an e5m2 number stands for.
pub fn from_e5m2(code: u8) -> f32 {
    let (exponent, fraction) = (i32::from(code >> 2 & 31), f32::from(code & 3));
    let magnitude = match (exponent, code & 3) {
        (0, _) => fraction * power_of_two(-16),
        (31, 0) => f32::INFINITY,
        (31, _) => f32::NAN,
        _ => (4. + fraction) * power_of_two(exponent - 17),
    };
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

/// The values of codes that `value` reads, times a scale.
pub fn decode(codes: &[u8], value: fn(u8) -> f32, scale: f32, out: &mut [f32]) {
    let mut table = [0f32; 256];
    for (code, entry) in (0..=255u8).zip(&mut table) {
        *entry = value(code) * scale;
    }
    for (value, &code) in out.iter_mut().zip(codes) {
        *value = table[usize::from(code)];
    }
}

/// 2 to an exponent that a normal f32 has.
fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}
