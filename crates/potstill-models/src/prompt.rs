//! Prompts to the tensors that condition a UNet.

mod chunks;
mod syntax;
mod textual_inversion;
mod weighted;

use std::path::Path;

use candle_core::{Device, Tensor};
use potstill_engine::{Value, ops};
use potstill_io::disk::is_file;

use crate::checkpoint::Component;
use crate::clip::{TextConfig, TextEncoder, TextOutput, hidden_state};
use crate::error::{ModelError, Result};
use crate::model::ModelKind;
use crate::random::Initialisation;
use crate::tokenizer::Tokenizer;
use crate::unet::TIME_IDS;
pub(crate) use chunks::Token;

/// Padding of SDXL's second tokenizer where its folder does not say.
pub(crate) const SECOND_PADDING: &str = "!";

/// Encoded prompts. B: number of prompts.
#[derive(Clone)]
pub struct PromptEmbeddings {
    /// Ids of the first tokenizer, B of 77 (of a weighted prompt: one for each of its sequences, with the end token where
    /// an embedding's vector stands).
    pub token_ids: Vec<Vec<u32>>,
    /// SDXL: ids of the second tokenizer.
    pub token_ids_2: Option<Vec<Vec<u32>>>,
    /// `[B, 77, cross_attention_dim]`; of a weighted prompt `[1, 77 · sequences, cross_attention_dim]`.
    pub encoder_hidden_states: Value,
    /// SDXL: the projected pooled text of the second encoder, `[B, 1280]`.
    pub pooled: Option<Value>,
}

impl PromptEmbeddings {
    /// Zeros in place of the embeddings: the unconditional input that some SDXL trainings use instead of `""`.
    pub fn zeroed(&self) -> Result<Self> {
        let zeros = |value: &Value| Ok::<_, ModelError>(Value::constant(value.tensor().zeros_like()?));
        Ok(Self {
            token_ids: self.token_ids.clone(),
            token_ids_2: self.token_ids_2.clone(),
            encoder_hidden_states: zeros(&self.encoder_hidden_states)?,
            pooled: self.pooled.as_ref().map(zeros).transpose()?,
        })
    }
}

/// The tokenizers and text encoders of a model.
pub struct PromptEncoder {
    first: (Tokenizer, TextEncoder),
    second: Option<(Tokenizer, TextEncoder)>,
}

impl PromptEncoder {
    /// Loads `tokenizer`, `text_encoder` and, for SDXL, `tokenizer_2`, `text_encoder_2` from a diffusers folder, or the
    /// encoders from a single file, which go with CLIP's own tokenizer.
    pub fn load(path: &Path, kind: ModelKind, device: &Device) -> Result<Self> {
        let single = is_file(path);
        let load = |component: Component, tokenizer: &str, padding| {
            let (tokenizer, encoder) = match single {
                true => (Tokenizer::clip(padding)?, path.to_path_buf()),
                false => (
                    Tokenizer::load(&path.join(tokenizer), padding)?,
                    path.join(component.name()),
                ),
            };
            let encoder = TextEncoder::load(&encoder, component, device)?;
            match single && encoder.config().vocabulary != tokenizer.vocabulary() {
                false => Ok((tokenizer, encoder)),
                true => Err(ModelError::file(
                    path,
                    format!(
                        "its {component} has a vocabulary of {}, not CLIP's of {}: a single file holds no tokenizer, \
                         take the model's diffusers folder",
                        encoder.config().vocabulary,
                        tokenizer.vocabulary()
                    ),
                )),
            }
        };
        let first = load(Component::TextEncoder, "tokenizer", None)?;
        let second = match kind {
            ModelKind::Sd15 => None,
            ModelKind::Sdxl => Some(load(Component::TextEncoder2, "tokenizer_2", Some(SECOND_PADDING))?),
        };
        Self::new(first, second)
    }

    /// CLIP's own tokenizer before encoders whose every weight is random, each with its seed: one encoder for SD1.5, two
    /// for SDXL. For measurements.
    pub fn random(first: (TextConfig, u64), second: Option<(TextConfig, u64)>, device: &Device) -> Result<Self> {
        let make = |(config, seed), padding| {
            let encoder = TextEncoder::random(config, seed, Initialisation::Normal, device)?;
            Ok::<_, ModelError>((Tokenizer::clip(padding)?, encoder))
        };
        let second = second.map(|second| make(second, Some(SECOND_PADDING))).transpose()?;
        Self::new(make(first, None)?, second)
    }

    /// From loaded parts: one tokenizer and encoder for SD1.5, two for SDXL.
    pub fn new(first: (Tokenizer, TextEncoder), second: Option<(Tokenizer, TextEncoder)>) -> Result<Self> {
        if second
            .as_ref()
            .is_some_and(|(_, encoder)| encoder.config().projection.is_none())
        {
            let reason = "has no text projection, which SDXL's pooled text needs (CLIPTextModelWithProjection)";
            return Err(ModelError::input("text_encoder_2", reason));
        }
        Ok(Self { first, second })
    }

    /// Width of the encoded prompts.
    pub fn width(&self) -> usize {
        self.encoders().map(|encoder| encoder.config().hidden_size).sum()
    }

    /// The encoders, first to last.
    pub fn encoders(&self) -> impl Iterator<Item = &TextEncoder> {
        std::iter::once(&self.first)
            .chain(&self.second)
            .map(|(_, encoder)| encoder)
    }

    /// Encodes prompts. SD1.5: the last hidden state, normalised. SDXL: the second-last hidden states of both encoders,
    /// not normalised, side by side. `clip_skip` takes the states that many layers earlier (0: as trained).
    pub fn encode<S: AsRef<str>>(&self, prompts: &[S], clip_skip: usize) -> Result<PromptEmbeddings> {
        let run = |(tokenizer, encoder): &(Tokenizer, TextEncoder)| {
            let ids: Vec<Vec<u32>> = prompts.iter().map(|p| tokenizer.encode(p.as_ref())).collect();
            let output = encoder.forward(&ids)?;
            Ok::<(Vec<Vec<u32>>, TextOutput), ModelError>((ids, output))
        };
        let (token_ids, output) = run(&self.first)?;
        let Some(second) = &self.second else {
            let encoder_hidden_states = match clip_skip {
                0 => output.last_hidden_state,
                skip => self.first.1.normalised_hidden_state(&output, skip)?,
            };
            return Ok(PromptEmbeddings {
                token_ids,
                token_ids_2: None,
                encoder_hidden_states,
                pooled: None,
            });
        };
        let (token_ids_2, output_2) = run(second)?;
        let skip = clip_skip + 1;
        let encoder_hidden_states = ops::concat_last(hidden_state(&output, skip)?, hidden_state(&output_2, skip)?)?;
        Ok(PromptEmbeddings {
            token_ids,
            token_ids_2: Some(token_ids_2),
            encoder_hidden_states,
            pooled: output_2.text_embeds,
        })
    }
}

/// SDXL's `time_ids` for pictures of a size, taken whole: (height, width, 0, 0, height, width) for each of `batch`.
pub fn default_time_ids(batch: usize, height: usize, width: usize, device: &Device) -> Result<Tensor> {
    let (h, w) = (height as f32, width as f32);
    let row = [h, w, 0., 0., h, w];
    Ok(Tensor::from_vec(row.repeat(batch), (batch, TIME_IDS), device)?)
}
