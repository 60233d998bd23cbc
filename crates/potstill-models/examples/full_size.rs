//! One forward pass of the full-size SD1.5 and SDXL UNets at 512×512 with random weights, one JSON object a line.
//!
//! `cargo run --release -p potstill-models --example full_size [sd15|sdxl]`. SDXL needs 13 GB of memory. What it printed
//! is kept in `bench/results/full-size.json`.

use std::time::Instant;

use potstill_engine::{DType, Device, Tensor, kernel_class};
use potstill_models::{Conditioning, Initialisation, ModelKind, Result, Unet, UnetConfig, default_time_ids};
use serde_json::json;

/// Side of the picture in pixels; latents are an eighth.
const SIZE: usize = 512;
const TOKENS: usize = 77;

fn run(config: UnetConfig) -> Result<()> {
    let device = Device::Cpu;
    let kind = ModelKind::of(&config);
    let start = Instant::now();
    let unet = Unet::random(config, 0, Initialisation::Training, &device)?;
    let made = start.elapsed();
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &device);
    let text_time = unet.config().text_time;
    let cond = Conditioning {
        encoder_hidden_states: zeros(&[1, TOKENS, unet.config().cross_attention_dim])?,
        text_embeds: text_time.map(|c| zeros(&[1, c.pooled_channels])).transpose()?,
        time_ids: text_time
            .map(|_| default_time_ids(1, SIZE, SIZE, &device))
            .transpose()?,
    };
    let sample = Tensor::ones((1, 4, SIZE / 8, SIZE / 8), DType::F32, &device)?;
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let prediction = cond.predict(&unet, sample, 500.)?;
    let seconds = start.elapsed().as_secs_f64();
    // On a busy machine the CPU's seconds over the threads are nearer to the truth than the clock's.
    let cpu = cpu_seconds().zip(cpu).map(|(after, before)| rounded(after - before));
    let rms = prediction.sqr()?.mean_all()?.to_scalar::<f32>()?.sqrt();
    let line = json!({
        "arch": kind.name(), "size": SIZE, "batch": 1, "tensors": unet.params().len(), "parameters": unet.params().count(),
        "secondsToMake": rounded(made.as_secs_f64()), "seconds": rounded(seconds), "cpuSeconds": cpu, "peakBytes": peak_bytes(),
        "kernels": kernel_class(), "threads": std::thread::available_parallelism().map_or(1, usize::from),
        "output": prediction.dims(), "rms": rms,
    });
    println!("{line}");
    Ok(())
}

/// Seconds to the hundredth.
fn rounded(seconds: f64) -> f64 {
    (seconds * 100.).round() / 100.
}

/// CPU time of all threads of this process so far, where the system says so (Linux).
fn cpu_seconds() -> Option<f64> {
    /// Linux counts this many ticks a second in what it tells programs.
    const TICKS_PER_SECOND: f64 = 100.;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Fields 14 and 15, counted from behind the name, which may hold spaces.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |i: usize| fields.get(i)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

/// The most memory that this process has had, where the system says so (Linux).
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace()
        .next()?
        .parse::<u64>()
        .ok()
        .map(|kibibytes| kibibytes * 1024)
}

fn main() -> Result<()> {
    let only = std::env::args().nth(1);
    for config in [UnetConfig::sd15(), UnetConfig::sdxl()] {
        if only.as_deref().is_none_or(|name| name == ModelKind::of(&config).name()) {
            run(config)?;
        }
    }
    Ok(())
}
