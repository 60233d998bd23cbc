//! The corpus of the fuzz target (`examples/fuzz_readers.rs`), given to every reader: none may panic.

#[path = "common/hostile.rs"]
mod hostile;

use std::path::PathBuf;

use hostile::{give_to_all_readers, sound_inputs};

#[test]
fn no_reader_panics_on_the_corpus() {
    let folder = tempfile::tempdir().unwrap();
    for input in sound_inputs() {
        give_to_all_readers(&input, folder.path());
    }
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut count = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        give_to_all_readers(&bytes, folder.path());
        count += 1;
    }
    assert!(count >= 20, "the corpus has only {count} files");
}

#[test]
fn every_truncation_of_a_file_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("input.safetensors");
    let input = &sound_inputs()[0];
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

#[test]
fn mutations_start_from_packed_weights_that_are_read() {
    let folder = tempfile::tempdir().unwrap();
    give_to_all_readers(&sound_inputs()[3], folder.path());
    let report = potstill_models::Checkpoint::open(&folder.path().join("text"))
        .and_then(|checkpoint| checkpoint.report())
        .unwrap();
    let [encoder] = &report.components[..] else {
        panic!("one component")
    };
    let dtypes: Vec<_> = encoder.dtypes.keys().copied().collect();
    assert_eq!(dtypes, ["F8_E4M3 scaled", "INT8", "NF4"]);
    assert_eq!(encoder.quantized.tensors, 4);
    assert_eq!(encoder.mismatch.unexpected, [""; 0]);
}
