//! Encoding of the prompt language: long prompts, weights and embeddings.

use std::path::Path;

use candle_core::{DType, Tensor};
use potstill_engine::Value;

use super::chunks::{Frame, Token, Weighted};
use super::syntax::{Content, Piece, parse};
use super::{PromptEmbeddings, PromptEncoder, textual_inversion};
use crate::clip::{TextEncoder, TextOutput, hidden_state};
use crate::error::{ModelError, Result};
use crate::tokenizer::{MAX_PROMPT_BYTES, Tokenizer};

/// One encoder's part.
struct Encoded {
    ids: Vec<Vec<u32>>,
    /// `[1, 77 · sequences, C]`.
    states: Tensor,
    /// `[1, projection]`, of the first sequence.
    pooled: Option<Value>,
}

impl PromptEncoder {
    /// Encodes a prompt in the language of ComfyUI's users: `(words:1.2)` and `(words)` weigh, `embedding:name` stands for
    /// the vectors in `NAME.safetensors` of a folder, and what is longer than a sequence goes on in another, whose states
    /// follow those of the first: `encoder_hidden_states` is `[1, 77 · sequences, C]`, `pooled` that of the first sequence.
    ///
    /// A token's weight w moves its state from that of an empty prompt at the same place: `empty + w·(state − empty)`. So a
    /// prompt of one sequence without weights is encoded as [`PromptEncoder::encode`] does it, but for the padding token
    /// of SDXL's second tokenizer, which stands for nothing when it is written.
    ///
    /// # Errors
    /// When an embedding is missing or made for other encoders, a weight is beyond ±1000, or the prompt is longer than 16 KiB.
    pub fn encode_weighted(
        &self,
        prompt: &str,
        clip_skip: usize,
        embeddings: Option<&Path>,
    ) -> Result<PromptEmbeddings> {
        if prompt.len() > MAX_PROMPT_BYTES {
            let reason = format!("has {} bytes, at most {MAX_PROMPT_BYTES} are read", prompt.len());
            return Err(ModelError::input("prompt", reason));
        }
        let pieces = parse(prompt)?;
        let (tokenizer, encoder) = &self.first;
        let Some((second_tokenizer, second_encoder)) = &self.second else {
            let states = |output: &TextOutput| encoder.normalised_hidden_state(output, clip_skip);
            let encoded = run(&pieces, tokenizer, encoder, 0, embeddings, states)?;
            return Ok(PromptEmbeddings {
                token_ids: encoded.ids,
                token_ids_2: None,
                encoder_hidden_states: Value::constant(encoded.states),
                pooled: None,
            });
        };
        let states = |output: &TextOutput| hidden_state(output, clip_skip + 1).cloned();
        let first = run(&pieces, tokenizer, encoder, 0, embeddings, states)?;
        let second = run(&pieces, second_tokenizer, second_encoder, 1, embeddings, states)?;
        // Embeddings may have more vectors for one encoder than for the other; what has no counterpart is left out.
        let tokens = first.states.dim(1)?.min(second.states.dim(1)?);
        let both = [first.states.narrow(1, 0, tokens)?, second.states.narrow(1, 0, tokens)?];
        Ok(PromptEmbeddings {
            token_ids: first.ids,
            token_ids_2: Some(second.ids),
            encoder_hidden_states: Value::constant(Tensor::cat(&both, 2)?),
            pooled: second.pooled,
        })
    }
}

fn run(
    pieces: &[Piece],
    tokenizer: &Tokenizer,
    encoder: &TextEncoder,
    index: usize,
    embeddings: Option<&Path>,
    states: impl Fn(&TextOutput) -> Result<Value>,
) -> Result<Encoded> {
    let width = encoder.config().hidden_size;
    let group = |piece: &Piece| {
        let tokens: Vec<Token> = match &piece.content {
            Content::Text(text) => tokenizer.tokenize_words_of(text).into_iter().map(Token::Id).collect(),
            Content::Embedding(name) => {
                let folder = embeddings.ok_or_else(|| {
                    let reason = format!("names embedding:{name}, but no folder of embeddings is given");
                    ModelError::input("prompt", reason)
                })?;
                let vectors = textual_inversion::read(folder, name, index, width)?;
                vectors.into_iter().map(Token::Vector).collect()
            }
        };
        Ok(tokens.into_iter().map(|token| (token, piece.weight)).collect())
    };
    let groups: Vec<Vec<Weighted>> = pieces.iter().map(group).collect::<Result<_>>()?;
    let (start, end, pad) = tokenizer.frame();
    let length = tokenizer.length();
    let frame = Frame {
        start,
        end,
        pad,
        length,
    };
    let chunks = frame.chunks(groups);
    let count = chunks.len();

    let weights: Vec<f32> = chunks.iter().flatten().map(|(_, weight)| *weight as f32).collect();
    let is_weighted = weights.iter().any(|weight| *weight != 1.);
    let sequence = |chunk: &Vec<Weighted>| chunk.iter().map(|(token, _)| token.clone()).collect::<Vec<_>>();
    let mut sequences: Vec<Vec<Token>> = chunks.iter().map(sequence).collect();
    if is_weighted {
        sequences.push(sequence(&frame.empty()));
    }
    let output = encoder.forward_tokens(&sequences)?;
    let all = states(&output)?.tensor().clone();
    let mut states = all.narrow(0, 0, count)?;
    if is_weighted {
        let empty = all.narrow(0, count, 1)?.to_dtype(DType::F64)?;
        let weights = Tensor::from_vec(weights, (count, length, 1), all.device())?.to_dtype(DType::F64)?;
        let away = states.to_dtype(DType::F64)?.broadcast_sub(&empty)?;
        states = away
            .broadcast_mul(&weights)?
            .broadcast_add(&empty)?
            .to_dtype(DType::F32)?;
    }
    let id = |token: &Token| match token {
        Token::Id(id) => *id,
        Token::Vector(_) => end,
    };
    sequences.truncate(count);
    let pooled = match &output.text_embeds {
        Some(pooled) => Some(Value::constant(pooled.tensor().narrow(0, 0, 1)?)),
        None => None,
    };
    Ok(Encoded {
        ids: sequences.iter().map(|tokens| tokens.iter().map(id).collect()).collect(),
        states: states.contiguous()?.reshape((1, count * length, width))?,
        pooled,
    })
}
