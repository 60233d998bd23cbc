//! Timesteps, stratified over the draws of a view.

use crate::philox::{PhiloxNormals, Stream};

/// Half-open range of discrete timesteps: `min ≤ t < max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimestepRange {
    min: u32,
    max: u32,
}

/// An empty range, or a draw that is none of the K.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimestepError {
    /// `min >= max`.
    #[error("timesteps need min < max, got [{min}, {max})")]
    EmptyRange {
        /// Inclusive lower bound.
        min: u32,
        /// Exclusive upper bound.
        max: u32,
    },
    /// `draw >= draws`.
    #[error("draw {draw} does not exist among {draws} draws")]
    NoSuchDraw {
        /// The draw asked for.
        draw: u32,
        /// The number of draws per view.
        draws: u32,
    },
}

impl TimestepRange {
    /// The range [min, max).
    ///
    /// # Errors
    /// [`TimestepError::EmptyRange`] unless `min < max`.
    pub fn new(min: u32, max: u32) -> Result<Self, TimestepError> {
        if min >= max {
            Err(TimestepError::EmptyRange { min, max })
        } else {
            Ok(Self { min, max })
        }
    }

    /// Inclusive lower bound.
    #[must_use]
    pub fn min(self) -> u32 {
        self.min
    }

    /// Exclusive upper bound.
    #[must_use]
    pub fn max(self) -> u32 {
        self.max
    }
}

/// The timestep of draw k of K: `t = min + ⌊(k + u)·(max − min)/K⌋`, u the first word of the seed's stream 1 times 2⁻³².
/// Computed in integers, so exactly.
///
/// # Errors
/// [`TimestepError::NoSuchDraw`] unless `draw < draws`.
pub fn stratified_timestep(seed: u64, draw: u32, draws: u32, range: TimestepRange) -> Result<u32, TimestepError> {
    if draw >= draws {
        return Err(TimestepError::NoSuchDraw { draw, draws });
    }
    let word = PhiloxNormals::new(seed, Stream::Timestep).words(0)[0];
    let position = u128::from(draw) << 32 | u128::from(word);
    let offset = position * u128::from(range.max - range.min) / (u128::from(draws) << 32);
    Ok(range.min + offset as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strata_are_kept_and_filled_evenly() {
        let range = TimestepRange::new(0, 1000).unwrap();
        let mut sum = 0u64;
        for seed in 0..4_000u64 {
            for draw in 0..4 {
                let t = stratified_timestep(seed, draw, 4, range).unwrap();
                assert!((250 * draw..250 * (draw + 1)).contains(&t), "{t} of draw {draw}");
                sum += u64::from(t);
            }
        }
        let mean = sum as f64 / 16_000.0;
        assert!((mean - 499.5).abs() < 4.0 * 72.2 / 16_000f64.sqrt(), "{mean}");
    }

    #[test]
    fn agrees_with_the_formula_in_floats() {
        let range = TimestepRange::new(20, 980).unwrap();
        for seed in 0..10_000u64 {
            let u = f64::from(PhiloxNormals::new(seed, Stream::Timestep).words(0)[0]) / 4_294_967_296.0;
            let want = 20 + ((1.0 + u) * 960.0 / 3.0).floor() as u32;
            assert_eq!(stratified_timestep(seed, 1, 3, range), Ok(want));
        }
    }

    #[test]
    fn impossible_requests_are_errors() {
        assert!(TimestepRange::new(5, 5).is_err());
        let range = TimestepRange::new(0, u32::MAX).unwrap();
        assert!(stratified_timestep(0, 4, 4, range).is_err());
        assert!(stratified_timestep(0, 0, 0, range).is_err());
        assert!(stratified_timestep(0, u32::MAX - 1, u32::MAX, range).is_ok());
    }
}
