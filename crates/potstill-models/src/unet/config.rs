//! The configuration of a `UNet2DConditionModel`, as diffusers writes it.

use std::path::Path;

use serde_json::{Map, Value as Json, json};

use super::TIME_IDS;
use crate::error::Result;
use crate::fields::{Fields, read_object};

/// Most transformer blocks of a UNet (SDXL has 70): a configuration with more would only exhaust memory with names.
const MAX_TRANSFORMER_BLOCKS: usize = 1024;

/// The conditioning that SDXL adds to the time embedding (`addition_embed_type` = `text_time`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextTimeConfig {
    /// Width of the sinusoid of each of the six time ids (`addition_time_embed_dim`, 256).
    pub time_id_channels: usize,
    /// Width of the pooled text (`projection_class_embeddings_input_dim` less the time ids': 1280).
    pub pooled_channels: usize,
}

impl TextTimeConfig {
    /// Width of the pooled text and all sinusoids together (2816).
    pub fn input_channels(&self) -> usize {
        self.pooled_channels + TIME_IDS * self.time_id_channels
    }
}

/// What lies between the way down and the way up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MidBlockConfig {
    /// Nothing (small distilled UNets).
    None,
    /// One resnet (`UNetMidBlock2D` as SSD-1B and Vega have it).
    Resnet,
    /// Resnet, transformer of this many blocks, resnet.
    CrossAttention(usize),
}

/// The architecture of a UNet. Lists have one entry per level, from the finest to the coarsest.
#[derive(Debug, Clone, PartialEq)]
pub struct UnetConfig {
    /// Channels of the noisy latents.
    pub in_channels: usize,
    /// Channels of the prediction.
    pub out_channels: usize,
    /// Width of each level.
    pub block_out_channels: Vec<usize>,
    /// Whether each down level has attention.
    pub down_attention: Vec<bool>,
    /// Whether each up level has attention, from the coarsest to the finest as in `up_block_types`.
    pub up_attention: Vec<bool>,
    /// The middle block.
    pub mid_block: MidBlockConfig,
    /// Resnets per down level; up levels have one more.
    pub layers_per_block: Vec<usize>,
    /// Transformer blocks of every attention of each down level.
    pub down_transformer_layers: Vec<Vec<usize>>,
    /// Transformer blocks of every attention of each up level, from the coarsest to the finest. Depth-pruned models
    /// (SSD-1B, Vega) have others than on the way down.
    pub up_transformer_layers: Vec<Vec<usize>>,
    /// Number of attention heads (the field is called `attention_head_dim`).
    pub heads: Vec<usize>,
    /// Width of the text conditioning.
    pub cross_attention_dim: usize,
    /// Whether transformers are entered by linear layers (SDXL) rather than 1×1 convolutions (SD1.5).
    pub linear_projection: bool,
    /// Groups of every group normalisation.
    pub norm_groups: usize,
    /// Epsilon of the resnets' group normalisations.
    pub norm_eps: f64,
    /// Whether sinusoids are `[cos, sin]` instead of `[sin, cos]`.
    pub flip_sin_to_cos: bool,
    /// Shift of the sinusoids' frequencies.
    pub freq_shift: f64,
    /// SDXL's added conditioning.
    pub text_time: Option<TextTimeConfig>,
    /// Height and width of the latents that the model was made for, if stated.
    pub sample_size: Option<usize>,
    /// The JSON that this was read from; written back unchanged beside saved weights.
    json: Map<String, Json>,
}

