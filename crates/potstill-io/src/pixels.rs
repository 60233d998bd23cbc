//! Pictures to pixels: decoding within limits, orientation, alpha, cover and crop.

use std::io::Cursor;
use std::path::Path;

use image::codecs::png::PngEncoder;
use image::{DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageReader, Limits};

use crate::resize::resize_lanczos;

/// What a picture may ask of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageLimits {
    /// Longest side in pixels.
    pub side: u32,
    /// Bytes that decoding may allocate.
    pub bytes: u64,
}

impl Default for ImageLimits {
    /// 32,768 pixels a side and 1 GiB: above any photograph, below what would exhaust a small machine.
    fn default() -> Self {
        Self {
            side: 1 << 15,
            bytes: 1 << 30,
        }
    }
}

/// Why a picture could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No supported format, damaged, or beyond the limits.
    #[error("{place}: {reason}; PNG, JPEG and WebP pictures can be read")]
    Decode {
        /// The file, or "picture" when read from memory.
        place: String,
        /// What the decoder said.
        reason: String,
    },
    /// A crop outside of the picture.
    #[error(
        "a crop of {width}x{height} at ({left}, {top}) does not lie within a picture of {within_width}x{within_height}"
    )]
    Crop {
        /// Width of the crop.
        width: u32,
        /// Height of the crop.
        height: u32,
        /// Its left edge.
        left: u32,
        /// Its top edge.
        top: u32,
        /// Width of the picture.
        within_width: u32,
        /// Height of the picture.
        within_height: u32,
    },
    /// Values that are not three planes of the size.
    #[error("{values} values are no RGB picture of {width}x{height}")]
    Size {
        /// Number of values given.
        values: usize,
        /// Width expected.
        width: u32,
        /// Height expected.
        height: u32,
    },
}

/// An RGB picture of 8 bits per channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    width: u32,
    height: u32,
    /// Interleaved, row by row from the top.
    rgb: Vec<u8>,
}

impl Pixels {
    /// Decodes PNG, JPEG or WebP: EXIF orientation applied, alpha laid over white, 16 bits rounded to 8, grey spread.
    /// Colour profiles are ignored, as training data loaders do.
    ///
    /// # Errors
    /// [`ImageError::Decode`].
    pub fn decode(bytes: &[u8], limits: ImageLimits) -> Result<Self, ImageError> {
        Self::decode_named(bytes, limits, "picture")
    }

