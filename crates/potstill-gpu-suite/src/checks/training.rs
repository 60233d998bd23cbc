//! Ten steps of training a UNet on the device against the same ten on the CPU.

use potstill_adapters::{LoraOptions, TrainedLora};
use potstill_engine::optim::{AdamW, AdamWConfig, Ema, EmaConfig, Optimizer as _, clip_grad_norm};
use potstill_engine::{DType, Device, Param, Tensor, Value, backward, ops};
use potstill_models::{ForwardOptions, Initialisation, Precision, Unet, UnetInputs};

use super::{Size, caught};
use crate::compare::{Tolerance, compare_values, values};
use crate::embedded::{UNETS, UnetFixture};
use crate::place::Place;
use crate::random::randn;
use crate::report::Check;
use crate::{Error, Result};

const GROUP: &str = "training";
const STEPS: u64 = 10;
const BATCH: usize = 2;
const SIDE: usize = 8;
const LR: f64 = 1e-4;
/// Of the losses: rounding errors of f32, amplified by the steps before.
const LOSS: f64 = 1e-3;
/// Of what ten steps have changed of the weights: Adam divides by the root of the squared gradient, and where that is as
/// small as its rounding error the direction of a step is anybody's guess.
const CHANGE: f64 = 0.05;
/// Both in bf16, where a card rounds activations that the CPU keeps in f32.
const BF16: [f64; 2] = [2e-2, 0.3];

/// Which of the weights are trained.
#[derive(Clone, Copy)]
enum Student {
    Whole,
    /// A LoRA beside matrices of this precision.
    Lora(Precision),
}

/// Both families, all weights and a LoRA. On the CPU, activations are recomputed on one of the two sides.
pub(super) fn check(place: &Place, _size: Size) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for fixture in &UNETS {
        for (student, what, dtype) in [
            (Student::Whole, "all weights", "f32"),
            (Student::Lora(Precision::F32), "LoRA", "f32"),
            (Student::Lora(Precision::Bf16), "LoRA", "bf16"),
        ] {
            let name = |of: &str| format!("{} {what}, {STEPS} steps: {of}", fixture.name);
            let pair = caught(|| {
                let wanted = train(fixture, student, &Device::Cpu, false)?;
                let found = place.run(|| train(fixture, student, place.device(), true))?;
                Ok((found, wanted))
            });
            let (losses, change) = match pair {
                Ok((found, wanted)) => (
                    distance_of_losses(&found, &wanted),
                    distance_of_changes(&found, &wanted),
                ),
                Err(error) => (Err(error), Err(Error::Input("as above".to_owned()))),
            };
            let [loss, least] = if dtype == "bf16" { BF16 } else { [LOSS, CHANGE] };
            checks.push(Check::of(GROUP, name("losses"), dtype, loss, losses));
            checks.push(Check::of(GROUP, name("what they change"), dtype, least, change));
        }
    }
    Ok(checks)
}

struct Trained {
    losses: Vec<f64>,
    before: Vec<f64>,
    after: Vec<f64>,
}

fn distance_of_losses(found: &Trained, wanted: &Trained) -> Result<f64> {
    let tolerance = Tolerance {
        relative: LOSS,
        floor: 0.,
    };
    Ok(compare_values(&found.losses, &wanted.losses, tolerance))
}

/// ‖difference of the changes‖ over ‖change‖.
fn distance_of_changes(found: &Trained, wanted: &Trained) -> Result<f64> {
    if found.after.len() != wanted.after.len() {
        return Err(Error::Input("other parameters are trained".to_owned()));
    }
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut found.after.iter().zip(&wanted.after).map(|(a, b)| a - b));
    let change = norm(&mut wanted.after.iter().zip(&wanted.before).map(|(a, b)| a - b));
    if change == 0. || !difference.is_finite() {
        return Err(Error::Input("nothing was trained, or beyond all bounds".to_owned()));
    }
    Ok(difference / change)
}

fn train(fixture: &UnetFixture, student: Student, device: &Device, recompute: bool) -> Result<Trained> {
    let precision = match student {
        Student::Whole => Precision::F32,
        Student::Lora(precision) => precision,
    };
    let unet = Unet::random_in(fixture.config()?, 1, Initialisation::Training, precision, device)?;
    let params: Vec<Param> = match student {
        Student::Whole => {
            unet.params().set_trainable(|_| true);
            unet.params().iter().cloned().collect()
        }
        Student::Lora(_) => {
            let options = LoraOptions {
                rank: 4,
                alpha: 4.,
                targets: vec!["attention".to_owned()],
                blocks: Vec::new(),
                dora: false,
                seed: 1,
            };
            let lora = TrainedLora::new(&unet, &options)?;
            lora.params().set_trainable(|_| true);
            lora.params().iter().cloned().collect()
        }
    };
    let read = || {
        params
            .iter()
            .map(|p| values(&p.tensor()))
            .collect::<Result<Vec<_>>>()
            .map(|v| v.concat())
    };
    let before = read()?;
    let mut adamw = AdamW::new(params.clone(), AdamWConfig::default())?;
    let mut ema = Ema::new(params.clone(), EmaConfig::default())?;
    let mut losses = Vec::new();
    for step in 0..STEPS {
        let (prediction, target) = forward(&unet, step, recompute)?;
        let loss = ops::mean(&ops::square(&ops::sub(&prediction, &target)?)?, &[0, 1, 2, 3], false)?;
        losses.push(values(loss.tensor())?[0]);
        let one = loss.tensor().ones_like()?;
        let mut gradients = backward(&[(loss, one)])?;
        clip_grad_norm(&params, &mut gradients, 1.)?;
        adamw.step(LR, &gradients)?;
        ema.update()?;
    }
    Ok(Trained {
        losses,
        before,
        after: read()?,
    })
}

/// The prediction of a step's batch, and its target.
fn forward(unet: &Unet, step: u64, recompute: bool) -> Result<(Value, Value)> {
    let config = unet.config();
    let drawn = |input: u64, shape: &[usize]| -> Result<Value> {
        let drawn = randn(1000 + 10 * step + input, shape)?.to_dtype(DType::F32)?;
        Ok(Value::constant(drawn.to_device(unet.device())?))
    };
    let latents = [BATCH, config.in_channels, SIDE, SIDE];
    let timestep = [(37 * step % 1000) as f64, (911 * (step + 1) % 1000) as f64];
    let pooled = config
        .text_time
        .map(|c| drawn(2, &[BATCH, c.pooled_channels]))
        .transpose()?;
    let time_ids = config
        .text_time
        .map(|_| Tensor::full(64f32, (BATCH, 6), unet.device()))
        .transpose()?;
    let inputs = UnetInputs {
        sample: drawn(0, &latents)?,
        timestep: &timestep,
        encoder_hidden_states: drawn(1, &[BATCH, 77, config.cross_attention_dim])?,
        text_embeds: pooled,
        time_ids: time_ids.map(Value::constant),
    };
    Ok((
        unet.forward(&inputs, &ForwardOptions { recompute })?,
        drawn(3, &latents)?,
    ))
}
