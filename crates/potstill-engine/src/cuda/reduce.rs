//! Sums, in f64 and in an order that depends on the sizes alone.

use candle_core::{DType, Tensor};

use super::{Arguments, Gpu, Kernel};
use crate::error::Result;

const FILE: &str = "reduce";
const OP: &str = "sum";
/// Values that one block adds up.
const TILE: usize = 8192;
/// Rows that one thread adds up, and rows of a tile of the normalisations' sums.
pub(super) const TILE_ROWS: usize = 64;

impl Gpu {
    /// The sums of x `[outer, length, inner]` over `length`, `[outer, inner]` in f64.
    pub(crate) fn sum(&self, [outer, length, inner]: [usize; 3], x: &Tensor) -> Result<Tensor> {
        self.sums([outer, length, inner], x, false)
    }

    /// The sums of x over dimensions, which stay with size one, in x's type.
    pub(crate) fn sum_keepdim(&self, x: &Tensor, dims: &[usize]) -> Result<Tensor> {
        let mut left = dims.to_vec();
        left.sort_unstable();
        let (mut shape, mut total) = (x.dims().to_vec(), x.clone());
        while let Some(last) = left.pop() {
            // Neighbouring dimensions are added up as one.
            let mut first = last;
            while left.last().is_some_and(|&d| d + 1 == first) {
                first -= 1;
                left.pop();
            }
            let size = |range: std::ops::Range<usize>| shape[range].iter().product::<usize>();
            let sizes = [size(0..first), size(first..last + 1), size(last + 1..shape.len())];
            total = self.sum(sizes, &total)?;
            shape[first..=last].fill(1);
        }
        Ok(total.reshape(shape)?.to_dtype(x.dtype())?)
    }

    /// The sum of all squares, one f64.
    pub(crate) fn sum_of_squares(&self, x: &Tensor) -> Result<Tensor> {
        self.sums([1, x.elem_count(), 1], &x.contiguous()?, true)?
            .reshape(())
            .map_err(Into::into)
    }

    fn sums(&self, [outer, mut length, inner]: [usize; 3], x: &Tensor, squares: bool) -> Result<Tensor> {
        if outer * length * inner == 0 {
            return Ok(Tensor::zeros((outer, inner), DType::F64, &self.device())?);
        }
        let mut x = x.contiguous()?;
        let mut squares = squares;
        loop {
            // A block for each sum of few values would be idle but for as many threads.
            let blocks = inner == 1 && (squares || length > TILE_ROWS);
            let tile = if blocks { TILE } else { TILE_ROWS };
            let tiles = length.div_ceil(tile);
            let y = self.output(OP, DType::F64, outer * tiles * inner)?;
            let arguments = Arguments::default().read(&x)?.write(&y)?;
            if blocks {
                let arguments = arguments.ints([length, tile, usize::from(squares)]);
                self.launch(
                    Kernel::new(FILE, "sum_tiles"),
                    x.dtype(),
                    [outer * tiles, 1, 1],
                    arguments,
                )?;
            } else {
                debug_assert!(!squares, "squares are added up over all dimensions only");
                let count = outer * tiles * inner;
                let arguments = arguments.ints([count, length, inner, tile]);
                self.each(Kernel::new(FILE, "sum_columns"), x.dtype(), count, arguments)?;
            }
            x = y.tensor(&[outer, tiles, inner]);
            (length, squares) = (tiles, false);
            if length == 1 {
                return Ok(x.reshape((outer, inner))?);
            }
        }
    }
}