    /// Decodes the bytes of `path`, which errors then name.
    ///
    /// # Errors
    /// [`ImageError::Decode`], also when the file cannot be read.
    pub fn open(path: &Path, limits: ImageLimits) -> Result<Self, ImageError> {
        let place = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|error| ImageError::Decode {
            place: place.clone(),
            reason: error.to_string(),
        })?;
        Self::decode_named(&bytes, limits, &place)
    }

    fn decode_named(bytes: &[u8], limits: ImageLimits, place: &str) -> Result<Self, ImageError> {
        let failed = |reason: String| ImageError::Decode {
            place: place.to_owned(),
            reason,
        };
        let decode = || -> Result<DynamicImage, image::ImageError> {
            let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
            let mut bounds = Limits::default();
            bounds.max_image_width = Some(limits.side);
            bounds.max_image_height = Some(limits.side);
            bounds.max_alloc = Some(limits.bytes);
            reader.limits(bounds);
            let mut decoder = reader.into_decoder()?;
            let orientation = decoder.orientation()?;
            let mut picture = DynamicImage::from_decoder(decoder)?;
            picture.apply_orientation(orientation);
            Ok(picture)
        };
        let picture = decode().map_err(|error| failed(error.to_string()))?;
        let (width, height) = (picture.width(), picture.height());
        if width == 0 || height == 0 {
            return Err(failed("it has no pixels".to_owned()));
        }
        let rgb = if picture.color().has_alpha() {
            over_white(&picture.into_rgba8())
        } else {
            picture.into_rgb8().into_raw()
        };
        Ok(Self { width, height, rgb })
    }

    /// From interleaved RGB.
    ///
    /// # Errors
    /// [`ImageError::Size`].
    pub fn from_rgb(width: u32, height: u32, rgb: Vec<u8>) -> Result<Self, ImageError> {
        if width == 0 || height == 0 || rgb.len() as u64 != u64::from(width) * u64::from(height) * 3 {
            return Err(ImageError::Size {
                values: rgb.len(),
                width,
                height,
            });
        }
        Ok(Self { width, height, rgb })
    }

    /// From three planes (R, G, B) of values in [−1, 1], as a VAE decodes them: clamped and rounded.
    ///
    /// # Errors
    /// [`ImageError::Size`].
    pub fn from_chw(width: u32, height: u32, planes: &[f32]) -> Result<Self, ImageError> {
        let area = width as usize * height as usize;
        if area == 0 || planes.len() != area * 3 {
            return Err(ImageError::Size {
                values: planes.len(),
                width,
                height,
            });
        }
        let byte = |v: f32| ((v / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8;
        let rgb = (0..area)
            .flat_map(|i| [planes[i], planes[area + i], planes[2 * area + i]].map(byte))
            .collect();
        Ok(Self { width, height, rgb })
    }

    /// Width in pixels.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Interleaved RGB.
    #[must_use]
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// Three planes (R, G, B) of `x/127.5 − 1`, as diffusion models read them.
    #[must_use]
    pub fn to_chw(&self) -> Vec<f32> {
        (0..3)
            .flat_map(|c| self.rgb[c..].iter().step_by(3).map(|&v| f32::from(v) / 127.5 - 1.0))
            .collect()
    }

    /// The size to which a picture is scaled to cover `width` × `height`: one side fits, the other is rounded to nearest
    /// and at least as long.
    #[must_use]
    pub fn cover_size(&self, width: u32, height: u32) -> (u32, u32) {
        let (w, h) = (u64::from(self.width), u64::from(self.height));
        let (target_w, target_h) = (u64::from(width), u64::from(height));
        let round = |n: u64, d: u64| u32::try_from((2 * n + d) / (2 * d)).unwrap_or(u32::MAX);
        if w * target_h >= h * target_w {
            (round(w * target_h, h).max(width), height)
        } else {
            (width, round(h * target_w, w).max(height))
        }
    }

    /// The offsets (left, top) of the centre crop of `width` × `height` from the picture scaled to cover it.
    #[must_use]
    pub fn centre_offsets(&self, width: u32, height: u32) -> (u32, u32) {
        let (w, h) = self.cover_size(width, height);
        ((w - width) / 2, (h - height) / 2)
    }

    /// Scales to cover `width` × `height` (Pillow's Lanczos) and crops at (`left`, `top`).
    ///
    /// # Errors
    /// [`ImageError::Crop`] when the crop leaves the scaled picture.
    pub fn cover_crop(&self, (width, height): (u32, u32), (left, top): (u32, u32)) -> Result<Self, ImageError> {
        let (w, h) = self.cover_size(width, height);
        let outside = || ImageError::Crop {
            width,
            height,
            left,
            top,
            within_width: w,
            within_height: h,
        };
        // Checked before scaling: a crop that cannot be must not cost the memory of the scaled picture.
        if width == 0 || height == 0 || left > w - width || top > h - height {
            return Err(outside());
        }
        self.resize(w, h).crop((width, height), (left, top)).ok_or_else(outside)
    }

    /// Scales as Pillow's `resize(…, LANCZOS)`.
    #[must_use]
    pub fn resize(&self, width: u32, height: u32) -> Self {
        let source = (self.width as usize, self.height as usize);
        Self {
            width,
            height,
            rgb: resize_lanczos(&self.rgb, source, (width as usize, height as usize)),
        }
    }

    fn crop(&self, (width, height): (u32, u32), (left, top): (u32, u32)) -> Option<Self> {
        let stride = self.width as usize * 3;
        let (start, end) = (left as usize * 3, (left as usize + width as usize) * 3);
        let rows = self.rgb.chunks_exact(stride).skip(top as usize).take(height as usize);
        let rgb: Option<Vec<&[u8]>> = rows.map(|row| row.get(start..end)).collect();
        Some(Self {
            width,
            height,
            rgb: rgb?.concat(),
        })
    }

    /// Mirrored left to right.
    #[must_use]
    pub fn flipped(&self) -> Self {
        let row = |row: &[u8]| {
            row.as_chunks::<3>()
                .0
                .iter()
                .rev()
                .flatten()
                .copied()
                .collect::<Vec<u8>>()
        };
        Self {
            rgb: self.rgb.chunks_exact(self.width as usize * 3).flat_map(row).collect(),
            ..*self
        }
    }

    /// Encodes as PNG.
    ///
    /// # Errors
    /// [`ImageError::Decode`] when the encoder fails, which memory alone can cause.
    pub fn to_png(&self) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes)
            .write_image(&self.rgb, self.width, self.height, ExtendedColorType::Rgb8)
            .map_err(|error| ImageError::Decode {
                place: "PNG encoder".to_owned(),
                reason: error.to_string(),
            })?;
        Ok(bytes)
    }
}

