//! Writes the synthetic cache of the tests: `cargo run --release -p potstill-cache --example synthetic -- FOLDER [v]`.

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::Path;

use potstill_cache::PredictionKind;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, kind) = match &arguments[..] {
        [folder] => (folder, PredictionKind::Epsilon),
        [folder, kind] if kind == "v" => (folder, PredictionKind::V),
        _ => {
            eprintln!("usage: synthetic FOLDER [v]");
            std::process::exit(2);
        }
    };
    common::build_cache(Path::new(folder), kind);
}