impl UnetConfig {
    /// Reads a `config.json`.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(read_object(path)?, &path.display().to_string())
    }

    /// Reads a configuration's JSON object; `place` names it in errors.
    ///
    /// Fields that are absent or `null` have diffusers' defaults. A value that would need an operation that is not
    /// implemented is an error that names the field; fields unknown to diffusers are ignored, as there.
    pub fn parse(json: Map<String, Json>, place: &str) -> Result<Self> {
        let f = Fields::new(&json, place);
        refuse_unsupported(&f)?;
        let block_out_channels = f.levels("block_out_channels", &[320, 640, 1280, 1280])?;
        let levels = block_out_channels.len();
        let norm_groups = f.positive("norm_num_groups", 32)?;
        let heads = f.per_level("attention_head_dim", 8, levels)?;
        for (&width, &heads) in block_out_channels.iter().zip(&heads) {
            if width % norm_groups != 0 {
                return Err(f.error(
                    "norm_num_groups",
                    format!("{norm_groups} does not divide the width {width}"),
                ));
            }
            if width % heads != 0 {
                let reason =
                    format!("{heads} heads (the field is the number of heads) do not divide the width {width}");
                return Err(f.error("attention_head_dim", reason));
            }
        }
        if block_out_channels[0] % 2 != 0 {
            return Err(f.error(
                "block_out_channels",
                "the first width must be even: it is the time sinusoid's",
            ));
        }
        let layers_per_block = f.layers_per_level("layers_per_block", 2, levels)?;
        let down_transformer_layers = f.layer_lists("transformer_layers_per_block", &layers_per_block)?;
        let up_transformer_layers = up_transformer_layers(&f, &layers_per_block, &down_transformer_layers)?;
        let blocks: usize = down_transformer_layers
            .iter()
            .chain(&up_transformer_layers)
            .flatten()
            .sum();
        if blocks > MAX_TRANSFORMER_BLOCKS {
            let reason = format!("makes {blocks} transformer blocks; more than {MAX_TRANSFORMER_BLOCKS} are not read");
            return Err(f.error("transformer_layers_per_block", reason));
        }
        let config = Self {
            in_channels: f.positive("in_channels", 4)?,
            out_channels: f.positive("out_channels", 4)?,
            down_attention: attention_levels(
                &f,
                "down_block_types",
                ("CrossAttnDownBlock2D", "DownBlock2D"),
                &[
                    "CrossAttnDownBlock2D",
                    "CrossAttnDownBlock2D",
                    "CrossAttnDownBlock2D",
                    "DownBlock2D",
                ],
                levels,
            )?,
            up_attention: attention_levels(
                &f,
                "up_block_types",
                ("CrossAttnUpBlock2D", "UpBlock2D"),
                &[
                    "UpBlock2D",
                    "CrossAttnUpBlock2D",
                    "CrossAttnUpBlock2D",
                    "CrossAttnUpBlock2D",
                ],
                levels,
            )?,
            mid_block: mid_block(&f, &down_transformer_layers)?,
            up_transformer_layers,
            layers_per_block,
            down_transformer_layers,
            heads,
            cross_attention_dim: cross_attention_dim(&f, levels)?,
            linear_projection: f.bool("use_linear_projection", false)?,
            norm_groups,
            norm_eps: f.f64("norm_eps", 1e-5)?,
            flip_sin_to_cos: f.bool("flip_sin_to_cos", true)?,
            freq_shift: f.f64("freq_shift", 0.)?,
            text_time: text_time(&f)?,
            sample_size: sample_size(&f)?,
            block_out_channels,
            json: Map::new(),
        };
        Ok(Self { json, ..config })
    }

    /// Stable Diffusion 1.5.
    pub fn sd15() -> Self {
        Self::built_in(json!({
            "_class_name": "UNet2DConditionModel",
            "sample_size": 64,
            "in_channels": 4,
            "out_channels": 4,
            "block_out_channels": [320, 640, 1280, 1280],
            "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
            "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
            "layers_per_block": 2,
            "attention_head_dim": 8,
            "cross_attention_dim": 768,
        }))
    }

    /// Stable Diffusion XL (base).
    pub fn sdxl() -> Self {
        Self::built_in(json!({
            "_class_name": "UNet2DConditionModel",
            "sample_size": 128,
            "in_channels": 4,
            "out_channels": 4,
            "block_out_channels": [320, 640, 1280],
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
            "layers_per_block": 2,
            "transformer_layers_per_block": [1, 2, 10],
            "attention_head_dim": [5, 10, 20],
            "cross_attention_dim": 2048,
            "use_linear_projection": true,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        }))
    }

    fn built_in(json: Json) -> Self {
        let Json::Object(map) = json else {
            unreachable!("the literals above are objects")
        };
        Self::parse(map, "built-in configuration").expect("the built-in configurations are valid")
    }

    /// The JSON object that describes this configuration.
    pub fn json(&self) -> &Map<String, Json> {
        &self.json
    }

    /// Whether the other computes the same, however its JSON says so.
    pub(crate) fn same_architecture(&self, other: &Self) -> bool {
        let bare = |config: &Self| Self {
            json: Map::new(),
            ..config.clone()
        };
        bare(self) == bare(other)
    }

    /// Number of levels.
    pub fn levels(&self) -> usize {
        self.block_out_channels.len()
    }

    /// Width of the time embedding.
    pub fn time_channels(&self) -> usize {
        4 * self.block_out_channels[0]
    }
}

