//! CLIP's byte-level BPE tokenizer, with the ids of transformers.
//!
//! A prompt is normalised (NFC, white space collapsed, lower case), split into words, and every word's bytes, written as
//! printable characters with `</w>` on the last, are merged pairwise in the order of the merge list.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use potstill_io::disk::is_file;
use serde_json::Value as Json;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::error::{ModelError, Result};
use crate::fields::{Fields, read_object, read_text};

/// Sequence length of all CLIP text encoders in use.
pub const SEQUENCE_LENGTH: usize = 77;
const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
const WORD_END: &str = "</w>";
/// Start and end come first among the special tokens.
const FRAMING: usize = 2;
/// As much of a prompt as is tokenized: 77 tokens need a fraction of it, and merging a word takes time quadratic in it.
pub(crate) const MAX_PROMPT_BYTES: usize = 16 << 10;
/// Contractions that are words of their own, in the order in which they are tried.
const CONTRACTIONS: [&str; 7] = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];

/// A tokenizer for one text encoder. SDXL's two differ in the padding.
pub struct Tokenizer {
    vocabulary: HashMap<String, u32>,
    /// Pair of ids → (rank, id of the merged token).
    merges: HashMap<(u32, u32), (u32, u32)>,
    /// Tokens that stand for themselves wherever their text occurs: start and end, and the padding if it is another.
    special: Vec<(String, u32)>,
    start: u32,
    end: u32,
    pad: u32,
    length: usize,
}

impl Tokenizer {
    /// Reads a tokenizer's folder: `vocab.json` and `merges.txt`, or `tokenizer.json`; the padding token and the
    /// sequence length from `tokenizer_config.json` or `special_tokens_map.json`, else `default_pad` (none: the end
    /// token) and 77.
    pub fn load(folder: &Path, default_pad: Option<&str>) -> Result<Self> {
        let (vocabulary_path, merges_path) = (folder.join("vocab.json"), folder.join("merges.txt"));
        let combined = folder.join("tokenizer.json");
        let (place, vocabulary, merges) = if is_file(&vocabulary_path) && is_file(&merges_path) {
            let vocabulary = parse_vocabulary(&read_object(&vocabulary_path)?, &vocabulary_path)?;
            let text = read_text(&merges_path)?;
            (merges_path, vocabulary, parse_merges(&text))
        } else if is_file(&combined) {
            let (vocabulary, merges) = parse_combined(&combined)?;
            (combined, vocabulary, merges)
        } else {
            let reason = "has no tokenizer: expected vocab.json and merges.txt, or tokenizer.json";
            return Err(ModelError::file(folder, reason));
        };
        let (pad, length) = special_settings(folder)?;
        Self::new(vocabulary, &merges, pad.as_deref().or(default_pad), length, &place)
    }

    /// From a vocabulary and merges in the order of their ranks. `pad` is the padding token (none: the end token);
    /// `place` names the file in errors.
    ///
    /// The padding token is a special one, as in transformers: SDXL's second tokenizer, which pads with `!`, makes an
    /// exclamation mark within a prompt its padding.
    pub fn new(
        vocabulary: HashMap<String, u32>,
        merges: &[(String, String)],
        pad: Option<&str>,
        length: usize,
        place: &Path,
    ) -> Result<Self> {
        let id = |token: &str| match vocabulary.get(token) {
            Some(&id) => Ok(id),
            None => Err(ModelError::file(place, format!("`{token}` is not in the vocabulary"))),
        };
        if length < 2 {
            return Err(ModelError::file(
                place,
                format!("a sequence of {length} tokens has no room for start and end"),
            ));
        }
        let mut table = HashMap::with_capacity(merges.len());
        for (rank, (left, right)) in merges.iter().enumerate() {
            let merged = id(&format!("{left}{right}"))?;
            table.insert((id(left)?, id(right)?), (rank as u32, merged));
        }
        let (start, end) = (id(START)?, id(END)?);
        let mut special = vec![(START.to_string(), start), (END.to_string(), end)];
        let pad = match pad.filter(|text| !text.is_empty()) {
            Some(text) => {
                special.push((text.to_string(), id(text)?));
                id(text)?
            }
            None => end,
        };
        Ok(Self {
            merges: table,
            special,
            start,
            end,
            pad,
            length,
            vocabulary,
        })
    }

