//! How much memory a model takes to compute with, from its configuration alone.

use std::collections::HashSet;
use std::path::Path;

use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use potstill_adapters::choose_layers;
use potstill_models::{
    Direction, MemoryRequest, Model, SEQUENCE_LENGTH, Trained, Unet, Vae, unet_memory, vae_activations,
};

use crate::core::{Result, run_job};

/// What is computed.
#[napi(object)]
pub struct MemoryQuestion {
    /// Samples at once.
    pub batch: u32,
    /// Of the pictures, in pixels.
    pub height: u32,
    /// Of the pictures, in pixels.
    pub width: u32,
    /// What is trained.
    #[napi(ts_type = "'nothing' | 'unet' | 'lora'")]
    pub trained: String,
    /// Of the LoRA.
    pub rank: Option<u32>,
    /// Of the LoRA: presets, and patterns of diffusers' paths.
    pub targets: Option<Vec<String>>,
    /// Activations are computed again on the way back.
    pub recompute: bool,
}

/// Numbers of values.
#[napi(object)]
pub struct PredictedMemory {
    /// Weights of the UNet.
    pub weights: f64,
    /// Those of them in matrices of linear layers, which can be kept in codes.
    pub matrices: f64,
    /// What is trained: the weights, or a LoRA's.
    pub trained: f64,
    /// The most activations that live at once.
    pub activations: f64,
    /// The most activations and gradients that live at once, those of what is trained among them.
    pub activations_and_gradients: f64,
}

/// Of the UNet of a model.
#[napi(ts_return_type = "Promise<Outcome<PredictedMemory>>", catch_unwind)]
pub fn predict_unet_memory(env: &Env, model: String, question: MemoryQuestion) -> napi::Result<Object<'_>> {
    run_job(env, "memory", move || of_unet(&model, &question))
}

fn of_unet(model: &str, question: &MemoryQuestion) -> Result<PredictedMemory> {
    let model = Model::open(Path::new(model))?;
    let config = model.unet_config();
    let latent = |pixels: u32| (pixels as usize).div_ceil(LATENT);
    let chosen = match question.trained.as_str() {
        "lora" => chosen_layers(&Unet::shapes(config)?, question.targets.as_deref().unwrap_or_default())?,
        _ => HashSet::new(),
    };
    let beside = |path: &str| chosen.contains(path);
    let request = MemoryRequest {
        batch: question.batch as usize,
        height: latent(question.height),
        width: latent(question.width),
        tokens: SEQUENCE_LENGTH,
        trained: match question.trained.as_str() {
            "unet" => Trained::Whole,
            "lora" => Trained::Lora {
                rank: question.rank.unwrap_or(1) as usize,
                beside: &beside,
            },
            _ => Trained::Nothing,
        },
        recompute: question.recompute,
    };
    let memory = unet_memory(config, &request)?;
    Ok(PredictedMemory {
        weights: memory.weights as f64,
        matrices: matrices(&Unet::shapes(config)?) as f64,
        trained: memory.trained as f64,
        activations: memory.activations as f64,
        activations_and_gradients: memory.activations_and_gradients as f64,
    })
}

fn matrices(shapes: &[(String, Vec<usize>)]) -> usize {
    let of_layers = shapes
        .iter()
        .filter(|(name, shape)| shape.len() == 2 && name.ends_with(".weight"));
    of_layers.map(|(_, shape)| shape.iter().product::<usize>()).sum()
}

/// Pixels to a latent, in every VAE of these families.
const LATENT: usize = 8;

/// Paths of the layers that a LoRA's targets name: a layer's weight has at least two dimensions.
fn chosen_layers(shapes: &[(String, Vec<usize>)], targets: &[String]) -> Result<HashSet<String>> {
    let layers = shapes.iter().filter(|(_, shape)| shape.len() >= 2);
    let paths: Vec<&str> = layers.filter_map(|(name, _)| name.strip_suffix(".weight")).collect();
    let chosen = choose_layers(targets, &paths)?;
    Ok(chosen.into_iter().map(str::to_owned).collect())
}

/// The most values of activations of a VAE (`MODEL/vae`, its own folder, or a file that holds one) that live at once.
#[napi(ts_return_type = "Promise<Outcome<number>>", catch_unwind)]
pub fn predict_vae_memory(
    env: &Env,
    path: String,
    #[napi(ts_arg_type = "'encode' | 'decode'")] direction: String,
    batch: u32,
    height: u32,
    width: u32,
) -> napi::Result<Object<'_>> {
    run_job(env, "memory", move || {
        let (config, _) = Vae::on_disk(Path::new(&path), None)?;
        let direction = if direction == "decode" {
            Direction::Decode
        } else {
            Direction::Encode
        };
        Ok(vae_activations(&config, direction, batch as usize, height as usize, width as usize) as f64)
    })
}
