//! Attention, whose scores are never written.

use candle_core::{DType, Tensor};

use super::{Arguments, Gpu, Kernel, check_one_dtype, wide};
use crate::cpu::AttentionShape;
use crate::error::{Result, ensure_shape};
use crate::profile::count_flops;

const OP: &str = "attention";

/// The kernels of a width, a file of `kernels/` of their own.
struct Kernels {
    /// The widest head that they take.
    widest: usize,
    file: &'static str,
}

const KERNELS: [Kernels; 3] = [
    Kernels {
        widest: 64,
        file: "attention_64",
    },
    Kernels {
        widest: 192,
        file: "attention_192",
    },
    Kernels {
        widest: 512,
        file: "attention_512",
    },
];

impl Kernels {
    fn of(width: usize) -> Result<&'static Self> {
        let found = KERNELS.iter().find(|kernels| width <= kernels.widest);
        let widest = KERNELS[KERNELS.len() - 1].widest;
        ensure_shape!(
            found.is_some(),
            OP,
            "a head of {width} channels is wider than the {widest} that the GPU's kernels take"
        );
        Ok(found.expect("checked above"))
    }

    /// Queries or keys of a tile, as in `kernels/attention.cuh`.
    fn tile(&self, dtype: DType) -> usize {
        if self.widest == 64 && dtype != DType::F64 {
            64
        } else {
            32
        }
    }
}

/// The tensors of a backward pass.
pub(crate) struct Saved<'a> {
    pub(crate) q: &'a Tensor,
    pub(crate) k: &'a Tensor,
    pub(crate) v: &'a Tensor,
    pub(crate) output: &'a Tensor,
    pub(crate) log_sums: &'a Tensor,
}

fn sizes(shape: &AttentionShape, arguments: Arguments) -> Arguments {
    arguments
        .ints([
            shape.heads,
            shape.queries,
            shape.keys,
            shape.width,
            usize::from(shape.causal),
        ])
        .real(shape.scale)
}

/// Floating-point operations of one product of queries and keys.
fn flops(shape: &AttentionShape) -> usize {
    2 * shape.batch * shape.heads * shape.queries * shape.keys * shape.width
}

impl Gpu {
    /// The output, and the logarithms of the sums of exponentials `[batch, heads, queries]`.
    pub(crate) fn attention(&self, shape: &AttentionShape, [q, k, v]: [&Tensor; 3]) -> Result<(Tensor, Tensor)> {
        let (dtype, kernels) = (check_one_dtype(OP, [q, k, v])?, Kernels::of(shape.width)?);
        let y = self.output(OP, dtype, q.elem_count())?;
        let log_sums = self.output(OP, wide(dtype), shape.batch * shape.heads * shape.queries)?;
        count_flops(2 * flops(shape));
        let arguments = Arguments::default()
            .read(q)?
            .read(k)?
            .read(v)?
            .write(&y)?
            .write(&log_sums)?;
        let grid = [shape.queries.div_ceil(kernels.tile(dtype)), shape.heads, shape.batch];
        let kernel = Kernel::new(kernels.file, "attention_forward");
        self.launch(kernel, dtype, grid, sizes(shape, arguments))?;
        let log_sums = log_sums.tensor(&[shape.batch, shape.heads, shape.queries]);
        Ok((y.tensor(q.dims()), log_sums))
    }

    /// The gradients by q, k and v, where they are needed.
    pub(crate) fn attention_backward(
        &self,
        shape: &AttentionShape,
        saved: &Saved,
        grad: &Tensor,
        needs: [bool; 3],
    ) -> Result<[Option<Tensor>; 3]> {
        let Saved {
            q,
            k,
            v,
            output,
            log_sums,
        } = *saved;
        let (dtype, kernels) = (check_one_dtype(OP, [q, k, v, output, grad])?, Kernels::of(shape.width)?);
        let tile = kernels.tile(dtype);
        let count = shape.batch * shape.heads * shape.queries;
        let dots = self.output(OP, wide(dtype), count)?;
        let arguments = Arguments::default().read(output)?.read(grad)?.write(&dots)?.ints([
            shape.batch,
            shape.heads,
            shape.queries,
            shape.width,
        ]);
        self.each(Kernel::new(OP, "attention_dots"), dtype, count, arguments)?;
        let dots = dots.tensor(&[count]);
        let given = || -> Result<Arguments> {
            let arguments = Arguments::default()
                .read(q)?
                .read(k)?
                .read(v)?
                .read(grad)?
                .read(log_sums)?
                .read(&dots)?;
            Ok(sizes(shape, arguments))
        };
        let mut gradients = [None, None, None];
        if needs[0] {
            count_flops(3 * flops(shape));
            let dq = self.output(OP, dtype, q.elem_count())?;
            let grid = [shape.queries.div_ceil(tile), shape.heads, shape.batch];
            let kernel = Kernel::new(kernels.file, "attention_query");
            self.launch(kernel, dtype, grid, given()?.write(&dq)?)?;
            gradients[0] = Some(dq.tensor(q.dims()));
        }
        if needs[1] || needs[2] {
            count_flops(4 * flops(shape));
            let (dk, dv) = (
                self.output(OP, dtype, k.elem_count())?,
                self.output(OP, dtype, v.elem_count())?,
            );
            let grid = [shape.keys.div_ceil(tile), shape.heads, shape.batch];
            let arguments = given()?.write(&dk)?.write(&dv)?;
            self.launch(Kernel::new(kernels.file, "attention_key"), dtype, grid, arguments)?;
            gradients[1] = needs[1].then(|| dk.tensor(k.dims()));
            gradients[2] = needs[2].then(|| dv.tensor(v.dims()));
        }
        Ok(gradients)
    }
}
