//! CLIP text encoders: token ids to the hidden states that condition a UNet.

mod config;

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use potstill_engine::ops::{self, Attention};
use potstill_engine::{Param, Value};

use crate::checkpoint::{Component, KeyRules, Part, write_params};
use crate::error::{ModelError, Result};
use crate::nn::{Embedding, LayerNorm, Linear, Precision, Scope, Sockets, Source, build, shapes_of};
use crate::params::Params;
use crate::prompt::Token;
use crate::random::{Initialisation, RandomSource};
pub use config::{ClipActivation, TextConfig};

/// What all names but the projection's begin with. transformers from 5.6 on writes `CLIPTextModel` without it.
const PREFIX: &str = "text_model.";

/// The prefix is optional, and the position ids that old versions saved are no parameter.
pub(crate) const KEY_RULES: KeyRules = KeyRules {
    rename: canonical_name,
    squeeze: false,
};

pub(crate) fn canonical_name(key: &str) -> Option<String> {
    if key.ends_with("embeddings.position_ids") {
        return None;
    }
    let bare = ["embeddings.", "encoder.", "final_layer_norm."]
        .iter()
        .any(|start| key.starts_with(start));
    Some(if bare {
        format!("{PREFIX}{key}")
    } else {
        key.to_string()
    })
}

/// What a text encoder makes of a batch of token sequences. B: batch, N: sequence length.
pub struct TextOutput {
    /// The embeddings, then the output of every block before the final normalisation: layers + 1 of `[B, N, C]`.
    pub hidden_states: Vec<Value>,
    /// The last block's output after the final normalisation, `[B, N, C]`.
    pub last_hidden_state: Value,
    /// [`TextOutput::last_hidden_state`] at the end-of-text token, `[B, C]`.
    pub pooled: Value,
    /// `pooled` projected, `[B, projection]`, for encoders with a projection.
    pub text_embeds: Option<Value>,
}

/// A CLIP text encoder. Weights are f32.
pub struct TextEncoder {
    config: TextConfig,
    device: Device,
    params: Params,
    sockets: Sockets,
    layers: Layers,
}

struct Layers {
    tokens: Embedding,
    positions: Embedding,
    blocks: Vec<Block>,
    final_layer_norm: LayerNorm,
    projection: Option<Param>,
}

impl Layers {
    fn new(scope: &Scope, config: &TextConfig) -> Self {
        let model = scope.enter("text_model");
        let embeddings = model.enter("embeddings");
        let width = config.hidden_size;
        let blocks = model.enter("encoder.layers");
        Self {
            tokens: Embedding::new(&embeddings.enter("token_embedding"), config.vocabulary, width),
            positions: Embedding::new(&embeddings.enter("position_embedding"), config.max_positions, width),
            blocks: (0..config.layers)
                .map(|i| Block::new(&blocks.enter(i), config))
                .collect(),
            final_layer_norm: LayerNorm::new(&model.enter("final_layer_norm"), width, config.norm_eps),
            projection: config
                .projection
                .map(|projection| scope.enter("text_projection").param("weight", &[projection, width])),
        }
    }
}

/// `CLIPEncoderLayer`: causal self-attention and a two-layer perceptron, each on normalised input with a residual.
struct Block {
    layer_norm1: LayerNorm,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    kernel: Attention,
    layer_norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    activation: ClipActivation,
}

impl Block {
    fn new(scope: &Scope, config: &TextConfig) -> Self {
        let (width, hidden) = (config.hidden_size, config.intermediate_size);
        let (attention, mlp) = (scope.enter("self_attn"), scope.enter("mlp"));
        let projection = |name: &str| Linear::new(&attention.enter(name), width, width);
        let scale = ((width / config.heads) as f64).powf(-0.5);
        Self {
            layer_norm1: LayerNorm::new(&scope.enter("layer_norm1"), width, config.norm_eps),
            q_proj: projection("q_proj"),
            k_proj: projection("k_proj"),
            v_proj: projection("v_proj"),
            out_proj: projection("out_proj"),
            kernel: Attention {
                heads: config.heads,
                scale,
                causal: true,
                bf16: false,
            },
            layer_norm2: LayerNorm::new(&scope.enter("layer_norm2"), width, config.norm_eps),
            fc1: Linear::new(&mlp.enter("fc1"), width, hidden),
            fc2: Linear::new(&mlp.enter("fc2"), hidden, width),
            activation: config.activation,
        }
    }

