//! The three documents, field by field. Keys are camelCase; digests are SHA-256 in lower-case hex.

use std::collections::BTreeMap;
use std::fmt;

use potstill_io::Dtype;
use potstill_noise::{Generator, View};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::Digest32;

/// Version of the plans, and of how pixels, keys, noise and timesteps are made from them.
pub(crate) const PLAN_VERSION: u32 = 1;

/// The constant `format` of every plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum CacheFormat {
    /// `"potstill-cache"`.
    #[default]
    #[serde(rename = "potstill-cache")]
    PotstillCache,
}

/// The constant `component` of a [`LatentsPlan`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LatentsTag {
    /// `"latents"`.
    #[default]
    Latents,
}

/// The constant `component` of a [`TextPlan`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextTag {
    /// `"text"`.
    #[default]
    Text,
}

/// The constant `component` of a [`TeacherPlan`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TeacherTag {
    /// `"teacher"`.
    #[default]
    Teacher,
}

/// How numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageDtype {
    /// Half precision.
    F16,
    /// The upper half of single precision.
    Bf16,
    /// Single precision.
    F32,
}

impl From<StorageDtype> for Dtype {
    fn from(dtype: StorageDtype) -> Self {
        match dtype {
            StorageDtype::F16 => Self::F16,
            StorageDtype::Bf16 => Self::Bf16,
            StorageDtype::F32 => Self::F32,
        }
    }
}

/// The files that fix what a model computes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelDigest {
    /// Digest of each weight file, by its name within the component's folder.
    pub weights: BTreeMap<String, Digest32>,
    /// Digest of the canonical JSON of `config.json` without the keys that begin with `_`.
    pub config: Digest32,
}

/// How a latent is taken from the VAE's distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sampling {
    /// Its mean.
    Mean,
}

/// The VAE that made the latents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VaePlan {
    /// Digest of each weight file.
    pub weights: BTreeMap<String, Digest32>,
    /// Digest of the configuration.
    pub config: Digest32,
    /// Latents are the VAE's output times this.
    pub scaling_factor: f64,
    /// What of the VAE's distribution.
    pub sampling: Sampling,
    /// Channels of a latent.
    pub channels: u32,
    /// Pixels per latent pixel, along each side.
    pub downscale: u32,
}

/// A view of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewOfImage {
    /// SHA-256 of the image's file.
    pub image: Digest32,
    /// What part of it.
    #[serde(serialize_with = "write_view", deserialize_with = "read_view")]
    pub view: View,
}

fn write_view<S: Serializer>(view: &View, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(view)
}

fn read_view<'de, D: Deserializer<'de>>(deserializer: D) -> Result<View, D::Error> {
    std::borrow::Cow::<str>::deserialize(deserializer)?
        .parse()
        .map_err(serde::de::Error::custom)
}

/// Latents: record i shows `views[i]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LatentsPlan {
    /// Constant.
    pub format: CacheFormat,
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// Constant.
    pub component: LatentsTag,
    /// How latents are stored.
    pub dtype: StorageDtype,
    /// Records per shard; the last of a size may hold fewer.
    pub shard_records: u32,
    /// What encoded the images.
    pub vae: VaePlan,
    /// Views of one size lie together; no two are alike.
    pub views: Vec<ViewOfImage>,
}

/// A text encoder with its tokenizer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EncoderDigest {
    /// Digest of each weight file.
    pub weights: BTreeMap<String, Digest32>,
    /// Digest of the configuration.
    pub config: Digest32,
    /// Digest of each tokenizer file, by its name within the tokenizer's folder.
    pub tokenizer: BTreeMap<String, Digest32>,
}

/// Shape of an encoded caption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextShape {
    /// Tokens of a sequence: 77 for CLIP.
    pub tokens: u32,
    /// Width of a token's state: 768 for SD1.5, 2048 for SDXL.
    pub width: u32,
    /// Width of the pooled state, where the UNet is conditioned on one: 1280 for SDXL.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pooled: Option<u32>,
}

/// Text: record i encodes `captions[i]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TextPlan {
    /// Constant.
    pub format: CacheFormat,
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// Constant.
    pub component: TextTag,
    /// How states are stored.
    pub dtype: StorageDtype,
    /// Records per shard; the last may hold fewer.
    pub shard_records: u32,
    /// One for SD1.5, two for SDXL.
    pub encoders: Vec<EncoderDigest>,
    /// Shape of a record.
    pub shape: TextShape,
    /// No two alike; the first is the empty one, the unconditional text.
    pub captions: Vec<String>,
}

/// What a UNet predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PredictionKind {
    /// The noise ε.
    Epsilon,
    /// The velocity √ᾱ·ε − √(1−ᾱ)·x₀.
    V,
    /// The clean latent x₀.
    X0,
    /// The flow ε − x₀.
    Flow,
}

impl PredictionKind {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Epsilon, Self::V, Self::X0, Self::Flow];

    /// Its name in plans.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Epsilon => "epsilon",
            Self::V => "v",
            Self::X0 => "x0",
            Self::Flow => "flow",
        }
    }
}

