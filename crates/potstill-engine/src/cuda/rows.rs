//! Kernels that move rows of channels, or add to them. All tensors are contiguous.

use candle_core::Tensor;

use super::{Arguments, Gpu, Kernel, check_one_dtype};
use crate::error::Result;

const FILE: &str = "rows";
/// Side of the tiles of a transposition.
const TRANSPOSE_TILE: usize = 32;

impl Gpu {
    /// x `[batch, positions, columns]` plus row `[batch, columns]` at every position.
    pub(crate) fn add_rows(
        &self,
        op: &'static str,
        positions: usize,
        columns: usize,
        [x, row]: [&Tensor; 2],
    ) -> Result<Tensor> {
        check_one_dtype(op, [x, row])?;
        let count = x.elem_count();
        let y = self.output(op, x.dtype(), count)?;
        let arguments = Arguments::default()
            .read(x)?
            .read(row)?
            .write(&y)?
            .ints([count, positions, columns]);
        self.each(Kernel::new(FILE, "add_rows"), x.dtype(), count, arguments)?;
        Ok(y.tensor(x.dims()))
    }

    /// Rows of a and of b side by side, `widths` wide.
    pub(crate) fn concat(
        &self,
        op: &'static str,
        [a, b]: [&Tensor; 2],
        widths: [usize; 2],
        dims: &[usize],
    ) -> Result<Tensor> {
        check_one_dtype(op, [a, b])?;
        let columns = widths[0] + widths[1];
        let rows = a.elem_count() / widths[0];
        let y = self.output(op, a.dtype(), rows * columns)?;
        for (part, width, to) in [(a, widths[0], 0), (b, widths[1], widths[0])] {
            let arguments = Arguments::default()
                .read(part)?
                .write(&y)?
                .ints([rows, width, width, 0, columns, to]);
            self.each(Kernel::new(FILE, "copy_columns"), part.dtype(), rows * width, arguments)?;
        }
        Ok(y.tensor(dims))
    }

    /// Columns `start..start + width` of rows of `columns`.
    pub(crate) fn split(
        &self,
        op: &'static str,
        columns: usize,
        start: usize,
        width: usize,
        x: &Tensor,
        dims: &[usize],
    ) -> Result<Tensor> {
        let rows = x.elem_count() / columns;
        let y = self.output(op, x.dtype(), rows * width)?;
        let arguments = Arguments::default()
            .read(x)?
            .write(&y)?
            .ints([rows, width, columns, start, width, 0]);
        self.each(Kernel::new(FILE, "copy_columns"), x.dtype(), rows * width, arguments)?;
        Ok(y.tensor(dims))
    }

    /// `[…, rows, columns]` to `[…, columns, rows]`.
    pub(crate) fn transpose_last(
        &self,
        op: &'static str,
        (rows, columns): (usize, usize),
        x: &Tensor,
        dims: &[usize],
    ) -> Result<Tensor> {
        let y = self.output(op, x.dtype(), x.elem_count())?;
        if x.elem_count() > 0 {
            let arguments = Arguments::default().read(x)?.write(&y)?.ints([rows, columns]);
            let grid = [
                columns.div_ceil(TRANSPOSE_TILE) * rows.div_ceil(TRANSPOSE_TILE),
                x.elem_count() / (rows * columns),
                1,
            ];
            self.launch(Kernel::new(FILE, "transpose"), x.dtype(), grid, arguments)?;
        }
        Ok(y.tensor(dims))
    }

    /// Images of h × w pixels enlarged to the nearest neighbours; from images of the one size to those of the other, or
    /// back (`backward`): the gradient.
    pub(crate) fn upsample(
        &self,
        op: &'static str,
        [(h, w), (to_h, to_w)]: [(usize, usize); 2],
        x: &Tensor,
        dims: &[usize],
        backward: bool,
    ) -> Result<Tensor> {
        let count: usize = dims.iter().product();
        let columns = dims[dims.len() - 1];
        let y = self.output(op, x.dtype(), count)?;
        let arguments = Arguments::default()
            .read(x)?
            .write(&y)?
            .ints([count, h, w, to_h, to_w, columns]);
        let name = if backward { "upsample_backward" } else { "upsample" };
        self.each(Kernel::new(FILE, name), x.dtype(), count, arguments)?;
        Ok(y.tensor(dims))
    }

    /// Rows `ids` of a table of rows of `columns`.
    pub(crate) fn gather_rows(&self, op: &'static str, columns: usize, table: &Tensor, ids: &[u32]) -> Result<Tensor> {
        let y = self.output(op, table.dtype(), ids.len() * columns)?;
        if !ids.is_empty() {
            let ids = Tensor::new(ids, &self.device())?;
            let rows = ids.elem_count();
            let arguments = Arguments::default()
                .read(table)?
                .read(&ids)?
                .write(&y)?
                .ints([rows, columns]);
            self.each(
                Kernel::new(FILE, "gather_rows"),
                table.dtype(),
                rows * columns,
                arguments,
            )?;
        }
        Ok(y.tensor(&[ids.len(), columns]))
    }

    /// The gradient of [`Gpu::gather_rows`] by a table of `rows`.
    pub(crate) fn scatter_rows(
        &self,
        op: &'static str,
        [rows, columns]: [usize; 2],
        grad: &Tensor,
        ids: &[u32],
    ) -> Result<Tensor> {
        let table = self.zeros(op, grad.dtype(), rows * columns)?;
        if !ids.is_empty() {
            let ids = Tensor::new(ids, &self.device())?;
            let arguments = Arguments::default()
                .read(grad)?
                .read(&ids)?
                .write(&table)?
                .ints([ids.elem_count(), columns]);
            self.each(Kernel::new(FILE, "scatter_rows"), grad.dtype(), columns, arguments)?;
        }
        Ok(table.tensor(&[rows, columns]))
    }
}
