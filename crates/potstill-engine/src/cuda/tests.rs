//! The cards' kernels on the host against the CPU's operations in f64. The tests of all operations come here with each of
//! their shapes; what has no operation of its own is tested below.

use candle_core::{DType, Device, Tensor};

use super::host::on_host;
use crate::error::Result;
use crate::optim::{
    Adafactor, AdafactorConfig, AdamW, AdamWConfig, Ema, EmaConfig, Lion, LionConfig, Optimizer, Prodigy,
    ProdigyConfig, clip_grad_norm,
};
use crate::testing::{random, run, values};
use crate::value::Value;
use crate::{Gradients, Param, backward, ops};

/// Allowed differences, relative to the largest value of a result.
const TOLERANCES: [(DType, f64); 3] = [(DType::F64, 1e-11), (DType::F32, 3e-5), (DType::BF16, 3e-2)];
/// The largest value counts as at least this: where inputs of order one cancel, their rounding errors stay.
const SCALE: f64 = 1e-2;

/// Compares the output and all gradients of an operation on the cards' kernels with those `wanted`, in every type.
pub(crate) fn agree_on_host(inputs: &[Tensor], wanted: &[&Tensor], f: &impl Fn(&[Value]) -> Result<Value>) {
    let all = vec![true; inputs.len()];
    for (dtype, tolerance) in TOLERANCES {
        let rounded: Vec<Tensor> = inputs.iter().map(|t| t.to_dtype(dtype).unwrap()).collect();
        // Inputs of few bits have results of their own.
        let own = (dtype == DType::BF16).then(|| {
            let inputs: Vec<Tensor> = rounded.iter().map(|t| t.to_dtype(DType::F64).unwrap()).collect();
            let (output, gradients) = run(&inputs, &all, f);
            std::iter::once(output)
                .chain(gradients.into_iter().flatten())
                .collect::<Vec<_>>()
        });
        let (output, gradients) = on_host(|| run(&rounded, &all, f));
        let found: Vec<&Tensor> = std::iter::once(&output).chain(gradients.iter().flatten()).collect();
        assert_eq!(found.len(), wanted.len());
        for (i, found) in found.into_iter().enumerate() {
            let wanted = own.as_ref().map_or(wanted[i], |own| &own[i]);
            assert_eq!((found.dims(), found.dtype()), (wanted.dims(), dtype));
            assert_near(found, wanted, tolerance, &format!("{dtype:?}: result {i} (0: output)"));
        }
    }
}

fn assert_near(found: &Tensor, wanted: &Tensor, tolerance: f64, what: &str) {
    let (found, wanted) = (values(found), values(wanted));
    let scale = wanted.iter().fold(SCALE, |m, v| m.max(v.abs()));
    for (i, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
        let off = (found - wanted).abs();
        assert!(
            off <= tolerance * scale,
            "{what}, value {i}: {found}, wanted {wanted} of {scale}"
        );
    }
}

fn to(tensor: &Tensor, dtype: DType) -> Tensor {
    tensor.to_dtype(dtype).unwrap()
}

#[test]
fn weights_in_f32_serve_activations_in_bf16() {
    let (x, w, b) = (random(&[2, 9, 7, 24], 1), random(&[20, 3, 3, 24], 2), random(&[20], 3));
    let x = to(&x, DType::BF16);
    let geometry = ops::Conv2d {
        stride: 1,
        padding: [1; 4],
    };
    let results = |x: &Tensor, dtype: DType| {
        let leaves = [x.clone(), to(&w, dtype), to(&b, dtype)].map(Value::leaf);
        let y = ops::conv2d(&leaves[0], &leaves[1], Some(&leaves[2]), &geometry).unwrap();
        let y = ops::group_norm(&y, &leaves[2], &leaves[2], 4, 1e-5, ops::Activation::Silu).unwrap();
        let y = ops::layer_norm(&y, &leaves[2], &leaves[2], 1e-5).unwrap();
        let flat = ops::reshape(&leaves[1], &[20 * 9, 24]).unwrap();
        let flat = ops::narrow(&flat, 0, 0, 20).unwrap();
        let z = ops::linear(&leaves[0], &flat, None).unwrap();
        let y = ops::mul(&y, &z).unwrap();
        let seed = to(&random(y.dims(), 9), y.tensor().dtype());
        let output = y.tensor().clone();
        let gradients = backward(&[(y, seed)]).unwrap();
        let mut all = vec![output];
        all.extend(leaves.iter().map(|leaf| gradients.get(leaf).unwrap().clone()));
        all
    };
    let wanted = results(&to(&x, DType::F64), DType::F64);
    let found = on_host(|| results(&x, DType::F32));
    let dtypes: Vec<DType> = found.iter().map(Tensor::dtype).collect();
    assert_eq!(dtypes, [DType::BF16, DType::BF16, DType::F32, DType::F32]);
    for (i, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
        assert_near(found, wanted, 4e-2, &format!("result {i}"));
    }
}

