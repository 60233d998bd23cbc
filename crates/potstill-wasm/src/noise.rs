//! The noise generators, so that anyone can compare them.

use potstill_noise::{PhiloxNormals, Stream, TimestepRange};
use wasm_bindgen::prelude::*;

/// Most values at once: 1 GiB of f32, which a 32-bit memory can still hold.
const MAX_VALUES: usize = 1 << 28;

fn buffer(length: usize) -> Result<Vec<f32>, JsError> {
    if length > MAX_VALUES {
        return Err(JsError::new(&format!(
            "length: {length} values are too many at once; draw at most {MAX_VALUES}"
        )));
    }
    Ok(vec![0.0; length])
}

/// torch's CPU generator, to the bit of its AVX2 class.
#[wasm_bindgen]
pub struct TorchGenerator(potstill_noise::TorchGenerator);

#[wasm_bindgen]
impl TorchGenerator {
    /// `torch.Generator().manual_seed(seed)`.
    #[wasm_bindgen(constructor)]
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(potstill_noise::TorchGenerator::new(seed))
    }

    /// `torch.randn(length)` in f32.
    ///
    /// # Errors
    /// More values than a 32-bit memory holds.
    pub fn randn(&mut self, length: usize) -> Result<Vec<f32>, JsError> {
        let mut out = buffer(length)?;
        self.0.randn(&mut out);
        Ok(out)
    }

    /// `torch.rand(length)` in f32.
    ///
    /// # Errors
    /// More values than a 32-bit memory holds.
    pub fn rand(&mut self, length: usize) -> Result<Vec<f32>, JsError> {
        let mut out = buffer(length)?;
        self.0.rand(&mut out);
        Ok(out)
    }
}

/// The first normals of a seed's stream 0 (noise), 1 (timestep) or 2 (VAE sample).
///
/// # Errors
/// Another stream, or more values than a 32-bit memory holds.
#[wasm_bindgen(js_name = philoxNormals)]
pub fn philox_normals(seed: u64, stream: u32, length: usize) -> Result<Vec<f32>, JsError> {
    let stream = match stream {
        0 => Stream::Noise,
        1 => Stream::Timestep,
        2 => Stream::VaeSample,
        _ => {
            return Err(JsError::new(&format!(
                "stream: there is no stream {stream}; use 0, 1 or 2"
            )));
        }
    };
    let mut out = buffer(length)?;
    PhiloxNormals::new(seed, stream).fill(&mut out);
    Ok(out)
}

/// The seed of a draw of a view (`WxH+left+top`, `f` appended when flipped) of an image (SHA-256 of its file in hex).
///
/// # Errors
/// A text that is no view.
#[wasm_bindgen(js_name = drawSeed)]
pub fn draw_seed(image: &str, view: &str, draw: u32, base_seed: u64) -> Result<u64, JsError> {
    Ok(potstill_noise::draw_seed(image, &view.parse()?, draw, base_seed))
}

/// The timestep in [min, max) of draw k of K.
///
/// # Errors
/// An empty range, or a draw beyond K.
#[wasm_bindgen(js_name = stratifiedTimestep)]
pub fn stratified_timestep(seed: u64, draw: u32, draws: u32, min: u32, max: u32) -> Result<u32, JsError> {
    Ok(potstill_noise::stratified_timestep(
        seed,
        draw,
        draws,
        TimestepRange::new(min, max)?,
    )?)
}
