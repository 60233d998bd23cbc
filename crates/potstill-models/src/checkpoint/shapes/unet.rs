//! A UNet's configuration from its tensors, under LDM's names or diffusers'. Depth-pruned relatives (SSD-1B, Vega, KOALA)
//! differ in the number of layers and transformer blocks only, which are counted here.
//!
//! What shapes cannot tell has the published families' values: 32 groups; 8 heads for SD1.5, heads of 64 channels for
//! SDXL.

use serde_json::{Map, Value as Json, json};

use super::Keys;
use crate::checkpoint::kinds::Dialect;
use crate::error::{ModelError, Result};
use crate::unet::{MidBlockConfig, TIME_IDS, UnetConfig};

/// SD1.5's number of heads on every level.
const SD15_HEADS: usize = 8;
/// Channels of an attention head in SDXL.
const SDXL_HEAD_CHANNELS: usize = 64;
/// Channels of SDXL's sinusoids of each time id, where no text encoder tells the width of the pooled text.
const SDXL_TIME_ID_CHANNELS: usize = 256;

/// Width, and transformer blocks of every layer (0: no attention).
#[derive(Debug, Default)]
struct Level {
    width: usize,
    depths: Vec<usize>,
}

struct Anatomy {
    /// Finest first.
    down: Vec<Level>,
    middle: MidBlockConfig,
    /// Coarsest first.
    up: Vec<Level>,
}

/// The configuration that the keys imply. `pooled` is the width of the pooled text when a text encoder tells it.
pub(in crate::checkpoint) fn unet_config(
    keys: &Keys,
    dialect: Dialect,
    pooled: Option<usize>,
    place: &str,
) -> Result<UnetConfig> {
    let config = implied(keys, dialect, pooled).ok_or_else(|| ModelError::Unsupported {
        place: place.to_string(),
        what: "a UNet whose blocks are arranged as in no model of the SD1.5 and SDXL families".to_string(),
    })?;
    UnetConfig::parse(config, place)
}

fn implied(keys: &Keys, dialect: Dialect, pooled: Option<usize>) -> Option<Map<String, Json>> {
    let (anatomy, conv_in, conv_out, added) = match dialect {
        Dialect::Ldm => (
            ldm(keys),
            "input_blocks.0.0.weight",
            "out.2.weight",
            "label_emb.0.0.weight",
        ),
        _ => (
            diffusers(keys),
            "conv_in.weight",
            "conv_out.weight",
            "add_embedding.linear_1.weight",
        ),
    };
    let Anatomy { down, middle, up } = anatomy;
    let fits = |(down, up): (&Level, &Level)| down.width == up.width && down.depths.len() + 1 == up.depths.len();
    if down.is_empty() || down.len() != up.len() || !down.iter().rev().zip(&up).all(fits) {
        return None;
    }
    let widths: Vec<usize> = down.iter().map(|level| level.width).collect();
    let added = keys.size(added, 1);
    let mut map = Map::new();
    let mut set = |field: &str, value: Json| map.insert(field.to_string(), value);
    set("_class_name", json!("UNet2DConditionModel"));
    set("sample_size", json!(if added.is_some() { 128 } else { 64 }));
    set("in_channels", json!(keys.size(conv_in, 1)?));
    set("out_channels", json!(keys.size(conv_out, 0)?));
    set("block_out_channels", json!(widths));
    set(
        "down_block_types",
        block_types(&down, "DownBlock2D", "CrossAttnDownBlock2D")?,
    );
    set("up_block_types", block_types(&up, "UpBlock2D", "CrossAttnUpBlock2D")?);
    set(
        "mid_block_type",
        match middle {
            MidBlockConfig::None => Json::Null,
            MidBlockConfig::Resnet => json!("UNetMidBlock2D"),
            MidBlockConfig::CrossAttention(_) => json!("UNetMidBlock2DCrossAttn"),
        },
    );
    let layers: Vec<usize> = down.iter().map(|level| level.depths.len()).collect();
    set("layers_per_block", shortest(&layers));
    let (depths, reverse) = depths(&down, middle, &up)?;
    set("transformer_layers_per_block", depths);
    if let Some(reverse) = reverse {
        set("reverse_transformer_layers_per_block", reverse);
    }
    set("cross_attention_dim", json!(keys.size_of_any("attn2.to_k.weight", 1)?));
    set("use_linear_projection", json!(keys.rank_of_any("proj_in.weight")? == 2));
    set("act_fn", json!("silu"));
    set("norm_num_groups", json!(32));
    set("norm_eps", json!(1e-5));
    set("flip_sin_to_cos", json!(true));
    set("freq_shift", json!(0));
    let Some(added) = added else {
        set("attention_head_dim", json!(SD15_HEADS));
        return Some(map);
    };
    let heads: Vec<usize> = widths.iter().map(|w| (w / SDXL_HEAD_CHANNELS).max(1)).collect();
    set("attention_head_dim", json!(heads));
    set("addition_embed_type", json!("text_time"));
    set("projection_class_embeddings_input_dim", json!(added));
    let channels = match pooled {
        Some(pooled) => added.checked_sub(pooled)? / TIME_IDS,
        None => SDXL_TIME_ID_CHANNELS,
    };
    set("addition_time_embed_dim", json!(channels));
    Some(map)
}

