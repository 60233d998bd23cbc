//! LDM's names of a VAE's parameters.

use super::{Stored, numbered, replace_prefix};
use crate::checkpoint::kinds::Storage;
use crate::vae::VaeConfig;

/// The middle block and the ends, within the encoder and the decoder.
const INSIDE: [(&str, &str); 9] = [
    ("conv_in", "conv_in"),
    ("conv_norm_out", "norm_out"),
    ("conv_out", "conv_out"),
    ("mid_block.resnets.0", "mid.block_1"),
    ("mid_block.resnets.1", "mid.block_2"),
    ("mid_block.attentions.0.group_norm", "mid.attn_1.norm"),
    ("mid_block.attentions.0.to_q", "mid.attn_1.q"),
    ("mid_block.attentions.0.to_k", "mid.attn_1.k"),
    ("mid_block.attentions.0.to_v", "mid.attn_1.v"),
];
const ATTENTION_OUT: [(&str, &str); 1] = [("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out")];

pub(super) fn ldm_name(config: &VaeConfig, name: &str) -> Option<Stored> {
    let (half, rest) = name.split_once('.')?;
    let inside = match half {
        "quant_conv" | "post_quant_conv" => return Stored::same(name),
        "encoder" => match rest.strip_prefix("down_blocks.") {
            Some(rest) => level(rest, "down", Some)?,
            None => middle(rest)?,
        },
        "decoder" => match rest.strip_prefix("up_blocks.") {
            // The original code counts the decoder's levels from the finest.
            Some(rest) => level(rest, "up", |index| {
                config.block_out_channels.len().checked_sub(index + 1)
            })?,
            None => middle(rest)?,
        },
        _ => return None,
    };
    // The attention's matrices are 1×1 convolutions there.
    let squeezed = rest.starts_with("mid_block.attentions") && !rest.contains("norm") && rest.ends_with("weight");
    Some(Stored {
        key: format!("{half}.{inside}"),
        storage: if squeezed { Storage::Squeezed } else { Storage::Same },
    })
}

fn middle(rest: &str) -> Option<String> {
    replace_prefix(rest, &INSIDE).or_else(|| replace_prefix(rest, &ATTENTION_OUT))
}

fn level(rest: &str, way: &str, place: impl Fn(usize) -> Option<usize>) -> Option<String> {
    let (index, rest) = numbered(rest)?;
    let level = place(index)?;
    for (from, to) in [
        ("downsamplers.0.conv.", "downsample.conv."),
        ("upsamplers.0.conv.", "upsample.conv."),
    ] {
        if let Some(rest) = rest.strip_prefix(from) {
            return Some(format!("{way}.{level}.{to}{rest}"));
        }
    }
    let (block, rest) = numbered(rest.strip_prefix("resnets.")?)?;
    let rest = rest.replace("conv_shortcut", "nin_shortcut");
    Some(format!("{way}.{level}.block.{block}.{rest}"))
}
