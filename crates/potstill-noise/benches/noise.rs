//! Normals per second of one core. `cargo bench -p potstill-noise`.

use std::time::Instant;

use potstill_noise::{PhiloxNormals, Stream, TorchGenerator};

const VALUES: usize = 1 << 20;
const REPEATS: u32 = 64;

fn measure(name: &str, mut fill: impl FnMut(u32, &mut [f32])) {
    let mut out = vec![0f32; VALUES];
    fill(0, &mut out);
    let best = (0..REPEATS)
        .map(|i| {
            let start = Instant::now();
            fill(i, &mut out);
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    println!("{name}: {:.0} million normals per second", VALUES as f64 / best / 1e6);
}

fn main() {
    measure("philox", |seed, out| {
        PhiloxNormals::new(seed.into(), Stream::Noise).fill(out)
    });
    measure("torch", |seed, out| TorchGenerator::new(seed.into()).randn(out));
    measure("torch, DEFAULT class", |seed, out| {
        TorchGenerator::new(seed.into()).randn_libm_class(out)
    });
}