    /// The ids of a prompt: start, at most `length − 2` tokens, end, padding. Exactly [`Tokenizer::length`] ids.
    ///
    /// Words that the vocabulary cannot spell become the end token, as in transformers.
    pub fn encode(&self, prompt: &str) -> Vec<u32> {
        let mut ids = vec![self.start];
        ids.extend(self.tokenize(prompt));
        ids.truncate(self.length - 1);
        ids.push(self.end);
        ids.resize(self.length, self.pad);
        ids
    }

    /// Length of every encoded sequence.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Number of tokens in the vocabulary.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary.len()
    }

    /// Whether every prompt has the same ids in both.
    pub(crate) fn gives_the_ids_of(&self, other: &Self) -> bool {
        let sorted = |special: &[(String, u32)]| {
            let mut special = special.to_vec();
            special.sort();
            special.dedup(); // the end token twice, where it pads and a configuration says so
            special
        };
        (self.vocabulary == other.vocabulary && self.merges == other.merges)
            && (self.frame() == other.frame() && self.length == other.length)
            && sorted(&self.special) == sorted(&other.special)
    }

    /// The start, end and padding tokens.
    pub(crate) fn frame(&self) -> (u32, u32, u32) {
        (self.start, self.end, self.pad)
    }

    /// The prompt's tokens without start, end, truncation and padding.
    pub fn tokenize(&self, prompt: &str) -> Vec<u32> {
        self.tokenize_with(&self.special, prompt)
    }

    /// The same, but for the padding token, which is a word like any other.
    pub(crate) fn tokenize_words_of(&self, prompt: &str) -> Vec<u32> {
        self.tokenize_with(&self.special[..FRAMING], prompt)
    }

    fn tokenize_with(&self, special: &[(String, u32)], prompt: &str) -> Vec<u32> {
        let text = truncate(prompt, MAX_PROMPT_BYTES);
        let mut ids = Vec::new();
        // Special tokens are found in the text as written; what lies between them is normalised.
        let mut start = 0;
        for (at, length, id) in special_tokens(special, text) {
            if at >= start {
                self.tokenize_words(&text[start..at], &mut ids);
                ids.push(id);
                start = at + length;
            }
        }
        self.tokenize_words(&text[start..], &mut ids);
        ids
    }

    /// Appends the tokens of text without special tokens.
    fn tokenize_words(&self, text: &str, ids: &mut Vec<u32>) {
        let normal = normalise(text);
        words(&normal).for_each(|word| self.merge(word, ids));
    }

    /// Appends the tokens of one word.
    fn merge(&self, word: &str, ids: &mut Vec<u32>) {
        let bytes = word.as_bytes();
        let symbol = |(i, &byte): (usize, &u8)| {
            let mut text = String::from(printable(byte));
            if i + 1 == bytes.len() {
                text.push_str(WORD_END);
            }
            self.vocabulary.get(&text).copied().unwrap_or(self.end)
        };
        let mut symbols: Vec<u32> = bytes.iter().enumerate().map(symbol).collect();
        while let Some((rank, merged)) = symbols
            .windows(2)
            .filter_map(|pair| self.merges.get(&(pair[0], pair[1])))
            .min()
            .copied()
        {
            // Every occurrence of the best pair, from the left.
            let mut out = Vec::with_capacity(symbols.len());
            let mut i = 0;
            while i < symbols.len() {
                let pair = symbols
                    .get(i + 1)
                    .and_then(|next| self.merges.get(&(symbols[i], *next)));
                let hit = pair.is_some_and(|(r, _)| *r == rank);
                out.push(if hit { merged } else { symbols[i] });
                i += if hit { 2 } else { 1 };
            }
            symbols = out;
        }
        ids.extend(symbols);
    }
}

/// Where special tokens are: position, length, id; in order of position.
fn special_tokens(special: &[(String, u32)], text: &str) -> Vec<(usize, usize, u32)> {
    let mut found: Vec<_> = special
        .iter()
        .flat_map(|(token, id)| {
            text.match_indices(token.as_str())
                .map(move |(at, token)| (at, token.len(), *id))
        })
        .collect();
    found.sort_unstable();
    found
}