#[test]
fn frozen_weights_in_bf16_serve_activations_in_f32() {
    let (x, w) = (random(&[2, 6, 5, 24], 1), random(&[20, 3, 3, 24], 2));
    let (x, w) = (to(&to(&x, DType::BF16), DType::F32), to(&w, DType::BF16));
    let geometry = ops::Conv2d {
        stride: 2,
        padding: [1; 4],
    };
    let results = |dtype: DType, w: &Tensor| {
        let (x, w) = (Value::leaf(to(&x, dtype)), Value::constant(w.clone()));
        let flat = ops::reshape(&w, &[20 * 9, 24]).unwrap();
        [ops::conv2d(&x, &w, None, &geometry), ops::linear(&x, &flat, None)].map(|y| {
            let y = y.unwrap();
            // Gradients that bf16 holds exactly.
            let seed = to(&to(&random(y.dims(), 9), DType::BF16), dtype);
            let output = y.tensor().clone();
            (output, backward(&[(y, seed)]).unwrap().take(&x).unwrap())
        })
    };
    let wanted = results(DType::F64, &to(&w, DType::F64));
    let found = on_host(|| results(DType::F32, &w));
    for (i, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
        assert_eq!((found.0.dtype(), found.1.dtype()), (DType::F32, DType::F32));
        // The factors are exact, and so is what is summed up in f32.
        assert_near(&found.0, &wanted.0, 3e-5, &format!("output {i}"));
        assert_near(&found.1, &wanted.1, 3e-5, &format!("gradient {i}"));
    }
}

#[test]
fn heads_of_every_width_agree() {
    for (n, m, heads, width) in [(70, 33, 2, 80), (35, 66, 1, 192), (33, 40, 1, 300), (20, 20, 1, 512)] {
        let c = heads * width;
        let inputs = [random(&[1, n, c], 1), random(&[1, m, c], 2), random(&[1, m, c], 3)];
        let options = ops::Attention {
            heads,
            scale: 0.3,
            causal: n == m,
            bf16: false,
        };
        crate::testing::agree(&inputs, |v| ops::attention(&v[0], &v[1], &v[2], &options));
    }
}

#[test]
fn heads_that_are_too_wide_are_refused() {
    let x = Value::constant(random(&[1, 2, 513], 1));
    let options = ops::Attention {
        heads: 1,
        scale: 1.,
        causal: false,
        bf16: false,
    };
    let message = on_host(|| ops::attention(&x, &x, &x, &options))
        .unwrap_err()
        .to_string();
    assert!(message.contains("513") && message.contains("512"), "{message}");
}

#[test]
fn types_that_do_not_fit_are_refused() {
    let x = Value::constant(random(&[2, 4], 1));
    let single = Value::constant(to(x.tensor(), DType::F32));
    let half = Value::constant(to(x.tensor(), DType::F16));
    on_host(|| {
        assert!(ops::add(&x, &single).is_err());
        assert!(
            ops::concat_last(&x, &single)
                .unwrap_err()
                .to_string()
                .contains("one dtype")
        );
        assert!(ops::silu(&half).unwrap_err().to_string().contains("F16"));
    });
}

