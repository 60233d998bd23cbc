//! Noise that more than one prediction is compared with: teachers of a cache most often have the same draws, and some have two
//! predictions of each.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use potstill_noise::Generator;

/// Most values that are kept, 32 MiB: a shard of 64 records of 512² has a million.
const MOST_VALUES: usize = 1 << 23;

/// Noise by its generator and seed.
pub(crate) struct KeptNoise {
    /// Whether what is made will be wanted again.
    is_wanted: bool,
    made: HashMap<(Generator, u64), Vec<f32>>,
    values: usize,
}

impl KeptNoise {
    pub fn new(is_wanted: bool) -> Self {
        Self {
            is_wanted,
            made: HashMap::new(),
            values: 0,
        }
    }

    /// The noise of a seed, made or kept; none where it is not to be kept.
    pub fn of(&mut self, generator: Generator, seed: u64, count: usize) -> Option<&[f32]> {
        if !self.is_wanted {
            return None;
        }
        let noise = match self.made.entry((generator, seed)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(_) if self.values + count > MOST_VALUES => return None,
            Entry::Vacant(entry) => {
                let mut noise = vec![0.0; count];
                generator.fill_noise(seed, &mut noise);
                self.values += count;
                entry.insert(noise)
            }
        };
        // One seed may be of draws of two sizes.
        (noise.len() == count).then_some(noise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_is_made() {
        let mut kept = KeptNoise::new(true);
        for generator in Generator::ALL {
            for seed in [1, 2, 1] {
                let mut made = vec![0.0; 100];
                generator.fill_noise(seed, &mut made);
                assert_eq!(kept.of(generator, seed, 100), Some(&made[..]));
            }
        }
        assert_eq!(kept.made.len(), 4);
        assert_eq!(kept.of(Generator::Torch, 1, 99), None);
        assert_eq!(kept.of(Generator::Torch, 3, MOST_VALUES), None);
        assert_eq!(KeptNoise::new(false).of(Generator::Torch, 1, 100), None);
    }
}
