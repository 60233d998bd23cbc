//! Group and layer normalisation. Weights are read in the type that sums are kept in.

use candle_core::{DType, Tensor};

use super::reduce::TILE_ROWS;
use super::{Arguments, Gpu, Kernel, check_one_dtype, in_dtype, wide};
use crate::cpu::NormShape;
use crate::error::Result;

const GROUP: &str = "group_norm";
const LAYER: &str = "layer_norm";

/// The gradients by the input, the scale and the shift; those that nobody needs are missing.
type Gradients = [Option<Tensor>; 3];

/// A group normalisation's inputs, as its kernels read them.
struct Group<'a> {
    shape: &'a NormShape,
    x: &'a Tensor,
    w: Tensor,
    b: Tensor,
    stats: &'a Tensor,
}

impl<'a> Group<'a> {
    fn new(shape: &'a NormShape, x: &'a Tensor, w: &Tensor, b: &Tensor, stats: &'a Tensor) -> Result<Self> {
        let wide = wide(x.dtype());
        let (w, b) = (in_dtype(w, wide)?, in_dtype(b, wide)?);
        Ok(Self { shape, x, w, b, stats })
    }

    fn arguments(&self) -> Result<Arguments> {
        let NormShape {
            batch,
            positions,
            channels,
            groups,
            silu,
            ..
        } = *self.shape;
        Ok(Arguments::default()
            .read(self.x)?
            .read(&self.w)?
            .read(&self.b)?
            .read(self.stats)?
            .ints([batch, positions, channels, groups, usize::from(silu)]))
    }
}

impl Gpu {
    /// The normalised x, and the groups' means and reciprocal deviations.
    pub(crate) fn group_norm(&self, shape: &NormShape, x: &Tensor, w: &Tensor, b: &Tensor) -> Result<(Tensor, Tensor)> {
        let NormShape {
            batch,
            positions,
            channels,
            groups,
            eps,
            ..
        } = *shape;
        let (dtype, count) = (x.dtype(), x.elem_count());
        let stats = self.output(GROUP, wide(dtype), batch * groups * 2)?;
        let arguments = Arguments::default()
            .read(x)?
            .write(&stats)?
            .ints([positions, channels, groups])
            .real(eps);
        self.launch(Kernel::new(GROUP, "group_stats"), dtype, [groups, batch, 1], arguments)?;
        let stats = stats.tensor(&[batch, groups, 2]);
        let group = Group::new(shape, x, w, b, &stats)?;
        let y = self.output(GROUP, dtype, count)?;
        let arguments = group.arguments()?.write(&y)?;
        self.each(Kernel::new(GROUP, "group_apply"), dtype, count, arguments)?;
        Ok((y.tensor(x.dims()), stats))
    }

    /// The gradients of [`Gpu::group_norm`], those by w and b in their own types.
    pub(crate) fn group_norm_backward(
        &self,
        shape: &NormShape,
        [x, w, b, stats, grad]: [&Tensor; 5],
        needs: [bool; 3],
    ) -> Result<Gradients> {
        let NormShape {
            batch,
            positions,
            channels,
            groups,
            ..
        } = *shape;
        let (dtype, count) = (check_one_dtype(GROUP, [x, grad])?, x.elem_count());
        let group = Group::new(shape, x, w, b, stats)?;
        let tiles = positions.div_ceil(TILE_ROWS);
        let sums = self.output(GROUP, DType::F64, batch * tiles * 2 * channels)?;
        let arguments = group.arguments()?.read(grad)?.write(&sums)?.int(TILE_ROWS);
        self.each(
            Kernel::new(GROUP, "group_sums"),
            dtype,
            batch * tiles * channels,
            arguments,
        )?;
        let sums = self.sum(
            [batch, tiles, 2 * channels],
            &sums.tensor(&[batch, tiles, 2 * channels]),
        )?;
        let mut gradients = self.scale_and_shift([batch, channels], &sums, [w, b], needs)?;
        if needs[0] {
            let means = self.output(GROUP, DType::F64, batch * groups * 2)?;
            let arguments = Arguments::default()
                .read(&group.w)?
                .read(&sums)?
                .write(&means)?
                .ints([batch, positions, channels, groups]);
            self.each(Kernel::new(GROUP, "group_means"), dtype, batch * groups, arguments)?;
            let means = means.tensor(&[batch, groups, 2]);
            let dx = self.output(GROUP, dtype, count)?;
            let arguments = group.arguments()?.read(grad)?.read(&means)?.write(&dx)?;
            self.each(Kernel::new(GROUP, "group_input"), dtype, count, arguments)?;
            gradients[0] = Some(dx.tensor(x.dims()));
        }
        Ok(gradients)
    }