#[test]
fn long_sums_agree() {
    let x = random(&[3, 40_001], 1);
    crate::testing::agree(std::slice::from_ref(&x), |v| ops::sum(&v[0], &[0, 1], false));
    let x = random(&[1001, 3, 2, 3], 1);
    for dims in [vec![0, 2], vec![1, 3], vec![0, 3], vec![0, 1, 2, 3]] {
        crate::testing::agree(std::slice::from_ref(&x), |v| ops::sum(&v[0], &dims, false));
    }
}

/// Makes an optimizer of parameters.
type Make = fn(Vec<Param>) -> Box<dyn Optimizer>;

fn params_of(dtype: DType) -> Vec<Param> {
    let shapes: [&[usize]; 4] = [&[300, 70], &[5], &[2, 3, 4], &[3, 2, 5, 4]];
    let made = shapes
        .iter()
        .zip(1..)
        .map(|(dims, i)| Param::new(format!("p{i}"), to(&random(dims, i), dtype)));
    made.collect()
}

/// The gradients of a step, each of three parts.
fn gradients_of(params: &[Param], step: u64) -> Gradients {
    let mut gradients = Gradients::default();
    for (param, i) in params.iter().zip(0..) {
        for part in 0..3 {
            let gradient = to(
                &random(param.leaf().dims(), 10 * step + 3 * i + part + 5),
                param.dtype(),
            );
            gradients.accumulate(param.leaf(), gradient).unwrap();
        }
    }
    gradients
}

/// Parameters, and what an optimizer keeps of them that is no count.
fn state_of(params: &[Param], optimizer: &dyn Optimizer) -> Vec<Tensor> {
    let counts = |name: &str| name.starts_with("step") || name == "k" || name == "estimate";
    let state = optimizer.state().unwrap().into_iter().filter(|(name, _)| !counts(name));
    let params = params.iter().map(|p| p.tensor().copy().unwrap());
    params.chain(state.map(|(_, tensor)| tensor)).collect()
}

/// Three updates with clipping and averages; all values afterwards, and the last norm.
fn train(dtype: DType, lr: f64, make: Make) -> Vec<Tensor> {
    let params = params_of(dtype);
    let mut optimizer = make(params.clone());
    let mut ema = Ema::new(params.clone(), EmaConfig::default()).unwrap();
    let mut norm = None;
    for step in 0..3 {
        let mut gradients = gradients_of(&params, step);
        norm = Some(clip_grad_norm(&params, &mut gradients, if step == 1 { 1e3 } else { 2. }).unwrap());
        optimizer.step(lr, &gradients).unwrap();
        ema.update().unwrap();
    }
    let averages = ema.state().unwrap();
    let mut found = state_of(&params, optimizer.as_ref());
    ema.swap().unwrap();
    found.extend(params.iter().map(Param::tensor));
    found.extend(params.iter().map(|p| averages[p.name()].clone()));
    found.push(norm.unwrap());
    found
}

const PRODIGY: ProdigyConfig = ProdigyConfig {
    betas: (0.9, 0.999),
    eps: 1e-8,
    weight_decay: 0.01,
    d0: 0.01,
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
    scale_parameter: true,
    relative_step: false,
};
/// Optimizers with their learning rates.
const OPTIMIZERS: [(f64, Make); 6] = [
    (0.01, |params| {
        Box::new(AdamW::new(params, AdamWConfig::default()).unwrap())
    }),
    (0.01, |params| {
        let config = LionConfig {
            betas: (0.9, 0.99),
            weight_decay: 0.02,
        };
        Box::new(Lion::new(params, config).unwrap())
    }),
    (1., |params| Box::new(Prodigy::new(params, PRODIGY).unwrap())),
    (0.5, |params| {
        let config = ProdigyConfig {
            d_coef: 2.,
            growth_rate: 1.5,
            bias_correction: true,
            safeguard_warmup: true,
            ..PRODIGY
        };
        Box::new(Prodigy::new(params, config).unwrap())
    }),
    (0.05, |params| Box::new(Adafactor::new(params, ADAFACTOR).unwrap())),
    (0.05, |params| {
        let config = AdafactorConfig {
            clip_threshold: 0.5,
            scale_parameter: false,
            relative_step: true,
            ..ADAFACTOR
        };
        Box::new(Adafactor::new(params, config).unwrap())
    }),
];

