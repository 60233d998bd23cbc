//! Noise that is made on the device against potstill-noise, to the bit.

use potstill_engine::{DType, noise::normals};
use potstill_noise::Generator;

use super::{Size, caught};
use crate::place::Place;
use crate::report::Check;
use crate::{Error, Result};

const GROUP: &str = "noise";
const SEEDS: [u64; 3] = [0, 42, 0x0123_4567_89ab_cdef];
/// One value; less than a group of torch's; latents of SD1.5; no multiple of any group.
const SMALL: [&[usize]; 4] = [&[1], &[3, 5], &[1, 4, 8, 8], &[1001]];
/// Latents of SDXL and of a batch of SD1.5, and what needs thousands of blocks.
const LARGE: [&[usize]; 3] = [&[1, 4, 128, 128], &[16, 4, 64, 64], &[10_000_019]];

/// Both generators: no bit may differ.
pub(super) fn check(place: &Place, size: Size) -> Result<Vec<Check>> {
    let shapes = SMALL.iter().chain(if size == Size::Full { &LARGE[..] } else { &[] });
    let mut checks = Vec::new();
    for dims in shapes {
        for generator in Generator::ALL {
            for seed in SEEDS {
                let name = format!("{generator}, seed {seed}, {dims:?}");
                let error = caught(|| differing(place, generator, seed, dims));
                checks.push(Check::of(GROUP, name, "f32", 0., error));
            }
        }
    }
    Ok(checks)
}

/// The share of values of which any bit differs.
fn differing(place: &Place, generator: Generator, seed: u64, dims: &[usize]) -> Result<f64> {
    let found = place.run(|| normals(generator, seed, dims, place.device()))?;
    if found.dims() != dims || found.dtype() != DType::F32 {
        return Err(Error::Input(format!("{:?} {:?}", found.dims(), found.dtype())));
    }
    let found: Vec<f32> = found
        .to_device(&potstill_engine::Device::Cpu)?
        .flatten_all()?
        .to_vec1()?;
    let mut wanted = vec![0f32; found.len()];
    generator.fill_noise(seed, &mut wanted);
    let differ = found.iter().zip(&wanted).filter(|(a, b)| a.to_bits() != b.to_bits());
    Ok(differ.count() as f64 / found.len() as f64)
}