/// Which levels have attention, from a list of block types.
fn attention_levels(
    f: &Fields,
    field: &str,
    (with, without): (&str, &str),
    default: &[&str],
    levels: usize,
) -> Result<Vec<bool>> {
    let types = f.strings(field, default)?;
    if types.len() != levels {
        return Err(f.error(
            field,
            format!("has {} entries, block_out_channels has {levels}", types.len()),
        ));
    }
    types
        .iter()
        .map(|name| match name.as_str() {
            name if name == with => Ok(true),
            name if name == without => Ok(false),
            other => Err(f.error(
                field,
                format!("`{other}` is not supported (`{with}` and `{without}` are)"),
            )),
        })
        .collect()
}

fn mid_block(f: &Fields, down: &[Vec<usize>]) -> Result<MidBlockConfig> {
    // An explicit null means that there is none, unlike for other fields.
    if f.is_null("mid_block_type") {
        return Ok(MidBlockConfig::None);
    }
    match f.str("mid_block_type", "UNetMidBlock2DCrossAttn")? {
        "UNetMidBlock2D" => Ok(MidBlockConfig::Resnet),
        "UNetMidBlock2DCrossAttn" => {
            // diffusers gives the middle the coarsest level's entry; of a list, only the first would be meant.
            let coarsest = down.last().map_or(&[][..], Vec::as_slice);
            match coarsest.iter().all(|n| *n == coarsest[0]) {
                true => Ok(MidBlockConfig::CrossAttention(coarsest[0])),
                false => Err(f.error(
                    "transformer_layers_per_block",
                    "the coarsest level must have one depth for all, which the middle block has too",
                )),
            }
        }
        other => Err(f.error(
            "mid_block_type",
            format!("`{other}` is not supported (`UNetMidBlock2DCrossAttn`, `UNetMidBlock2D` and null are)"),
        )),
    }
}

/// Depths on the way up, coarsest level first: those of the way down unless stated.
fn up_transformer_layers(f: &Fields, layers_per_block: &[usize], down: &[Vec<usize>]) -> Result<Vec<Vec<usize>>> {
    const REVERSE: &str = "reverse_transformer_layers_per_block";
    let counts: Vec<usize> = layers_per_block.iter().rev().map(|n| n + 1).collect();
    if f.get(REVERSE).is_some() {
        return f.layer_lists(REVERSE, &counts);
    }
    down.iter()
        .rev()
        .zip(counts)
        .map(|(depths, count)| match depths.iter().all(|n| *n == depths[0]) {
            true => Ok(vec![depths[0]; count]),
            false => Err(f.error(
                REVERSE,
                "must say how deep the way up is when transformer_layers_per_block has a list for a level",
            )),
        })
        .collect()
}

fn cross_attention_dim(f: &Fields, levels: usize) -> Result<usize> {
    let widths = f.per_level("cross_attention_dim", 1280, levels)?;
    match widths.iter().all(|&w| w == widths[0]) {
        true => Ok(widths[0]),
        false => Err(f.error("cross_attention_dim", "different widths per level are not supported")),
    }
}

fn sample_size(f: &Fields) -> Result<Option<usize>> {
    match f.get("sample_size") {
        // A pair (height, width) is only a hint; there is no single size then.
        Some(Json::Array(_)) => Ok(None),
        _ => f.optional_usize("sample_size"),
    }
}

fn text_time(f: &Fields) -> Result<Option<TextTimeConfig>> {
    if f.get("addition_embed_type").is_none() {
        f.unset("addition_time_embed_dim")?;
        return Ok(None);
    }
    f.only("addition_embed_type", "text_time")?;
    let required = |field: &str| match f.optional_usize(field)? {
        Some(n) if n > 0 => Ok(n),
        _ => Err(f.error(
            field,
            "must be a positive number when addition_embed_type is \"text_time\"",
        )),
    };
    let time_id_channels = required("addition_time_embed_dim")?;
    let input_channels = required("projection_class_embeddings_input_dim")?;
    if time_id_channels % 2 != 0 {
        return Err(f.error("addition_time_embed_dim", "must be even"));
    }
    match input_channels.checked_sub(TIME_IDS * time_id_channels) {
        None | Some(0) => {
            let reason =
                format!("is {input_channels}; {TIME_IDS} time ids of {time_id_channels} leave no room for text");
            Err(f.error("projection_class_embeddings_input_dim", reason))
        }
        Some(pooled_channels) => Ok(Some(TextTimeConfig {
            time_id_channels,
            pooled_channels,
        })),
    }
}

