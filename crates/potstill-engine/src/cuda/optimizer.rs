//! Steps of the optimizers, in place. Nothing that they compute with leaves the card.

use candle_core::{DType, Tensor};

use super::{Arguments, Buffer, Gpu, Kernel, check_one_dtype};
use crate::error::Result;
use crate::optim::{AdafactorConfig, LionConfig, ProdigyConfig};

/// Values that one block of Prodigy's averages goes through.
const TILE: usize = 8192;

const fn kernel(name: &'static str) -> Kernel {
    Kernel::new("optimizer", name)
}

/// What Prodigy keeps of a parameter, and the parameter.
pub(crate) struct ProdigySlot<'a> {
    pub(crate) weights: &'a Tensor,
    pub(crate) start: &'a Tensor,
    pub(crate) s: &'a Tensor,
    pub(crate) first: &'a Tensor,
    pub(crate) second: &'a Tensor,
}

/// How a parameter lies in memory as matrices of torch's last two axes: `[outer, rows, columns, inner]`, each a matrix for
/// every outer and inner.
#[derive(Clone, Copy)]
pub(crate) struct Matrices {
    pub(crate) outer: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) inner: usize,
}

impl Gpu {
    /// Moves AdamW's averages `[2, …]` by a gradient.
    pub(crate) fn adam_average(&self, averages: Buffer, grad: Buffer, (beta1, beta2): (f64, f64)) -> Result<()> {
        let arguments = Arguments::default()
            .buffer(averages, true)
            .buffer(grad, false)
            .int(grad.len)
            .real(beta1)
            .real(beta2);
        self.each(kernel("adam_average"), grad.dtype, grad.len, arguments)
    }

    /// Moves weights by AdamW's averages; `constants` are shrink, size, root and eps.
    pub(crate) fn adam_apply(&self, weights: Buffer, averages: Buffer, constants: [f64; 4]) -> Result<()> {
        let arguments = Arguments::default()
            .buffer(weights, true)
            .buffer(averages, false)
            .int(weights.len);
        let arguments = constants.into_iter().fold(arguments, Arguments::real);
        self.each(kernel("adam_apply"), weights.dtype, weights.len, arguments)
    }

    /// A step of Lion: weights and average by the gradient.
    pub(crate) fn lion(&self, config: &LionConfig, lr: f64, [weights, average, grad]: [&Tensor; 3]) -> Result<()> {
        let dtype = check_one_dtype("lion", [weights, average, grad])?;
        let (count, (beta1, beta2)) = (weights.elem_count(), config.betas);
        let grad = grad.contiguous()?;
        let arguments = Arguments::default()
            .change(weights)?
            .change(average)?
            .read(&grad)?
            .int(count)
            .reals([lr, 1. - lr * config.weight_decay, beta1, beta2]);
        self.each(kernel("lion"), dtype, count, arguments)
    }

    /// Moves Prodigy's averages; the sums over gradient times way gone and over |s|, `[2]` in f64.
    pub(crate) fn prodigy_average(
        &self,
        config: &ProdigyConfig,
        lr: f64,
        slot: &ProdigySlot,
        grad: &Tensor,
        estimate: &Tensor,
    ) -> Result<Tensor> {
        const OP: &str = "prodigy_average";
        let ProdigySlot {
            weights,
            start,
            s,
            first,
            second,
        } = *slot;
        let dtype = check_one_dtype(OP, [weights, start, s, first, second, grad])?;
        let (count, (beta1, beta2)) = (weights.elem_count(), config.betas);
        let (tiles, grad) = (count.div_ceil(TILE), grad.contiguous()?);
        let sums = self.zeros(OP, DType::F64, 2 * tiles)?;
        let arguments = Arguments::default()
            .read(weights)?
            .read(&grad)?
            .read(start)?
            .change(s)?
            .change(first)?
            .change(second)?
            .read(estimate)?
            .write(&sums)?
            .ints([count, TILE, tiles, usize::from(config.safeguard_warmup)])
            .reals([lr, config.d0, beta1, beta2, beta2.sqrt()]);
        self.launch(kernel(OP), dtype, [tiles, 1, 1], arguments)?;
        Ok(self.sum([2, tiles, 1], &sums.tensor(&[2, tiles]))?.reshape(2)?)
    }

