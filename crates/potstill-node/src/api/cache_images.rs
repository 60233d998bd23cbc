//! Images on their way into a cache: digested once when a cache is planned, and again when they are read to be encoded,
//! for a picture that changed in between would be filed under the wrong key.

use std::path::Path;

use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use potstill_engine::{Tensor, Value};
use potstill_io::{ImageLimits, Pixels};
use potstill_models::view_planes;
use potstill_noise::View;
use sha2::{Digest, Sha256};

use crate::core::{Engine, OpError, Result, run_job};

/// Largest image file: a photograph of 100 megapixels in a lossless format has less.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// An image as planning knows it.
#[napi(object)]
pub struct InspectedImage {
    /// SHA-256 of the file, in hex.
    pub digest: String,
    /// Width of the size whose shape is nearest to the image's.
    pub width: u32,
    /// Height of it.
    pub height: u32,
    /// Offsets of the centre crop of that size, in the image scaled to cover it.
    pub left: u32,
    /// See `left`.
    pub top: u32,
}

/// Width and height in pixels.
#[napi(object)]
pub struct ImageSize {
    /// Of a row.
    pub width: u32,
    /// Of a column.
    pub height: u32,
}

/// Reads and decodes an image, takes the first of the sizes whose aspect ratio is nearest to its own (as ratios are
/// compared: by their logarithms), and finds the centre crop.
#[napi(ts_return_type = "Promise<Outcome<InspectedImage>>", catch_unwind)]
pub fn inspect_image(env: &Env, path: String, sizes: Vec<ImageSize>) -> napi::Result<Object<'_>> {
    run_job(env, "image", move || {
        let (digest, pixels) = open(&path)?;
        let aspect = |width: u32, height: u32| (f64::from(width) / f64::from(height)).ln();
        let own = aspect(pixels.width(), pixels.height());
        let distance = |size: &&ImageSize| (aspect(size.width, size.height) - own).abs();
        let nearest = sizes.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
        let &ImageSize { width, height } = nearest.ok_or_else(|| OpError::bug("no size to crop an image to"))?;
        let (left, top) = pixels.centre_offsets(width, height);
        Ok(InspectedImage {
            digest,
            width,
            height,
            left,
            top,
        })
    })
}

/// A view of an image file.
#[napi(object)]
pub struct ImageView {
    /// Where the file lies.
    pub path: String,
    /// SHA-256 of the file, in hex, as it was planned.
    pub digest: String,
    /// `WxH+left+top`, with `f` appended when flipped.
    pub view: String,
}

#[napi]
impl Engine {
    /// Views of images of one size as pixels in [−1, 1]: `[images, 3, height, width]`.
    #[napi(catch_unwind)]
    pub fn cache_pixels(&self, out: f64, images: Vec<ImageView>) {
        self.submit(out, "image", move |state| {
            let mut values = Vec::new();
            let mut size = None;
            for image in &images {
                let (width, height, planes) = planes(image)?;
                if *size.get_or_insert((width, height)) != (width, height) {
                    return Err(OpError::bug("views of different sizes in one batch"));
                }
                values.extend(planes);
            }
            let (width, height) = size.ok_or_else(|| OpError::bug("a batch of no images"))?;
            let shape = (images.len(), 3, height as usize, width as usize);
            Ok(Value::constant(Tensor::from_vec(values, shape, state.device()?)?))
        });
    }
}

fn planes(image: &ImageView) -> Result<(u32, u32, Vec<f32>)> {
    let (digest, pixels) = open(&image.path)?;
    if digest != image.digest {
        return Err(
            OpError::input("ERR_IMAGE_CHANGED", "changed while the cache was being built")
                .at(&image.path)
                .remedy("Run the command again: the image is then cached as it is now."),
        );
    }
    let view: View = image
        .view
        .parse()
        .map_err(|error| OpError::bug(format!("{error}")).at(&image.path))?;
    let planes = view_planes(&pixels, &view).map_err(|error| OpError::from(error).at(&image.path))?;
    Ok((view.width, view.height, planes))
}

/// One reading of the file serves the digest and the decoder.
fn open(path: &str) -> Result<(String, Pixels)> {
    let unreadable = |what: String| {
        OpError::input("ERR_IMAGE", what)
            .at(path)
            .remedy("Replace the image, or take it and its caption out of the folder.")
    };
    let size = std::fs::metadata(Path::new(path))
        .map_err(|error| unreadable(format!("cannot be read: {error}")))?
        .len();
    if size > MAX_FILE_BYTES {
        return Err(unreadable(format!(
            "has {size} bytes; at most {MAX_FILE_BYTES} are read"
        )));
    }
    let bytes = std::fs::read(path).map_err(|error| unreadable(format!("cannot be read: {error}")))?;
    let pixels = Pixels::decode(&bytes, ImageLimits::default()).map_err(|error| unreadable(error.to_string()))?;
    let digest = Sha256::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok((digest, pixels))
}