#[test]
fn optimizers_clipping_and_averages_agree() {
    for (which, (lr, make)) in OPTIMIZERS.into_iter().enumerate() {
        let wanted = train(DType::F64, lr, make);
        for (dtype, tolerance) in TOLERANCES {
            let found = on_host(|| train(dtype, lr, make));
            if dtype == DType::BF16 {
                // Averages of bf16 lose what is below their last bit; only that they run is worth a test.
                assert!(found.iter().all(|t| values(t).iter().all(|v| v.is_finite())));
                continue;
            }
            assert_eq!(found.len(), wanted.len());
            for (i, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
                assert_near(
                    found,
                    wanted,
                    tolerance,
                    &format!("optimizer {which}, {dtype:?}: value {i}"),
                );
            }
        }
    }
}

#[test]
fn optimizers_go_on_where_they_stopped() {
    for (which, (lr, make)) in OPTIMIZERS.into_iter().enumerate() {
        on_host(|| {
            let (whole, halved) = (params_of(DType::F32), params_of(DType::F32));
            let (mut through, mut first) = (make(whole.clone()), make(halved.clone()));
            for step in 0..2 {
                through.step(lr, &gradients_of(&whole, step)).unwrap();
                first.step(lr, &gradients_of(&halved, step)).unwrap();
            }
            let mut second = make(halved.clone());
            second.load_state(&first.state().unwrap()).unwrap();
            through.step(lr, &gradients_of(&whole, 2)).unwrap();
            second.step(lr, &gradients_of(&halved, 2)).unwrap();
            for (a, b) in state_of(&whole, through.as_ref())
                .iter()
                .zip(&state_of(&halved, second.as_ref()))
            {
                assert_eq!(values(a), values(b), "optimizer {which}");
            }
        });
    }
}

#[test]
fn prodigy_stays_where_it_is_without_gradients() {
    let before = state_of(
        &params_of(DType::F32),
        &Prodigy::new(params_of(DType::F32), PRODIGY).unwrap(),
    );
    on_host(|| {
        let params = params_of(DType::F32);
        let mut prodigy = Prodigy::new(params.clone(), PRODIGY).unwrap();
        let mut gradients = Gradients::default();
        for param in &params {
            gradients
                .accumulate(param.leaf(), param.tensor().zeros_like().unwrap())
                .unwrap();
        }
        prodigy.step(1., &gradients).unwrap();
        prodigy.step(0., &gradients_of(&params, 0)).unwrap();
        for (a, b) in state_of(&params, &prodigy).iter().zip(&before) {
            assert_eq!(values(a), values(b));
        }
        assert_eq!(values(&prodigy.state().unwrap()["k"]), [0.]);
    });
}

#[test]
fn a_norm_that_is_not_finite_shows() {
    let param = Param::new("p", Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap());
    let mut gradients = Gradients::default();
    let gradient = Tensor::new(&[1f32, f32::NAN, 2.], &Device::Cpu).unwrap();
    gradients.accumulate(param.leaf(), gradient).unwrap();
    let params = [param];
    let norm = on_host(|| clip_grad_norm(&params, &mut gradients, 1.)).unwrap();
    assert!(norm.to_scalar::<f64>().unwrap().is_nan());
    let gradient = values(gradients.get(params[0].leaf()).unwrap());
    assert!(gradient.iter().all(|v| v.is_nan()));
}

#[test]
fn noise_has_the_bits_of_the_cpu() {
    use potstill_noise::Generator;

    for generator in Generator::ALL {
        for (seed, dims) in [
            (0, vec![16]),
            (1, vec![3]),
            (u64::MAX, vec![1, 4, 8, 9]),
            (0x0123_4567_89ab_cdef, vec![4, 64, 65]),
            (42, vec![1001]),
            (7, vec![40_000]),
        ] {
            let made = || crate::noise::normals(generator, seed, &dims, &Device::Cpu).unwrap();
            let bits = |t: Tensor| -> Vec<u32> {
                let values = t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                values.into_iter().map(f32::to_bits).collect()
            };
            let (wanted, found) = (made(), on_host(made));
            assert_eq!(found.dims(), dims);
            assert!(bits(found) == bits(wanted), "{generator}, seed {seed}, {dims:?}");
        }
    }
}