    /// Prodigy's next estimate from the sums over all parameters.
    pub(crate) fn prodigy_estimate(
        &self,
        config: &ProdigyConfig,
        lr: f64,
        before: &Tensor,
        sums: &Tensor,
    ) -> Result<Tensor> {
        const OP: &str = "prodigy_estimate";
        let (beta1, beta2) = config.betas;
        let after = self.output(OP, DType::F64, before.elem_count())?;
        let arguments = Arguments::default()
            .read(before)?
            .read(sums)?
            .write(&after)?
            .int(usize::from(config.bias_correction))
            .reals([lr, config.d0, config.d_coef, config.growth_rate])
            .reals([beta1, beta2, beta2.sqrt()]);
        self.each(kernel(OP), DType::F64, 1, arguments)?;
        Ok(after.tensor(before.dims()))
    }

    /// Moves weights by Prodigy's averages and its estimates before and after this step.
    pub(crate) fn prodigy_apply(
        &self,
        config: &ProdigyConfig,
        lr: f64,
        slot: &ProdigySlot,
        [before, after]: [&Tensor; 2],
    ) -> Result<()> {
        let (weights, count) = (slot.weights, slot.weights.elem_count());
        let arguments = Arguments::default()
            .change(weights)?
            .read(slot.first)?
            .read(slot.second)?
            .read(before)?
            .read(after)?
            .int(count)
            .reals([lr, config.eps, config.weight_decay]);
        self.each(kernel("prodigy_apply"), weights.dtype(), count, arguments)
    }

    /// A step of Adafactor at a rate that is not yet scaled by the weights' size; `kept` are the averages by row, by column
    /// and by element, of which either the first two or the last have values. Averages keep the share `keep`.
    pub(crate) fn adafactor(
        &self,
        config: &AdafactorConfig,
        (lr, keep): (f64, f64),
        matrices: Option<Matrices>,
        [weights, grad]: [&Tensor; 2],
        kept: [&Tensor; 3],
    ) -> Result<()> {
        const OP: &str = "adafactor";
        let dtype = check_one_dtype(OP, [weights, grad, kept[0], kept[1], kept[2]])?;
        let (grad, count) = (grad.contiguous()?, weights.elem_count());
        let squares = self.unary(OP, super::Function::Square, &grad, None)?;
        let average = |average: &Tensor, sums: &Tensor, shape: [usize; 3], length: usize| {
            let arguments = Arguments::default().change(average)?.read(sums)?.ints(shape).reals([
                1. / length as f64,
                config.eps.0,
                keep,
            ]);
            self.each(kernel("adafactor_average"), dtype, average.elem_count(), arguments)
        };
        let (sizes, row_sums) = match matrices {
            Some(Matrices {
                outer,
                rows,
                columns,
                inner,
            }) => {
                let by_row = self.sum([outer * rows, columns, inner], &squares)?;
                average(kept[0], &by_row, [outer, rows, inner], columns)?;
                let by_column = self.sum([outer, rows, columns * inner], &squares)?;
                average(kept[1], &by_column, [outer, columns, inner], rows)?;
                let row_sums = self.sum([outer * inner, rows, 1], kept[0])?;
                ([outer, rows, columns, inner], Some(row_sums))
            }
            None => {
                average(kept[2], &squares.to_dtype(DType::F64)?, [1, count, 1], 1)?;
                ([1, 1, count, 1], None)
            }
        };
        let update = self.output(OP, dtype, count)?;
        let arguments = Arguments::default()
            .read(&grad)?
            .read_if(row_sums.is_some().then_some(kept[0]))?
            .read(if row_sums.is_some() { kept[1] } else { kept[2] })?
            .read_if(row_sums.as_ref())?
            .write(&update)?
            .ints(sizes);
        self.each(kernel("adafactor_update"), dtype, count, arguments)?;
        let update = update.tensor(weights.dims());
        let update_squares = self.sum_of_squares(&update)?;
        let weight_squares = config
            .scale_parameter
            .then(|| self.sum_of_squares(weights))
            .transpose()?;
        let arguments = Arguments::default()
            .change(weights)?
            .read(&update)?
            .read(&update_squares)?
            .read_if(weight_squares.as_ref())?
            .int(count)
            .reals([lr, config.eps.1, config.clip_threshold, config.weight_decay]);
        self.each(kernel("adafactor_apply"), dtype, count, arguments)
    }
}
