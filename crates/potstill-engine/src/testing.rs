//! What the tests of all operations share: gradient checks in f64, and f32 against f64.

use candle_core::{DType, Device, Tensor};

use crate::cpu::Choice;
use crate::error::Result;
use crate::gradients::{Gradients, backward};
use crate::value::Value;

/// Half of the step of the central differences: about the cube root of f64's epsilon.
const STEP: f64 = 1e-5;
/// Elements of each input that are varied.
const VARIED: usize = 24;
/// Allowed difference of a gradient, relative to the largest.
const GRADIENT_TOLERANCE: f64 = 1e-7;
/// Allowed difference between f32 and f64 results, relative to the largest value.
const F32_TOLERANCE: f64 = 3e-5;
/// The largest value counts as at least this: inputs and gradients are of order one, and where they cancel to almost
/// nothing their rounding errors stay.
const F32_SCALE: f64 = 1e-2;

/// f64 values between -1 and 1, the same for the same seed.
pub(crate) fn random(dims: &[usize], seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let count = dims.iter().product();
    let values: Vec<f64> = (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.
        })
        .collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
}

/// An f64 constant of random values.
pub(crate) fn constant(dims: &[usize]) -> Value {
    Value::constant(random(dims, 1))
}

/// All values, in f64.
pub(crate) fn values(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

/// The output and every input's gradient, for a fixed random gradient of the output.
pub(crate) fn run(
    inputs: &[Tensor],
    tracked: &[bool],
    f: &impl Fn(&[Value]) -> Result<Value>,
) -> (Tensor, Vec<Option<Tensor>>) {
    let leaves: Vec<Value> = inputs
        .iter()
        .zip(tracked)
        .map(|(t, &tracked)| {
            if tracked {
                Value::leaf(t.clone())
            } else {
                Value::constant(t.clone())
            }
        })
        .collect();
    let y = f(&leaves).unwrap();
    let seed = random(y.dims(), 99).to_dtype(y.tensor().dtype()).unwrap();
    let output = y.tensor().clone();
    let gradients: Gradients = backward(&[(y, seed)]).unwrap();
    (output, leaves.iter().map(|leaf| gradients.get(leaf).cloned()).collect())
}

fn loss(inputs: &[Tensor], f: &impl Fn(&[Value]) -> Result<Value>) -> f64 {
    let constants: Vec<Value> = inputs.iter().cloned().map(Value::constant).collect();
    let y = f(&constants).unwrap();
    assert!(!y.tracked());
    values(y.tensor())
        .iter()
        .zip(values(&random(y.dims(), 99)))
        .map(|(a, b)| a * b)
        .sum()
}

/// Compares the gradients of `f` with central differences, and with those computed when only one input is tracked.
pub(crate) fn check(inputs: &[Tensor], f: impl Fn(&[Value]) -> Result<Value> + Sync) {
    let (_, gradients) = run(inputs, &vec![true; inputs.len()], &f);
    for (i, input) in inputs.iter().enumerate() {
        let gradient = gradients[i].as_ref().expect("a gradient for every tracked input");
        assert_eq!(gradient.dims(), input.dims());
        let gradient = values(gradient);
        let original = values(input);
        let step_by = original.len().div_ceil(VARIED).max(1);
        let scale = gradient.iter().fold(1f64, |m, g| m.max(g.abs()));
        for at in (0..original.len()).step_by(step_by) {
            let moved = |by: f64| {
                let mut moved = original.clone();
                moved[at] += by;
                let mut inputs = inputs.to_vec();
                inputs[i] = Tensor::from_vec(moved, input.dims(), &Device::Cpu).unwrap();
                loss(&inputs, &f)
            };
            let expected = (moved(STEP) - moved(-STEP)) / (2. * STEP);
            let found = gradient[at];
            assert!(
                (found - expected).abs() < GRADIENT_TOLERANCE * scale,
                "input {i}, element {at}: {found}, by differences {expected}"
            );
        }
        let only: Vec<bool> = (0..inputs.len()).map(|j| j == i).collect();
        let (_, alone) = run(inputs, &only, &f);
        for (j, found) in alone.iter().enumerate() {
            assert_eq!(found.is_some(), j == i, "untracked inputs have no gradient");
        }
        assert_eq!(values(alone[i].as_ref().unwrap()), gradient, "alone, input {i}");
    }
    agree(inputs, f);
}

#[cfg(target_os = "linux")]
use crate::cuda::tests::agree_on_host;

#[cfg(not(target_os = "linux"))]
fn agree_on_host(_inputs: &[Tensor], _wanted: &[&Tensor], _f: &impl Fn(&[Value]) -> Result<Value>) {}

fn bits(t: &Tensor) -> Vec<u32> {
    t.flatten_all()
        .unwrap()
        .to_vec1::<f32>()
        .unwrap()
        .into_iter()
        .map(f32::to_bits)
        .collect()
}

/// Compares f32 with f64, output and gradients, in every class of instructions, and demands the same bits from 1, 2 and
/// 3 threads.
/// Also compares the kernels for cards, compiled for the host, with the same results.
pub(crate) fn agree(inputs: &[Tensor], f: impl Fn(&[Value]) -> Result<Value> + Sync) {
    let all = vec![true; inputs.len()];
    let (wanted, wanted_gradients) = run(inputs, &all, &f);
    let wanted: Vec<&Tensor> = std::iter::once(&wanted)
        .chain(wanted_gradients.iter().flatten())
        .collect();
    agree_on_host(inputs, &wanted, &f);
    let single: Vec<Tensor> = inputs.iter().map(|t| t.to_dtype(DType::F32).unwrap()).collect();
    for choice in Choice::all() {
        let class = choice.name();
        let mut first: Option<Vec<Vec<u32>>> = None;
        for threads in 1..=3 {
            let (found, found_gradients) = choice.on(threads, || run(&single, &all, &f));
            let results: Vec<&Tensor> = std::iter::once(&found)
                .chain(found_gradients.iter().flatten())
                .collect();
            assert_eq!(results.len(), wanted.len());
            for (i, (found, wanted)) in results.iter().zip(&wanted).enumerate() {
                assert_eq!(found.dims(), wanted.dims());
                let wanted = values(wanted);
                let scale = wanted.iter().fold(F32_SCALE, |m, v| m.max(v.abs()));
                let worst = values(found)
                    .iter()
                    .zip(&wanted)
                    .map(|(a, b)| (a - b).abs())
                    .fold(0., f64::max);
                assert!(
                    worst <= F32_TOLERANCE * scale,
                    "{class}: result {i} (0: output) off by {worst} of {scale}"
                );
            }
            let found: Vec<Vec<u32>> = results.into_iter().map(bits).collect();
            match &first {
                None => first = Some(found),
                Some(first) => assert!(*first == found, "{class}: {threads} threads give other bits than one"),
            }
        }
    }
}
