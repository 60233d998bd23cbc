//! Tiled encoding and decoding against that of the whole picture.

mod common;

use common::{base_seed, fixture, json, randn, relative_error, values};
use potstill_engine::{Device, Tensor, Value};
use potstill_models::{Tiling, Vae, VaeConfig};

const TILING: Tiling = Tiling { tile: 16, overlap: 4 };

fn vae() -> Vae {
    let config = VaeConfig::read(&fixture("vae_tiny").join("config.json")).unwrap();
    let seed = base_seed(&json("vae_tiny/expected.json"));
    Vae::random(config, seed, common::WEIGHTS, &Device::Cpu).unwrap()
}

/// Latents that change slowly, as a picture's do.
fn smooth(height: usize, width: usize) -> Tensor {
    let coarse = randn(7, &[1, 4, height.div_ceil(8), width.div_ceil(8)]);
    let fine = coarse.upsample_nearest2d(height, width).unwrap();
    (fine + (randn(8, &[1, 4, height, width]) * 0.1).unwrap()).unwrap()
}

/// Mean difference of neighbouring columns, for each pair of columns.
fn column_differences(picture: &Tensor) -> Vec<f64> {
    let width = picture.dim(3).unwrap();
    (1..width)
        .map(|x| {
            let column = |x| values(&picture.narrow(3, x, 1).unwrap());
            let (before, after) = (column(x - 1), column(x));
            let sum: f64 = before.iter().zip(&after).map(|(a, b)| f64::from((a - b).abs())).sum();
            sum / before.len() as f64
        })
        .collect()
}

#[test]
fn what_fits_into_a_tile_is_decoded_whole() {
    let vae = vae();
    let latents = smooth(16, 12);
    let whole = vae.decode(&Value::constant(latents.clone())).unwrap();
    let tiled = vae.decode_tiled(&latents, TILING).unwrap();
    assert_eq!(values(&tiled), values(whole.tensor()));
}

#[test]
fn tiles_leave_no_seam() {
    let vae = vae();
    let latents = smooth(16, 40);
    let tiled = vae.decode_tiled(&latents, TILING).unwrap();
    assert_eq!(tiled.dims(), [1, 3, 128, 320]);
    // The same tiles, cut in the middle of their overlaps: what blending is there to prevent.
    let starts = [0, 12, 24];
    let tile = |start: usize| {
        vae.decode_tiled(&latents.narrow(3, start, 16).unwrap().contiguous().unwrap(), TILING)
            .unwrap()
    };
    let cuts = [0, 14, 26, 40].map(|at| at * 8);
    let parts: Vec<Tensor> = (0..3)
        .map(|i| {
            tile(starts[i])
                .narrow(3, cuts[i] - starts[i] * 8, cuts[i + 1] - cuts[i])
                .unwrap()
        })
        .collect();
    let cut = Tensor::cat(&parts, 3).unwrap();

    // What tiling changes may change from place to place, but at a tile's edge by no more than elsewhere.
    let whole = vae.decode(&Value::constant(latents)).unwrap();
    let excess = |picture: &Tensor, columns: &[usize]| {
        let steps = column_differences(&(picture - whole.tensor()).unwrap());
        let usual = steps.iter().sum::<f64>() / steps.len() as f64;
        columns.iter().map(|x| steps[x - 1] / usual).fold(0., f64::max)
    };
    let edges = [12, 16, 24, 28].map(|at| at * 8);
    let (blended, hard) = (excess(&tiled, &edges), excess(&cut, &cuts[1..3]));
    println!("at tiles' edges the change is {blended:.2} times the usual one, {hard:.2} times when cut");
    assert!(blended < 2. && hard > 4., "{blended} {hard}");
}

#[test]
fn tiled_latents_are_near_those_of_the_whole() {
    let vae = vae();
    let pixels = (randn(9, &[2, 3, 40, 40]).upsample_nearest2d(320, 320).unwrap() * 0.3).unwrap();
    let whole = vae.encode_mode(&pixels).unwrap();
    let tiled = vae.encode_mode_tiled(&pixels, Tiling { tile: 32, overlap: 8 }).unwrap();
    assert_eq!(tiled.dims(), whole.dims());
    let error = relative_error(&tiled, &whole);
    println!("latents of tiles differ by {error:.3} of their scale");
    assert!(error > 0. && error < 0.5, "{error}");
    assert!(
        vae.encode_mode_tiled(&pixels.narrow(2, 0, 300).unwrap(), TILING)
            .is_err()
    );
}
