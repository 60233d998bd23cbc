//! Low-rank branches beside layers: what a LoRA adds to a frozen layer while it is trained.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use candle_core::Tensor;
use potstill_engine::ops::{self, LowRank};
use potstill_engine::{Param, Value};

use crate::error::{ModelError, Result};
use crate::layout::file_shape;
use crate::params::Params;

/// What errors call branches.
const ATTACHED: &str = "low-rank branch";

/// Turns the branches that share it off and on again: the model with an adapter and without it, in one copy. A forward
/// takes what it finds; one that recomputes activations must find the same on its way back.
#[derive(Clone, Debug)]
pub struct Switch(Arc<AtomicBool>);

impl Switch {
    /// Off, the branches are as if they were not attached.
    pub fn set(&self, on: bool) {
        self.0.store(on, Ordering::Relaxed);
    }

    fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for Switch {
    /// On.
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

/// `scale · up(down(x))`, added to what a layer gives for `x`; with a magnitude m (DoRA) the rows of W + scale·up·down are
/// brought to its lengths.
#[derive(Clone, Debug)]
pub struct Branch {
    /// In memory order: `[rank, in]`, or `[rank, height, width, in]` with the layer's own stride and padding.
    pub down: Param,
    /// In memory order: `[out, rank]`, or `[out, 1, 1, rank]`.
    pub up: Param,
    /// alpha / rank.
    pub scale: f64,
    /// DoRA's lengths of the rows, `[out]`.
    pub magnitude: Option<Param>,
    /// Shared by the branches of one adapter.
    pub switch: Switch,
}

impl Branch {
    /// Everything that can be trained.
    pub fn params(&self) -> impl Iterator<Item = &Param> {
        [&self.down, &self.up].into_iter().chain(&self.magnitude)
    }

    /// `y` with what a DoRA adds: `base` is what the layer gives without its bias, `change` the product before its scale.
    /// Nothing, where there is no magnitude.
    fn lengthened(&self, y: Value, base: &Value, change: &Value, weight: &Param) -> potstill_engine::Result<Value> {
        let Some(magnitude) = &self.magnitude else {
            return Ok(y);
        };
        let lengths = Value::constant(self.lengths(weight)?);
        let ratio = ops::cast(&ops::div(&magnitude.value(), &lengths)?, base.tensor().dtype())?;
        let whole = ops::mul(&ops::add(base, &ops::affine(change, self.scale, 0.)?)?, &ratio)?;
        ops::add(&y, &ops::sub(&whole, base)?)
    }

    /// The lengths of the rows of W + scale·up·down, `[out]`: a constant of the backward pass, as peft has it.
    fn lengths(&self, weight: &Param) -> potstill_engine::Result<Tensor> {
        let rows = |tensor: Tensor| tensor.flatten_from(1);
        let product = rows(self.up.tensor())?.matmul(&rows(self.down.tensor())?)?;
        let weight = weight.tensor().to_dtype(self.up.dtype())?;
        let sum = (rows(weight)? + (product * self.scale)?)?;
        Ok(sum.sqr()?.sum(1)?.sqrt()?)
    }
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

    /// A linear layer, with what the branches add.
    pub(crate) fn linear(&self, x: &Value, w: &Param, b: Option<&Value>) -> potstill_engine::Result<Value> {
        let branches = self.0.branches.read().unwrap_or_else(PoisonError::into_inner);
        let active = || branches.iter().filter(|branch| branch.switch.is_on());
        let plain: Vec<LowRank> = active()
            .filter(|branch| branch.magnitude.is_none())
            .map(|branch| LowRank {
                down: branch.down.value(),
                up: branch.up.value(),
                scale: branch.scale,
            })
            .collect();
        let y = ops::linear_with(x, &w.value(), b, &plain)?;
        if active().all(|branch| branch.magnitude.is_none()) {
            return Ok(y);
        }
        let base = ops::linear(x, &w.value(), None)?;
        active().try_fold(y, |y, branch| {
            let narrow = ops::linear(x, &branch.down.value(), None)?;
            branch.lengthened(y, &base, &ops::linear(&narrow, &branch.up.value(), None)?, w)
        })
    }

    /// A convolution, with what the branches add.
    pub(crate) fn conv2d(
        &self,
        x: &Value,
        w: &Param,
        b: &Value,
        geometry: &ops::Conv2d,
    ) -> potstill_engine::Result<Value> {
        let branches = self.0.branches.read().unwrap_or_else(PoisonError::into_inner);
        let y = ops::conv2d(x, &w.value(), Some(b), geometry)?;
        let base = y.clone();
        let mut active = branches.iter().filter(|branch| branch.switch.is_on());
        active.try_fold(y, |y, branch| {
            let narrow = ops::conv2d(x, &branch.down.value(), None, geometry)?;
            if branch.magnitude.is_some() {
                let change = ops::conv2d(&narrow, &branch.up.value(), None, &ops::Conv2d::default())?;
                let b = ops::cast(b, base.tensor().dtype())?;
                return branch.lengthened(y, &ops::sub(&base, &b)?, &change, w);
            }
            // Scaled where it is narrowest.
            let narrow = if branch.scale == 1. {
                narrow
            } else {
                ops::affine(&narrow, branch.scale, 0.)?
            };
            ops::add(
                &y,
                &ops::conv2d(&narrow, &branch.up.value(), None, &ops::Conv2d::default())?,
            )
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
        let is_long = branch
            .magnitude
            .as_ref()
            .is_none_or(|m| m.tensor().dims() == [shape[0]]);
        let wanted_up: Vec<usize> = [shape[0], rank]
            .into_iter()
            .chain(shape[2..].iter().map(|_| 1))
            .collect();
        if rank > 0 && down[1..] == shape[1..] && up == wanted_up && is_long {
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
            branches.iter().flat_map(Branch::params).cloned().collect::<Vec<_>>()
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
    use candle_core::Device;
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

    /// A layer for x, its weight and its bias.
    type Operation = fn(&Socket, &Value, &Param, &Value) -> potstill_engine::Result<Value>;

    fn multiply(socket: &Socket, x: &Value, w: &Param, b: &Value) -> potstill_engine::Result<Value> {
        socket.linear(x, w, Some(b))
    }

    fn convolve(socket: &Socket, x: &Value, w: &Param, b: &Value) -> potstill_engine::Result<Value> {
        let geometry = ops::Conv2d {
            stride: 2,
            padding: [1; 4],
        };
        socket.conv2d(x, w, b, &geometry)
    }

    /// Shapes in memory order of x, the layer's weight, down and up, with the layer's operation.
    type Layer = ([&'static [usize]; 4], Operation);

    const LAYERS: [Layer; 2] = [
        ([&[2, 5, 4], &[6, 4], &[3, 4], &[6, 3]], multiply),
        ([&[2, 5, 4, 3], &[4, 3, 3, 3], &[2, 3, 3, 3], &[4, 1, 1, 2]], convolve),
    ];

    #[test]
    fn gradients_are_those_of_central_differences_and_of_the_branch_alone() {
        for (shapes, operation) in LAYERS {
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
                    magnitude: None,
                    switch: Switch::default(),
                };
                socket.check("layer", &branch).unwrap();
                socket.lock().push(branch);
                let x = Value::constant(at(0));
                let weight = Param::new("weight", at(1));
                let bias = Value::constant(tensor(&wave(&shapes[1][..1], 5.), &shapes[1][..1]));
                let y = operation(&socket, &x, &weight, &bias).unwrap();
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
    fn a_branch_that_is_off_adds_nothing() {
        for (shapes, operation) in LAYERS {
            let at = |i: usize| tensor(&wave(shapes[i], i as f64), shapes[i]);
            let switch = Switch::default();
            let (bare, socket) = (Socket::new(&file_shape(shapes[1])), Socket::new(&file_shape(shapes[1])));
            socket.lock().push(Branch {
                down: Param::new("down", at(2)),
                up: Param::new("up", at(3)),
                scale: 1.,
                magnitude: None,
                switch: switch.clone(),
            });
            let (x, weight) = (Value::constant(at(0)), Param::new("weight", at(1)));
            let bias = Value::constant(tensor(&wave(&shapes[1][..1], 5.), &shapes[1][..1]));
            let run = |socket: &Socket| {
                let y = operation(socket, &x, &weight, &bias).unwrap();
                y.tensor().flatten_all().unwrap().to_vec1::<f64>().unwrap()
            };
            let on = run(&socket);
            assert_ne!(on, run(&bare));
            switch.set(false);
            assert_eq!(run(&socket), run(&bare));
            switch.set(true);
            assert_eq!(run(&socket), on);
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
            magnitude: None,
            switch: Switch::default(),
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