/// One number when all are equal, else the list.
fn shortest(list: &[usize]) -> Json {
    match list.iter().all(|n| *n == list[0]) {
        true => json!(list[0]),
        false => json!(list),
    }
}

fn block_types(levels: &[Level], without: &str, with: &str) -> Option<Json> {
    levels
        .iter()
        .map(|level| match level.depths.iter().filter(|d| **d > 0).count() {
            0 => Some(json!(without)),
            n if n == level.depths.len() => Some(json!(with)),
            _ => None,
        })
        .collect::<Option<Vec<Json>>>()
        .map(Json::Array)
}

/// `transformer_layers_per_block` and, where the way up is not the mirror of the way down,
/// `reverse_transformer_layers_per_block`. Levels without attention have an entry, which means nothing, of 1; diffusers
/// takes the middle block's depth from the coarsest level's.
fn depths(down: &[Level], middle: MidBlockConfig, up: &[Level]) -> Option<(Json, Option<Json>)> {
    let uniform = |level: &Level| level.depths.iter().all(|d| *d == level.depths[0]);
    let coarsest = down.len() - 1;
    let mirrored = down
        .iter()
        .zip(up.iter().rev())
        .all(|(d, u)| uniform(d) && uniform(u) && (d.depths[0] == u.depths[0] || d.depths[0] == 0 || u.depths[0] == 0));
    let entry = |level: &Level, other: Option<&Level>| match level.depths[0] {
        0 => json!(other.map_or(1, |o| o.depths[0].max(1))),
        depth if mirrored => json!(depth),
        _ => json!(level.depths),
    };
    let mut list: Vec<Json> = down
        .iter()
        .zip(up.iter().rev())
        .map(|(d, u)| entry(d, mirrored.then_some(u)))
        .collect();
    if let MidBlockConfig::CrossAttention(depth) = middle {
        let level = &down[coarsest].depths;
        match level.iter().all(|d| *d == depth) {
            true => list[coarsest] = json!(depth),
            false if level[0] == 0 && (up[0].depths[0] == 0 || !mirrored) => list[coarsest] = json!(depth),
            false => return None,
        }
    }
    let reverse = (!mirrored).then(|| Json::Array(up.iter().map(|level| entry(level, None)).collect()));
    let plain = list.iter().all(|entry| *entry == json!(1)) && reverse.is_none();
    Some((if plain { json!(1) } else { Json::Array(list) }, reverse))
}

fn transformer_depth(keys: &Keys, attention: &str) -> usize {
    keys.count(|i| format!("{attention}.transformer_blocks.{i}.attn1.to_q.weight"))
}

fn ldm(keys: &Keys) -> Anatomy {
    let width = |block: &str| keys.size(&format!("{block}.0.in_layers.2.weight"), 0);
    let mut down = vec![Level::default()];
    for block in (1..).map(|n| format!("input_blocks.{n}")) {
        let last = down.len() - 1;
        if keys.has(&format!("{block}.0.op.weight")) {
            down.push(Level::default());
        } else if let Some(width) = width(&block) {
            down[last].width = width;
            down[last].depths.push(transformer_depth(keys, &format!("{block}.1")));
        } else {
            break;
        }
    }
    let mut up = vec![Level::default()];
    for block in (0..).map(|n| format!("output_blocks.{n}")) {
        let Some(width) = width(&block) else { break };
        let last = up.len() - 1;
        up[last].width = width;
        up[last].depths.push(transformer_depth(keys, &format!("{block}.1")));
        if (1..=2).any(|place| keys.has(&format!("{block}.{place}.conv.weight"))) {
            up.push(Level::default());
        }
    }
    let resnet = |place: usize| keys.has(&format!("middle_block.{place}.in_layers.2.weight"));
    Anatomy {
        down: complete(down),
        middle: middle(resnet(0), transformer_depth(keys, "middle_block.1")),
        up: complete(up),
    }
}

fn diffusers(keys: &Keys) -> Anatomy {
    let level = |block: String| {
        let width = keys.size(&format!("{block}.resnets.0.conv1.weight"), 0)?;
        let layers = keys.count(|i| format!("{block}.resnets.{i}.conv1.weight"));
        let depths = (0..layers)
            .map(|i| transformer_depth(keys, &format!("{block}.attentions.{i}")))
            .collect();
        Some(Level { width, depths })
    };
    let levels = |way: &str| (0..).map_while(|i| level(format!("{way}.{i}"))).collect();
    Anatomy {
        down: levels("down_blocks"),
        middle: middle(
            keys.has("mid_block.resnets.0.conv1.weight"),
            transformer_depth(keys, "mid_block.attentions.0"),
        ),
        up: levels("up_blocks"),
    }
}

fn middle(resnet: bool, depth: usize) -> MidBlockConfig {
    match (resnet, depth) {
        (_, 1..) => MidBlockConfig::CrossAttention(depth),
        (true, 0) => MidBlockConfig::Resnet,
        (false, 0) => MidBlockConfig::None,
    }
}

/// The levels, or nothing when one of them has no layer.
fn complete(levels: Vec<Level>) -> Vec<Level> {
    match levels.iter().all(|level| !level.depths.is_empty()) {
        true => levels,
        false => Vec::new(),
    }
}
