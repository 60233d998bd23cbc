//! The corpus of the fuzz target (`examples/fuzz_checkpoints.rs`), given to every reader: none may panic.

#[path = "common/hostile.rs"]
mod hostile;

use std::path::PathBuf;

use hostile::{READ, Readers};

#[test]
fn no_reader_panics_on_the_corpus() {
    let readers = Readers::new();
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut count = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        readers.give(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 20, "the corpus has only {count} files");
}

#[test]
fn mutations_start_from_what_is_read() {
    let readers = Readers::new();
    let mut read = std::collections::BTreeSet::new();
    let mut known = std::collections::BTreeSet::new();
    for input in readers.inputs() {
        let said = readers.give(&input.bytes);
        if let Some(reader) = input.reader {
            assert_eq!(said[reader], READ, "{reader}");
        }
        known.extend(said.keys().copied());
        read.extend(
            said.into_iter()
                .filter(|(_, words)| words == READ)
                .map(|(reader, _)| reader),
        );
    }
    // A folder whose every document is the same text is no whole model.
    known.remove("report of a model's folder");
    assert!(known.len() > 20, "{known:?}");
    assert_eq!(read, known, "readers that no input gets through");
}

#[test]
fn every_truncation_of_a_file_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("input.safetensors");
    let input = &Readers::new().inputs()[0].bytes;
    for length in (0..input.len()).step_by(input.len() / 300) {
        std::fs::write(&path, &input[..length]).unwrap();
        let error = potstill_models::Checkpoint::open(&path)
            .err()
            .expect("refused")
            .to_string();
        assert!(
            error.contains("input.safetensors") && error.len() > 30,
            "{length}: {error}"
        );
    }
}
