//! Adafactor (Shazeer and Stern, 2018) as transformers has it, without the first moment.

use candle_core::{D, Tensor};

use super::slots::{ByParameter, Rule, Slot, Slots};
use crate::cpu;
use crate::cuda::{Gpu, Matrices};
use crate::error::Result;
use crate::param::Param;

/// Constants of an [`Adafactor`], with transformers' names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdafactorConfig {
    /// Added to squared gradients, and the least size that a parameter counts as.
    pub eps: (f64, f64),
    /// Largest root mean square of an update.
    pub clip_threshold: f64,
    /// Averages of squares decay by 1 − t^decay_rate at step t.
    pub decay_rate: f64,
    /// Decoupled decay: weights shrink by `lr · weight_decay` a step.
    pub weight_decay: f64,
    /// Multiplies the learning rate by a parameter's root mean square.
    pub scale_parameter: bool,
    /// min(0.01, 1/√t) in the place of the learning rate.
    pub relative_step: bool,
}

/// Squared gradients are averaged by row and column where a parameter has both (torch's last two axes), so that the state
/// is as large as a row and a column.
pub type Adafactor = ByParameter<AdafactorConfig>;

impl Adafactor {
    /// An optimizer of these parameters, with all averages zero.
    pub fn new(params: Vec<Param>, config: AdafactorConfig) -> Result<Self> {
        // One of the pairs is used; the other has no values.
        let slots = Slots::new(
            "adafactor",
            &["exp_avg_sq_row", "exp_avg_sq_col", "exp_avg_sq"],
            params,
            |tensor| {
                let tensor = torch_axes(tensor)?;
                let none = || Tensor::zeros(0, tensor.dtype(), tensor.device());
                if tensor.rank() < 2 {
                    return Ok(vec![none()?, none()?, tensor.zeros_like()?]);
                }
                let (row, column) = (tensor.sum(D::Minus1)?, tensor.sum(D::Minus2)?);
                Ok(vec![row.zeros_like()?, column.zeros_like()?, none()?])
            },
        )?;
        Ok(Self::of(config, slots))
    }
}

/// Convolutions lie as `[out, height, width, in]` in memory, torch's as `[out, in, height, width]`: factors go by torch's
/// axes, so that the update is its.
fn torch_axes(tensor: &Tensor) -> Result<Tensor> {
    Ok(match tensor.rank() {
        4 => tensor.permute((0, 3, 1, 2))?.contiguous()?,
        _ => tensor.clone(),
    })
}

fn memory_axes(tensor: &Tensor) -> Result<Tensor> {
    Ok(match tensor.rank() {
        4 => tensor.permute((0, 2, 3, 1))?.contiguous()?,
        _ => tensor.clone(),
    })
}

/// How torch's last two axes lie in a parameter's memory; nothing where it has one only.
fn matrices(dims: &[usize]) -> Option<Matrices> {
    match *dims {
        [outer, rows, columns, inner] => Some(Matrices {
            outer,
            rows,
            columns,
            inner,
        }),
        [ref outer @ .., rows, columns] => Some(Matrices {
            outer: outer.iter().product(),
            rows,
            columns,
            inner: 1,
        }),
        _ => None,
    }
}

fn rms(tensor: &Tensor) -> Result<f64> {
    Ok((cpu::sum_of_squares(tensor)? / tensor.elem_count() as f64).sqrt())
}

fn inverse_root(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.sqrt()?.recip()?)
}

/// `average · keep + new · (1 − keep)`.
fn moved(average: &Tensor, new: &Tensor, keep: f64) -> Result<Tensor> {
    Ok(((average * keep)? + (new * (1. - keep))?)?)
}

impl Rule for AdafactorConfig {
    fn update(&self, slot: &mut Slot, grad: &Tensor, lr: f64) -> Result<()> {
        slot.step += 1;
        let step = slot.step as f64;
        let weights = slot.param.tensor();
        let rate = slot.rate
            * match self.relative_step {
                true => (1. / step.sqrt()).min(1e-2),
                false => lr,
            };
        let keep = 1. - step.powf(self.decay_rate);
        if let Some(gpu) = Gpu::of(&weights) {
            let kept = [&slot.kept[0], &slot.kept[1], &slot.kept[2]];
            return gpu.adafactor(self, (rate, keep), matrices(weights.dims()), [&weights, grad], kept);
        }
        let size = if self.scale_parameter {
            rms(&weights)?.max(self.eps.1)
        } else {
            1.
        };
        let lr = size * rate;
        let grad = torch_axes(grad)?;
        let squares = (grad.sqr()? + self.eps.0)?;
        let update = if grad.rank() < 2 {
            slot.kept[2] = moved(&slot.kept[2], &squares, keep)?;
            (inverse_root(&slot.kept[2])? * &grad)?
        } else {
            slot.kept[0] = moved(&slot.kept[0], &squares.mean(D::Minus1)?, keep)?;
            slot.kept[1] = moved(&slot.kept[1], &squares.mean(D::Minus2)?, keep)?;
            let (row, column) = (&slot.kept[0], &slot.kept[1]);
            let by_row = inverse_root(&row.broadcast_div(&row.mean_keepdim(D::Minus1)?)?)?;
            let by_column = inverse_root(column)?;
            let both = by_row
                .unsqueeze(D::Minus1)?
                .broadcast_mul(&by_column.unsqueeze(D::Minus2)?)?;
            (both * &grad)?
        };
        let clip = (rms(&update)? / self.clip_threshold).max(1.);
        let update = (memory_axes(&update)? * (lr / clip))?;
        let shrunk = (weights * (1. - self.weight_decay * lr))?;
        slot.param.assign(&(shrunk - update)?)
    }
}
