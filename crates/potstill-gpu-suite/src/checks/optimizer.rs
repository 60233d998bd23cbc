//! Clipping, AdamW and the moving average against ten steps of torch and diffusers (`test/fixtures/make_training.py`); the
//! other optimizers against the CPU's f64, whose steps the engine's own tests compare with their references'.

use potstill_engine::optim::{
    Adafactor, AdafactorConfig, AdamW, AdamWConfig, Ema, EmaConfig, Lion, LionConfig, Optimizer, Prodigy,
    ProdigyConfig, clip_grad_norm,
};
use potstill_engine::{DType, Device, Gradients, Param, Tensor};

use super::{Size, caught};
use crate::compare::{Tolerance, compare, compare_values, values};
use crate::embedded::{TRAINING, json, tensors};
use crate::place::Place;
use crate::random::randn;
use crate::report::Check;
use crate::{Error, Result};

const GROUP: &str = "optimizer";
const STEPS: usize = 10;
const CLIP: f64 = 2.;
/// What torch adds to the norm that it divides by.
const CLIP_EPS: f64 = 1e-6;
const SHAPES: [&[usize]; 2] = [&[4, 6], &[17]];
/// Torch's f32 rounds each of its operations.
const TOLERANCES: [(DType, &str, f64); 2] = [(DType::F64, "f64", 1e-12), (DType::F32, "f32", 1e-6)];

/// Weights and averages after every step, and the norms of the clipped gradients.
pub(super) fn check(place: &Place, _size: Size) -> Result<Vec<Check>> {
    let checks = TOLERANCES.map(|(dtype, label, relative)| {
        let error = caught(|| place.run(|| error_of(place, dtype, label, relative)));
        let name = "ten steps of clipping, AdamW and EMA".to_owned();
        Check::of(GROUP, name, dtype.as_str(), relative, error)
    });
    let mut checks = Vec::from(checks);
    for other in OTHERS {
        let wanted = weights_after_steps(&other, &Device::Cpu, DType::F64)?;
        for (dtype, relative) in [(DType::F64, 1e-10), (DType::F32, 1e-4)] {
            let found = caught(|| place.run(|| weights_after_steps(&other, place.device(), dtype)));
            let tolerance = Tolerance { relative, floor: 0. };
            let error = found.map(|found| compare_values(&found, &wanted, tolerance));
            checks.push(Check::of(
                GROUP,
                format!("ten steps of {}", other.name),
                dtype.as_str(),
                relative,
                error,
            ));
        }
    }
    Ok(checks)
}

/// An optimizer that has no recorded steps here.
struct Other {
    name: &'static str,
    lr: f64,
    make: fn(Vec<Param>) -> potstill_engine::Result<Box<dyn Optimizer>>,
}

const OTHERS: [Other; 3] = [
    Other {
        name: "Lion",
        lr: 1e-2,
        make: |params| {
            let config = LionConfig {
                betas: (0.9, 0.99),
                weight_decay: 0.02,
            };
            Ok(Box::new(Lion::new(params, config)?))
        },
    },
    Other {
        name: "Prodigy",
        lr: 1.,
        make: |params| {
            let config = ProdigyConfig {
                betas: (0.9, 0.999),
                eps: 1e-8,
                weight_decay: 0.01,
                d0: 1e-2,
                d_coef: 1.,
                growth_rate: f64::INFINITY,
                bias_correction: true,
                safeguard_warmup: false,
            };
            Ok(Box::new(Prodigy::new(params, config)?))
        },
    },
    Other {
        name: "Adafactor",
        lr: 1e-2,
        make: |params| {
            let config = AdafactorConfig {
                eps: (1e-30, 1e-3),
                clip_threshold: 1.,
                decay_rate: -0.8,
                weight_decay: 0.01,
                scale_parameter: true,
                relative_step: false,
            };
            Ok(Box::new(Adafactor::new(params, config)?))
        },
    },
];

