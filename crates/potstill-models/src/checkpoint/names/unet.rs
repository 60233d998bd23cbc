//! LDM's names of a UNet's parameters: blocks are numbered through all levels.

use super::{Stored, numbered, replace_prefix};
use crate::unet::UnetConfig;

/// Outside of the levels.
const TOP: [(&str, &str); 10] = [
    ("conv_in", "input_blocks.0.0"),
    ("time_embedding.linear_1", "time_embed.0"),
    ("time_embedding.linear_2", "time_embed.2"),
    ("add_embedding.linear_1", "label_emb.0.0"),
    ("add_embedding.linear_2", "label_emb.0.2"),
    ("conv_norm_out", "out.0"),
    ("conv_out", "out.2"),
    ("mid_block.attentions.0", "middle_block.1"),
    ("mid_block.resnets.0", "middle_block.0"),
    ("mid_block.resnets.1", "middle_block.2"),
];
/// Inside a resnet; transformers have the same names in both.
const RESNET: [(&str, &str); 6] = [
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("time_emb_proj", "emb_layers.1"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("conv_shortcut", "skip_connection"),
];

pub(super) fn ldm_name(config: &UnetConfig, name: &str) -> Option<Stored> {
    if let Some(rest) = name.strip_prefix("down_blocks.") {
        return Stored::same(down(config, rest)?);
    }
    if let Some(rest) = name.strip_prefix("up_blocks.") {
        return Stored::same(up(config, rest)?);
    }
    let key = replace_prefix(name, &TOP)?;
    match name.starts_with("mid_block.resnets") {
        true => {
            let (block, inside) = key.split_at_checked("middle_block.0.".len())?;
            Stored::same(format!("{block}{}", replace_prefix(inside, &RESNET)?))
        }
        false => Stored::same(key),
    }
}

fn down(config: &UnetConfig, rest: &str) -> Option<String> {
    let (level, rest) = numbered(rest)?;
    let layers = *config.layers_per_block.get(level)?;
    // Block 0 is conv_in; every level before has its layers and a downsampler.
    let first = 1 + config.layers_per_block[..level].iter().map(|n| n + 1).sum::<usize>();
    if let Some(rest) = rest.strip_prefix("downsamplers.0.conv.") {
        return Some(format!("input_blocks.{}.0.op.{rest}", first + layers));
    }
    layer("input_blocks", first, layers, rest)
}

fn up(config: &UnetConfig, rest: &str) -> Option<String> {
    let (index, rest) = numbered(rest)?;
    let level = config.levels().checked_sub(index + 1)?;
    // Coarsest first; every level has one layer more than on the way down.
    let first = config.layers_per_block[level + 1..]
        .iter()
        .map(|n| n + 1)
        .sum::<usize>();
    let layers = config.layers_per_block[level] + 1;
    if let Some(rest) = rest.strip_prefix("upsamplers.0.conv.") {
        // The upsampler follows what else its block has.
        let place = if *config.up_attention.get(index)? { 2 } else { 1 };
        return Some(format!("output_blocks.{}.{place}.conv.{rest}", first + layers - 1));
    }
    layer("output_blocks", first, layers, rest)
}

fn layer(blocks: &str, first: usize, layers: usize, rest: &str) -> Option<String> {
    let (attention, rest) = match rest.strip_prefix("resnets.") {
        Some(rest) => (false, rest),
        None => (true, rest.strip_prefix("attentions.")?),
    };
    let (layer, rest) = numbered(rest)?;
    let block = first + layer;
    match (layer < layers, attention) {
        (false, _) => None,
        (true, true) => Some(format!("{blocks}.{block}.1.{rest}")),
        (true, false) => Some(format!("{blocks}.{block}.0.{}", replace_prefix(rest, &RESNET)?)),
    }
}
