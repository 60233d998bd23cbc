//! Which generator made the noise of a cache.

use std::fmt;
use std::str::FromStr;

use crate::philox::{PhiloxNormals, Stream};
use crate::torch::TorchGenerator;

/// A noise generator by its name in recipes and plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Generator {
    /// torch's CPU `randn`, AVX2 class.
    Torch,
    /// potstill's counter-based generator: fast everywhere, the same bits in CUDA and WASM.
    #[default]
    Philox,
}

impl Generator {
    /// Every generator, in the order of their names' introduction.
    pub const ALL: [Self; 2] = [Self::Torch, Self::Philox];

    /// The name in recipes and plans.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Torch => "torch",
            Self::Philox => "philox",
        }
    }

    /// [`Generator::fill_noise`], piece by piece.
    #[must_use]
    pub fn noise(self, seed: u64) -> NoiseStream {
        NoiseStream(match self {
            Self::Torch => Stepwise::Torch(Box::new(TorchGenerator::new(seed))),
            Self::Philox => Stepwise::Philox {
                normals: PhiloxNormals::new(seed, Stream::Noise),
                block: 0,
            },
        })
    }

    /// Standard normal noise of a draw: for `Philox` stream 0 of the seed, for `Torch` what
    /// `torch.randn(n, generator=torch.Generator().manual_seed(seed))` gives.
    pub fn fill_noise(self, seed: u64, out: &mut [f32]) {
        match self {
            Self::Torch => TorchGenerator::new(seed).randn(out),
            Self::Philox => PhiloxNormals::new(seed, Stream::Noise).fill(out),
        }
    }
}

/// The noise of a draw, piece by piece: together the pieces are the whole, if all but the last have a multiple of
/// [`NoiseStream::STEP`] values and the last at least as many.
pub struct NoiseStream(Stepwise);

enum Stepwise {
    Torch(Box<TorchGenerator>),
    Philox { normals: PhiloxNormals, block: u64 },
}

impl NoiseStream {
    /// Values that the generators make together.
    pub const STEP: usize = 16;

    /// The next values.
    pub fn fill(&mut self, out: &mut [f32]) {
        match &mut self.0 {
            Stepwise::Torch(generator) => generator.randn(out),
            Stepwise::Philox { normals, block } => {
                normals.fill_from(*block, out);
                *block += (out.len() / PhiloxNormals::BLOCK) as u64;
            }
        }
    }
}

impl fmt::Display for Generator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no generator has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown noise generator {0:?}; use \"torch\" or \"philox\"")]
pub struct UnknownGenerator(pub String);

impl FromStr for Generator {
    type Err = UnknownGenerator;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|g| g.name() == name)
            .ok_or_else(|| UnknownGenerator(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for generator in Generator::ALL {
            assert_eq!(generator.name().parse(), Ok(generator));
        }
        assert!("mt".parse::<Generator>().is_err());
    }

    #[test]
    fn pieces_are_the_whole() {
        for generator in Generator::ALL {
            let mut whole = vec![0f32; 1_003];
            generator.fill_noise(8, &mut whole);
            let (mut pieces, mut noise) = (vec![0f32; 1_003], generator.noise(8));
            let (first, rest) = pieces.split_at_mut(NoiseStream::STEP);
            let (second, last) = rest.split_at_mut(40 * NoiseStream::STEP);
            [first, second, last].into_iter().for_each(|piece| noise.fill(piece));
            assert_eq!(whole, pieces, "{generator}");
        }
    }
}