/// The longest prefix of at most `limit` bytes that ends at a character.
fn truncate(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let end = (0..=limit).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    &text[..end]
}

/// NFC, runs of white space as one space, lower case character by character.
fn normalise(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_space = false;
    for c in text.nfc() {
        match c.is_whitespace() {
            true if in_space => {}
            true => out.push(' '),
            false => out.extend(c.to_lowercase()),
        }
        in_space = c.is_whitespace();
    }
    out
}

/// Unicode's general category L. `is_alphabetic` also holds letter-like numbers, marks and circled letters.
fn is_letter(c: char) -> bool {
    let circled = matches!(c,
        '\u{24b6}'..='\u{24e9}' | '\u{1f130}'..='\u{1f149}' | '\u{1f150}'..='\u{1f169}' | '\u{1f170}'..='\u{1f189}');
    c.is_alphabetic() && !c.is_numeric() && !is_combining_mark(c) && !circled
}

/// Splits normalised text: contractions, runs of letters, single numbers, runs of anything else but white space.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(char::is_whitespace);
        let first = rest.chars().next()?;
        let run = |belongs: &dyn Fn(char) -> bool| rest.find(|c| !belongs(c)).unwrap_or(rest.len());
        let contraction = CONTRACTIONS.iter().find(|c| rest.starts_with(**c));
        let end = match contraction {
            Some(contraction) => contraction.len(),
            None if is_letter(first) => run(&is_letter),
            None if first.is_numeric() => first.len_utf8(),
            None => run(&|c| !c.is_whitespace() && !is_letter(c) && !c.is_numeric()),
        };
        let (word, after) = rest.split_at(end);
        rest = after;
        Some(word)
    })
}

/// GPT-2's printable character for a byte: itself where it is printable in Latin-1, else one from U+0100 on.
fn printable(byte: u8) -> char {
    let is_printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    match is_printable(byte) {
        true => char::from(byte),
        false => {
            let before = (0..byte).filter(|b| !is_printable(*b)).count() as u32;
            char::from_u32(0x100 + before).expect("below the surrogates")
        }
    }
}

fn parse_vocabulary(object: &serde_json::Map<String, Json>, path: &Path) -> Result<HashMap<String, u32>> {
    object
        .iter()
        .map(|(token, id)| match id.as_u64().and_then(|id| u32::try_from(id).ok()) {
            Some(id) => Ok((token.clone(), id)),
            None => Err(ModelError::file(
                path,
                format!("the id of `{token}` is {id}, must be a whole number"),
            )),
        })
        .collect()
}

/// Lines of two tokens; the first line may be a version comment.
fn parse_merges(text: &str) -> Vec<(String, String)> {
    text.lines()
        .enumerate()
        .filter(|(i, line)| !(*i == 0 && line.starts_with("#version")))
        .filter_map(|(_, line)| line.split_once(' '))
        .map(|(left, right)| (left.to_string(), right.trim_end().to_string()))
        .collect()
}

type VocabularyAndMerges = (HashMap<String, u32>, Vec<(String, String)>);

/// The vocabulary and merges of a `tokenizer.json`.
fn parse_combined(path: &Path) -> Result<VocabularyAndMerges> {
    let object = read_object(path)?;
    let model = &object.get("model").unwrap_or(&Json::Null);
    let (Some(Json::Object(vocabulary)), Some(Json::Array(merges))) = (model.get("vocab"), model.get("merges")) else {
        return Err(ModelError::file(
            path,
            "has no `model` with `vocab` and `merges`: it is not a BPE tokenizer",
        ));
    };
    let merges = merges
        .iter()
        .map(|merge| match merge {
            Json::String(line) => line.split_once(' ').map(|(l, r)| (l.to_string(), r.to_string())),
            Json::Array(pair) => match &pair[..] {
                [Json::String(left), Json::String(right)] => Some((left.clone(), right.clone())),
                _ => None,
            },
            _ => None,
        })
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| ModelError::file(path, "has a merge that is not a pair of tokens"))?;
    Ok((parse_vocabulary(vocabulary, path)?, merges))
}

