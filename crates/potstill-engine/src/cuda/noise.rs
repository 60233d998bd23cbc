//! Noise, to the bit that of potstill-noise.

use candle_core::{DType, Tensor};

use super::{Arguments, Gpu, Kernel};
use crate::error::Result;

const FILE: &str = "noise";
const OP: &str = "noise";
/// Normals of a block of the Philox generator.
const WORDS: usize = 4;
/// Normals that torch makes together.
const GROUP: usize = 16;

impl Gpu {
    /// The normals of a seed's stream.
    pub(crate) fn philox(&self, seed: u64, stream: u32, dims: &[usize]) -> Result<Tensor> {
        let count = dims.iter().product();
        let y = self.output(OP, DType::F32, count)?;
        let arguments = Arguments::default()
            .write(&y)?
            .int(count)
            .word(seed)
            .word(u64::from(stream))
            .word(0);
        self.each(
            Kernel::new(FILE, "philox"),
            DType::F32,
            count.div_ceil(WORDS),
            arguments,
        )?;
        Ok(y.tensor(dims))
    }

    /// torch's normals of a seed; 16 or more.
    pub(crate) fn torch_normals(&self, seed: u64, dims: &[usize]) -> Result<Tensor> {
        let count: usize = dims.iter().product();
        debug_assert!(count >= GROUP);
        let draws = count + if count.is_multiple_of(GROUP) { 0 } else { GROUP };
        let uniforms = self.output(OP, DType::F32, draws)?;
        let arguments = Arguments::default().write(&uniforms)?.int(draws).word(seed);
        self.launch(Kernel::new(FILE, "torch_uniforms"), DType::F32, [1, 1, 1], arguments)?;
        let uniforms = uniforms.tensor(&[draws]);
        let y = self.output(OP, DType::F32, count)?;
        let arguments = Arguments::default().read(&uniforms)?.write(&y)?.int(count);
        let threads = count.div_ceil(GROUP) * (GROUP / 2);
        self.each(Kernel::new(FILE, "torch_normals"), DType::F32, threads, arguments)?;
        Ok(y.tensor(dims))
    }
}
