//! Prompts to what conditions a UNet.

use std::path::Path;

use napi::Env;
use napi::bindgen_prelude::{BigInt, Object};
use napi_derive::napi;
use potstill_engine::{Value, no_grad};
use potstill_models::{Model, PromptEncoder, TextConfig};

use super::random::parse_config;
use super::unet::UnetModule;
use crate::core::{Engine, OpError, Tape, id};

/// What a model's text encoders give.
#[napi(object)]
pub struct LoadedTextEncoder {
    /// Width of the hidden states.
    pub width: u32,
    /// SDXL: width of the pooled text.
    pub pooled_width: Option<u32>,
}

/// Token ids of encoded prompts.
#[napi(object)]
pub struct TokenIds {
    /// Of the first tokenizer, a row per prompt.
    pub token_ids: Vec<Vec<u32>>,
    /// SDXL: of the second.
    pub token_ids_2: Option<Vec<Vec<u32>>>,
}

#[napi]
impl Engine {
    /// Loads the tokenizers and text encoders of a model's folder.
    #[napi(ts_return_type = "Promise<Outcome<LoadedTextEncoder>>", catch_unwind)]
    pub fn load_text_encoder<'env>(&self, env: &'env Env, out: f64, folder: String) -> napi::Result<Object<'env>> {
        self.query(env, "loadTextEncoder", move |state| {
            let model = Model::open(Path::new(&folder))?;
            let encoder = model.load_prompt_encoder(state.device()?)?;
            let facts = LoadedTextEncoder {
                width: encoder.width() as u32,
                pooled_width: model.unet_config().text_time.map(|c| c.pooled_channels as u32),
            };
            state.put(id(out), Ok(encoder));
            Ok(facts)
        })
    }

    /// CLIP's tokenizer before text encoders whose every weight is random, from the JSON of one or two transformers
    /// configurations and the seed of each.
    #[napi(ts_return_type = "Promise<Outcome<LoadedTextEncoder>>", catch_unwind)]
    pub fn random_text_encoder<'env>(
        &self,
        env: &'env Env,
        out: f64,
        configs: Vec<String>,
        seeds: Vec<BigInt>,
    ) -> napi::Result<Object<'env>> {
        let seeds: Vec<u64> = seeds.into_iter().map(|seed| seed.get_u64().1).collect();
        self.query(env, "randomTextEncoder", move |state| {
            let mut parts = configs.iter().zip(seeds).map(|(config, seed)| {
                let config = TextConfig::parse(parse_config(config)?, "config")?;
                Ok::<_, OpError>((config, seed))
            });
            let first = parts.next().unwrap_or_else(|| Err(OpError::bug("no text encoder")))?;
            let encoder = PromptEncoder::random(first, parts.next().transpose()?, state.device()?)?;
            let last = encoder.encoders().last();
            let facts = LoadedTextEncoder {
                width: encoder.width() as u32,
                pooled_width: last.and_then(|encoder| encoder.config().projection.map(|width| width as u32)),
            };
            state.put(id(out), Ok(encoder));
            Ok(facts)
        })
    }

    /// Encodes prompts: fills `hidden` with [prompts, 77, width] and `pooled`, when the model has it, with
    /// [prompts, pooled width].
    #[napi(ts_return_type = "Promise<Outcome<TokenIds>>", catch_unwind)]
    pub fn encode_prompts<'env>(
        &self,
        env: &'env Env,
        hidden: f64,
        pooled: Option<f64>,
        encoder: f64,
        prompts: Vec<String>,
        clip_skip: u32,
    ) -> napi::Result<Object<'env>> {
        self.query(env, "encodePrompts", move |state| {
            let encoder = state.get::<PromptEncoder>(id(encoder))?;
            let encoded = no_grad(|| encoder.encode(&prompts, clip_skip as usize))?;
            state.put(id(hidden), Ok(encoded.encoder_hidden_states));
            if let (Some(handle), Some(value)) = (pooled, encoded.pooled) {
                state.put(id(handle), Ok(value));
            }
            Ok(TokenIds {
                token_ids: encoded.token_ids,
                token_ids_2: encoded.token_ids_2,
            })
        })
    }

    /// Fills `outs` with [prompts, 77, width] and, when the model has it, [prompts, pooled width]; with `tape` as leaves, and
    /// that handle with the way back, whose gradients go to those of `unet`.
    #[napi(catch_unwind)]
    pub fn text_forward(
        &self,
        outs: Vec<f64>,
        encoder: f64,
        prompts: Vec<String>,
        tape: Option<f64>,
        unet: Option<f64>,
    ) {
        self.submit_several(&outs, tape, "text.forward", move |state| {
            let encoder = state.get::<PromptEncoder>(id(encoder))?;
            let run = || encoder.encode(&prompts, 0);
            let Some(unet) = unet else {
                let encoded = no_grad(run)?;
                let values = std::iter::once(encoded.encoder_hidden_states).chain(encoded.pooled);
                return Ok((values.collect::<Vec<Value>>(), None));
            };
            let encoded = run()?;
            let values: Vec<Value> = std::iter::once(encoded.encoder_hidden_states)
                .chain(encoded.pooled)
                .collect();
            let leaves: Vec<Value> = values.iter().map(|value| Value::leaf(value.tensor().clone())).collect();
            let module = state.get::<UnetModule>(id(unet))?;
            let tape = Tape::new("text encoders", values, Vec::new(), &module.gradients);
            Ok((leaves, Some(tape)))
        });
    }

    /// Encodes a prompt in the language of ComfyUI's users: fills `hidden` with [1, 77 · sequences, width] and `pooled`, when
    /// the model has it, with [1, pooled width]. `embeddings` is the folder of textual-inversion embeddings.
    #[napi(ts_return_type = "Promise<Outcome<TokenIds>>", catch_unwind)]
    #[allow(clippy::too_many_arguments)] // a call from JavaScript, beside its plain counterpart
    pub fn encode_weighted_prompt<'env>(
        &self,
        env: &'env Env,
        hidden: f64,
        pooled: Option<f64>,
        encoder: f64,
        prompt: String,
        clip_skip: u32,
        embeddings: Option<String>,
    ) -> napi::Result<Object<'env>> {
        self.query(env, "encodePrompt", move |state| {
            let encoder = state.get::<PromptEncoder>(id(encoder))?;
            let folder = embeddings.as_ref().map(Path::new);
            let encoded = no_grad(|| encoder.encode_weighted(&prompt, clip_skip as usize, folder))?;
            state.put(id(hidden), Ok(encoded.encoder_hidden_states));
            if let (Some(handle), Some(value)) = (pooled, encoded.pooled) {
                state.put(id(handle), Ok(value));
            }
            Ok(TokenIds {
                token_ids: encoded.token_ids,
                token_ids_2: encoded.token_ids_2,
            })
        })
    }
}
