//! CLIP's own vocabulary, which single files take for granted: every SD1.5 and SDXL text encoder was trained with it.
//!
//! Only the merges are kept; they imply the vocabulary: the 256 byte characters, the same with `</w>`, what each merge
//! makes, and the two special tokens.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use serde_json::json;

use crate::error::Result;
use crate::tokenizer::{SEQUENCE_LENGTH, Tokenizer};

/// CLIP's merges (OpenAI's and open_clip's, MIT: `assets/LICENSE-clip`), in the order of their ranks.
const MERGES: &[u8] = include_bytes!("../assets/clip_merges.txt.gz");
/// Number of tokens in CLIP's vocabulary.
pub(crate) const CLIP_VOCABULARY: usize = 49408;
const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

fn merges() -> Vec<(String, String)> {
    let mut text = String::new();
    GzDecoder::new(MERGES)
        .read_to_string(&mut text)
        .expect("the built-in merges are sound");
    text.lines()
        .filter(|line| !line.starts_with("#version"))
        .filter_map(|line| line.split_once(' '))
        .map(|(left, right)| (left.to_string(), right.to_string()))
        .collect()
}

/// The tokens in the order of their ids.
fn tokens(merges: &[(String, String)]) -> Vec<String> {
    // GPT-2's order: the printable bytes first, then the others, which have characters of their own.
    let printable = (b'!'..=b'~').chain(0xa1..=0xac).chain(0xae..=0xff).map(char::from);
    let others = (0x100..0x100 + 68).filter_map(char::from_u32);
    let bytes: Vec<String> = printable.chain(others).map(String::from).collect();
    let mut tokens = bytes.clone();
    tokens.extend(bytes.iter().map(|b| format!("{b}</w>")));
    tokens.extend(merges.iter().map(|(left, right)| format!("{left}{right}")));
    tokens.extend([START, END].map(String::from));
    tokens
}

impl Tokenizer {
    /// CLIP's tokenizer. `pad` is the padding token: none for the end token (CLIP-L), `!` for SDXL's second.
    pub fn clip(pad: Option<&str>) -> Result<Self> {
        let merges = merges();
        let vocabulary: HashMap<String, u32> = (0..).zip(tokens(&merges)).map(|(id, token)| (token, id)).collect();
        Self::new(
            vocabulary,
            &merges,
            pad,
            SEQUENCE_LENGTH,
            Path::new("CLIP's vocabulary"),
        )
    }
}

/// The files of a tokenizer's folder, as transformers reads them, with the given padding token: names and contents.
pub(crate) fn tokenizer_files(pad: &str) -> [(&'static str, String); 4] {
    let merges = merges();
    // In the order of the ids, which a JSON library's map would not keep.
    let entries: Vec<String> = tokens(&merges)
        .iter()
        .enumerate()
        .map(|(id, token)| format!("{}:{id}", json!(token)))
        .collect();
    let lines: Vec<String> = merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
    let special = json!({ "bos_token": START, "eos_token": END, "unk_token": END, "pad_token": pad });
    let mut config = special.clone();
    config["tokenizer_class"] = json!("CLIPTokenizer");
    config["model_max_length"] = json!(SEQUENCE_LENGTH);
    config["do_lower_case"] = json!(true);
    config["errors"] = json!("replace");
    [
        ("vocab.json", format!("{{{}}}\n", entries.join(","))),
        ("merges.txt", format!("#version: 0.2\n{}\n", lines.join("\n"))),
        ("special_tokens_map.json", format!("{special:#}\n")),
        ("tokenizer_config.json", format!("{config:#}\n")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vocabulary_is_whole_and_its_files_say_the_same() {
        let merges = merges();
        assert_eq!(merges.len(), 48_894);
        let tokens = tokens(&merges);
        assert_eq!(tokens.len(), CLIP_VOCABULARY);
        assert_eq!((tokens[0].as_str(), tokens[49_406].as_str()), ("!", START));
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in tokenizer_files("!") {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let (read, built) = (
            Tokenizer::load(folder.path(), None).unwrap(),
            Tokenizer::clip(Some("!")).unwrap(),
        );
        assert!(read.gives_the_ids_of(&built));
        assert!(!Tokenizer::clip(None).unwrap().gives_the_ids_of(&built));
        // An end token that pads without saying so and one that does.
        assert!(
            Tokenizer::clip(None)
                .unwrap()
                .gives_the_ids_of(&Tokenizer::clip(Some(END)).unwrap())
        );
        let prompt = "A photo of an astronaut riding a horse! naïve 東京 🚀";
        assert_eq!(read.encode(prompt), built.encode(prompt));
        assert_eq!(built.encode(prompt)[1..4], [320, 1125, 539]);
    }
}
