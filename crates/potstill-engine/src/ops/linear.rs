//! Linear layers.

use candle_core::Tensor;
use half::bf16;

use super::weighted::Weighted;
use super::{add, affine, tensor};
use crate::cpu::{self, Narrow, Real, View, dispatch};
use crate::cuda::Gpu;
use crate::error::{Result, ensure_shape};
use crate::profile::{Pass, span};
use crate::value::Value;

const OP: &str = "linear";

/// What is added to a linear layer with little arithmetic: `scale · (x·downᵀ)·upᵀ`.
pub struct LowRank {
    /// `[rank, in]`.
    pub down: Value,
    /// `[out, rank]`.
    pub up: Value,
    /// A factor.
    pub scale: f64,
}

/// `x·wᵀ + b`: x `[…, in]`, w `[out, in]`, b `[out]`; the result is `[…, out]`. An f32 x with a frozen bf16 w (and f32 b) is
/// multiplied in bf16 with f32 sums.
pub fn linear(x: &Value, w: &Value, b: Option<&Value>) -> Result<Value> {
    linear_with(x, w, b, &[])
}

/// [`linear`], and what low-rank branches add to it: in one pass over the result and over the gradient by x, unless w is bf16.
pub fn linear_with(x: &Value, w: &Value, b: Option<&Value>, branches: &[LowRank]) -> Result<Value> {
    let _span = span(OP, Pass::Forward, x.dims());
    let fits = matches!((x.dims(), w.dims()), ([.., i], [_, j]) if i == j);
    ensure_shape!(
        fits,
        OP,
        "x {:?} by w {:?}: the last dimensions must agree",
        x.dims(),
        w.dims()
    );
    let weighted = Weighted { op: OP, x, w, b };
    weighted.check_bias()?;
    let (n, k) = (w.dims()[0], w.dims()[1]);
    for LowRank { down, up, .. } in branches {
        let fits = matches!((down.dims(), up.dims()), (&[r, i], &[o, s]) if (i, o, r) == (k, n, s) && r > 0);
        ensure_shape!(
            fits,
            OP,
            "down {:?} and up {:?} are no factors of w {:?}",
            down.dims(),
            up.dims(),
            w.dims()
        );
    }
    let mut dims = x.dims().to_vec();
    *dims.last_mut().expect("at least one dimension") = n;
    let on_card = Gpu::of(x.tensor());
    if weighted.is_bf16()? || on_card.is_some() {
        let y = match on_card {
            Some(gpu) => linear_on(gpu, &weighted, &dims)?,
            None => in_bf16(&weighted, &dims)?,
        };
        return branches.iter().try_fold(y, |y, branch| branch.add_to(&y, x));
    }
    let m = x.tensor().elem_count() / k.max(1);
    let (y, narrow) = dispatch!(OP, x.tensor().dtype(), T => {
        let x = x.tensor().contiguous()?;
        let x = View::<T>::of(OP, &x)?;
        let narrow = branches.iter().map(|branch| branch.narrow::<T>(m, &x)).collect::<Result<Vec<_>>>()?;
        let ups = contiguous(branches.iter().map(|branch| &branch.up))?;
        let y = with_branches::<T, _>(&narrow, &ups, |branches| {
            weighted.forward::<T, T>(&dims, |x, w, b| cpu::linear_forward((m, n, k), x, w, b, branches))
        })?;
        Ok((y, narrow))
    })?;
    let factors = branches.iter().flat_map(|branch| [&branch.down, &branch.up]);
    let inputs: Vec<&Value> = weighted.inputs().into_iter().chain(factors).collect();
    Ok(Value::from_op(OP, y, &inputs, || {
        let saved = weighted.save();
        let branches: Vec<SavedBranch> = branches
            .iter()
            .zip(narrow)
            .map(|(b, narrow)| b.save(x, narrow))
            .collect();
        move |grad: Tensor| {
            let grad = grad.contiguous()?;
            dispatch!(OP, grad.dtype(), T => {
                let g = View::<T>::of(OP, &grad)?;
                let shape = (m, n, k);
                let narrow = branches.iter().map(|b| b.narrow::<T>(shape, &g)).collect::<Result<Vec<_>>>()?;
                let downs = contiguous(branches.iter().map(|branch| &branch.down))?;
                let mut grads = with_branches::<T, _>(&narrow, &downs, |branches| saved.backward::<T>(
                    &grad,
                    |grad, w| cpu::linear_backward_input(shape, grad, w, branches),
                    |grad, x| cpu::linear_backward_weight(shape, grad, x),
                ))?;
                for (branch, narrow) in branches.iter().zip(&narrow) {
                    grads.extend(branch.backward::<T>(shape, &g, narrow)?);
                }
                Ok(grads)
            })
        }
    }))
}

