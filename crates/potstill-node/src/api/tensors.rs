//! Operations on tensors.

use napi::Env;
use napi::bindgen_prelude::{Float32Array, Object};
use napi_derive::napi;
use potstill_engine::{Tensor, Value, ops};

use crate::core::{Engine, Id, OpError, id, tensors, values};

/// x ↦ f(x), value by value.
#[napi(string_enum = "lowercase")]
#[derive(Clone, Copy)]
pub enum UnaryOp {
    Neg,
    Square,
    Sqrt,
    Exp,
    Log,
    Abs,
}

/// (x, y) ↦ f(x, y), broadcasting as numpy.
#[napi(string_enum = "lowercase")]
#[derive(Clone, Copy)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
}

/// Over axes.
#[napi(string_enum = "lowercase")]
#[derive(Clone, Copy)]
pub enum ReduceOp {
    Sum,
    Mean,
}

impl UnaryOp {
    fn name(self) -> &'static str {
        match self {
            Self::Neg => "neg",
            Self::Square => "square",
            Self::Sqrt => "sqrt",
            Self::Exp => "exp",
            Self::Log => "log",
            Self::Abs => "abs",
        }
    }

    fn apply(self, x: &Value) -> potstill_engine::Result<Value> {
        match self {
            Self::Neg => ops::neg(x),
            Self::Square => ops::square(x),
            Self::Sqrt => ops::sqrt(x),
            Self::Exp => ops::exp(x),
            Self::Log => ops::log(x),
            Self::Abs => ops::abs(x),
        }
    }
}

impl BinaryOp {
    fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Sub => "sub",
            Self::Mul => "mul",
            Self::Div => "div",
        }
    }

    fn apply(self, a: &Value, b: &Value) -> potstill_engine::Result<Value> {
        match self {
            Self::Add => ops::add(a, b),
            Self::Sub => ops::sub(a, b),
            Self::Mul => ops::mul(a, b),
            Self::Div => ops::div(a, b),
        }
    }
}

#[napi]
impl Engine {
    /// A tensor of copied values.
    #[napi(js_name = "fromArray", catch_unwind)]
    pub fn create_tensor(&self, out: f64, values: &[f32], shape: Vec<u32>) {
        let values = values.to_vec();
        let shape = sizes(&shape);
        self.submit(out, "fromArray", move |state| {
            Ok(Value::constant(Tensor::from_vec(values, shape, state.device()?)?))
        });
    }

    #[napi(catch_unwind)]
    pub fn unary(&self, out: f64, op: UnaryOp, x: f64) {
        self.operation(out, op.name(), &[x], move |inputs| op.apply(&inputs[0]));
    }

    #[napi(catch_unwind)]
    pub fn binary(&self, out: f64, op: BinaryOp, a: f64, b: f64) {
        self.operation(out, op.name(), &[a, b], move |inputs| op.apply(&inputs[0], &inputs[1]));
    }

    #[napi(catch_unwind)]
    pub fn affine(&self, out: f64, x: f64, mul: f64, add: f64) {
        self.operation(out, "affine", &[x], move |inputs| ops::affine(&inputs[0], mul, add));
    }

    #[napi(catch_unwind)]
    pub fn clamp(&self, out: f64, x: f64, low: f64, high: f64) {
        self.operation(out, "clamp", &[x], move |inputs| ops::clamp(&inputs[0], low, high));
    }

    /// Over all axes when none are given.
    #[napi(catch_unwind)]
    pub fn reduce(&self, out: f64, op: ReduceOp, x: f64, axes: Option<Vec<u32>>, keep: bool) {
        let name = match op {
            ReduceOp::Sum => "sum",
            ReduceOp::Mean => "mean",
        };
        self.operation(out, name, &[x], move |inputs| {
            let x = &inputs[0];
            let axes = axes.map_or_else(|| (0..x.dims().len()).collect(), |axes| sizes(&axes));
            match op {
                ReduceOp::Sum => ops::sum(x, &axes, keep),
                ReduceOp::Mean => ops::mean(x, &axes, keep),
            }
        });
    }

    #[napi(catch_unwind)]
    pub fn reshape(&self, out: f64, x: f64, shape: Vec<u32>) {
        self.operation(out, "reshape", &[x], move |inputs| {
            ops::reshape(&inputs[0], &sizes(&shape))
        });
    }

    #[napi(catch_unwind)]
    pub fn slice(&self, out: f64, x: f64, axis: u32, start: u32, length: u32) {
        self.operation(out, "slice", &[x], move |inputs| {
            ops::narrow(&inputs[0], axis as usize, start as usize, length as usize)
        });
    }

    #[napi(catch_unwind)]
    pub fn broadcast(&self, out: f64, x: f64, shape: Vec<u32>) {
        self.operation(out, "broadcast", &[x], move |inputs| {
            ops::broadcast_to(&inputs[0], &sizes(&shape))
        });
    }

    #[napi(catch_unwind)]
    pub fn concat(&self, out: f64, tensors: Vec<f64>, axis: u32) {
        self.operation(out, "concat", &tensors, move |inputs| {
            ops::concat(inputs, axis as usize)
        });
    }

    #[napi(catch_unwind)]
    pub fn detach(&self, out: f64, x: f64) {
        self.operation(out, "detach", &[x], |inputs| Ok(inputs[0].detach()));
    }

    #[napi(catch_unwind)]
    pub fn leaf(&self, out: f64, x: f64) {
        self.operation(out, "leaf", &[x], |inputs| Ok(Value::leaf(inputs[0].tensor().clone())));
    }

    /// The values in row-major order.
    #[napi(ts_return_type = "Promise<Outcome<Float32Array>>", catch_unwind)]
    pub fn read<'env>(&self, env: &'env Env, x: f64) -> napi::Result<Object<'env>> {
        self.query(env, "toArray", move |state| {
            Ok(Float32Array::new(values(state.get::<Value>(id(x))?.tensor())?))
        })
    }

    /// The value of a tensor of one element.
    #[napi(ts_return_type = "Promise<Outcome<number>>", catch_unwind)]
    pub fn item<'env>(&self, env: &'env Env, x: f64) -> napi::Result<Object<'env>> {
        self.query(env, "item", move |state| {
            let value = state.get::<Value>(id(x))?;
            match values(value.tensor())?[..] {
                [one] => Ok(f64::from(one)),
                _ => Err(OpError::input(
                    "ERR_TENSOR_SHAPE",
                    format!("a tensor of shape {:?} has no single value", value.dims()),
                )
                .remedy("Reduce it first (mean, sum), or read it with toArray.")),
            }
        })
    }
}

impl Engine {
    /// Enqueues an operation on tensors. Errors name it with the shapes that it was given.
    fn operation(
        &self,
        out: f64,
        name: &'static str,
        inputs: &[f64],
        apply: impl FnOnce(&[Value]) -> potstill_engine::Result<Value> + Send + 'static,
    ) {
        let inputs: Vec<Id> = inputs.iter().copied().map(id).collect();
        self.submit(out, name, move |state| {
            let inputs = tensors(state, &inputs)?;
            apply(&inputs).map_err(|error| {
                let shapes: Vec<String> = inputs.iter().map(|v| format!("{:?}", v.dims())).collect();
                let error = OpError::from(error);
                OpError {
                    place: Some(format!("{name}({})", shapes.join(", "))),
                    ..error
                }
            })
        });
    }
}

fn sizes(numbers: &[u32]) -> Vec<usize> {
    numbers.iter().map(|&n| n as usize).collect()
}
