//! The draw of a potstill cache that a file was exported from, as its metadata tell it: with them anyone can make the seed,
//! the noise and the timestep anew.

use std::collections::BTreeMap;

use potstill_noise::{TimestepRange, View, draw_seed, stratified_timestep};

const IMAGE: &str = "potstill.image";
const VIEW: &str = "potstill.view";
const DRAW: &str = "potstill.draw";
const DRAWS: &str = "potstill.draws";
const BASE_SEED: &str = "potstill.base_seed";
const TIMESTEPS: &str = "potstill.timesteps";

/// What fixes a draw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DrawRule {
    /// SHA-256 of the image's file, in hex.
    pub image: String,
    pub view: View,
    pub draw: u32,
    pub draws: u32,
    pub base_seed: u64,
    /// Half-open range.
    pub timesteps: (u32, u32),
}

impl DrawRule {
    /// The entries of a file's metadata.
    #[cfg(feature = "fs")]
    pub fn to_metadata(&self) -> [(String, String); 6] {
        let (min, max) = self.timesteps;
        [
            (IMAGE, self.image.clone()),
            (VIEW, self.view.to_string()),
            (DRAW, self.draw.to_string()),
            (DRAWS, self.draws.to_string()),
            (BASE_SEED, self.base_seed.to_string()),
            (TIMESTEPS, format!("{min}-{max}")),
        ]
        .map(|(key, value)| (key.to_owned(), value))
    }

    /// The rule that a file's metadata tell, when they tell all of it.
    pub fn of_metadata(metadata: &BTreeMap<String, String>) -> Option<Self> {
        let of = |key: &str| metadata.get(key);
        let (min, max) = of(TIMESTEPS)?.split_once('-')?;
        let rule = Self {
            image: of(IMAGE)?.clone(),
            view: of(VIEW)?.parse().ok()?,
            draw: of(DRAW)?.parse().ok()?,
            draws: of(DRAWS)?.parse().ok()?,
            base_seed: of(BASE_SEED)?.parse().ok()?,
            timesteps: (min.parse().ok()?, max.parse().ok()?),
        };
        rule.timestep().map(|_| rule)
    }

    pub fn seed(&self) -> u64 {
        draw_seed(&self.image, &self.view, self.draw, self.base_seed)
    }

    /// None of a rule that cannot be: an empty range, a draw beyond their number.
    pub fn timestep(&self) -> Option<u32> {
        let (min, max) = self.timesteps;
        let range = TimestepRange::new(min, max).ok()?;
        stratified_timestep(self.seed(), self.draw, self.draws, range).ok()
    }
}

#[cfg(all(test, feature = "fs"))]
mod tests {
    use super::*;

    #[test]
    fn metadata_round_trip() {
        let rule = DrawRule {
            image: "ab".repeat(32),
            view: "64x96+0+7f".parse().unwrap(),
            draw: 2,
            draws: 4,
            base_seed: 42,
            timesteps: (200, 900),
        };
        let metadata = BTreeMap::from(rule.to_metadata());
        assert_eq!(DrawRule::of_metadata(&metadata), Some(rule));
        for (key, value) in [
            (DRAW, "4"),
            (TIMESTEPS, "5-5"),
            (VIEW, "64"),
            (BASE_SEED, "-1"),
            (DRAWS, "x"),
        ] {
            let mut wrong = metadata.clone();
            wrong.insert(key.to_owned(), value.to_owned());
            assert_eq!(DrawRule::of_metadata(&wrong), None, "{key}");
            wrong.remove(key);
            assert_eq!(DrawRule::of_metadata(&wrong), None, "{key}");
        }
    }
}
