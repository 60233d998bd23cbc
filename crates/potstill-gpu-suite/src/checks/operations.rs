//! Every operation, forward and backward, against the CPU in f64.

use potstill_engine::ops::{self, Activation, Attention, Conv2d};
use potstill_engine::{DType, Result as EngineResult, Tensor, Value, backward};

use super::{Size, caught};
use crate::compare::{Tolerance, compare};
use crate::place::Place;
use crate::random::randn;
use crate::report::Check;
use crate::{Error, Result};

const GROUP: &str = "operations";
/// Rounding of sums of up to some ten thousand products in f64.
const F64: f64 = 1e-10;
/// The same in f32, of values that were rounded to f32 between operations.
const F32: f64 = 1e-4;
/// Eight bits of mantissa: one rounding is 0.4 % of a value, and gradients have been rounded several times.
const BF16: f64 = 2e-2;
/// Where a softmax is almost all in one place, its gradient is the difference of two almost equal sums, of which one is of an
/// output that was rounded to bf16: the rounding stays while the sums cancel.
const SHARP_BF16: f64 = 4e-2;
/// Inputs and gradients are of order one.
const FLOOR: f64 = 1e-2;
/// The gradient of the output is drawn from this seed, inputs from those below it.
const GRADIENT_SEED: u64 = 900;

/// An input of a case.
#[derive(Debug, Clone)]
pub struct Input {
    /// Its shape.
    pub dims: Vec<usize>,
    /// Its values are normal, times this.
    pub scale: f64,
    /// A weight stays f32 where activations are bf16.
    pub weight: bool,
}

/// An operation on inputs.
pub type Operation = Box<dyn Fn(&[Value]) -> EngineResult<Value>>;

/// One operation on one set of shapes.
pub struct Case {
    /// The operation, and what is special.
    pub name: String,
    /// What it is given.
    pub inputs: Vec<Input>,
    /// Allowed of bf16, as a share of the largest value.
    pub bf16: f64,
    /// What it does.
    pub run: Operation,
}

fn act(dims: &[usize]) -> Input {
    Input {
        dims: dims.to_vec(),
        scale: 1.,
        weight: false,
    }
}

/// A weight, scaled as layers have it: by 1/√fan-in.
fn weight(dims: &[usize]) -> Input {
    let fan_in: usize = dims[1..].iter().product();
    Input {
        dims: dims.to_vec(),
        scale: 1. / (fan_in as f64).sqrt(),
        weight: true,
    }
}

fn case(name: impl Into<String>, inputs: Vec<Input>, run: impl Fn(&[Value]) -> EngineResult<Value> + 'static) -> Case {
    Case {
        name: name.into(),
        inputs,
        bf16: BF16,
        run: Box::new(run),
    }
}

/// The cases of a size.
pub(super) fn cases(size: Size) -> Vec<Case> {
    let mut cases = elementwise();
    cases.extend(layouts());
    cases.extend(weighted(size));
    cases.extend(norms(size));
    cases.extend(attentions(size));
    cases
}

fn elementwise() -> Vec<Case> {
    let x = || vec![act(&[3, 37, 5])];
    let pair = |b: &[usize]| vec![act(&[3, 1, 5]), act(b)];
    // Beyond one block of threads, and no multiple of one.
    let long = || vec![act(&[70_001])];
    vec![
        case("silu", x(), |v| ops::silu(&v[0])),
        case("silu long", long(), |v| ops::silu(&v[0])),
        case("gelu", x(), |v| ops::gelu(&v[0])),
        case("quick_gelu", x(), |v| ops::quick_gelu(&v[0])),
        case("geglu", vec![act(&[2, 7, 48])], |v| ops::geglu(&v[0])),
        case("neg", x(), |v| ops::neg(&v[0])),
        case("square", x(), |v| ops::square(&v[0])),
        case("exp", x(), |v| ops::exp(&v[0])),
        case("abs", x(), |v| ops::abs(&v[0])),
        case("sqrt", x(), |v| ops::sqrt(&ops::affine(&ops::square(&v[0])?, 1., 0.5)?)),
        case("log", x(), |v| ops::log(&ops::affine(&ops::square(&v[0])?, 1., 0.5)?)),
        case("affine", long(), |v| ops::affine(&v[0], -1.5, 0.25)),
        case("clamp", x(), |v| ops::clamp(&v[0], -0.5, 0.75)),
        case("add", pair(&[37, 1]), |v| ops::add(&v[0], &v[1])),
        case("add equal shapes", vec![act(&[70_001]), act(&[70_001])], |v| {
            ops::add(&v[0], &v[1])
        }),
        case("sub", pair(&[3, 37, 5]), |v| ops::sub(&v[0], &v[1])),
        case("mul", pair(&[37, 5]), |v| ops::mul(&v[0], &v[1])),
        case("div", pair(&[37, 1]), |v| {
            ops::div(&v[0], &ops::affine(&ops::square(&v[1])?, 1., 0.5)?)
        }),
        case("sum", x(), |v| ops::sum(&v[0], &[1], false)),
        case("sum all", vec![act(&[300, 301])], |v| ops::sum(&v[0], &[0, 1], false)),
        case("mean", x(), |v| ops::mean(&v[0], &[0, 2], true)),
        case("mean all", vec![act(&[300, 301])], |v| ops::mean(&v[0], &[0, 1], false)),
    ]
}

