//! Bytes verified per second: `cargo bench -p potstill-cache`. The files are in the page cache.

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Instant;

use potstill_cache::{FolderSource, Level, PredictionKind, VerifyOptions, verify};

/// Images of 512²: 32 KB of latents and as much of each prediction in f16, 8 predictions by each of two teachers.
const IMAGES: usize = 192;
const SIDE: u32 = 64;
const REPEATS: u32 = 5;

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    common::build_cache_of(
        folder.path(),
        PredictionKind::Epsilon,
        common::latents_plan_of(IMAGES, SIDE),
    );
    let source = FolderSource::new(folder.path());
    for (name, level) in [
        ("structure", Level::Structure),
        ("structure and determinism", Level::Determinism),
    ] {
        let mut best = f64::INFINITY;
        let mut bytes = 0;
        for _ in 0..REPEATS {
            let start = Instant::now();
            let report = verify(
                &source,
                &VerifyOptions {
                    level,
                    progress: None,
                    images: None,
                },
            )
            .expect("a cache");
            best = best.min(start.elapsed().as_secs_f64());
            assert!(report.findings.is_empty());
            bytes = report.components.iter().map(|c| c.bytes).sum();
        }
        println!(
            "{name}: {:.2} GB/s ({:.0} MB in {:.3} s)",
            bytes as f64 / best / 1e9,
            bytes as f64 / 1e6,
            best
        );
    }
}
