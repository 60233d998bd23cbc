//! One forward pass of the full-size SD1.5 and SDXL UNets at 512×512 with random weights, one JSON object a line.
//!
//! `cargo run --release -p potstill-models --example full_size [sd15|sdxl]`. SDXL needs 13 GB of memory. What it printed
//! is kept in `bench/results/full-size.jsonl`.

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
    let start = Instant::now();
    let prediction = cond.predict(&unet, sample, 500.)?;
    let seconds = start.elapsed().as_secs_f64();
    let rms = prediction.sqr()?.mean_all()?.to_scalar::<f32>()?.sqrt();
    let line = json!({
        "arch": kind.name(), "size": SIZE, "batch": 1, "tensors": unet.params().len(), "parameters": unet.params().count(),
        "secondsToMake": rounded(made.as_secs_f64()), "seconds": rounded(seconds), "peakBytes": peak_bytes(),
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