fn layouts() -> Vec<Case> {
    vec![
        case("reshape", vec![act(&[4, 6])], |v| ops::reshape(&v[0], &[3, 8])),
        case("nchw_to_nhwc", vec![act(&[2, 5, 3, 7])], |v| ops::nchw_to_nhwc(&v[0])),
        case("nhwc_to_nchw", vec![act(&[2, 5, 3, 7])], |v| ops::nhwc_to_nchw(&v[0])),
        case("narrow first", vec![act(&[5, 3, 7])], |v| ops::narrow(&v[0], 0, 1, 3)),
        case("narrow last", vec![act(&[5, 3, 7])], |v| ops::narrow(&v[0], 2, 2, 4)),
        case("concat", vec![act(&[2, 3, 4]), act(&[2, 5, 4])], |v| ops::concat(v, 1)),
        case("concat_last", vec![act(&[2, 9, 20]), act(&[2, 9, 33])], |v| {
            ops::concat_last(&v[0], &v[1])
        }),
        case("broadcast_to", vec![act(&[3, 1, 5])], |v| {
            ops::broadcast_to(&v[0], &[2, 3, 4, 5])
        }),
        case("add_rows", vec![act(&[2, 5, 7, 33]), act(&[2, 33])], |v| {
            ops::add_rows(&v[0], &v[1])
        }),
        case("upsample_nearest twice", vec![act(&[2, 3, 5, 9])], |v| {
            ops::upsample_nearest(&v[0], (6, 10))
        }),
        case("upsample_nearest to any size", vec![act(&[2, 4, 5, 9])], |v| {
            ops::upsample_nearest(&v[0], (7, 9))
        }),
        case("embedding", vec![weight(&[50, 24])], |v| {
            ops::embedding(&v[0], &[3, 49, 3, 0, 17])
        }),
    ]
}

fn weighted(size: Size) -> Vec<Case> {
    let mut rows = vec![
        (vec![5, 3], 4),
        (vec![2, 77, 24], 17),
        (vec![1, 320], 1280),
        (vec![3, 130, 33], 65),
    ];
    // [batch, height, width, channels], outputs, kernel, stride, padding
    let mut convs = vec![
        ([2, 9, 11, 20], 33, (3, 3), 1, [1; 4]),
        ([2, 9, 8, 20], 33, (3, 3), 2, [1; 4]),
        ([2, 8, 10, 20], 33, (3, 3), 2, [0, 1, 0, 1]),
        ([1, 5, 7, 40], 72, (1, 1), 1, [0; 4]),
        ([1, 16, 16, 4], 64, (3, 3), 1, [1; 4]),
        ([1, 16, 16, 64], 4, (3, 3), 1, [1; 4]),
        ([1, 5, 6, 3], 2, (2, 4), 3, [2, 0, 1, 3]),
    ];
    if size == Size::Full {
        rows.extend([
            (vec![2, 4096, 320], 320),
            (vec![2, 77, 2048], 1280),
            (vec![1, 1024, 1280], 10_240),
        ]);
        convs.extend([
            ([1, 64, 64, 320], 320, (3, 3), 1, [1; 4]),
            ([1, 64, 64, 320], 320, (3, 3), 2, [1; 4]),
            ([2, 8, 8, 2560], 1280, (3, 3), 1, [1; 4]),
            ([1, 32, 32, 1920], 640, (1, 1), 1, [0; 4]),
            ([1, 128, 128, 4], 320, (3, 3), 1, [1; 4]),
        ]);
    }
    let linear = rows.into_iter().flat_map(|(dims, n)| {
        let k = dims[dims.len() - 1];
        let name = format!("linear {dims:?} to {n}");
        let inputs = vec![act(&dims), weight(&[n, k]), weight(&[n, 1])];
        let without = case(format!("{name} without bias"), inputs[..2].to_vec(), |v| {
            ops::linear(&v[0], &v[1], None)
        });
        let with = case(name, bias_of(inputs, n), |v| ops::linear(&v[0], &v[1], Some(&v[2])));
        [with, without]
    });
    let linear: Vec<Case> = linear.collect();
    let convs = convs.into_iter().map(|(x, o, (kh, kw), stride, padding)| {
        let geometry = Conv2d { stride, padding };
        let inputs = vec![act(&x), weight(&[o, kh, kw, x[3]]), weight(&[o, 1])];
        let name = format!("conv2d {kh}x{kw} {x:?} to {o}, stride {stride}, padding {padding:?}");
        case(name, bias_of(inputs, o), move |v| {
            ops::conv2d(&v[0], &v[1], Some(&v[2]), &geometry)
        })
    });
    linear.into_iter().chain(convs).collect()
}

