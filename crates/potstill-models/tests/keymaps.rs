//! Names and shapes of the full-size models are those of the published checkpoints.

mod common;

use common::fixture;
use potstill_models::{TextConfig, TextEncoder, Unet, UnetConfig, Vae, VaeConfig};

/// Lines of name, tab, sizes joined by `x`; sorted by name.
fn keymap(name: &str) -> Vec<(String, Vec<usize>)> {
    let text = std::fs::read_to_string(fixture("keymaps").join(name)).expect("a key map");
    text.lines()
        .map(|line| {
            let (name, shape) = line.split_once('\t').expect("two columns");
            (
                name.to_string(),
                shape.split('x').map(|n| n.parse().expect("a size")).collect(),
            )
        })
        .collect()
}

fn check(name: &str, mut shapes: Vec<(String, Vec<usize>)>, count: usize) {
    shapes.sort();
    assert_eq!(shapes, keymap(name), "{name}");
    assert_eq!(
        shapes
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum::<usize>(),
        count,
        "{name}"
    );
}

#[test]
fn unets() {
    check("unet_sd15.tsv", Unet::shapes(&UnetConfig::sd15()).unwrap(), 859_520_964);
    check(
        "unet_sdxl.tsv",
        Unet::shapes(&UnetConfig::sdxl()).unwrap(),
        2_567_463_684,
    );
}

#[test]
fn vaes() {
    check("vae.tsv", Vae::shapes(&VaeConfig::sd(0.18215)).unwrap(), 83_653_863);
}

#[test]
fn text_encoders() {
    check(
        "clip_l.tsv",
        TextEncoder::shapes(&TextConfig::clip_l()).unwrap(),
        123_060_480,
    );
    check(
        "clip_g.tsv",
        TextEncoder::shapes(&TextConfig::clip_g()).unwrap(),
        694_659_840,
    );
}