/// Lays RGBA over white, rounded to nearest.
fn over_white(rgba: &[u8]) -> Vec<u8> {
    let blend = |value: u8, alpha: u32| ((u32::from(value) * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
    rgba.as_chunks::<4>()
        .0
        .iter()
        .flat_map(|&[r, g, b, a]| [r, g, b].map(|v| blend(v, u32::from(a))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient(width: u32, height: u32) -> Pixels {
        let rgb = (0..width * height)
            .flat_map(|i| [(i % width) as u8, (i / width) as u8, 7])
            .collect();
        Pixels::from_rgb(width, height, rgb).unwrap()
    }

    #[test]
    fn png_round_trip_and_planes() {
        let picture = gradient(5, 3);
        let back = Pixels::decode(&picture.to_png().unwrap(), ImageLimits::default()).unwrap();
        assert_eq!(back, picture);
        let planes = back.to_chw();
        assert_eq!(planes[1], 1.0 / 127.5 - 1.0);
        assert_eq!(planes[2 * 15], 7.0 / 127.5 - 1.0);
        assert_eq!(Pixels::from_chw(5, 3, &planes).unwrap(), picture);
    }

    #[test]
    fn cover_is_exact_on_one_side() {
        assert_eq!(gradient(100, 50).cover_size(64, 64), (128, 64));
        assert_eq!(gradient(50, 100).cover_size(64, 64), (64, 128));
        assert_eq!(gradient(64, 64).cover_size(64, 64), (64, 64));
        assert_eq!(gradient(101, 67).cover_size(8, 8), (12, 8));
        assert_eq!(gradient(101, 67).centre_offsets(8, 8), (2, 0));
        assert_eq!(gradient(1, 200).cover_size(64, 8), (64, 12_800));
    }

    #[test]
    fn crops_and_mirrors() {
        let picture = gradient(8, 4).cover_crop((4, 4), (2, 0)).unwrap();
        assert_eq!(&picture.rgb()[..6], [2, 0, 7, 3, 0, 7]);
        assert_eq!(&picture.flipped().rgb()[..6], [5, 0, 7, 4, 0, 7]);
        assert!(matches!(
            gradient(8, 4).cover_crop((4, 4), (5, 0)),
            Err(ImageError::Crop { left: 5, .. })
        ));
        assert!(gradient(8, 4).cover_crop((4, 4), (0, u32::MAX)).is_err());
        assert!(gradient(8, 4).cover_crop((0, 4), (0, 0)).is_err());
    }

    #[test]
    fn alpha_is_laid_over_white() {
        assert_eq!(
            over_white(&[10, 20, 30, 0, 10, 20, 30, 255, 0, 0, 0, 128]),
            [255, 255, 255, 10, 20, 30, 127, 127, 127]
        );
    }

    #[test]
    fn what_is_no_picture_or_too_large_is_refused() {
        assert!(Pixels::decode(b"no picture at all", ImageLimits::default()).is_err());
        let png = gradient(64, 64).to_png().unwrap();
        assert!(Pixels::decode(&png[..png.len() / 2], ImageLimits::default()).is_err());
        assert!(
            Pixels::decode(
                &png,
                ImageLimits {
                    side: 63,
                    bytes: 1 << 30
                }
            )
            .is_err()
        );
        let error = Pixels::open(Path::new("/nowhere.png"), ImageLimits::default()).unwrap_err();
        assert!(error.to_string().contains("/nowhere.png"));
    }
}
