//! Times one training step of a UNet, part by part: forward, backward, clipping, optimizer.
//!
//! `cargo run --release -p potstill-models --example train_step -- UNET_FOLDER [BATCH] [STEPS]`

use std::time::Instant;

use potstill_engine::optim::{AdamW, AdamWConfig, Optimizer as _, clip_grad_norm};
use potstill_engine::{Device, Tensor, Value, backward, ops};
use potstill_models::{ForwardOptions, Unet, UnetInputs};

/// Tokens of a prompt.
const TOKENS: usize = 77;
/// Gradient norm of the clipping; any will do.
const CLIP: f64 = 1.;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().ok_or("name a diffusers unet folder")?;
    let batch: usize = args.next().map_or(Ok(8), |a| a.parse())?;
    let steps: usize = args.next().map_or(Ok(10), |a| a.parse())?;
    let device = Device::Cpu;
    let unet = Unet::load(folder.as_ref(), &device)?;
    let config = unet.config();
    unet.params().set_trainable(|_| true);
    let params: Vec<_> = unet.params().iter().cloned().collect();
    let mut optimizer = AdamW::new(params.clone(), AdamWConfig::default())?;
    let latents = Tensor::randn(0f32, 1., (batch, config.in_channels, 16, 16), &device)?;
    let target = Value::constant(Tensor::randn(0f32, 1., (batch, config.out_channels, 16, 16), &device)?);
    let text = Tensor::randn(0f32, 1., (batch, TOKENS, config.cross_attention_dim), &device)?;
    let timesteps = vec![500.; batch];
    let mut fastest = [f64::INFINITY; 4];
    for _ in 0..steps {
        let mut start = Instant::now();
        let mut lap = || std::mem::replace(&mut start, Instant::now()).elapsed().as_secs_f64() * 1e3;
        let inputs = UnetInputs {
            sample: Value::constant(latents.clone()),
            timestep: &timesteps,
            encoder_hidden_states: Value::constant(text.clone()),
            text_embeds: None,
            time_ids: None,
        };
        let prediction = unet.forward(&inputs, &ForwardOptions::default())?;
        let loss = ops::mean(&ops::square(&ops::sub(&prediction, &target)?)?, &[0, 1, 2, 3], false)?;
        let forward = lap();
        let one = loss.tensor().ones_like()?;
        let mut gradients = backward(&[(loss, one)])?;
        let back = lap();
        clip_grad_norm(&params, &mut gradients, CLIP)?;
        let clip = lap();
        optimizer.step(1e-4, &gradients)?;
        for (fastest, ms) in fastest.iter_mut().zip([forward, back, clip, lap()]) {
            *fastest = fastest.min(ms);
        }
    }
    let [forward, back, clip, step] = fastest;
    println!(
        "batch {batch}, fastest of {steps}: forward {forward:.1} ms, backward {back:.1} ms, clip {clip:.1} ms, optimizer {step:.1} ms"
    );
    Ok(())
}
