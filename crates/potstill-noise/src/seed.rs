//! Seeds of draws, and the views that they are drawn for.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// Largest width, height or offset of a view, in pixels: far beyond any model's resolution, small enough that areas never
/// overflow.
const MAX_EXTENT: u32 = 1 << 20;

/// What part of an image a sample shows: after scaling to cover `width` × `height`, the crop at (`left`, `top`), mirrored
/// when `flipped`. Written `WxH+left+top`, with `f` appended when flipped: `512x512+0+37f`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct View {
    /// Width of the crop in pixels.
    pub width: u32,
    /// Height of the crop in pixels.
    pub height: u32,
    /// Pixels cut off on the left of the scaled image.
    pub left: u32,
    /// Pixels cut off at the top of the scaled image.
    pub top: u32,
    /// Mirrored left to right, after cropping.
    pub flipped: bool,
}

/// A text that is no view.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a view; a view is WxH+left+top in pixels, with f appended when flipped, such as 512x512+0+37f")]
pub struct ViewError(pub String);

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            width,
            height,
            left,
            top,
            flipped,
        } = self;
        write!(f, "{width}x{height}+{left}+{top}{}", if *flipped { "f" } else { "" })
    }
}

impl FromStr for View {
    type Err = ViewError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (body, flipped) = text.strip_suffix('f').map_or((text, false), |body| (body, true));
            let (width, rest) = body.split_once('x')?;
            let (height, rest) = rest.split_once('+')?;
            let (left, top) = rest.split_once('+')?;
            let number = |part: &str| part.parse::<u32>().ok().filter(|&n| n <= MAX_EXTENT);
            let view = Self {
                width: number(width)?,
                height: number(height)?,
                left: number(left)?,
                top: number(top)?,
                flipped,
            };
            // One view has one spelling: signs and leading zeros would give a second key for the same sample.
            (view.width > 0 && view.height > 0 && view.to_string() == text).then_some(view)
        };
        parse().ok_or_else(|| ViewError(text.to_owned()))
    }
}

/// The seed of a draw: the first 8 bytes, big-endian, of SHA-256 of `imageDigest|view|draw|baseSeed`.
///
/// `image_digest` is the image file's SHA-256 in lower-case hex; `draw` and `base_seed` are written as decimal integers.
#[must_use]
pub fn draw_seed(image_digest: &str, view: &View, draw: u32, base_seed: u64) -> u64 {
    let digest = Sha256::digest(format!("{image_digest}|{view}|{draw}|{base_seed}").as_bytes());
    digest.iter().take(8).fold(0, |seed, &byte| seed << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_round_trip() {
        for text in ["512x512+0+37", "64x96+1+0f"] {
            assert_eq!(text.parse::<View>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in [
            "",
            "512",
            "512x512",
            "512x512+0",
            "0512x512+0+0",
            "512x512+0+0F",
            "512x512+-1+0",
            "0x8+0+0",
            "+8x8+0+0",
            "9999999x8+0+0",
            "8x8+0+0ff",
        ] {
            assert_eq!(text.parse::<View>(), Err(ViewError(text.to_owned())));
        }
    }

    #[test]
    fn seeds_follow_the_written_rule() {
        // printf '%s' 'e3b0…b855|512x512+0+37f|3|42' | sha256sum
        let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let view = "512x512+0+37f".parse().unwrap();
        assert_eq!(draw_seed(digest, &view, 3, 42), SEED_VECTOR);
        assert_ne!(draw_seed(digest, &view, 2, 42), SEED_VECTOR);
    }

    const SEED_VECTOR: u64 = 0x3af7_9509_f723_f97f;
}
