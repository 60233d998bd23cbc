//! How files of the layout are called, and the seeds that its images have.

use std::fmt;
use std::str::FromStr;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::digest::hex_digits;

/// Largest side of a picture that is read, in pixels: beyond any model's, and small enough to hold a file in memory.
pub(crate) const MAX_SIDE: u32 = 8192;
/// Pixels for each value of a latent.
pub(crate) const DOWNSCALE: u32 = 8;
const ENDING: &str = ".safetensors";

/// A file's name without its ending: `{sha1}_{W}x{H}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FilesName {
    /// SHA-1 of `image_id|WxH|version`.
    pub sha1: [u8; 20],
    /// Width of the picture in pixels.
    pub width: u32,
    /// Height of the picture in pixels.
    pub height: u32,
}

/// A text that names no file of the layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not {{sha1}}_{{W}}x{{H}}: 40 lower-case hexadecimal digits, then sides in pixels, multiples of 8 up to 8192"
)]
pub struct FilesNameError(pub String);

impl FilesName {
    /// The name of an image (its path relative to the folder of images, without ending) at a size.
    ///
    /// `version` is a free text, `"1"` unless the maker chose another.
    #[must_use]
    pub fn of(image_id: &str, width: u32, height: u32, version: &str) -> Self {
        let sha1 = Sha1::digest(format!("{image_id}|{width}x{height}|{version}").as_bytes()).into();
        Self { sha1, width, height }
    }

    /// The name of the file.
    #[must_use]
    pub fn file(&self) -> String {
        format!("{self}{ENDING}")
    }

    /// The name that a file has.
    #[must_use]
    pub(crate) fn of_file(file: &str) -> Option<Self> {
        file.strip_suffix(ENDING)?.parse().ok()
    }

    /// Shape of prediction and noise.
    #[must_use]
    pub(crate) fn latent(&self) -> [usize; 3] {
        let side = |pixels: u32| (pixels / DOWNSCALE) as usize;
        [CHANNELS, side(self.height), side(self.width)]
    }
}

/// Channels of a Stable Diffusion latent.
const CHANNELS: usize = 4;

impl fmt::Display for FilesName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut hex = [0; 40];
        for (pair, byte) in hex.as_chunks_mut::<2>().0.iter_mut().zip(self.sha1) {
            *pair = hex_digits(byte);
        }
        // Cannot fail: hex digits are ASCII.
        f.write_str(std::str::from_utf8(&hex).unwrap_or_default())?;
        write!(f, "_{}x{}", self.width, self.height)
    }
}

impl FromStr for FilesName {
    type Err = FilesNameError;

    fn from_str(text: &str) -> Result<Self, FilesNameError> {
        let parse = || {
            let (hex, size) = text.split_once('_')?;
            let (width, height) = size.split_once('x')?;
            let side = |part: &str| {
                let side: u32 = part.parse().ok()?;
                ((1..=MAX_SIDE).contains(&side) && side.is_multiple_of(DOWNSCALE)).then_some(side)
            };
            let mut sha1 = [0; 20];
            for (byte, pair) in sha1.iter_mut().zip(hex.as_bytes().chunks(2)) {
                *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
            }
            let name = Self {
                sha1,
                width: side(width)?,
                height: side(height)?,
            };
            // One name has one spelling.
            (name.to_string() == text).then_some(name)
        };
        parse().ok_or_else(|| FilesNameError(text.to_owned()))
    }
}

/// The seed of an image, the same for every teacher: the first 4 bytes, big-endian, of the SHA-256 of `image_id|base_seed`.
#[must_use]
pub fn files_seed(image_id: &str, base_seed: i64) -> u64 {
    first_word(&format!("{image_id}|{base_seed}"))
}

/// The seed that an older builder gave an image, which differs between teachers: of `image_id|teacher_id|base_seed`.
#[must_use]
pub(crate) fn teacher_seed(image_id: &str, teacher_id: &str, base_seed: i64) -> u64 {
    first_word(&format!("{image_id}|{teacher_id}|{base_seed}"))
}

fn first_word(text: &str) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(4).fold(0, |seed, &byte| seed << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_seeds_follow_the_written_rule() {
        // printf '%s' 'cats/one|512x768|1' | sha1sum; printf '%s' 'cats/one|42' | sha256sum; … 'cats/one|teacher_v8|42'
        let name = FilesName::of("cats/one", 512, 768, "1");
        assert_eq!(
            name.file(),
            "586c73e804c969f7f06c0f402b03904e4448473b_512x768.safetensors"
        );
        assert_eq!(FilesName::of_file(&name.file()), Some(name));
        assert_eq!(name.latent(), [4, 96, 64]);
        assert_eq!(files_seed("cats/one", 42), 0x56c8_c6c7);
        assert_eq!(teacher_seed("cats/one", "teacher_v8", 42), 0xee8a_ae86);
    }

    #[test]
    fn other_spellings_are_no_names() {
        let hex = "0123456789abcdef0123456789abcdef01234567";
        assert!(format!("{hex}_64x64").parse::<FilesName>().is_ok());
        for text in [
            "",
            hex,
            &format!("{hex}_64"),
            &format!("{}_64x64", hex.to_uppercase()),
            &format!("{}_64x64", &hex[2..]),
            &format!("{hex}00_64x64"),
            &format!("{hex}_064x64"),
            &format!("{hex}_+64x64"),
            &format!("{hex}_60x64"),
            &format!("{hex}_0x64"),
            &format!("{hex}_8200x64"),
            &format!("{hex}_64x64x64"),
            &format!("{hex}_99999999999999999999x64"),
            "é_64x64",
        ] {
            assert_eq!(text.parse::<FilesName>(), Err(FilesNameError(text.to_owned())));
        }
    }
}