    fn forward(&self, x: &Value) -> potstill_engine::Result<Value> {
        let h = self.layer_norm1.forward(x)?;
        let (q, k, v) = (
            self.q_proj.forward(&h)?,
            self.k_proj.forward(&h)?,
            self.v_proj.forward(&h)?,
        );
        let x = ops::add(x, &self.out_proj.forward(&ops::attention(&q, &k, &v, &self.kernel)?)?)?;
        let h = self.fc1.forward(&self.layer_norm2.forward(&x)?)?;
        let h = match self.activation {
            ClipActivation::QuickGelu => ops::quick_gelu(&h)?,
            ClipActivation::Gelu => ops::gelu(&h)?,
        };
        ops::add(&x, &self.fc2.forward(&h)?)
    }
}

impl TextEncoder {
    /// Reads a component folder, with or without the leading `text_model.` of its keys, or the encoder in a single file
    /// (`component` says which of two).
    ///
    /// # Errors
    /// Names every missing, unexpected or misshapen key, and the first unsupported field of the configuration.
    pub fn load(path: &Path, component: Component, device: &Device) -> Result<Self> {
        let (config, mut weights) = Part::text(path, component)?;
        Self::build(config, &mut weights, device)
    }

    /// With random weights: a function of the configuration and the seed.
    pub fn random(config: TextConfig, seed: u64, initialisation: Initialisation, device: &Device) -> Result<Self> {
        let mut source = RandomSource::new(&Self::shapes(&config)?, seed, initialisation);
        Self::build(config, &mut source, device)
    }

    fn build(config: TextConfig, source: &mut dyn Source, device: &Device) -> Result<Self> {
        let built = build(source, device, Precision::F32, |scope| Layers::new(scope, &config))?;
        Ok(Self {
            config,
            device: device.clone(),
            params: built.params,
            sockets: built.sockets,
            layers: built.model,
        })
    }

    /// Names (with the leading `text_model.`) and shapes of the parameters that a configuration has, without allocating
    /// them.
    pub fn shapes(config: &TextConfig) -> Result<Vec<(String, Vec<usize>)>> {
        shapes_of(|scope| Layers::new(scope, config))
    }

    /// The architecture.
    pub fn config(&self) -> &TextConfig {
        &self.config
    }

    /// Where the weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The parameters; all of them are frozen after loading.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Where low-rank branches can be attached: none are after loading. They are no part of [`TextEncoder::params`].
    pub fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// Writes a component folder.
    pub fn save(&self, folder: &Path, dtype: DType) -> Result<()> {
        write_params(folder, Component::TextEncoder, self.config.json(), &self.params, dtype)
    }

    /// Encodes token sequences of one length (77 as the tokenizer makes them).
    ///
    /// # Errors
    /// When the sequences differ in length, are too long, or hold an id outside the vocabulary.
    pub fn forward(&self, ids: &[Vec<u32>]) -> Result<TextOutput> {
        self.run(ids, &[])
    }

    /// The same with vectors in place of some tokens, each as wide as the encoder.
    pub(crate) fn forward_tokens(&self, sequences: &[Vec<Token>]) -> Result<TextOutput> {
        let length = sequences.first().map_or(0, Vec::len);
        let mut vectors = Vec::new();
        let mut ids = Vec::with_capacity(sequences.len());
        for (row, sequence) in sequences.iter().enumerate() {
            let mut id = |(column, token): (usize, &Token)| match token {
                Token::Id(id) => *id,
                Token::Vector(vector) => {
                    vectors.push((row * length + column, vector.clone()));
                    0
                }
            };
            ids.push(sequence.iter().enumerate().map(&mut id).collect());
        }
        self.run(&ids, &vectors)
    }

