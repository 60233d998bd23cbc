//! Gives mutated plans, seals, shards and files of the files layout to every reader until time is up, on a stable toolchain:
//!
//!     cargo run --release -p potstill-cache --example fuzz_readers -- SECONDS [SEED]
//!
//! An input on which a reader panics, or that takes it longer than it may, is written to `tests/corpus`, which the tests
//! replay, and ends the run. Inputs that take a new way through the readers (told by the kinds of findings) join the pool
//! of what is mutated.

#[path = "../tests/common/mod.rs"]
mod common;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use common::hostile::{give_to_all_readers, in_memory, mutate, small_cache};
use potstill_cache::{FolderSource, MemorySource};

/// Most caches that are kept to mutate further.
const POOL: usize = 2000;
/// Longest file: mutations must not grow without end.
const LONGEST: usize = 1 << 20;
/// What no reader of files this small may take.
const SLOWEST: Duration = Duration::from_secs(5);

/// xorshift64*: the run is a function of the seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % bound.max(1) as u64) as usize
    }
}

/// Numbers that readers count, multiply and allocate by.
const NUMBERS: [&str; 9] = [
    "0",
    "1",
    "-1",
    "65536",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "1e308",
    "0.5",
];

/// Puts one of the [`NUMBERS`] in the place of a number.
fn renumber(bytes: &mut Vec<u8>, random: &mut Random) {
    let starts: Vec<usize> = (1..bytes.len())
        .filter(|&i| bytes[i].is_ascii_digit() && !bytes[i - 1].is_ascii_alphanumeric())
        .collect();
    if starts.is_empty() {
        return;
    }
    let from = starts[random.below(starts.len())];
    let length = bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    bytes.splice(from..from + length, NUMBERS[random.below(NUMBERS.len())].bytes());
}

/// One cache with one file changed; the path of that file.
fn change(pool: &[MemorySource], random: &mut Random) -> (MemorySource, String) {
    let mut cache = pool[random.below(pool.len())].clone();
    let paths: Vec<String> = cache.files.keys().cloned().collect();
    let path = paths[random.below(paths.len())].clone();
    let other = pool[random.below(pool.len())]
        .files
        .get(&path)
        .cloned()
        .unwrap_or_default();
    let bytes = cache.files.get_mut(&path).expect("a path of its own");
    for _ in 0..1 + random.below(4) {
        match random.below(8) {
            0..=3 => mutate(bytes, &mut |n| random.below(n)),
            4 | 5 => renumber(bytes, random),
            6 => {
                // A part of the same file of another cache.
                let (from, at) = (random.below(other.len()), random.below(bytes.len()));
                let part: Vec<u8> = other[from..].iter().copied().take(random.below(64)).collect();
                bytes.splice(at..at, part);
            }
            _ => {
                // The length of a header.
                if let Some(first) = bytes.first_chunk_mut::<8>() {
                    first[random.below(8)] = random.below(256) as u8;
                }
            }
        }
        bytes.truncate(LONGEST);
    }
    (cache, path)
}

/// Which way an input took: the kinds of findings.
fn way(cache: &MemorySource) -> Vec<String> {
    let report = give_to_all_readers(cache);
    let mut found: Vec<String> = report
        .into_iter()
        .flat_map(|report| report.findings)
        .map(|finding| {
            // Words, without the numbers and names that differ from input to input.
            let words: String = finding
                .found
                .chars()
                .filter(|c| c.is_alphabetic() || *c == ' ')
                .collect();
            format!("{} {}: {words:.80}", finding.component, finding.code)
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize| arguments.get(i).and_then(|text| text.parse::<u64>().ok());
    let Some(seconds) = number(0) else {
        eprintln!("usage: fuzz_readers SECONDS [SEED]");
        std::process::exit(2);
    };
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = in_memory(&FolderSource::new(
        &manifest.join("../../test/fixtures/files_cache/shared"),
    ));
    let mut pool = vec![small_cache(), files];
    let (mut random, mut ways) = (Random(number(1).unwrap_or(1).max(1)), HashSet::new());
    let (begun, mut inputs) = (Instant::now(), 0u64);
    std::panic::set_hook(Box::new(|_| {}));
    while begun.elapsed() < Duration::from_secs(seconds) {
        let (cache, path) = change(&pool, &mut random);
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| way(&cache)));
        inputs += 1;
        let slow = started.elapsed() > SLOWEST;
        match outcome {
            Ok(found) if !slow => {
                if ways.insert(found) && pool.len() < POOL {
                    pool.push(cache);
                }
            }
            _ => {
                let name = format!("{}.{:04x}", path.replace('/', "+"), random.below(1 << 16));
                let corpus = manifest.join("tests/corpus");
                std::fs::create_dir_all(&corpus).expect("a folder");
                std::fs::write(corpus.join(&name), &cache.files[&path]).expect("a file");
                let what = if slow {
                    "takes a reader too long"
                } else {
                    "makes a reader panic"
                };
                eprintln!("after {inputs} inputs, one {what}: tests/corpus/{name}");
                std::process::exit(1);
            }
        }
    }
    println!("{inputs} inputs, {} ways, no reader panicked", ways.len());
}