    /// The normalised x, and the rows' means and reciprocal deviations.
    pub(crate) fn layer_norm(&self, channels: usize, eps: f64, [x, w, b]: [&Tensor; 3]) -> Result<(Tensor, Tensor)> {
        let dtype = x.dtype();
        let rows = x.elem_count() / channels;
        let (w, b) = (in_dtype(w, wide(dtype))?, in_dtype(b, wide(dtype))?);
        let y = self.output(LAYER, dtype, x.elem_count())?;
        let stats = self.output(LAYER, wide(dtype), rows * 2)?;
        let arguments = Arguments::default()
            .read(x)?
            .read(&w)?
            .read(&b)?
            .write(&y)?
            .write(&stats)?
            .int(channels)
            .real(eps);
        self.launch(Kernel::new(LAYER, "layer_forward"), dtype, [rows, 1, 1], arguments)?;
        Ok((y.tensor(x.dims()), stats.tensor(&[rows, 2])))
    }

    /// The gradients of [`Gpu::layer_norm`], those by w and b in their own types.
    pub(crate) fn layer_norm_backward(
        &self,
        channels: usize,
        [x, w, b, stats, grad]: [&Tensor; 5],
        needs: [bool; 3],
    ) -> Result<Gradients> {
        let dtype = check_one_dtype(LAYER, [x, grad])?;
        let rows = x.elem_count() / channels;
        let tiles = rows.div_ceil(TILE_ROWS);
        let mut gradients = [None, None, None];
        if needs[1] || needs[2] {
            let sums = self.output(LAYER, DType::F64, tiles * 2 * channels)?;
            let arguments = Arguments::default()
                .read(x)?
                .read(stats)?
                .read(grad)?
                .write(&sums)?
                .ints([rows, channels, TILE_ROWS]);
            self.each(Kernel::new(LAYER, "layer_sums"), dtype, tiles * channels, arguments)?;
            let sums = sums.tensor(&[tiles, 2 * channels]);
            gradients = self.scale_and_shift([tiles, channels], &sums, [w, b], needs)?;
        }
        if needs[0] {
            let w = in_dtype(w, wide(dtype))?;
            let dx = self.output(LAYER, dtype, x.elem_count())?;
            let arguments = Arguments::default()
                .read(x)?
                .read(&w)?
                .read(stats)?
                .read(grad)?
                .write(&dx)?
                .int(channels);
            self.launch(Kernel::new(LAYER, "layer_input"), dtype, [rows, 1, 1], arguments)?;
            gradients[0] = Some(dx.tensor(x.dims()));
        }
        Ok(gradients)
    }

    /// From sums `[count, 2, channels]`, first those of the shift and then those of the scale, the gradients by both.
    fn scale_and_shift(
        &self,
        [count, channels]: [usize; 2],
        sums: &Tensor,
        [w, b]: [&Tensor; 2],
        needs: [bool; 3],
    ) -> Result<Gradients> {
        if !needs[1] && !needs[2] {
            return Ok([None, None, None]);
        }
        let sums = self.sum([1, count, 2 * channels], sums)?.reshape((2, channels))?;
        let part = |needed: bool, row: usize, like: &Tensor| -> Result<Option<Tensor>> {
            needed.then(|| Ok(sums.get(row)?.to_dtype(like.dtype())?)).transpose()
        };
        Ok([None, part(needs[1], 1, w)?, part(needs[2], 0, b)?])
    }
}
