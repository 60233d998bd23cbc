//! The prompt language that ComfyUI's users write: weights in brackets and `embedding:name`.
//!
//! `(words)` weighs 1.1 times what is around it, `(words:1.3)` weighs 1.3 whatever is around it, brackets nest, `\(` and
//! `\)` are brackets to be shown, and what does not close is text like any other.

use crate::error::{ModelError, Result};

/// Weight of a bracket without a number, of that around it.
const EMPHASIS: f64 = 1.1;

/// Largest weight, up or down. Pictures fall apart from about 2 on; states times this are far from f32's bounds.
const MAX_WEIGHT: f64 = 1000.;

/// Most brackets around a word, more than [`MAX_WEIGHT`] lets those without a number have: each is a call within a call.
const MAX_NESTING: usize = 100;

/// Characters of a bracket that an error shows.
const SHOWN: usize = 40;

/// What precedes the name of an embedding, at the beginning of a word.
const EMBEDDING: &str = "embedding:";

/// Stand-ins for escaped brackets, which no prompt holds: noncharacters of Unicode.
const OPEN: char = '\u{fdd0}';
const CLOSE: char = '\u{fdd1}';

/// A part of a prompt whose tokens belong together.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    pub(super) content: Content,
    /// 1 is as written.
    pub(super) weight: f64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Text(String),
    /// Name of a textual-inversion embedding.
    Embedding(String),
}

/// The pieces of a prompt, in order.
///
/// # Errors
/// When a bracket's weight is beyond ±1000, or brackets nest deeper than 100; the error shows the bracket.
pub(super) fn parse(prompt: &str) -> Result<Vec<Piece>> {
    let escaped = prompt
        .replace("\\(", &OPEN.to_string())
        .replace("\\)", &CLOSE.to_string());
    let mut pieces = Vec::new();
    weigh(&escaped, 1., 0, &mut pieces)?;
    Ok(pieces)
}

/// Appends the pieces of a text that weighs `weight` and is within `depth` brackets.
fn weigh(text: &str, weight: f64, depth: usize, pieces: &mut Vec<Piece>) -> Result<()> {
    for part in split_brackets(text) {
        match part.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
            None => split_embeddings(part, weight, pieces),
            Some(inner) => {
                let (inner, weight) = explicit_weight(inner).unwrap_or((inner, weight * EMPHASIS));
                if weight.abs() > MAX_WEIGHT {
                    let reason = format!("weighs `{}` beyond ±{MAX_WEIGHT}", shown(inner));
                    return Err(ModelError::input("prompt", reason));
                }
                if depth == MAX_NESTING {
                    let reason = format!("has `{}` within more than {MAX_NESTING} brackets", shown(inner));
                    return Err(ModelError::input("prompt", reason));
                }
                weigh(inner, weight, depth + 1, pieces)?;
            }
        }
    }
    Ok(())
}