/// The last input as a bias of `n` values.
fn bias_of(mut inputs: Vec<Input>, n: usize) -> Vec<Input> {
    if let Some(bias) = inputs.last_mut() {
        bias.dims = vec![n];
    }
    inputs
}

fn norms(size: Size) -> Vec<Case> {
    let scales = |channels: usize| {
        [weight(&[channels, 1]), weight(&[channels, 1])].map(|input| Input {
            dims: vec![channels],
            ..input
        })
    };
    let inputs = |dims: &[usize]| [vec![act(dims)], scales(dims[dims.len() - 1]).to_vec()].concat();
    let mut grouped = vec![
        (vec![2, 5, 3, 12], 4, Activation::None),
        (vec![2, 5, 3, 12], 4, Activation::Silu),
        (vec![1, 16, 16, 64], 32, Activation::Silu),
        (vec![2, 70, 96], 32, Activation::None),
    ];
    let mut rows = vec![vec![2, 7, 24], vec![3, 33], vec![1, 77, 1280]];
    if size == Size::Full {
        grouped.extend([
            (vec![1, 64, 64, 320], 32, Activation::Silu),
            (vec![1, 128, 128, 640], 32, Activation::Silu),
            (vec![2, 16, 16, 1280], 32, Activation::None),
        ]);
        rows.push(vec![2, 4096, 640]);
    }
    let grouped = grouped.into_iter().map(|(dims, groups, activation)| {
        let name = format!("group_norm {dims:?}, {groups} groups, {activation:?}");
        case(name, inputs(&dims), move |v| {
            ops::group_norm(&v[0], &v[1], &v[2], groups, 1e-5, activation)
        })
    });
    let rows = rows.into_iter().map(|dims| {
        case(format!("layer_norm {dims:?}"), inputs(&dims), |v| {
            ops::layer_norm(&v[0], &v[1], &v[2], 1e-5)
        })
    });
    grouped.chain(rows).collect()
}

fn attentions(size: Size) -> Vec<Case> {
    // batch, queries, keys, heads, width, causal
    let mut shapes = vec![
        (2, 20, 20, 3, 8, false),
        (2, 9, 77, 2, 40, false),
        (1, 70, 150, 1, 64, false),
        (2, 77, 77, 2, 64, true),
        (1, 33, 65, 2, 160, false),
        (1, 64, 64, 1, 512, false),
        (1, 1, 1, 1, 5, false),
    ];
    if size == Size::Full {
        shapes.extend([
            (1, 4096, 4096, 8, 40, false),
            (2, 1024, 77, 8, 80, false),
            (1, 1024, 1024, 20, 64, false),
            (1, 256, 256, 8, 160, false),
        ]);
    }
    let cases = shapes.into_iter().map(|(batch, n, m, heads, width, causal)| {
        let options = Attention {
            heads,
            scale: 1. / (width as f64).sqrt(),
            causal,
            bf16: false,
        };
        let channels = heads * width;
        let inputs = vec![
            act(&[batch, n, channels]),
            act(&[batch, m, channels]),
            act(&[batch, m, channels]),
        ];
        let kind = if causal { ", causal" } else { "" };
        let name = format!("attention {batch}x{heads} heads of {width}, {n} by {m}{kind}");
        case(name, inputs, move |v| ops::attention(&v[0], &v[1], &v[2], &options))
    });
    let sharp = Input {
        scale: 30.,
        ..act(&[1, 40, 32])
    };
    let sharp = case(
        "attention with sharp scores",
        vec![sharp, act(&[1, 90, 32]), act(&[1, 90, 32])],
        |v| {
            let options = Attention {
                heads: 2,
                scale: 0.25,
                causal: false,
                bf16: false,
            };
            ops::attention(&v[0], &v[1], &v[2], &options)
        },
    );
    let sharp = Case {
        bf16: SHARP_BF16,
        ..sharp
    };
    cases.chain([sharp]).collect()
}

/// Number formats of activations and of weights.
#[derive(Clone, Copy)]
struct Formats {
    activations: DType,
    weights: DType,
    /// Matrices are frozen and in bf16; everything else is as above.
    frozen: bool,
}

impl Formats {
    fn of(self, input: &Input) -> DType {
        match input.weight {
            true if self.freezes(input) => DType::BF16,
            true => self.weights,
            false => self.activations,
        }
    }

