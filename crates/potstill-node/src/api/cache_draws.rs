//! The draws of a plan: seeds and timesteps from keys, without touching a file.

use napi::bindgen_prelude::{BigUint64Array, Float64Array};
use napi_derive::napi;
use potstill_noise::{TimestepRange, View, draw_seed, stratified_timestep};

use crate::core::{OpError, Outcome, Result};

/// What fixes every draw of a teacher's plan.
#[napi(object)]
pub struct DrawRule {
    /// Whole number below 2⁵³.
    pub base_seed: f64,
    /// K: draws per view.
    pub draws: u32,
    /// First timestep of the range.
    pub from: u32,
    /// End of the range, excluded.
    pub to: u32,
}

/// A draw by its key.
#[napi(object)]
pub struct DrawKey {
    /// SHA-256 of the image file, in hex.
    pub image: String,
    /// `WxH+left+top`, with `f` appended when flipped.
    pub view: String,
    /// Which of the K draws.
    pub draw: u32,
}

/// Seeds and timesteps, one for each key.
#[napi(object)]
pub struct Draws {
    /// Seeds of the noise.
    pub seeds: BigUint64Array,
    /// Whole numbers.
    pub timesteps: Float64Array,
}

/// The draws of some keys.
#[napi(ts_return_type = "Outcome<Draws>", catch_unwind)]
pub fn cache_draws(rule: DrawRule, keys: Vec<DrawKey>) -> Outcome<Draws> {
    Outcome(draws_of(&rule, &keys))
}

fn draws_of(rule: &DrawRule, keys: &[DrawKey]) -> Result<Draws> {
    let invalid =
        |error: &dyn std::fmt::Display| OpError::bug(format!("a plan that was checked has an invalid draw: {error}"));
    let range = TimestepRange::new(rule.from, rule.to).map_err(|error| invalid(&error))?;
    let mut seeds = Vec::with_capacity(keys.len());
    let mut timesteps = Vec::with_capacity(keys.len());
    for DrawKey { image, view, draw } in keys {
        let view: View = view.parse().map_err(|error| invalid(&error))?;
        let seed = draw_seed(image, &view, *draw, rule.base_seed as u64);
        timesteps.push(f64::from(
            stratified_timestep(seed, *draw, rule.draws, range).map_err(|error| invalid(&error))?,
        ));
        seeds.push(seed);
    }
    Ok(Draws {
        seeds: BigUint64Array::new(seeds),
        timesteps: Float64Array::new(timesteps),
    })
}
