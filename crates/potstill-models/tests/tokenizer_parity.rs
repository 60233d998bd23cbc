//! Token ids against transformers' `CLIPTokenizer`, on CLIP's own vocabulary and on a reduced one.

mod common;

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use common::fixture;
use potstill_models::Tokenizer;
use serde_json::Value as Json;

/// A thousand prompts with their ids, the padding left out.
fn prompts(vocabulary: &str) -> Vec<(String, Vec<u32>)> {
    let Json::Array(rows) = common::json("tokenizer/expected.json") else {
        panic!("a list")
    };
    rows.into_iter()
        .map(|row| {
            let text = row["text"].as_str().expect("a text").to_string();
            (text, serde_json::from_value(row[vocabulary].clone()).expect("ids"))
        })
        .collect()
}

/// CLIP's vocabulary as its merges imply it: byte characters, the same with `</w>`, merges, the two special tokens.
fn clip() -> Tokenizer {
    let file = std::fs::File::open(fixture("tokenizer/clip_merges.txt.gz")).expect("the fixture");
    let mut text = String::new();
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .expect("sound gzip");
    let merges: Vec<(String, String)> = text
        .lines()
        .filter(|line| !line.starts_with("#version"))
        .filter_map(|line| line.split_once(' '))
        .map(|(left, right)| (left.to_string(), right.to_string()))
        .collect();
    // GPT-2's order: the printable bytes first, then the others.
    let printable = (b'!'..=b'~').chain(0xa1..=0xac).chain(0xae..=0xff).map(char::from);
    let others = (0..68u32).map(|i| char::from_u32(0x100 + i).expect("a character"));
    let bytes: Vec<String> = printable.chain(others).map(String::from).collect();
    let mut tokens = bytes.clone();
    tokens.extend(bytes.iter().map(|b| format!("{b}</w>")));
    tokens.extend(merges.iter().map(|(left, right)| format!("{left}{right}")));
    tokens.extend(["<|startoftext|>", "<|endoftext|>"].map(String::from));
    assert_eq!(tokens.len(), 49408);
    let vocabulary: HashMap<String, u32> = tokens.into_iter().enumerate().map(|(i, t)| (t, i as u32)).collect();
    Tokenizer::new(vocabulary, &merges, None, 77, Path::new("merges.txt")).expect("a complete vocabulary")
}

fn check(tokenizer: &Tokenizer, vocabulary: &str) {
    let mut wrong = Vec::new();
    for (text, mut expected) in prompts(vocabulary) {
        let end = *expected.last().expect("ids");
        expected.resize(77, end);
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

#[test]
fn clip_ids_are_transformers() {
    check(&clip(), "clip");
}

#[test]
fn ids_of_a_reduced_vocabulary_are_transformers() {
    let folder = fixture("../../configs/demo/base/tokenizer");
    check(&Tokenizer::load(&folder, None).unwrap(), "demo");
}

#[test]
fn the_second_tokenizer_pads_with_its_own_token() {
    let folder = tempfile::tempdir().unwrap();
    let source = fixture("../../configs/demo/base/tokenizer");
    for name in ["vocab.json", "merges.txt"] {
        std::fs::copy(source.join(name), folder.path().join(name)).unwrap();
    }
    let pad = |tokenizer: &Tokenizer| tokenizer.encode("a")[76];
    let bang = Tokenizer::load(folder.path(), Some("!")).unwrap();
    assert_eq!(pad(&bang), 0);
    let config = folder.path().join("tokenizer_config.json");
    std::fs::write(config, r#"{"pad_token": {"content": "a</w>"}, "model_max_length": 20}"#).unwrap();
    let configured = Tokenizer::load(folder.path(), Some("!")).unwrap();
    assert_eq!(configured.encode("a").len(), 20);
    assert_eq!(configured.encode("a")[19], configured.tokenize("a")[0]);
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