    fn freezes(self, input: &Input) -> bool {
        self.frozen && is_matrix(input)
    }

    fn name(self) -> String {
        let weights = if self.frozen { DType::BF16 } else { self.weights };
        match self.activations == weights {
            true => weights.as_str().to_owned(),
            false => format!("{} by {}", self.activations.as_str(), weights.as_str()),
        }
    }

    fn tolerance(self, case: &Case) -> f64 {
        match self.activations {
            DType::F64 => F64,
            DType::F32 if !self.frozen => F32,
            _ => case.bf16,
        }
    }
}

/// A weight that can be kept in bf16.
fn is_matrix(input: &Input) -> bool {
    input.weight && input.dims.len() > 1
}

/// The formats of a case.
fn formats(place: &Place, case: &Case) -> Vec<Formats> {
    let of = |activations: DType, weights: DType, frozen: bool| Formats {
        activations,
        weights,
        frozen,
    };
    let has_activations = case.inputs.iter().any(|input| !input.weight);
    let has_weights = has_activations && case.inputs.iter().any(|input| input.weight);
    let mixed = has_weights && place.is_card();
    let frozen = has_activations && case.inputs.iter().any(is_matrix);
    let same = place.formats().iter().map(|&dtype| of(dtype, dtype, false));
    same.chain(mixed.then_some(of(DType::BF16, DType::F32, false)))
        .chain(frozen.then_some(of(DType::F32, DType::F32, true)))
        .collect()
}

/// Runs a case in each of its number formats and compares output and gradients with the CPU's f64 on the same rounded inputs.
pub fn check_case(place: &Place, case: &Case) -> Vec<Check> {
    let check = |formats: Formats| {
        let error = caught(|| error_of(place, case, formats));
        Check::of(
            GROUP,
            case.name.clone(),
            &formats.name(),
            formats.tolerance(case),
            error,
        )
    };
    formats(place, case).into_iter().map(check).collect()
}

fn error_of(place: &Place, case: &Case, formats: Formats) -> Result<f64> {
    let rounded = |(i, input): (usize, &Input)| {
        let drawn = randn(i as u64 + 1, &input.dims)?.affine(input.scale, 0.)?;
        Ok(drawn.to_dtype(formats.of(input))?)
    };
    let inputs: Vec<Tensor> = case.inputs.iter().enumerate().map(rounded).collect::<Result<_>>()?;
    let exact: Vec<Tensor> = inputs
        .iter()
        .map(|t| t.to_dtype(DType::F64))
        .collect::<std::result::Result<_, _>>()?;
    let there: Vec<Tensor> = inputs
        .iter()
        .map(|t| t.to_device(place.device()))
        .collect::<std::result::Result<_, _>>()?;
    // The gradient of the output is rounded as the device sees it, on both sides.
    let seed = randn(GRADIENT_SEED, &shape_of(case, &exact)?)?.to_dtype(formats.activations)?;
    let reference = results(case, formats, exact, seed.to_dtype(DType::F64)?)?;
    let seed = seed.to_device(place.device())?;
    let found = place.run(|| results(case, formats, there, seed))?;
    let tolerance = Tolerance {
        relative: formats.tolerance(case),
        floor: FLOOR,
    };
    let errors = found
        .iter()
        .zip(&reference)
        .map(|(found, wanted)| compare(found, wanted, tolerance));
    errors
        .collect::<Result<Vec<_>>>()
        .map(|errors| errors.into_iter().fold(0., f64::max))
}

fn shape_of(case: &Case, inputs: &[Tensor]) -> Result<Vec<usize>> {
    let constants: Vec<Value> = inputs.iter().cloned().map(Value::constant).collect();
    Ok((case.run)(&constants)?.dims().to_vec())
}

/// Output and gradients by all inputs that are not frozen, from the gradient of the output.
fn results(case: &Case, formats: Formats, inputs: Vec<Tensor>, seed: Tensor) -> Result<Vec<Tensor>> {
    let frozen = case.inputs.iter().map(|input| formats.freezes(input));
    let values: Vec<Value> = (inputs.into_iter().zip(frozen))
        .map(|(tensor, frozen)| {
            if frozen {
                Value::constant(tensor)
            } else {
                Value::leaf(tensor)
            }
        })
        .collect();
    let y = (case.run)(&values)?;
    let output = y.tensor().clone();
    let gradients = backward(&[(y, seed)])?;
    let trained = values
        .iter()
        .zip(&case.inputs)
        .filter(|(_, input)| !formats.freezes(input));
    let gradients = trained.map(|(value, _)| {
        let gradient = gradients.get(value).cloned();
        gradient.ok_or_else(|| Error::Input("an input has no gradient".to_owned()))
    });
    [Ok(output)].into_iter().chain(gradients).collect()
}
