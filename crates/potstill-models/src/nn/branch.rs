//! Low-rank branches beside layers: what a LoRA adds to a frozen layer while it is trained.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use potstill_engine::{Param, Value, ops};

use crate::error::{ModelError, Result};
use crate::layout::file_shape;
use crate::params::Params;

/// What errors call branches.
const ATTACHED: &str = "low-rank branch";

/// `scale · up(down(x))`, added to what a layer gives for `x`.
#[derive(Clone, Debug)]
pub struct Branch {
    /// In memory order: `[rank, in]`, or `[rank, height, width, in]` with the layer's own stride and padding.
    pub down: Param,
    /// In memory order: `[out, rank]`, or `[out, 1, 1, rank]`.
    pub up: Param,
    /// alpha / rank.
    pub scale: f64,
}

/// Where branches are attached to one layer. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Socket(Arc<Inner>);

struct Inner {
    /// diffusers' shape of the layer's weight.
    shape: Vec<usize>,
    branches: RwLock<Vec<Branch>>,
}

impl Socket {
    pub(crate) fn new(shape: &[usize]) -> Self {
        Self(Arc::new(Inner {
            shape: shape.to_vec(),
            branches: RwLock::default(),
        }))
    }

    /// `y`, the layer's result for `x`, with what the branches add. `product` is the layer's operation with another
    /// weight, `mix` the same of one row or pixel.
    pub(crate) fn add_to(
        &self,
        y: Value,
        x: &Value,
        product: impl Fn(&Value, &Value) -> potstill_engine::Result<Value>,
        mix: impl Fn(&Value, &Value) -> potstill_engine::Result<Value>,
    ) -> potstill_engine::Result<Value> {
        let branches = self.0.branches.read().unwrap_or_else(PoisonError::into_inner);
        branches.iter().try_fold(y, |y, Branch { down, up, scale }| {
            let narrow = product(x, &down.value())?;
            // Scaled where it is narrowest.
            let narrow = if *scale == 1. {
                narrow
            } else {
                ops::affine(&narrow, *scale, 0.)?
            };
            ops::add(&y, &mix(&narrow, &up.value())?)
        })
    }

    fn lock(&self) -> RwLockWriteGuard<'_, Vec<Branch>> {
        self.0.branches.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, path: &str, branch: &Branch) -> Result<()> {
        let shape = &self.0.shape;
        let (down, up) = (
            file_shape(branch.down.tensor().dims()),
            file_shape(branch.up.tensor().dims()),
        );
        let rank = down.first().copied().unwrap_or(0);
        let wanted_up: Vec<usize> = [shape[0], rank]
            .into_iter()
            .chain(shape[2..].iter().map(|_| 1))
            .collect();
        if rank > 0 && down[1..] == shape[1..] && up == wanted_up {
            return Ok(());
        }
        let reason = format!("{path}: down {down:?} and up {up:?} are no factors of this layer's weight, {shape:?}");
        Err(ModelError::input(ATTACHED, reason))
    }
}

/// The layers of a model that take branches, by diffusers' path: every linear layer and convolution.
#[derive(Clone)]
pub struct Sockets(BTreeMap<String, Socket>);

impl Sockets {
    pub(crate) fn new(sockets: impl IntoIterator<Item = (String, Socket)>) -> Self {
        Self(sockets.into_iter().collect())
    }

    /// Paths of the layers, with diffusers' shapes of their weights.
    pub fn layers(&self) -> impl ExactSizeIterator<Item = (&str, &[usize])> {
        self.0
            .iter()
            .map(|(path, socket)| (path.as_str(), socket.0.shape.as_slice()))
    }

