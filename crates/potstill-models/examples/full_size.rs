//! One forward pass of the full-size SD1.5 and SDXL UNets at 512×512 with random weights: seconds and parameters.
//!
//! `cargo run --release -p potstill-models --example full_size [sd15|sdxl]`. SDXL needs 13 GB of memory.

use std::time::Instant;

use potstill_engine::{DType, Device, Tensor, kernel_class};
use potstill_models::{Conditioning, Initialisation, ModelKind, Result, Unet, UnetConfig, default_time_ids};

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
    println!(
        "{kind}: {} tensors, {} parameters; made in {:.1} s, one forward at {SIZE} in {seconds:.2} s \
         ({} kernels), output {:?}, rms {rms:.4}",
        unet.params().len(),
        unet.params().count(),
        made.as_secs_f64(),
        kernel_class(),
        prediction.dims(),
    );
    Ok(())
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
