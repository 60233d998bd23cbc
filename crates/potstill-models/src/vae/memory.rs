//! How much memory the activations of a VAE take, from its configuration alone.

use super::config::VaeConfig;

/// Which way a picture goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From pixels to latents.
    Encode,
    /// From latents to pixels.
    Decode,
}

/// Tensors of a resnet that live at once: its input, and around a convolution what goes in and what comes out.
const RESNET_TENSORS: usize = 4;

/// The most values of activations that live at once for pictures of this size in pixels, nothing being kept.
#[must_use]
pub fn vae_activations(config: &VaeConfig, direction: Direction, batch: usize, height: usize, width: usize) -> u64 {
    let widths = &config.block_out_channels;
    let levels = widths.iter().enumerate().map(|(level, &channels)| {
        let positions = batch * (height >> level) * (width >> level);
        // Decoding comes from the coarser level: its channels, enlarged, enter the first resnet.
        let wider = match direction {
            Direction::Encode => channels,
            Direction::Decode => widths.get(level + 1).copied().unwrap_or(channels),
        };
        (positions * (RESNET_TENSORS * channels).max(2 * wider + 2 * channels)) as u64
    });
    levels.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finest_level_takes_the_most() {
        let config = VaeConfig::sd(0.18215);
        let pixels = 512 * 512;
        assert_eq!(
            vae_activations(&config, Direction::Encode, 1, 512, 512),
            4 * 128 * pixels
        );
        assert_eq!(
            vae_activations(&config, Direction::Decode, 2, 512, 512),
            2 * (2 * 256 + 2 * 128) * pixels
        );
    }
}
