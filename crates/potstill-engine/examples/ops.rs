//! Times the operations that training spends its time in: milliseconds and GFLOP/s, forward and with backward.
//!
//! `cargo run --release -p potstill-engine --example ops [FILTER]`

use std::time::Instant;

use potstill_engine::ops::{self, Activation, Attention, Conv2d};
use potstill_engine::{Device, Recycler, Result, Tensor, Value, backward};

#[global_allocator]
static MEMORY: Recycler = Recycler;

/// Seconds that each measurement takes at least, after one run to warm up.
const SECONDS: f64 = 0.4;

fn random(dims: &[usize]) -> Value {
    Value::leaf(Tensor::randn(0f32, 1., dims, &Device::Cpu).expect("memory for the inputs"))
}

/// The fastest of repeated runs, in seconds: other work on the machine only ever adds.
fn time(mut f: impl FnMut() -> Result<()>) -> Result<f64> {
    f()?;
    let mut seconds = Vec::new();
    while seconds.len() < 5 || seconds.iter().sum::<f64>() < SECONDS {
        let start = Instant::now();
        f()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[0])
}

/// `flops` of the forward; forward and backward together are three times as many.
fn measure(name: &str, flops: f64, inputs: &[Value], f: impl Fn(&[Value]) -> Result<Value>) -> Result<()> {
    if std::env::args().nth(1).is_some_and(|filter| !name.contains(&filter)) {
        return Ok(());
    }
    let constants: Vec<Value> = inputs.iter().map(Value::detach).collect();
    let grad = f(&constants)?.tensor().ones_like()?;
    let forward = time(|| f(&constants).map(drop))?;
    let both = time(|| backward(&[(f(inputs)?, grad.clone())]).map(drop))?;
    let rate = |seconds: f64, flops: f64| flops / seconds / 1e9;
    println!(
        "{name:<34} {:>9.3} ms {:>6.0} GFLOP/s   with backward {:>9.3} ms {:>6.0} GFLOP/s",
        forward * 1e3,
        rate(forward, flops),
        both * 1e3,
        rate(both, 3. * flops)
    );
    Ok(())
}

fn main() -> Result<()> {
    println!(
        "kernels: {}, threads: {}",
        potstill_engine::kernel_class(),
        rayon::current_num_threads()
    );
    for (m, k, n) in [
        (4096, 320, 1280),
        (8, 256, 256),
        (2048, 64, 64),
        (2048, 64, 512),
        (616, 64, 64),
        (1024, 1024, 1024),
        (256, 1280, 1280),
        (256, 1280, 10240),
        (77, 768, 1280),
        (64, 1280, 1280),
        (4096, 320, 320),
        (4096, 320, 16),
        (4096, 16, 320),
    ] {
        let inputs = [random(&[m, k]), random(&[n, k]), random(&[n])];
        let flops = 2. * (m * k * n) as f64;
        measure(&format!("linear {m}x{k}x{n}"), flops, &inputs, |v| {
            ops::linear(&v[0], &v[1], Some(&v[2]))
        })?;
    }
    for (b, size, i, o, kernel, stride) in [
        (1, 64, 320, 320, 3, 1),
        (1, 32, 640, 640, 3, 1),
        (1, 16, 1280, 1280, 3, 1),
        (1, 8, 1280, 1280, 3, 1),
        (1, 16, 1280, 1280, 3, 2),
        (1, 64, 640, 320, 3, 1),
        (1, 64, 320, 320, 3, 2),
        (8, 16, 64, 64, 3, 1),
        (8, 8, 64, 64, 3, 1),
        (1, 8, 64, 64, 3, 1),
        (1, 16, 64, 64, 3, 1),
        (1, 4, 64, 64, 3, 1),
        (16, 8, 64, 64, 3, 1),
        (16, 4, 64, 64, 3, 1),
        (8, 8, 128, 64, 3, 1),
        (8, 4, 128, 128, 3, 1),
        (8, 4, 64, 64, 3, 1),
        (8, 2, 128, 64, 3, 1),
        (8, 16, 64, 64, 3, 2),
        (8, 16, 4, 64, 3, 1),
        (8, 16, 64, 4, 3, 1),
        (8, 16, 96, 96, 3, 1),
        (1, 128, 64, 64, 3, 1),
        (8, 16, 128, 64, 1, 1),
    ] {
        let inputs = [
            random(&[b, size, size, i]),
            random(&[o, kernel, kernel, i]),
            random(&[o]),
        ];
        let flops = 2. * (b * size * size / stride / stride * i * o * kernel * kernel) as f64;
        let geometry = Conv2d {
            stride,
            padding: [kernel / 2; 4],
        };
        let name = format!("conv{kernel}/{stride} {b}x{size}x{size} {i}->{o}");
        measure(&name, flops, &inputs, |v| {
            ops::conv2d(&v[0], &v[1], Some(&v[2]), &geometry)
        })?;
    }
    for (b, n, m, heads, width) in [
        (1, 4096, 4096, 8, 40),
        (1, 4096, 77, 8, 40),
        (1, 1024, 1024, 8, 80),
        (1, 256, 256, 8, 160),
        (1, 4096, 4096, 10, 64),
        (8, 256, 256, 8, 8),
        (8, 256, 77, 8, 8),
        (8, 64, 64, 8, 8),
        (32, 4, 77, 8, 8),
    ] {
        let c = heads * width;
        let inputs = [random(&[b, n, c]), random(&[b, m, c]), random(&[b, m, c])];
        let flops = 4. * (b * heads * n * m * width) as f64;
        let options = Attention {
            heads,
            scale: (width as f64).powf(-0.5),
            causal: false,
            bf16: false,
        };
        let name = format!("attention {b}x{heads} {n}x{m}x{width}");
        measure(&name, flops, &inputs, |v| ops::attention(&v[0], &v[1], &v[2], &options))?;
    }
    for (b, size, c) in [(1, 64, 320), (8, 16, 64), (8, 4, 64), (1, 128, 64)] {
        let x = random(&[b, size, size, c]);
        let count = (b * size * size * c) as f64;
        let inputs = [x, random(&[c]), random(&[c])];
        measure(
            &format!("group_norm+silu {b}x{size}x{size}x{c}"),
            8. * count,
            &inputs,
            |v| ops::group_norm(&v[0], &v[1], &v[2], 32, 1e-5, Activation::Silu),
        )?;
        measure(&format!("layer_norm {b}x{size}x{size}x{c}"), 8. * count, &inputs, |v| {
            ops::layer_norm(&v[0], &v[1], &v[2], 1e-5)
        })?;
        measure(&format!("silu {b}x{size}x{size}x{c}"), 4. * count, &inputs[..1], |v| {
            ops::silu(&v[0])
        })?;
        let doubled = random(&[b, size, size, 8 * c]);
        measure(
            &format!("geglu {b}x{size}x{size}x{}", 8 * c),
            16. * count,
            &[doubled],
            |v| ops::geglu(&v[0]),
        )?;
        let y = random(&[b, size, size, c]);
        measure(
            &format!("add {b}x{size}x{size}x{c}"),
            count,
            &[inputs[0].clone(), y],
            |v| ops::add(&v[0], &v[1]),
        )?;
    }
    Ok(())
}
