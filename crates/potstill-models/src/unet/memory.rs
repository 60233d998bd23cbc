//! How much memory a UNet takes to predict with and to train, from its configuration alone.
//!
//! The layers are walked as [`Unet::forward`](super::Unet::forward) runs them, counting what each keeps for the backward
//! pass: the inputs of normalisations, activations and attention always, those of linear layers and convolutions where their
//! weights (or a LoRA beside them) are trained. The way back then frees what the way forward kept while gradients of the
//! weights and of skip connections pile up; the peak is the largest sum along it.

use super::Unet;
use super::config::{MidBlockConfig, UnetConfig};
use crate::error::Result;

/// Which weights are trained.
#[derive(Clone, Copy)]
pub enum Trained<'a> {
    /// None: predictions alone.
    Nothing,
    /// All of them.
    Whole,
    /// A LoRA of this rank beside the layers whose path this accepts.
    Lora {
        /// Of every layer's product.
        rank: usize,
        /// Is there one beside the layer of this path?
        beside: &'a dyn Fn(&str) -> bool,
    },
}

/// What is computed.
#[derive(Clone, Copy)]
pub struct MemoryRequest<'a> {
    /// Samples at once.
    pub batch: usize,
    /// Of the latents.
    pub height: usize,
    /// Of the latents.
    pub width: usize,
    /// Of a prompt.
    pub tokens: usize,
    /// What is trained.
    pub trained: Trained<'a>,
    /// Activations inside resnets and transformer blocks are computed again on the way back.
    pub recompute: bool,
}

/// Numbers of values; each takes four bytes in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnetMemory {
    /// Weights of the UNet.
    pub weights: u64,
    /// What is trained: the weights, or a LoRA's.
    pub trained: u64,
    /// The most activations, and gradients of activations, that live at once.
    pub activations: u64,
    /// The most activations and gradients, those of what is trained among them, that live at once: less than the sum of
    /// either at its own most.
    pub activations_and_gradients: u64,
}

/// A part of the network in the order of the forward pass.
#[derive(Default, Clone, Copy)]
struct Stage {
    /// Values kept for the backward pass.
    kept: u64,
    /// Values that live while it runs, forward.
    forward: u64,
    /// Values that live while it runs, backward.
    backward: u64,
    /// Values of what is trained in it.
    trained: u64,
    /// Values of its output that a later stage takes as a skip connection.
    pushed: u64,
    /// Values of the skip connection that it takes.
    popped: u64,
}

/// The memory of a request.
///
/// # Errors
/// When the configuration has no such UNet.
pub fn unet_memory(config: &UnetConfig, request: &MemoryRequest) -> Result<UnetMemory> {
    let shapes = Unet::shapes(config)?;
    let count = |shape: &[usize]| shape.iter().product::<usize>() as u64;
    let weights = shapes.iter().map(|(_, shape)| count(shape)).sum();
    let trained_of = |name: &str, shape: &[usize]| match request.trained {
        Trained::Nothing => 0,
        Trained::Whole => count(shape),
        Trained::Lora { rank, beside } => match name.strip_suffix(".weight") {
            Some(path) if shape.len() >= 2 && beside(path) => {
                (rank * (shape[0] + shape[1..].iter().product::<usize>())) as u64
            }
            _ => 0,
        },
    };
    let mut walk = Walk::new(config, request);
    walk.run();
    for (name, shape) in &shapes {
        let stage = walk.stage_of(name);
        walk.stages[stage].trained += trained_of(name, shape);
    }
    let trained = walk.stages.iter().map(|stage| stage.trained).sum();
    let (activations, activations_and_gradients) = match request.trained {
        Trained::Nothing => {
            let most = most_of_prediction(&walk.stages);
            (most, most)
        }
        _ => (
            most_of_training(&walk.stages, false),
            most_of_training(&walk.stages, true),
        ),
    };
    Ok(UnetMemory {
        weights,
        trained,
        activations,
        activations_and_gradients,
    })
}

/// Nothing is kept but skip connections until they are taken.
fn most_of_prediction(stages: &[Stage]) -> u64 {
    let (mut skips, mut most) = (0, 0);
    for stage in stages {
        most = most.max(skips + stage.forward);
        skips = skips + stage.pushed - stage.popped.min(skips + stage.pushed);
    }
    most
}

