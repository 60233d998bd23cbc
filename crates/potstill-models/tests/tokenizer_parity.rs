//! Token ids against transformers' `CLIPTokenizer`, on CLIP's own vocabulary and on a reduced one.

mod common;

use common::fixture;
use potstill_models::Tokenizer;
use serde_json::Value as Json;

/// A thousand prompts with their ids, the padding left out.
fn prompts(columns: &[&str]) -> Vec<(String, Vec<u32>)> {
    let Json::Array(rows) = common::json("tokenizer/expected.json") else {
        panic!("a list")
    };
    rows.into_iter()
        .map(|row| {
            let text = row["text"].as_str().expect("a text").to_string();
            let ids = columns.iter().find_map(|column| row.get(column)).expect("ids").clone();
            (text, serde_json::from_value(ids).expect("numbers"))
        })
        .collect()
}

/// CLIP's own tokenizer, which is built in.
fn clip() -> Tokenizer {
    Tokenizer::clip(None).expect("a complete vocabulary")
}

/// Compares with the first of the columns that a row has.
fn check(tokenizer: &Tokenizer, columns: &[&str], pad: Option<u32>) {
    let mut wrong = Vec::new();
    for (text, mut expected) in prompts(columns) {
        let end = *expected.last().expect("ids");
        expected.resize(77, pad.unwrap_or(end));
        let found = tokenizer.encode(&text);
        if found != expected {
            wrong.push(format!("{text:?}\n  found    {found:?}\n  expected {expected:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} prompts differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// The reduced vocabulary without its settings.
fn reduced() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["vocab.json", "merges.txt"] {
        let source = fixture("../../configs/demo/base/tokenizer").join(name);
        std::fs::copy(source, folder.path().join(name)).expect("the demo's tokenizer");
    }
    folder
}

#[test]
fn clip_ids_are_transformers() {
    check(&clip(), &["clip"], None);
}

#[test]
fn ids_of_a_reduced_vocabulary_are_transformers() {
    let folder = fixture("../../configs/demo/base/tokenizer");
    check(&Tokenizer::load(&folder, None).unwrap(), &["demo"], None);
    check(&Tokenizer::load(reduced().path(), None).unwrap(), &["demo"], None);
}

#[test]
fn ids_of_sdxls_second_tokenizer_are_transformers() {
    check(
        &Tokenizer::load(reduced().path(), Some("!")).unwrap(),
        &["second", "demo"],
        Some(0),
    );
}

#[test]
fn the_combined_file_of_new_transformers_versions_is_read() {
    let source = reduced();
    let text = |name: &str| std::fs::read_to_string(source.path().join(name)).unwrap();
    let vocabulary: Json = serde_json::from_str(&text("vocab.json")).unwrap();
    let lines: Vec<String> = text("merges.txt").lines().skip(1).map(str::to_string).collect();
    let pairs: Vec<Vec<&str>> = lines.iter().map(|line| line.split(' ').collect()).collect();
    for merges in [serde_json::json!(lines), serde_json::json!(pairs)] {
        let folder = tempfile::tempdir().unwrap();
        let combined = serde_json::json!({"model": {"type": "BPE", "vocab": vocabulary, "merges": merges}});
        std::fs::write(folder.path().join("tokenizer.json"), combined.to_string()).unwrap();
        check(&Tokenizer::load(folder.path(), None).unwrap(), &["demo"], None);
    }
}

#[test]
fn padding_and_length_come_from_the_folder() {
    let folder = reduced();
    let config = folder.path().join("tokenizer_config.json");
    std::fs::write(config, r#"{"pad_token": {"content": "a</w>"}, "model_max_length": 20}"#).unwrap();
    let configured = Tokenizer::load(folder.path(), Some("!")).unwrap();
    assert_eq!(configured.encode("b").len(), 20);
    assert_eq!(configured.encode("b")[19], configured.tokenize("a")[0]);
}

#[test]
fn folders_without_a_tokenizer_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    assert!(
        Tokenizer::load(folder.path(), None)
            .err()
            .unwrap()
            .to_string()
            .contains("vocab.json")
    );
    std::fs::write(folder.path().join("vocab.json"), "{\"a\": -1}").unwrap();
    std::fs::write(folder.path().join("merges.txt"), "").unwrap();
    assert!(
        Tokenizer::load(folder.path(), None)
            .err()
            .unwrap()
            .to_string()
            .contains("`a`")
    );
    std::fs::write(folder.path().join("vocab.json"), "[").unwrap();
    assert!(
        Tokenizer::load(folder.path(), None)
            .err()
            .unwrap()
            .to_string()
            .contains("not valid JSON")
    );
}