/// Padding token and sequence length, as far as the folder says.
fn special_settings(folder: &Path) -> Result<(Option<String>, usize)> {
    let mut pad = None;
    let mut length = SEQUENCE_LENGTH;
    for name in ["special_tokens_map.json", "tokenizer_config.json"] {
        let path: PathBuf = folder.join(name);
        if !is_file(&path) {
            continue;
        }
        let object = read_object(&path)?;
        let place = path.display().to_string();
        let fields = Fields::new(&object, &place);
        // A token is a string or an object with its text as `content`.
        match fields.get("pad_token") {
            Some(Json::String(token)) => pad = Some(token.clone()),
            Some(token) => pad = token.get("content").and_then(Json::as_str).map(str::to_string).or(pad),
            None => {}
        }
        // Tokenizers without a limit write 1e30, which is no length.
        if let Some(limit) = fields.get("model_max_length").and_then(Json::as_u64) {
            length = (limit as usize).min(SEQUENCE_LENGTH);
        }
    }
    Ok((pad, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> Tokenizer {
        let merges = [("l", "o"), ("lo", "w</w>"), ("lo", "w"), ("e", "r</w>")];
        let merges: Vec<_> = merges.iter().map(|(l, r)| (l.to_string(), r.to_string())).collect();
        let mut tokens: Vec<String> = ["l", "o", "w", "e", "r", "!"].map(String::from).to_vec();
        tokens.extend(tokens.clone().iter().map(|t| format!("{t}{WORD_END}")));
        tokens.extend(merges.iter().map(|(l, r)| format!("{l}{r}")));
        tokens.extend([START, END].map(String::from));
        let vocabulary = tokens.into_iter().enumerate().map(|(i, t)| (t, i as u32)).collect();
        Tokenizer::new(vocabulary, &merges, Some("!"), 8, Path::new("merges.txt")).unwrap()
    }

    #[test]
    fn merges_in_order_of_rank_and_pads() {
        let t = tiny();
        let id = |token: &str| t.vocabulary[token];
        assert_eq!(t.tokenize("LOW lower"), [id("low</w>"), id("low"), id("er</w>")]);
        let ids = t.encode("low");
        assert_eq!(
            ids,
            [
                id(START),
                id("low</w>"),
                id(END),
                id("!"),
                id("!"),
                id("!"),
                id("!"),
                id("!")
            ]
        );
        let long = t.encode("low low low low low low low low low");
        assert_eq!((long.len(), long[7]), (8, id(END)));
        // Bytes outside of a reduced vocabulary are the end token; special tokens are themselves.
        assert_eq!(t.tokenize("z"), [id(END)]);
        assert_eq!(
            t.tokenize("low<|startoftext|>low"),
            [id("low</w>"), id(START), id("low</w>")]
        );
    }

    #[test]
    fn splits_as_the_pattern_does() {
        let split = |text: &str| words(text).map(String::from).collect::<Vec<_>>();
        assert_eq!(
            split("it's a dog's 3d--x"),
            ["it", "'s", "a", "dog", "'s", "3", "d", "--", "x"]
        );
        assert_eq!(
            split("we'll! 'quoted' 42"),
            ["we", "'ll", "!", "'", "quoted", "'", "4", "2"]
        );
        assert_eq!(split("naïve 日本 ½"), ["naïve", "日本", "½"]);
        // A circled letter is a symbol, a Roman numeral a number, a combining mark neither letter nor number.
        assert_eq!(split("aⓐⅷ"), ["a", "ⓐ", "ⅷ"]);
    }

    #[test]
    fn normalises_as_transformers_does() {
        assert_eq!(normalise("  A\t\nE\u{301} "), " a é ");
    }

    #[test]
    fn bytes_become_printable() {
        assert_eq!(
            (printable(b'a'), printable(0), printable(b' '), printable(0xad)),
            ('a', 'Ā', 'Ġ', 'Ń')
        );
    }

    #[test]
    fn missing_tokens_are_named() {
        let vocabulary = HashMap::from([(START.to_string(), 0), (END.to_string(), 1)]);
        let merges = [("a".to_string(), "b".to_string())];
        let error = Tokenizer::new(vocabulary, &merges, None, 77, Path::new("merges.txt"))
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("merges.txt") && error.contains("`ab`"), "{error}");
    }
}