/// Fields whose other values change the arithmetic in ways that are not implemented.
fn refuse_unsupported(f: &Fields) -> Result<()> {
    f.only("_class_name", "UNet2DConditionModel")?;
    for (field, supported) in [
        ("act_fn", json!("silu")),
        ("attention_type", json!("default")),
        ("center_input_sample", json!(false)),
        ("class_embeddings_concat", json!(false)),
        ("conv_in_kernel", json!(3)),
        ("conv_out_kernel", json!(3)),
        ("downsample_padding", json!(1)),
        ("dropout", json!(0)),
        ("dual_cross_attention", json!(false)),
        ("mid_block_scale_factor", json!(1)),
        ("only_cross_attention", json!(false)),
        ("resnet_out_scale_factor", json!(1)),
        ("resnet_skip_time_act", json!(false)),
        ("resnet_time_scale_shift", json!("default")),
        ("time_embedding_type", json!("positional")),
    ] {
        f.only(field, supported)?;
    }
    for field in [
        "class_embed_type",
        "cross_attention_norm",
        "encoder_hid_dim",
        "encoder_hid_dim_type",
        "mid_block_only_cross_attention",
        "num_attention_heads",
        "num_class_embeds",
        "time_cond_proj_dim",
        "time_embedding_act_fn",
        "time_embedding_dim",
        "timestep_post_act",
    ] {
        f.unset(field)?;
    }
    // `upcast_attention` is left alone: it only changes precision, and everything is f32 here.
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: Json) -> Result<UnetConfig> {
        UnetConfig::parse(json.as_object().expect("an object").clone(), "unet/config.json")
    }

    #[test]
    fn defaults_are_diffusers() {
        let config = parse(json!({"cross_attention_dim": 768})).unwrap();
        assert_eq!(
            UnetConfig {
                json: UnetConfig::sd15().json,
                sample_size: Some(64),
                ..config
            },
            UnetConfig::sd15()
        );
    }

    #[test]
    fn unsupported_values_are_refused_by_name() {
        for (field, value) in [
            ("act_fn", json!("gelu")),
            ("class_embed_type", json!("timestep")),
            (
                "down_block_types",
                json!(["AttnDownBlock2D", "DownBlock2D", "DownBlock2D", "DownBlock2D"]),
            ),
            ("num_attention_heads", json!(8)),
            ("addition_embed_type", json!("text_image")),
            ("time_cond_proj_dim", json!(256)),
            ("attention_head_dim", json!(7)),
            ("norm_num_groups", json!(0)),
            ("norm_num_groups", json!(33)),
            ("layers_per_block", json!([2, 2])),
            ("transformer_layers_per_block", json!([1, [1, 2], 1, 1])),
            ("transformer_layers_per_block", json!(128)),
            ("mid_block_type", json!("UNetMidBlock2DSimpleCrossAttn")),
            ("block_out_channels", json!([])),
            ("in_channels", json!(1e30)),
        ] {
            let error = parse(json!({field: value})).unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }

    #[test]
    fn text_time_needs_its_widths() {
        let error = parse(json!({"addition_embed_type": "text_time"}))
            .unwrap_err()
            .to_string();
        assert!(error.contains("addition_time_embed_dim"), "{error}");
    }

    #[test]
    fn explicit_null_means_no_mid_block() {
        let middle = |value: Json| parse(value).unwrap().mid_block;
        assert_eq!(middle(json!({"mid_block_type": null})), MidBlockConfig::None);
        assert_eq!(middle(json!({})), MidBlockConfig::CrossAttention(1));
        assert_eq!(
            middle(json!({"mid_block_type": "UNetMidBlock2D"})),
            MidBlockConfig::Resnet
        );
    }

    #[test]
    fn the_way_up_may_be_deeper_than_the_way_down() {
        let pruned = parse(json!({
            "block_out_channels": [320, 640, 1280], "mid_block_type": "UNetMidBlock2D",
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
            "transformer_layers_per_block": [1, [2, 2], [4, 4]],
            "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1],
        }))
        .unwrap();
        assert_eq!(pruned.down_transformer_layers, [[1, 1], [2, 2], [4, 4]]);
        assert_eq!(pruned.up_transformer_layers, [[4, 4, 10], [2, 1, 1], [1, 1, 1]]);
        let error = parse(json!({"reverse_transformer_layers_per_block": [[1, 1], 1, 1, 1]})).unwrap_err();
        assert!(error.to_string().contains("3"), "{error}");
    }
}