    /// Adds branches, each to the layer of its path. From the next forward on they take part; what is attached twice
    /// acts twice.
    ///
    /// # Errors
    /// When there is no such layer, or a branch's shapes do not fit it; then none is attached.
    pub fn attach<'a>(&self, branches: impl IntoIterator<Item = (&'a str, Branch)>) -> Result<()> {
        let checked = branches
            .into_iter()
            .map(|(path, branch)| {
                let socket = self.0.get(path).ok_or_else(|| {
                    let reason = format!("{path} is no linear layer or convolution of this model");
                    ModelError::input(ATTACHED, reason)
                })?;
                socket.check(path, &branch)?;
                Ok((socket, branch))
            })
            .collect::<Result<Vec<_>>>()?;
        for (socket, branch) in checked {
            socket.lock().push(branch);
        }
        Ok(())
    }

    /// Removes all branches.
    pub fn clear(&self) {
        self.0.values().for_each(|socket| socket.lock().clear());
    }

    /// The parameters of all branches, in the order of the layers' paths.
    #[must_use]
    pub fn params(&self) -> Params {
        let of = |socket: &Socket| {
            let branches = socket.0.branches.read().unwrap_or_else(PoisonError::into_inner);
            branches
                .iter()
                .flat_map(|b| [b.down.clone(), b.up.clone()])
                .collect::<Vec<_>>()
        };
        Params::of(self.0.values().flat_map(of).collect())
    }
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sockets({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};
    use potstill_engine::{backward, no_grad};

    use super::*;

    /// Half of the step of the central differences: about the cube root of f64's epsilon.
    const STEP: f64 = 1e-5;
    const TOLERANCE: f64 = 1e-8;

    /// f64 values of order one, the same for the same seed.
    fn wave(dims: &[usize], seed: f64) -> Vec<f64> {
        let count: usize = dims.iter().product();
        (0..count).map(|i| (0.7 * i as f64 + seed).sin()).collect()
    }

    fn tensor(values: &[f64], dims: &[usize]) -> Tensor {
        Tensor::from_vec(values.to_vec(), dims, &Device::Cpu).unwrap()
    }

    type Operation = fn(&Value, &Value) -> potstill_engine::Result<Value>;

    fn convolve(x: &Value, w: &Value) -> potstill_engine::Result<Value> {
        let geometry = ops::Conv2d {
            stride: 2,
            padding: [1; 4],
        };
        ops::conv2d(x, w, None, &geometry)
    }

    fn mix_pixels(x: &Value, w: &Value) -> potstill_engine::Result<Value> {
        ops::conv2d(x, w, None, &ops::Conv2d::default())
    }

    fn multiply(x: &Value, w: &Value) -> potstill_engine::Result<Value> {
        ops::linear(x, w, None)
    }

    /// Shapes in memory order of x, the layer's weight, down and up, with the layer's operations.
    type Layer = ([&'static [usize]; 4], Operation, Operation);

    const LAYERS: [Layer; 2] = [
        ([&[2, 5, 4], &[6, 4], &[3, 4], &[6, 3]], multiply, multiply),
        (
            [&[2, 5, 4, 3], &[4, 3, 3, 3], &[2, 3, 3, 3], &[4, 1, 1, 2]],
            convolve,
            mix_pixels,
        ),
    ];

    #[test]
    fn gradients_are_those_of_central_differences_and_of_the_branch_alone() {
        for (shapes, product, mix) in LAYERS {
            let values: Vec<Vec<f64>> = shapes
                .iter()
                .zip([1., 2., 3., 4.])
                .map(|(s, seed)| wave(s, seed))
                .collect();
            let run = |values: &[Vec<f64>], trained: bool| {
                let at = |i: usize| tensor(&values[i], shapes[i]);
                let socket = Socket::new(&file_shape(shapes[1]));
                let (down, up) = (Param::new("down", at(2)), Param::new("up", at(3)));
                [&down, &up].into_iter().for_each(|param| param.set_trainable(trained));
                let branch = Branch {
                    down: down.clone(),
                    up: up.clone(),
                    scale: 0.4,
                };
                socket.check("layer", &branch).unwrap();
                socket.lock().push(branch);
                let x = Value::constant(at(0));
                let weight = Param::new("weight", at(1));
                let y = product(&x, &weight.value()).unwrap();
                let y = socket.add_to(y, &x, product, mix).unwrap();
                (y, [down, up], weight)
            };
            let sum = |values: &[Vec<f64>]| {
                let y = no_grad(|| run(values, false)).0;
                let found: Vec<f64> = y.tensor().flatten_all().unwrap().to_vec1().unwrap();
                found.iter().zip(wave(y.dims(), 9.)).map(|(a, b)| a * b).sum::<f64>()
            };
            let (y, params, weight) = run(&values, true);
            let seed = tensor(&wave(y.dims(), 9.), y.dims());
            let gradients = backward(&[(y, seed)]).unwrap();
            assert!(gradients.get(weight.leaf()).is_none() && gradients.len() == 2);
            for (i, param) in [2, 3].into_iter().zip(params) {
                let found: Vec<f64> = gradients
                    .get(param.leaf())
                    .unwrap()
                    .flatten_all()
                    .unwrap()
                    .to_vec1()
                    .unwrap();
                for (k, found) in found.into_iter().enumerate() {
                    let moved = |step: f64| {
                        let mut moved = values.clone();
                        moved[i][k] += step;
                        sum(&moved)
                    };
                    let slope = (moved(STEP) - moved(-STEP)) / (2. * STEP);
                    assert!(
                        (found - slope).abs() < TOLERANCE,
                        "{}[{k}]: {found} {slope}",
                        param.name()
                    );
                }
            }
            assert!(!run(&values, false).0.tracked(), "a frozen branch records nothing");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_and_nothing_attached() {
        let sockets = Sockets::new([
            ("a".to_string(), Socket::new(&[6, 4])),
            ("b".to_string(), Socket::new(&[4, 3, 3, 3])),
        ]);
        let branch = |down: &[usize], up: &[usize]| Branch {
            down: Param::new("down", tensor(&wave(down, 1.), down)),
            up: Param::new("up", tensor(&wave(up, 2.), up)),
            scale: 1.,
        };
        let good = || branch(&[2, 4], &[6, 2]);
        for (path, wrong) in [
            ("a", branch(&[2, 5], &[6, 2])),
            ("a", branch(&[2, 4], &[6, 3])),
            ("a", branch(&[2, 4], &[5, 2])),
            ("b", good()),
            ("c", good()),
        ] {
            let message = sockets.attach([("a", good()), (path, wrong)]).unwrap_err().to_string();
            assert!(message.contains(path), "{message}");
            assert!(sockets.params().is_empty());
        }
        sockets
            .attach([("a", good()), ("b", branch(&[2, 3, 3, 3], &[4, 1, 1, 2]))])
            .unwrap();
        assert_eq!(sockets.params().len(), 4);
        sockets.clear();
        assert!(sockets.params().is_empty());
    }
}