/// The product with a frozen bf16 weight.
fn in_bf16(weighted: &Weighted, dims: &[usize]) -> Result<Value> {
    let (n, k) = (weighted.w.dims()[0], weighted.w.dims()[1]);
    let shape = (weighted.x.tensor().elem_count() / k.max(1), n, k);
    let y = weighted.forward::<f32, bf16>(dims, |x, w, b| cpu::bf16::linear_forward(shape, x, w, b))?;
    Ok(Value::from_op(OP, y, &weighted.inputs(), || {
        let saved = weighted.save();
        move |grad: Tensor| saved.backward_frozen(&grad, |grad, w| cpu::bf16::linear_backward_input(shape, grad, w))
    }))
}

/// The layer alone on a card.
fn linear_on(gpu: Gpu, weighted: &Weighted, dims: &[usize]) -> Result<Value> {
    let (n, k) = (weighted.w.dims()[0], weighted.w.dims()[1]);
    let shape = [weighted.x.tensor().elem_count() / k.max(1), n, k];
    let y = gpu.linear(OP, shape, weighted.factors(), weighted.bias(), dims)?;
    Ok(Value::from_op(OP, y, &weighted.inputs(), || {
        let saved = weighted.save();
        move |grad: Tensor| {
            saved.backward_on(
                &gpu,
                &grad,
                |factors, dims| gpu.linear_backward_input(OP, shape, factors, dims),
                |factors, dims| gpu.linear_backward_weight(OP, shape, factors, dims),
            )
        }
    }))
}

/// Contiguous tensors of values.
fn contiguous<'a>(values: impl Iterator<Item = &'a Value>) -> Result<Vec<Tensor>> {
    values.map(|value| Ok(value.tensor().contiguous()?)).collect()
}

/// Runs `f` with pairs of `[m, rank]` and a weight.
fn with_branches<T: Real, R>(
    narrow: &[Tensor],
    weights: &[Tensor],
    f: impl FnOnce(&[Narrow<T>]) -> Result<R>,
) -> Result<R> {
    let rows = narrow
        .iter()
        .map(|t| View::<T>::of(OP, t))
        .collect::<Result<Vec<_>>>()?;
    let weights = weights
        .iter()
        .map(|t| View::<T>::of(OP, t))
        .collect::<Result<Vec<_>>>()?;
    let pairs: Vec<Narrow<T>> = (narrow.iter().zip(rows.iter().zip(&weights)))
        .map(|(narrow, (rows, weight))| Narrow {
            rank: narrow.dims()[1],
            rows,
            weight,
        })
        .collect();
    f(&pairs)
}

impl LowRank {
    /// `y` and what the branch adds to it, operation by operation.
    fn add_to(&self, y: &Value, x: &Value) -> Result<Value> {
        let narrow = linear(x, &self.down, None)?;
        let narrow = if self.scale == 1. {
            narrow
        } else {
            affine(&narrow, self.scale, 0.)?
        };
        add(y, &linear(&narrow, &self.up, None)?)
    }

    /// `scale · x·downᵀ`: scaled where it is narrowest.
    fn narrow<T: Real>(&self, m: usize, x: &[T]) -> Result<Tensor> {
        let (rank, k) = (self.down.dims()[0], self.down.dims()[1]);
        let down = self.down.tensor().contiguous()?;
        let y = cpu::linear_forward((m, rank, k), x, &View::<T>::of(OP, &down)?, None, &[]);
        scaled(y, self.scale, &[m, rank])
    }

    /// What the backward pass needs: both factors for the gradient by x, and what they are multiplied with for theirs.
    fn save(&self, x: &Value, narrow: Tensor) -> SavedBranch {
        SavedBranch {
            x: self.down.tracked().then(|| x.tensor().clone()),
            narrow: self.up.tracked().then_some(narrow),
            down: self.down.clone(),
            up: self.up.clone(),
            scale: self.scale,
        }
    }
}

fn scaled<T: Real>(mut x: Vec<T>, scale: f64, dims: &[usize]) -> Result<Tensor> {
    if scale != 1. {
        x.iter_mut().for_each(|x| *x *= T::of(scale));
    }
    tensor(x, dims)
}

/// See [`LowRank::save`].
struct SavedBranch {
    x: Option<Tensor>,
    narrow: Option<Tensor>,
    down: Value,
    up: Value,
    scale: f64,
}

impl SavedBranch {
    /// `scale · grad·up`: the gradient by `x·downᵀ`.
    fn narrow<T: Real>(&self, (m, n, _): (usize, usize, usize), grad: &[T]) -> Result<Tensor> {
        let rank = self.up.dims()[1];
        let up = self.up.tensor().contiguous()?;
        let y = cpu::linear_backward_input((m, n, rank), grad, &View::<T>::of(OP, &up)?, &[]);
        scaled(y, self.scale, &[m, rank])
    }

