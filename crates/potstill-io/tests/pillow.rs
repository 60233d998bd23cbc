//! Scaling, orientation and alpha against Pillow, to the bit (`fixtures/make_pillow.py`).
#![cfg(feature = "images")]

use potstill_io::{ImageLimits, Pixels};
use sha2::{Digest, Sha256};

const PICTURE: &[u8] = include_bytes!("fixtures/pillow.png");
const ORIENTED: &[u8] = include_bytes!("fixtures/oriented.webp");
const ALPHA: &[u8] = include_bytes!("fixtures/alpha.png");

#[test]
fn the_same_bytes_as_pillow() {
    let decode = |bytes| Pixels::decode(bytes, ImageLimits::default()).unwrap();
    for line in include_str!("fixtures/pillow.tsv").lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [kind, width, height, digest] = fields[..] else {
            panic!("{line}")
        };
        let (width, height) = (width.parse().unwrap(), height.parse().unwrap());
        let pixels = match kind {
            "resize" => decode(PICTURE).resize(width, height),
            "oriented" => decode(ORIENTED),
            "alpha" => decode(ALPHA),
            _ => panic!("{line}"),
        };
        assert_eq!((pixels.width(), pixels.height()), (width, height), "{line}");
        let got: String = Sha256::digest(pixels.rgb())
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(got, digest, "{line}");
    }
}