    /// `vectors` replace the embeddings of the tokens at their places, counted through all sequences.
    fn run(&self, ids: &[Vec<u32>], vectors: &[(usize, Arc<[f32]>)]) -> Result<TextOutput> {
        let length = self.check(ids)?;
        let (batch, width) = (ids.len(), self.config.hidden_size);
        let layers = &self.layers;
        let flat: Vec<u32> = ids.iter().flatten().copied().collect();
        let mut tokens = ops::reshape(&layers.tokens.forward(&flat)?, &[batch, length, width])?;
        if !vectors.is_empty() {
            tokens = Value::constant(replace_rows(tokens.tensor(), vectors)?);
        }
        let places: Vec<u32> = (0..length as u32).collect();
        let positions = ops::reshape(&layers.positions.forward(&places)?, &[1, length, width])?;
        let mut hidden_states = vec![ops::add(&tokens, &positions)?];
        for block in &layers.blocks {
            let next = block.forward(&hidden_states[hidden_states.len() - 1])?;
            hidden_states.push(next);
        }
        let last_hidden_state = layers
            .final_layer_norm
            .forward(&hidden_states[hidden_states.len() - 1])?;
        let rows: Vec<u32> = ids
            .iter()
            .enumerate()
            .map(|(i, sequence)| (i * length + self.pooled_position(sequence)) as u32)
            .collect();
        let pooled = ops::embedding(&ops::reshape(&last_hidden_state, &[batch * length, width])?, &rows)?;
        let text_embeds = match &layers.projection {
            Some(weight) => Some(ops::linear(&pooled, &weight.value(), None)?),
            None => None,
        };
        Ok(TextOutput {
            hidden_states,
            last_hidden_state,
            pooled,
            text_embeds,
        })
    }

    /// An earlier layer's hidden state after the final normalisation (clip skip for SD1.5): `skip` 0 is
    /// [`TextOutput::last_hidden_state`], 1 the layer before it.
    pub fn normalised_hidden_state(&self, output: &TextOutput, skip: usize) -> Result<Value> {
        Ok(self.layers.final_layer_norm.forward(hidden_state(output, skip)?)?)
    }

    /// transformers' rule: the first end-of-text token (position 0 when there is none), or with the configurations
    /// that Stable Diffusion ships the first position of the largest id.
    fn pooled_position(&self, sequence: &[u32]) -> usize {
        let target = match self.config.eos {
            Some(eos) => Some(&eos).copied(),
            None => sequence.iter().max().copied(),
        };
        sequence.iter().position(|id| Some(*id) == target).unwrap_or(0)
    }

    fn check(&self, ids: &[Vec<u32>]) -> Result<usize> {
        let config = &self.config;
        let length = ids.first().map_or(0, Vec::len);
        if length == 0 || ids.iter().any(|sequence| sequence.len() != length) {
            return Err(ModelError::input(
                "ids",
                "must be sequences of one length, which is not 0",
            ));
        }
        if length > config.max_positions {
            let reason = format!(
                "have {length} tokens; the encoder takes at most {}",
                config.max_positions
            );
            return Err(ModelError::input("ids", reason));
        }
        match ids.iter().flatten().find(|id| **id as usize >= config.vocabulary) {
            Some(id) => {
                let reason = format!(
                    "{id} is outside of the encoder's vocabulary of {} (vocab_size): the tokenizer belongs to another model",
                    config.vocabulary
                );
                Err(ModelError::input("ids", reason))
            }
            None => Ok(length),
        }
    }
}

/// A tensor `[…, C]` with other values in some of its rows.
fn replace_rows(tensor: &Tensor, rows: &[(usize, Arc<[f32]>)]) -> Result<Tensor> {
    let width = tensor.dims().last().copied().unwrap_or(1);
    let mut values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
    for (row, replacement) in rows {
        values
            .get_mut(row * width..(row + 1) * width)
            .filter(|place| place.len() == replacement.len())
            .ok_or_else(|| ModelError::input("vectors", format!("must have {width} values")))?
            .copy_from_slice(replacement);
    }
    Ok(Tensor::from_vec(values, tensor.dims(), tensor.device())?)
}

/// The hidden state `skip` layers before the last.
pub(crate) fn hidden_state(output: &TextOutput, skip: usize) -> Result<&Value> {
    let count = output.hidden_states.len();
    match count.checked_sub(skip + 1) {
        Some(i) => Ok(&output.hidden_states[i]),
        None => Err(ModelError::input(
            "clip_skip",
            format!("{skip} layers cannot be skipped: there are {}", count - 1),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_optional_and_position_ids_are_ignored() {
        assert_eq!(canonical_name("text_model.embeddings.position_ids"), None);
        assert_eq!(canonical_name("embeddings.position_ids"), None);
        let bare = canonical_name("encoder.layers.0.mlp.fc1.weight");
        assert_eq!(bare, canonical_name("text_model.encoder.layers.0.mlp.fc1.weight"));
        assert_eq!(
            canonical_name("text_projection.weight").as_deref(),
            Some("text_projection.weight")
        );
    }
}
