//! Prints the report of a cache: `cargo run --release -p potstill-cache --example verify -- FOLDER`.

use std::io::Write;
use std::path::Path;

use potstill_cache::{FolderSource, Level, VerifyOptions, verify};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: verify FOLDER")?;
    let options = VerifyOptions {
        level: Level::Determinism,
        progress: None,
        images: None,
    };
    let report = verify(&FolderSource::new(Path::new(&folder)), &options)?;
    std::io::stdout().write_all(&report.to_json()?)?;
    Ok(())
}
