//! Gives mutated checkpoints, adapters, embeddings and configurations to every reader until time is up, on a stable toolchain:
//!
//!     cargo run --release -p potstill-models --example fuzz_checkpoints -- SECONDS [SEED]
//!
//! An input on which a reader panics is written to `tests/corpus`, which the tests replay, and ends the run. Inputs that
//! take a new way through a reader (told by the words of its error) join the pool of what is mutated.

#[allow(dead_code)] // the tests use the rest
#[path = "../tests/common/hostile.rs"]
mod hostile;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hostile::Readers;

/// Most inputs that are kept to mutate further.
const POOL: usize = 4000;
/// Letters of an error that tell it from others.
const TELLING: usize = 160;
/// Longest input: mutations that repeat parts must not grow without end.
const LONGEST: usize = 1 << 20;

/// xorshift64*: the run is a function of the seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

const NUMBERS: [&str; 14] = [
    "0",
    "1",
    "3",
    "-1",
    "9",
    "1024",
    "1280",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "0.5",
    "null",
    "[]",
];
const WORDS: [&str; 26] = [
    "\"F32\"",
    "\"BF16\"",
    "\"I64\"",
    "\"U8\"",
    "\"I8\"",
    "\"F8_E4M3\"",
    "\"F8_E5M2\"",
    ".SCB",
    ".absmax",
    ".quant_state.bitsandbytes__nf4",
    ".scale_weight",
    ".alpha",
    ".lora_up.weight",
    ".hada_w1_a",
    ".lokr_w2_b",
    "text_model.",
    "\"NaN\"",
    "model.diffusion_model.",
    "first_stage_model.",
    "transformer_blocks.",
    "resnets.",
    "\"../x\"",
    "{",
    "}",
    "\\u0000",
    "\"__metadata__\":",
];

fn mutate(input: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..1 + random.below(4) {
        let length = interesting(&bytes, random);
        let at = random.below(length);
        match random.below(9) {
            0 => bytes.truncate(at),
            1 if !bytes.is_empty() => bytes[at] = random.next() as u8,
            2 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            3 => replace_number(&mut bytes, random),
            4 => {
                let word = *random.pick(&WORDS);
                bytes.splice(at..at, word.bytes());
            }
            5 => {
                let end = at + random.below(bytes.len() - at + 1).min(400);
                bytes.drain(at..end);
            }
            6 => {
                let end = at + random.below(bytes.len() - at + 1).min(400);
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            7 if !other.is_empty() => {
                let from = random.below(other.len());
                let part = other[from..(from + random.below(300)).min(other.len())].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {}
        }
    }
    bytes.truncate(LONGEST);
    if random.below(3) > 0 {
        mend_length(&mut bytes);
    }
    bytes
}

/// How many of the first bytes to mutate: mostly those of the header, where a file has one that can be told.
fn interesting(bytes: &[u8], random: &mut Random) -> usize {
    let length = bytes.first_chunk::<8>().map(|field| u64::from_le_bytes(*field));
    match length.and_then(|length| usize::try_from(length).ok()) {
        Some(length) if length < bytes.len() && random.below(4) > 0 => bytes.len().min(length + 8),
        _ => bytes.len(),
    }
}

/// Replaces one of the numbers in the text by another.
fn replace_number(bytes: &mut Vec<u8>, random: &mut Random) {
    let length = interesting(bytes, random);
    let from = random.below(length);
    let Some(start) = bytes[from..].iter().position(u8::is_ascii_digit).map(|i| from + i) else {
        return;
    };
    let length = bytes[start..].iter().take_while(|b| b.is_ascii_digit()).count();
    bytes.splice(start..start + length, random.pick(&NUMBERS).bytes());
}

/// Makes the length field that of the JSON object which seems to follow, so that mutations get past it.
fn mend_length(bytes: &mut [u8]) {
    if bytes.len() < 10 || bytes[8] != b'{' {
        return;
    }
    let mut depth = 0usize;
    for (i, byte) in bytes.iter().enumerate().skip(8) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            let length = (i - 7) as u64;
            bytes[..8].copy_from_slice(&length.to_le_bytes());
            return;
        }
    }
}

/// What a reader says without lists of keys, quoted names, numbers and signs: a new sentence is a new way through it.
fn way(words: &str) -> String {
    let sentence = words.lines().next().unwrap_or_default();
    let unquoted = sentence.split(['`', '"']).step_by(2).flat_map(str::chars);
    let letters = unquoted.filter(|c| c.is_alphabetic() || *c == ' ');
    letters.take(TELLING).collect()
}

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|word| word.parse::<u64>().expect("a number"));
    let seconds = arguments.next().unwrap_or(60);
    let mut random = Random(arguments.next().unwrap_or(1).max(1));
    let readers = Readers::new();
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut pool: Vec<Vec<u8>> = readers.inputs().into_iter().map(|input| input.bytes).collect();
    for entry in std::fs::read_dir(&corpus).into_iter().flatten().flatten() {
        pool.extend(std::fs::read(entry.path()).ok());
    }
    let mut ways = HashSet::new();
    let (begin, mut runs) = (Instant::now(), 0u64);
    let mut said = begin;
    while begin.elapsed() < Duration::from_secs(seconds) {
        let input = mutate(
            random.pick(&pool).as_slice(),
            random.pick(&pool).as_slice(),
            &mut random,
        );
        runs += 1;
        let Ok(answers) = catch_unwind(AssertUnwindSafe(|| readers.give(&input))) else {
            let path = corpus.join(format!("panic-{runs}.bin"));
            std::fs::create_dir_all(&corpus).expect("a folder for the corpus");
            std::fs::write(&path, &input).expect("a writable corpus");
            eprintln!("a reader panicked: {}", path.display());
            std::process::exit(1);
        };
        let mut is_new = false;
        for (reader, words) in answers {
            is_new |= ways.insert((reader, way(&words)));
        }
        if is_new && pool.len() < POOL {
            pool.push(input);
        }
        if said.elapsed() > Duration::from_secs(60) {
            said = Instant::now();
            println!("{} s: {runs} inputs, {} ways", begin.elapsed().as_secs(), ways.len());
        }
    }
    println!("{seconds} s: {runs} inputs, {} ways, no panic", ways.len());
}