/// The noise schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SchedulePlan {
    /// Number of timesteps.
    pub timesteps: u32,
    /// ᾱ of every timestep as little-endian f32, in lower-case hex.
    pub alphas_cumprod: String,
}

/// An adapter on the teacher's weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Adapter {
    /// Digest of the adapter's file.
    pub file: Digest32,
    /// Its strength.
    pub scale: f64,
}

/// How a teacher's weights are held while it predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightStorage {
    /// Single precision.
    F32,
    /// Matrices and kernels in bf16, and multiplied in it.
    Bf16,
    /// Matrices of linear layers in bitsandbytes' 4 bits.
    Nf4,
    /// In 8 bits with a scale for each row.
    Int8,
    /// In eight-bit floats with a scale.
    Fp8,
}

impl WeightStorage {
    /// Its name in a plan.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Nf4 => "nf4",
            Self::Int8 => "int8",
            Self::Fp8 => "fp8",
        }
    }
}

/// A prediction that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PredictionField {
    /// With the sample's caption.
    Cond,
    /// With the unconditional text.
    Uncond,
}

impl PredictionField {
    /// Name of the tensor in a shard.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cond => "cond",
            Self::Uncond => "uncond",
        }
    }
}

/// What the unconditional prediction is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unconditional {
    /// The encoding of the empty caption.
    Empty,
}

/// Where the noise comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NoisePlan {
    /// Which generator.
    #[serde(serialize_with = "write_noise", deserialize_with = "read_noise")]
    pub generator: NoiseOfPlan,
    /// Enters every draw's seed; at most 2⁵³ − 1, which JSON can hold.
    pub base_seed: u64,
}

/// How the noise of a plan's draws is had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoiseOfPlan {
    /// Made from the draw's seed.
    Made(Generator),
    /// Stored beside the predictions, for it came from elsewhere: `"stored"`. Seeds and timesteps are `given`.
    Stored,
}

/// The name of stored noise.
const STORED: &str = "stored";

impl fmt::Display for NoiseOfPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Made(generator) => generator.fmt(f),
            Self::Stored => f.write_str(STORED),
        }
    }
}

impl From<Generator> for NoiseOfPlan {
    fn from(generator: Generator) -> Self {
        Self::Made(generator)
    }
}

fn write_noise<S: Serializer>(noise: &NoiseOfPlan, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(noise)
}

fn read_noise<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NoiseOfPlan, D::Error> {
    let name = std::borrow::Cow::<str>::deserialize(deserializer)?;
    if name == STORED {
        return Ok(NoiseOfPlan::Stored);
    }
    name.parse().map(NoiseOfPlan::Made).map_err(serde::de::Error::custom)
}

fn write_seed<S: Serializer>(seed: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(seed)
}

fn read_seed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    std::borrow::Cow::<str>::deserialize(deserializer)?
        .parse()
        .map_err(serde::de::Error::custom)
}

/// A draw that is not derived from a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenDraw {
    /// Seed that it was drawn with; in JSON a decimal string, for it may have 64 bits.
    #[serde(serialize_with = "write_seed", deserialize_with = "read_seed")]
    pub seed: u64,
    /// Its timestep.
    pub timestep: u32,
    /// BLAKE3 of the stored noise.
    pub noise: Digest32,
}

/// A teacher: record s·draws + k is its prediction for draw k of `samples[s]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TeacherPlan {
    /// Constant.
    pub format: CacheFormat,
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// Constant.
    pub component: TeacherTag,
    /// How predictions are stored.
    pub dtype: StorageDtype,
    /// Records per shard; the last of a size may hold fewer.
    pub shard_records: u32,
    /// Name of the teacher; its folder.
    pub id: String,
    /// Its weights.
    pub unet: ModelDigest,
    /// What it predicts.
    pub prediction: PredictionKind,
    /// Its noise schedule.
    pub schedule: SchedulePlan,
    /// Adapters in force.
    pub adapters: Vec<Adapter>,
    /// How the weights were held.
    pub storage: WeightStorage,
    /// Which predictions are kept.
    pub fields: Vec<PredictionField>,
    /// What `uncond` means.
    pub unconditional: Unconditional,
    /// Noise of the draws.
    pub noise: NoisePlan,
    /// K: draws of (timestep, noise) per view.
    pub draws: u32,
    /// Half-open range of the timesteps.
    pub timesteps: (u32, u32),
    /// Of stored noise: the draw of every record.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub given: Option<Vec<GivenDraw>>,
    /// Digest of the latents' plan.
    pub latents: Digest32,
    /// Digest of the text's plan.
    pub text: Digest32,
    /// Pairs of view (index into the latents' plan) and caption (index into the text's), ascending, no two alike.
    pub samples: Vec<(u32, u32)>,
    /// SDXL: height, width, crop top, crop left, target height, target width of every view.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub time_ids: Option<Vec<[f64; 6]>>,
}