/// The beginning of a bracket's contents, without the brackets that open it, for an error.
fn shown(inner: &str) -> String {
    let text = as_written(inner.trim_start_matches('(').trim_end_matches(')'));
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A text with its escaped brackets.
fn as_written(text: &str) -> String {
    text.replace(OPEN, "(").replace(CLOSE, ")")
}

/// `words:1.3` as its words and its weight.
fn explicit_weight(inner: &str) -> Option<(&str, f64)> {
    let colon = inner.rfind(':').filter(|&at| at > 0)?;
    let weight: f64 = inner[colon + 1..].trim().parse().ok()?;
    weight.is_finite().then_some((&inner[..colon], weight))
}

/// Splits before every outermost `(` and after the `)` that closes it.
fn split_brackets(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut depth) = (0, 0i64);
    for (at, character) in text.char_indices() {
        match character {
            '(' => {
                if depth == 0 {
                    parts.push(&text[start..at]);
                    start = at;
                }
                depth += 1;
            }
            ')' => {
                depth -= 1;
                if depth == 0 {
                    parts.push(&text[start..at + 1]);
                    start = at + 1;
                }
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.retain(|part| !part.is_empty());
    parts
}

/// Appends the text and the embeddings of a bracket's contents.
fn split_embeddings(part: &str, weight: f64, pieces: &mut Vec<Piece>) {
    let mut add = |content| pieces.push(Piece { content, weight });
    let mut rest = part;
    while let Some(at) = next_embedding(rest) {
        let (before, after) = (&rest[..at], &rest[at + EMBEDDING.len()..]);
        let end = after.find(char::is_whitespace).unwrap_or(after.len());
        // A comma after a name is the list's, not the name's.
        let name = after[..end].trim_end_matches(',');
        if !before.trim().is_empty() {
            add(Content::Text(as_written(before)));
        }
        add(Content::Embedding(as_written(name)));
        rest = &after[name.len()..];
    }
    if !rest.trim().is_empty() {
        add(Content::Text(as_written(rest)));
    }
}

/// Where the next embedding is named, at the beginning of a word.
fn next_embedding(text: &str) -> Option<usize> {
    text.match_indices(EMBEDDING)
        .map(|(at, _)| at)
        .find(|&at| text[..at].chars().next_back().is_none_or(char::is_whitespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts and weights; an embedding is written `<name>`.
    fn parsed(prompt: &str) -> Vec<(String, f64)> {
        let written = |content| match content {
            Content::Text(text) => text,
            Content::Embedding(name) => format!("<{name}>"),
        };
        let rounded = |weight: f64| (weight * 1e9).round() / 1e9;
        parse(prompt)
            .unwrap()
            .into_iter()
            .map(|piece| (written(piece.content), rounded(piece.weight)))
            .collect()
    }

    fn expect(prompt: &str, wanted: &[(&str, f64)]) {
        let wanted: Vec<_> = wanted
            .iter()
            .map(|(text, weight)| (text.to_string(), *weight))
            .collect();
        assert_eq!(parsed(prompt), wanted, "{prompt}");
    }

    #[test]
    fn brackets_weigh() {
        expect("a red apple", &[("a red apple", 1.)]);
        expect("a (red) apple", &[("a ", 1.), ("red", 1.1), (" apple", 1.)]);
        expect("a (red:1.3) apple", &[("a ", 1.), ("red", 1.3), (" apple", 1.)]);
        expect("((red))", &[("red", 1.21)]);
        // A number replaces what is around it; a bracket without one multiplies it.
        expect("(a (b:0.5) c)", &[("a ", 1.1), ("b", 0.5), (" c", 1.1)]);
        expect("(a (b):2)", &[("a ", 2.), ("b", 2.2)]);
        expect("(a:b:1.5)", &[("a:b", 1.5)]);
        expect("(a: 1e-1 )(b:-1)", &[("a", 0.1), ("b", -1.)]);
    }

    #[test]
    fn what_is_no_weight_is_text() {
        expect("(a:b)", &[("a:b", 1.1)]);
        expect("(a:nan)(b:inf)", &[("a:nan", 1.1), ("b:inf", 1.1)]);
        expect("(:1.2)", &[(":1.2", 1.1)]);
        expect("()", &[]);
        expect("", &[]);
        expect("a (b", &[("a ", 1.), ("(b", 1.)]);
        expect("a) b", &[("a) b", 1.)]);
        expect(r"a \(b\) (c \(d\):1.2)", &[("a (b) ", 1.), ("c (d)", 1.2)]);
    }

    #[test]
    fn weights_are_bounded_and_brackets_nest_so_deep() {
        let nested = |depth: usize, text: &str| format!("{}{text}{}", "(".repeat(depth), ")".repeat(depth));
        let refusal = |prompt: &str| parse(prompt).expect_err("refused").to_string();
        expect("(a:1000)(b:-1000)", &[("a", 1000.), ("b", -1000.)]);
        assert!(parse(&nested(72, "red")).is_ok()); // 1.1^72 = 955.6
        for prompt in [
            nested(73, "red"),
            nested(1000, "red"),
            "(red:1e39)".into(),
            "(red:-1000.1)".into(),
        ] {
            let error = refusal(&prompt);
            assert!(error.contains("weighs `red` beyond ±1000"), "{error}");
        }
        let explicit = |depth: usize| format!("{}red{}", "(".repeat(depth), ":1)".repeat(depth));
        assert!(parse(&explicit(100)).is_ok());
        let error = refusal(&explicit(101));
        assert!(error.contains("`red` within more than 100 brackets"), "{error}");
        let long = refusal(&format!("({}:2000)", "ö".repeat(50)));
        assert!(long.contains(&format!("`{}…`", "ö".repeat(40))), "{long}");
    }

    #[test]
    fn embeddings_begin_a_word() {
        expect("embedding:x", &[("<x>", 1.)]);
        expect("a embedding:x, b", &[("a ", 1.), ("<x>", 1.), (", b", 1.)]);
        expect("(embedding:x y:1.2)", &[("<x>", 1.2), (" y", 1.2)]);
        expect("(embedding:x:1.2)", &[("<x>", 1.2)]);
        expect("noembedding:x", &[("noembedding:x", 1.)]);
        expect("embedding:x embedding:y", &[("<x>", 1.), ("<y>", 1.)]);
    }
}
