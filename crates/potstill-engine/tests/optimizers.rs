//! A hundred steps of each optimizer against its named reference (test/fixtures/make_optimizers.py), in f64.

use std::collections::HashMap;

use potstill_engine::optim::{
    Adafactor, AdafactorConfig, AdamW, AdamWConfig, Lion, LionConfig, Optimizer, Prodigy, ProdigyConfig,
};
use potstill_engine::{Device, Gradients, Param, Tensor};

const FIXTURE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../test/fixtures/optimizers/expected.safetensors"
);
/// torch's shapes of the parameters; a convolution lies in memory with its channels last.
const SHAPES: [&[usize]; 3] = [&[4, 6], &[17], &[3, 2, 3, 3]];
const STEPS: usize = 100;
/// Of weights of order one, in f64: sums are taken in other orders than torch's.
const TOLERANCE: f64 = 1e-9;

const PRODIGY: ProdigyConfig = ProdigyConfig {
    betas: (0.9, 0.999),
    eps: 1e-8,
    weight_decay: 0.01,
    d0: 1e-6,
    d_coef: 1.,
    growth_rate: f64::INFINITY,
    bias_correction: false,
    safeguard_warmup: false,
};
const ADAFACTOR: AdafactorConfig = AdafactorConfig {
    eps: (1e-30, 1e-3),
    clip_threshold: 1.,
    decay_rate: -0.8,
    weight_decay: 0.01,
    scale_parameter: false,
    relative_step: false,
};

fn wave(shape: &[usize], at: impl Fn(f64) -> f64) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f64> = (0..count).map(|i| at(i as f64)).collect();
    memory(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
}

fn memory(tensor: &Tensor) -> Tensor {
    match tensor.rank() {
        4 => tensor.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap(),
        _ => tensor.clone(),
    }
}

fn params() -> Vec<Param> {
    let start = |(index, shape): (usize, &&[usize])| {
        let tensor = wave(shape, |i| (0.9 * i + index as f64).cos());
        Param::new(format!("p{index}"), tensor)
    };
    SHAPES.iter().enumerate().map(start).collect()
}

fn gradients(step: usize, params: &[Param]) -> Gradients {
    let mut gradients = Gradients::default();
    for (index, (param, shape)) in params.iter().zip(SHAPES).enumerate() {
        let moving = wave(shape, |i| (0.7 * i + 0.37 * step as f64 + index as f64).sin());
        let grad = ((param.tensor() * 0.5).unwrap() + moving).unwrap();
        gradients.accumulate(param.leaf(), grad).unwrap();
    }
    gradients
}

fn steps(optimizer: &mut dyn Optimizer, params: &[Param], lr: f64, steps: std::ops::RangeInclusive<usize>) {
    for step in steps {
        optimizer.step(lr, &gradients(step, params)).unwrap();
    }
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn agrees(name: &str, lr: f64, make: impl Fn(Vec<Param>) -> Box<dyn Optimizer>) {
    let expected: HashMap<String, Tensor> = candle_core::safetensors::load(FIXTURE, &Device::Cpu).unwrap();
    let params = params();
    let mut optimizer = make(params.clone());
    let mut done = 0;
    for stored in [1, 10, STEPS] {
        steps(optimizer.as_mut(), &params, lr, done + 1..=stored);
        done = stored;
        for (index, param) in params.iter().enumerate() {
            let wanted = memory(&expected[&format!("{name}.step{stored}.param{index}")]);
            for (found, wanted) in values(&param.tensor()).iter().zip(values(&wanted)) {
                let place = format!("{name}, step {stored}, parameter {index}");
                assert!((found - wanted).abs() < TOLERANCE, "{place}: {found} {wanted}");
            }
        }
    }
}

fn goes_on(lr: f64, make: impl Fn(Vec<Param>) -> Box<dyn Optimizer>) {
    let whole = params();
    steps(make(whole.clone()).as_mut(), &whole, lr, 1..=6);
    let halved = params();
    let mut first = make(halved.clone());
    steps(first.as_mut(), &halved, lr, 1..=3);
    let state = first.state().unwrap();
    let mut second = make(halved.clone());
    second.load_state(&state).unwrap();
    steps(second.as_mut(), &halved, lr, 4..=6);
    for (a, b) in whole.iter().zip(&halved) {
        assert_eq!(values(&a.tensor()), values(&b.tensor()));
    }
    assert!(second.load_state(&Default::default()).is_err());
}

fn adamw(params: Vec<Param>) -> Box<dyn Optimizer> {
    let config = AdamWConfig {
        betas: (0.9, 0.99),
        eps: 1e-8,
        weight_decay: 0.02,
    };
    Box::new(AdamW::new(params, config).unwrap())
}

fn lion(params: Vec<Param>) -> Box<dyn Optimizer> {
    let config = LionConfig {
        betas: (0.9, 0.99),
        weight_decay: 0.02,
    };
    Box::new(Lion::new(params, config).unwrap())
}

fn prodigy(config: ProdigyConfig) -> impl Fn(Vec<Param>) -> Box<dyn Optimizer> {
    move |params| Box::new(Prodigy::new(params, config).unwrap())
}

fn adafactor(config: AdafactorConfig) -> impl Fn(Vec<Param>) -> Box<dyn Optimizer> {
    move |params| Box::new(Adafactor::new(params, config).unwrap())
}

#[test]
fn adamw_is_torchs() {
    agrees("adamw", 1e-2, adamw);
    goes_on(1e-2, adamw);
}

#[test]
fn lion_is_lion_pytorchs() {
    agrees("lion", 3e-3, lion);
    goes_on(3e-3, lion);
}

#[test]
fn prodigy_is_prodigyopts() {
    agrees("prodigy", 1., prodigy(PRODIGY));
    let warm = ProdigyConfig {
        weight_decay: 0.,
        d_coef: 2.,
        growth_rate: 1.5,
        bias_correction: true,
        safeguard_warmup: true,
        ..PRODIGY
    };
    agrees("prodigy-warm", 0.5, prodigy(warm));
    goes_on(1., prodigy(PRODIGY));
}

#[test]
fn adafactor_is_transformers() {
    agrees("adafactor", 1e-2, adafactor(ADAFACTOR));
    let relative = AdafactorConfig {
        weight_decay: 0.,
        scale_parameter: true,
        relative_step: true,
        ..ADAFACTOR
    };
    agrees("adafactor-relative", 0., adafactor(relative));
    goes_on(1e-2, adafactor(ADAFACTOR));
}

#[test]
fn rates_multiply_the_learning_rate_by_parameter() {
    let (halved, plain) = (params(), params());
    let mut slower = lion(halved.clone());
    slower.set_rates(&|name| if name == "p1" { 0. } else { 1. }).unwrap();
    steps(slower.as_mut(), &halved, 1e-2, 1..=2);
    steps(lion(plain.clone()).as_mut(), &plain, 1e-2, 1..=2);
    let same = |index: usize| values(&halved[index].tensor()) == values(&plain[index].tensor());
    assert!(same(0) && !same(1) && same(2));
    assert_eq!(values(&halved[1].tensor()), values(&params()[1].tensor()));
    assert!(prodigy(PRODIGY)(params()).set_rates(&|_| 0.5).is_err());
}