    /// The gradients by the two factors.
    fn backward<T: Real>(
        &self,
        (m, n, k): (usize, usize, usize),
        grad: &[T],
        narrow: &Tensor,
    ) -> Result<[Option<Tensor>; 2]> {
        let rank = self.up.dims()[1];
        let narrow = View::<T>::of(OP, narrow)?;
        let by_down = self.x.as_ref().map(|x| {
            let x = x.contiguous()?;
            tensor(
                cpu::linear_backward_weight((m, rank, k), &narrow, &View::<T>::of(OP, &x)?),
                &[rank, k],
            )
        });
        let by_up = self.narrow.as_ref().map(|forward| {
            tensor(
                cpu::linear_backward_weight((m, n, rank), grad, &View::<T>::of(OP, forward)?),
                &[n, rank],
            )
        });
        Ok([by_down.transpose()?, by_up.transpose()?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn gradients() {
        for dims in [vec![5, 3], vec![2, 4, 3], vec![3]] {
            check(&[random(&dims, 1), random(&[4, 3], 2), random(&[4], 3)], |v| {
                linear(&v[0], &v[1], Some(&v[2]))
            });
            check(&[random(&dims, 1), random(&[4, 3], 2)], |v| linear(&v[0], &v[1], None));
        }
    }

    /// x, w, b, and the factors of two branches.
    fn with_factors([m, n, k]: [usize; 3], ranks: [usize; 2]) -> Vec<Tensor> {
        let shapes = [vec![m, k], vec![n, k], vec![n]];
        let factors = ranks.iter().flat_map(|&r| [vec![r, k], vec![n, r]]);
        shapes
            .into_iter()
            .chain(factors)
            .zip(1..)
            .map(|(dims, seed)| random(&dims, seed))
            .collect()
    }

    fn run(v: &[Value]) -> Result<Value> {
        let branch = |i: usize, scale: f64| LowRank {
            down: v[i].clone(),
            up: v[i + 1].clone(),
            scale,
        };
        linear_with(&v[0], &v[1], Some(&v[2]), &[branch(3, 1.), branch(5, 0.3)])
    }

    #[test]
    fn gradients_with_branches() {
        check(&with_factors([5, 4, 3], [2, 1]), run);
    }

    #[test]
    fn branches_add_their_products() {
        let given = with_factors([6, 5, 4], [3, 2]);
        let value = |i: usize| Value::constant(given[i].clone());
        let all: Vec<Value> = (0..given.len()).map(value).collect();
        let found = run(&all).unwrap();
        let alone = |down: usize| {
            let narrow = linear(&all[0], &all[down], None).unwrap();
            values(linear(&narrow, &all[down + 1], None).unwrap().tensor())
        };
        let base = values(linear(&all[0], &all[1], Some(&all[2])).unwrap().tensor());
        let wanted = base
            .iter()
            .zip(alone(3))
            .zip(alone(5))
            .map(|((y, a), b)| y + a + 0.3 * b);
        for (found, wanted) in values(found.tensor()).iter().zip(wanted) {
            assert!((found - wanted).abs() < 1e-12);
        }
    }

    #[test]
    fn tiles_agree_with_branches() {
        for shape in [[517, 130, 260], [40, 300, 70], [1030, 65, 33]] {
            agree(&with_factors(shape, [16, 5]), run);
        }
    }

    #[test]
    fn tiles_agree() {
        for (m, n, k) in [
            (1, 300, 700),
            (60, 700, 1100),
            (130, 65, 33),
            (517, 130, 260),
            (2048, 24, 17),
            (77, 1, 64),
            (3, 7, 1),
        ] {
            agree(&[random(&[m, k], 1), random(&[n, k], 2), random(&[n], 3)], |v| {
                linear(&v[0], &v[1], Some(&v[2]))
            });
        }
    }

    #[test]
    fn names_shapes_that_do_not_fit() {
        let (x, w) = (constant(&[2, 3]), constant(&[4, 5]));
        let message = linear(&x, &w, None).unwrap_err().to_string();
        assert!(
            message.contains("linear") && message.contains("[2, 3]") && message.contains("[4, 5]"),
            "{message}"
        );
        assert!(linear(&x, &constant(&[4, 3]), Some(&constant(&[3]))).is_err());
        let branch = LowRank {
            down: constant(&[2, 3]),
            up: constant(&[5, 2]),
            scale: 1.,
        };
        let message = linear_with(&x, &constant(&[4, 3]), None, &[branch])
            .unwrap_err()
            .to_string();
        assert!(message.contains("factors") && message.contains("[5, 2]"), "{message}");
    }
}
