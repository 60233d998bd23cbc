//! Tiled encoding and decoding against that of the whole picture.

mod common;

use common::{base_seed, fixture, json, randn, values};
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

/// Where tiles overlap, their weights are shares of one whole: every latent lies between those of the tiles that have it,
/// and where only one has it, it is that tile's. So tiling errs at no place by more than the tile that errs most there.
#[test]
fn tiled_latents_lie_between_those_of_their_tiles() {
    const TILE: usize = 32;
    let vae = vae();
    let (height, width) = (40, 48);
    let pixels = (randn(9, &[2, 3, 40, 48])
        .upsample_nearest2d(8 * height, 8 * width)
        .unwrap()
        * 0.3)
        .unwrap();
    let tiling = Tiling { tile: TILE, overlap: 8 };
    let tiled = values(&vae.encode_mode_tiled(&pixels, tiling).unwrap());
    // Two tiles along each side: at its beginning and at its end.
    let (tops, lefts) = ([0, height - TILE], [0, width - TILE]);
    let mut bounds = vec![(f32::INFINITY, f32::NEG_INFINITY, 0); tiled.len()];
    for (top, left) in tops.into_iter().flat_map(|top| lefts.map(|left| (top, left))) {
        let part = pixels
            .narrow(2, 8 * top, 8 * TILE)
            .unwrap()
            .narrow(3, 8 * left, 8 * TILE)
            .unwrap();
        let alone = values(&vae.encode_mode(&part.contiguous().unwrap()).unwrap());
        for (i, value) in alone.into_iter().enumerate() {
            let (plane, y, x) = (i / (TILE * TILE), i / TILE % TILE, i % TILE);
            let (low, high, tiles) = &mut bounds[(plane * height + top + y) * width + left + x];
            (*low, *high, *tiles) = (low.min(value), high.max(value), *tiles + 1);
        }
    }
    let count = |wanted| bounds.iter().filter(|(_, _, tiles)| *tiles == wanted).count();
    assert_eq!([1, 2, 4].map(count).iter().sum::<usize>(), tiled.len());
    assert!(
        [1, 2, 4].into_iter().all(|tiles| count(tiles) > 0),
        "all kinds of places are there"
    );
    let mut apart = 0f32;
    for (value, (low, high, tiles)) in tiled.iter().zip(&bounds) {
        // The sum of four products in f32.
        let rounding = 4. * f32::EPSILON * low.abs().max(high.abs());
        assert!(
            *value >= low - rounding && *value <= high + rounding,
            "{value} is outside of {low} to {high}"
        );
        assert!(*tiles > 1 || value == low, "{value} is not its only tile's {low}");
        apart = apart.max(high - low);
    }
    assert!(apart > 0.01, "tiles that agree would prove nothing: {apart}");
    // The whole differs by the tiles' own normalisation and attention.
    let whole = values(&vae.encode_mode(&pixels).unwrap());
    assert_ne!(tiled, whole);
    assert!(
        vae.encode_mode_tiled(&pixels.narrow(2, 0, 300).unwrap(), TILING)
            .is_err()
    );
}