/// Weights of a matrix, a vector and a convolution after ten steps along gradients that are drawn.
fn weights_after_steps(other: &Other, device: &Device, dtype: DType) -> Result<Vec<f64>> {
    let drawn = |seed: u64, shape: &[usize]| -> Result<Tensor> {
        let rounded = randn(seed, shape)?.to_dtype(DType::F32)?;
        Ok(rounded.to_dtype(dtype)?.to_device(device)?)
    };
    let shapes: [&[usize]; 3] = [&[70, 130], &[17], &[8, 3, 3, 40]];
    let params: Vec<Param> = (shapes.iter().zip(0..))
        .map(|(shape, i)| Ok(Param::new(format!("param{i}"), drawn(i, shape)?)))
        .collect::<Result<_>>()?;
    let mut optimizer = (other.make)(params.clone())?;
    for step in 1..=STEPS as u64 {
        let mut gradients = Gradients::default();
        for ((param, shape), i) in params.iter().zip(shapes).zip(0..) {
            gradients.accumulate(param.leaf(), drawn(10 * step + i, shape)?)?;
        }
        optimizer.step(other.lr, &gradients)?;
    }
    let weights = params.iter().map(|param| values(&param.tensor()));
    Ok(weights.collect::<Result<Vec<_>>>()?.concat())
}

fn error_of(place: &Place, dtype: DType, label: &str, relative: f64) -> Result<f64> {
    let (asked, recorded) = (json(TRAINING.0)?, tensors(TRAINING.1)?);
    let number = |key: &str, step: usize| {
        let found = asked["adamw"][key][step].as_f64();
        found.ok_or_else(|| Error::Input(format!("there is no {key} of step {step}")))
    };
    let seeded = |seed: u64, shape: &[usize], factor: f64| -> Result<Tensor> {
        // As torch: the product is rounded to f32 before it is cast.
        let drawn = (randn(seed, shape)?.to_dtype(DType::F32)? * factor)?;
        Ok(drawn.to_dtype(dtype)?.to_device(place.device())?)
    };
    let params = SHAPES.iter().zip(0..).map(|(shape, i)| {
        let param = Param::new(format!("param{i}"), seeded(71_000 + i, shape, 1.)?);
        param.set_trainable(true);
        Ok(param)
    });
    let params: Vec<Param> = params.collect::<Result<_>>()?;
    let mut adamw = AdamW::new(params.clone(), AdamWConfig::default())?;
    let mut ema = Ema::new(params.clone(), EmaConfig::default())?;
    let tolerance = Tolerance { relative, floor: 0. };
    let mut worst = 0f64;
    for step in 0..STEPS {
        let mut gradients = Gradients::default();
        for ((param, shape), i) in params.iter().zip(SHAPES).zip(0..) {
            let gradient = seeded(72_000 + 10 * step as u64 + i, shape, 0.1 * (step + 1) as f64)?;
            gradients.accumulate(param.leaf(), gradient)?;
        }
        clip_grad_norm(&params, &mut gradients, CLIP)?;
        let clipped = norm_of(&params, &gradients)?;
        let before = number("norms", step)?;
        let expected = before * (CLIP / (before + CLIP_EPS)).min(1.);
        worst = worst.max((clipped - expected).abs() / expected);
        adamw.step(number("lrs", step)?, &gradients)?;
        ema.update()?;
        for (i, param) in params.iter().enumerate() {
            let key = format!("adamw.{label}.step{step}.param{i}");
            let wanted = recorded
                .get(&key)
                .ok_or_else(|| Error::Input(format!("there is no {key}")))?;
            worst = worst.max(compare(&param.tensor(), wanted, tolerance)?);
        }
        // The averages take the weights' place for a moment.
        ema.swap()?;
        for (i, param) in params.iter().enumerate() {
            let key = format!("adamw.{label}.step{step}.ema{i}");
            let wanted = recorded
                .get(&key)
                .ok_or_else(|| Error::Input(format!("there is no {key}")))?;
            worst = worst.max(compare(&param.tensor(), wanted, tolerance)?);
        }
        ema.swap()?;
    }
    Ok(worst)
}

/// The Euclidean norm of all gradients together.
fn norm_of(params: &[Param], gradients: &Gradients) -> Result<f64> {
    let mut sum = 0.;
    for param in params {
        let gradient = gradients.get(param.leaf());
        let gradient = gradient.ok_or_else(|| Error::Input(format!("{} has no gradient", param.name())))?;
        sum += values(gradient)?.iter().map(|v| v * v).sum::<f64>();
    }
    Ok(sum.sqrt())
}