fn most_of_training(stages: &[Stage], with_gradients: bool) -> u64 {
    let mut kept = 0;
    let mut most = 0;
    for stage in stages {
        most = most.max(kept + stage.kept + stage.forward);
        kept += stage.kept;
    }
    let (mut gradients, mut of_skips) = (0, 0);
    for stage in stages.iter().rev() {
        of_skips += stage.popped;
        gradients += if with_gradients { stage.trained } else { 0 };
        most = most.max(kept + gradients + of_skips + stage.backward);
        of_skips -= stage.pushed.min(of_skips);
        kept -= stage.kept;
    }
    most
}

struct Walk<'a> {
    config: &'a UnetConfig,
    request: &'a MemoryRequest<'a>,
    stages: Vec<Stage>,
    /// Prefixes of the parameters' names, aligned with the stages.
    prefixes: Vec<String>,
    /// Does what flows forward depend on something that is trained?
    tracked: bool,
}

impl<'a> Walk<'a> {
    fn new(config: &'a UnetConfig, request: &'a MemoryRequest<'a>) -> Self {
        Self {
            config,
            request,
            stages: Vec::new(),
            prefixes: Vec::new(),
            tracked: false,
        }
    }

    /// The stage that a parameter belongs to; the first for the embeddings of time.
    fn stage_of(&self, name: &str) -> usize {
        let belongs = |prefix: &String| {
            name.strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.starts_with('.'))
        };
        self.prefixes.iter().rposition(belongs).unwrap_or(0)
    }

    fn push(&mut self, prefix: String, stage: Stage) {
        self.prefixes.push(prefix);
        self.stages.push(stage);
    }

    fn trains(&self, path: &str) -> bool {
        match self.request.trained {
            Trained::Nothing => false,
            Trained::Whole => true,
            Trained::Lora { beside, .. } => beside(path),
        }
    }

    /// Positions of the images of a level, of all samples.
    fn positions(&self, level: usize) -> u64 {
        let halved = |mut n: usize| {
            (0..level).for_each(|_| n = n.div_ceil(2));
            n
        };
        let MemoryRequest {
            batch, height, width, ..
        } = *self.request;
        (batch * halved(height) * halved(width)) as u64
    }

    fn run(&mut self) {
        let widths = self.config.block_out_channels.clone();
        let first = self.positions(0) * widths[0] as u64;
        self.convolution(
            "conv_in".to_owned(),
            self.positions(0) * self.config.in_channels as u64,
            first,
            first,
        );
        let mut inputs = widths[0];
        for (level, &channels) in widths.iter().enumerate() {
            let block = format!("down_blocks.{level}");
            let pushed = self.positions(level) * channels as u64;
            for i in 0..self.config.layers_per_block[level] {
                let depth = self.config.down_attention[level].then(|| self.config.down_transformer_layers[level][i]);
                self.layer(&block, i, level, (inputs, 0, channels), depth);
                self.stages.last_mut().expect("a layer has a stage").pushed = pushed;
                inputs = channels;
            }
            if level + 1 < widths.len() {
                let output = self.positions(level + 1) * channels as u64;
                self.convolution(format!("{block}.downsamplers.0.conv"), pushed, output, output);
            }
        }
        let last = widths.len() - 1;
        let middle = (widths[last], 0, widths[last]);
        match self.config.mid_block {
            MidBlockConfig::None => {}
            MidBlockConfig::Resnet => self.layer("mid_block", 0, last, middle, None),
            MidBlockConfig::CrossAttention(depth) => {
                self.layer("mid_block", 0, last, middle, Some(depth));
                self.layer("mid_block", 1, last, middle, None);
            }
        }
        for index in 0..widths.len() {
            let level = last - index;
            let (outputs, block) = (widths[level], format!("up_blocks.{index}"));
            let (previous, entry) = (widths[(level + 1).min(last)], widths[level.saturating_sub(1)]);
            let layers = self.config.layers_per_block[level] + 1;
            for i in 0..layers {
                let hidden = if i == 0 { previous } else { outputs };
                let skip = if i + 1 == layers { entry } else { outputs };
                let depth = self.config.up_attention[index].then(|| self.config.up_transformer_layers[index][i]);
                self.layer(&block, i, level, (hidden, skip, outputs), depth);
            }
            if level > 0 {
                let input = self.positions(level - 1) * outputs as u64;
                self.convolution(format!("{block}.upsamplers.0.conv"), input, input, 0);
            }
        }
        let output = self.positions(0) * widths[0] as u64;
        self.push(
            "conv_norm_out".to_owned(),
            Stage {
                kept: if self.tracked { output } else { 0 },
                forward: 2 * output,
                backward: 2 * output,
                ..Stage::default()
            },
        );
        self.convolution(
            "conv_out".to_owned(),
            output,
            self.positions(0) * self.config.out_channels as u64,
            0,
        );
    }

    fn convolution(&mut self, path: String, input: u64, output: u64, pushed: u64) {
        let trains = self.trains(&path);
        self.tracked |= trains;
        self.push(
            path,
            Stage {
                kept: if trains { input } else { 0 },
                forward: input + output,
                backward: input + output,
                pushed,
                ..Stage::default()
            },
        );
    }

    /// A resnet and the transformer after it, of (inputs, skip, outputs) channels.
    fn layer(&mut self, block: &str, i: usize, level: usize, channels: (usize, usize, usize), depth: Option<usize>) {
        self.resnet(format!("{block}.resnets.{i}"), level, channels);
        if let Some(depth) = depth {
            self.transformer(&format!("{block}.attentions.{i}"), level, channels.2, depth);
        }
    }

    fn resnet(&mut self, path: String, level: usize, (hidden, skip, outputs): (usize, usize, usize)) {
        let positions = self.positions(level);
        let (x, y) = (positions * (hidden + skip) as u64, positions * outputs as u64);
        let trains = |walk: &Self, layer: &str| walk.trains(&format!("{path}.{layer}"));
        let mut kept = 0;
        let before = self.tracked || matches!(self.request.trained, Trained::Whole);
        kept += if before { x } else { 0 }; // of the first normalisation, and of the shortcut
        kept += if trains(self, "conv1") { x } else { 0 };
        self.tracked |= before || trains(self, "conv1") || trains(self, "time_emb_proj");
        kept += if self.tracked { y } else { 0 }; // of the second normalisation
        kept += if trains(self, "conv2") { y } else { 0 };
        kept += if !before && trains(self, "conv_shortcut") { x } else { 0 };
        self.tracked |= trains(self, "conv2") || trains(self, "conv_shortcut");
        let forward = 2 * x + 2 * y;
        let recomputed = self.request.recompute && self.tracked;
        self.push(
            path,
            Stage {
                kept: if recomputed { x } else { kept },
                forward,
                backward: 2 * x + 2 * y + if recomputed { kept } else { 0 },
                popped: positions * skip as u64,
                ..Stage::default()
            },
        );
    }

    fn transformer(&mut self, path: &str, level: usize, channels: usize, depth: usize) {
        let x = self.positions(level) * channels as u64;
        let whole = matches!(self.request.trained, Trained::Whole);
        let trains_in = self.trains(&format!("{path}.proj_in"));
        let entered = self.tracked || whole;
        self.tracked |= entered || trains_in;
        self.push(
            format!("{path}.proj_in"),
            Stage {
                kept: (if entered { x } else { 0 }) + if trains_in { x } else { 0 },
                forward: 3 * x,
                backward: 3 * x,
                ..Stage::default()
            },
        );
        for block in 0..depth {
            self.transformer_block(format!("{path}.transformer_blocks.{block}"), level, channels);
        }
        let trains_out = self.trains(&format!("{path}.proj_out"));
        self.tracked |= trains_out;
        self.push(
            format!("{path}.proj_out"),
            Stage {
                kept: if trains_out { x } else { 0 },
                forward: 3 * x,
                backward: 3 * x,
                ..Stage::default()
            },
        );
    }

    fn transformer_block(&mut self, path: String, level: usize, channels: usize) {
        let positions = self.positions(level);
        let x = positions * channels as u64;
        let text = (self.request.batch * self.request.tokens * channels) as u64;
        let sums = positions * self.config.heads[level] as u64;
        let rank = match self.request.trained {
            Trained::Lora { rank, .. } => rank as u64 * positions,
            _ => 0,
        };
        let trains = |walk: &Self, layer: &str| walk.trains(&format!("{path}.{layer}"));
        let before = self.tracked || matches!(self.request.trained, Trained::Whole);
        let mut kept = if before { x } else { 0 };
        let mut tracked = before;
        // Self-attention, then attention to the text: normalised input, queries, keys, values, result, sums of the softmax.
        for (attention, keys) in [("attn1", x), ("attn2", text)] {
            let inputs = ["to_q", "to_k", "to_v"].map(|layer| trains(self, &format!("{attention}.{layer}")));
            let into_x = if attention == "attn1" {
                inputs.contains(&true)
            } else {
                inputs[0]
            };
            kept += if attention == "attn2" && tracked { x } else { 0 };
            kept += if into_x { x } else { 0 };
            tracked |= inputs.contains(&true);
            kept += if tracked { 2 * x + 2 * keys + sums } else { 0 };
            let out = trains(self, &format!("{attention}.to_out.0"));
            kept += if out && !tracked { x } else { 0 };
            tracked |= out;
            kept += rank * (inputs.into_iter().filter(|&t| t).count() as u64 + u64::from(out));
        }
        // The third normalisation, the gate, and what lies between.
        kept += if tracked { x } else { 0 };
        let proj = trains(self, "ff.net.0.proj");
        kept += if proj { x } else { 0 };
        tracked |= proj;
        kept += if tracked { 8 * x } else { 0 };
        let out = trains(self, "ff.net.2");
        kept += if out { 4 * x } else { 0 };
        tracked |= out;
        let recomputed = self.request.recompute && tracked;
        self.tracked = tracked;
        let forward = 14 * x;
        self.push(
            path,
            Stage {
                kept: if recomputed { x } else { kept },
                forward,
                backward: 13 * x + if recomputed { kept } else { 0 },
                ..Stage::default()
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(config: &UnetConfig, side: usize, trained: Trained, recompute: bool) -> UnetMemory {
        let request = MemoryRequest {
            batch: 1,
            height: side,
            width: side,
            tokens: 77,
            trained,
            recompute,
        };
        unet_memory(config, &request).unwrap()
    }

    #[test]
    fn counts_the_weights_of_the_published_models() {
        for (config, count) in [(UnetConfig::sd15(), 859_520_964), (UnetConfig::sdxl(), 2_567_463_684)] {
            let found = memory(&config, 64, Trained::Whole, false);
            assert_eq!((found.weights, found.trained), (count, count));
            assert!(found.activations_and_gradients > count);
            assert!(found.activations_and_gradients < count + found.activations);
        }
    }

    #[test]
    fn agrees_with_what_whole_processes_took() {
        // `bench/results/unet-sd15-{forward,full}.json`, the program and its transformed filters included.
        for (trained, measured) in [(Trained::Nothing, 3.85e9), (Trained::Whole, 7.74e9)] {
            let found = memory(&UnetConfig::sd15(), 64, trained, false);
            let share = 4. * (found.weights + found.activations_and_gradients) as f64 / measured;
            assert!((0.9..1.).contains(&share), "{share}");
        }
    }

    #[test]
    fn a_lora_has_its_own_parameters_and_keeps_less() {
        // As kohya's files of rank 16 on attention have: SD1.5's have 3.19 million.
        let beside = |path: &str| path.contains(".attn1.") || path.contains(".attn2.");
        let lora = Trained::Lora {
            rank: 16,
            beside: &beside,
        };
        let (config, whole) = (UnetConfig::sd15(), Trained::Whole);
        let found = memory(&config, 64, lora, false);
        assert_eq!(found.trained, 3_188_736);
        let full = memory(&config, 64, whole, false);
        assert!(found.activations < full.activations);
        assert!(found.activations > full.activations / 2);
        let recomputed = memory(&config, 64, lora, true);
        assert!(recomputed.activations < found.activations / 2);
        assert!(memory(&config, 64, Trained::Nothing, false).activations < recomputed.activations);
    }

    #[test]
    fn grows_with_the_picture_and_the_batch() {
        let config = UnetConfig::sd15();
        let [small, large] = [64, 128].map(|side| memory(&config, side, Trained::Whole, false).activations);
        assert!((3.9..4.1).contains(&(large as f64 / small as f64)));
    }
}
