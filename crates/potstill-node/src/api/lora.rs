//! LoRAs on UNets, to be trained, and adapters laid into weights.

use std::path::Path;

use napi::Env;
use napi::bindgen_prelude::{BigInt, Object};
use napi_derive::napi;
use potstill_adapters::{BlockOptions, LoraOptions, TrainedLora, apply, write_adapter};
use potstill_engine::DType;
use potstill_io::Dtype;
use potstill_models::{Component, Params, PromptEncoder};

use super::adapters::{AdapterTarget, open, write_options};
use super::unet::{Parameter, UnetModule};
use crate::core::{Engine, OpError, Result, State, id, of_file, read_tensors, write_tensors};

/// A LoRA that is to be trained.
#[napi(object)]
pub struct LoraSettings {
    /// Of every layer's product.
    pub rank: u32,
    /// The product is multiplied by alpha / rank.
    pub alpha: f64,
    /// Presets, and patterns of diffusers' paths.
    pub targets: Vec<String>,
    /// Layers with a rank and an alpha of their own; the last that chooses a layer counts.
    pub blocks: Vec<LoraBlock>,
    /// Trains the lengths of the weights' rows too.
    pub dora: bool,
    /// Of the starting values.
    pub seed: BigInt,
}

/// What some of a LoRA's layers have of their own.
#[napi(object)]
pub struct LoraBlock {
    /// A preset, or a pattern of diffusers' paths.
    pub layers: String,
    /// Of these layers' products.
    pub rank: u32,
    /// The product is multiplied by alpha / rank.
    pub alpha: f64,
}

/// A LoRA on a UNet.
#[napi(object)]
pub struct AttachedLora {
    /// Number of layers that it sits on.
    pub layers: u32,
    /// Number of values in all parameters.
    pub parameters: f64,
}

/// What a trained LoRA's file says about it.
#[napi(object)]
pub struct LoraFile {
    /// f32, f16 or bf16, dialect, title and prediction.
    pub target: AdapterTarget,
    /// Metadata of the file, beside what every adapter has.
    pub metadata: std::collections::HashMap<String, String>,
    /// For the provenance: how it was trained, a JSON document.
    pub details: String,
}

/// Number of layers that an adapter has changed.
#[napi(object)]
pub struct AppliedAdapter {
    /// Of the UNet.
    pub unet: u32,
    /// Of the text encoders.
    pub text: u32,
    /// Number of layers that it would change in networks that were not given.
    pub left_over: u32,
}

#[napi]
impl Engine {
    /// Attaches a new LoRA to a UNet, which predicts as before until it is trained.
    #[napi(ts_return_type = "Promise<Outcome<AttachedLora>>", catch_unwind)]
    pub fn create_lora<'env>(
        &self,
        env: &'env Env,
        out: f64,
        unet: f64,
        settings: LoraSettings,
    ) -> napi::Result<Object<'env>> {
        let options = options_of(settings);
        self.query(env, "createLora", move |state| {
            let module = state.get::<UnetModule>(id(unet))?;
            put(state, out, TrainedLora::new(&module.unet, &options)?)
        })
    }

    /// Attaches a new LoRA to text encoders, to be trained beside a UNet: by its optimizer, with its gradients.
    #[napi(ts_return_type = "Promise<Outcome<AttachedLora>>", catch_unwind)]
    pub fn create_text_lora<'env>(
        &self,
        env: &'env Env,
        out: f64,
        text: f64,
        unet: f64,
        settings: LoraSettings,
    ) -> napi::Result<Object<'env>> {
        let options = options_of(settings);
        self.query(env, "createTextLora", move |state| {
            let encoder = state.get::<PromptEncoder>(id(text))?;
            let lora = TrainedLora::on_text(&encoder.encoders().collect::<Vec<_>>(), &options)?;
            put_beside(state, out, unet, lora)
        })
    }

    /// Attaches the UNet's part of an adapter's file, `weight` times as strong, frozen. `model` is what the adapter is for.
    #[napi(ts_return_type = "Promise<Outcome<AttachedLora>>", catch_unwind)]
    pub fn attach_lora<'env>(
        &self,
        env: &'env Env,
        out: f64,
        unet: f64,
        path: String,
        weight: f64,
        model: String,
    ) -> napi::Result<Object<'env>> {
        self.query(env, "attachLora", move |state| {
            let module = state.get::<UnetModule>(id(unet))?;
            let adapter = open(&path, Some(model.as_str()))?;
            let lora =
                TrainedLora::of_adapter(&module.unet, &adapter, weight).map_err(|error| of_file(error, &path))?;
            put(state, out, lora)
        })
    }

    /// Attaches the text encoders' part of an adapter's file, `weight` times as strong, frozen, to be trained beside a UNet.
    #[napi(ts_return_type = "Promise<Outcome<AttachedLora>>", catch_unwind)]
    #[allow(clippy::too_many_arguments)] // a call from JavaScript, where an object would cost more than the operation
    pub fn attach_text_lora<'env>(
        &self,
        env: &'env Env,
        out: f64,
        text: f64,
        unet: f64,
        path: String,
        weight: f64,
        model: String,
    ) -> napi::Result<Object<'env>> {
        self.query(env, "attachTextLora", move |state| {
            let encoder = state.get::<PromptEncoder>(id(text))?;
            let adapter = open(&path, Some(model.as_str()))?;
            let lora = TrainedLora::of_text_adapter(&encoder.encoders().collect::<Vec<_>>(), &adapter, weight)
                .map_err(|error| of_file(error, &path))?;
            put_beside(state, out, unet, lora)
        })
    }

    /// Names and shapes of a LoRA's parameters: of every layer `NAME.lora_A.weight` and `NAME.lora_B.weight`.
    #[napi(ts_return_type = "Promise<Outcome<Parameter[]>>", catch_unwind)]
    pub fn lora_parameters<'env>(&self, env: &'env Env, lora: f64) -> napi::Result<Object<'env>> {
        self.query(env, "parameters", move |state| {
            let shapes = state.get::<TrainedLora>(id(lora))?.params().shapes().into_iter();
            let facts = shapes.map(|(name, shape)| Parameter {
                name,
                shape: shape.iter().map(|&n| n as u32).collect(),
            });
            Ok(facts.collect::<Vec<_>>())
        })
    }

    /// Trains a LoRA, or freezes it.
    #[napi(catch_unwind)]
    pub fn set_lora_trainable(&self, lora: f64, trainable: bool) {
        self.effect::<()>(&[], "setTrainable", move |state| {
            let lora = state.get::<TrainedLora>(id(lora))?;
            lora.params().set_trainable(|_| trainable);
            Ok(Vec::new())
        });
    }

    /// Turns a LoRA off, as if it were not attached, or on again: for the forwards that are enqueued from now on.
    #[napi(catch_unwind)]
    pub fn switch_lora(&self, lora: f64, on: bool) {
        self.effect::<()>(&[], "switchLora", move |state| {
            state.get::<TrainedLora>(id(lora))?.switch(on);
            Ok(Vec::new())
        });
    }

    /// Writes a LoRA's parameters as f32 to one safetensors file.
    #[napi(ts_return_type = "Promise<Outcome<undefined>>", catch_unwind)]
    pub fn save_lora_weights<'env>(&self, env: &'env Env, lora: f64, file: String) -> napi::Result<Object<'env>> {
        self.query(env, "saveWeights", move |state| {
            let lora = state.get::<TrainedLora>(id(lora))?;
            let weights = lora.params().to_tensors(DType::F32)?;
            write_tensors(Path::new(&file), &weights, Dtype::F32, &lora.scales())
        })
    }

    /// Overwrites a LoRA's parameters with those of a safetensors file.
    #[napi(ts_return_type = "Promise<Outcome<undefined>>", catch_unwind)]
    pub fn load_lora_weights<'env>(&self, env: &'env Env, lora: f64, file: String) -> napi::Result<Object<'env>> {
        self.query(env, "loadWeights", move |state| {
            let lora = state.get::<TrainedLora>(id(lora))?;
            Ok(lora
                .params()
                .load_from(&read_tensors(Path::new(&file), state.device()?)?, &file)?)
        })
    }

    /// Writes a LoRA as an adapter, where nothing is yet; `text` is the one on text encoders that goes with it.
    #[napi(ts_return_type = "Promise<Outcome<Array<string>>>", catch_unwind)]
    pub fn save_lora<'env>(
        &self,
        env: &'env Env,
        lora: f64,
        text: Option<f64>,
        path: String,
        file: LoraFile,
    ) -> napi::Result<Object<'env>> {
        self.query(env, "saveLora", move |state| {
            let details = serde_json::from_str(&file.details)
                .map_err(|error| OpError::bug(format!("the provenance is no JSON: {error}")))?;
            let metadata = file.metadata.into_iter().collect();
            let lora = state.get::<TrainedLora>(id(lora))?;
            let mut adapter = lora.adapter(metadata, "train", details)?;
            if let Some(text) = text {
                state.get::<TrainedLora>(id(text))?.add_to(&mut adapter)?;
            }
            let files = write_adapter(&adapter, Path::new(&path), &write_options(&adapter, &file.target)?)?;
            Ok(files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>())
        })
    }

    /// Lays an adapter, `weight` times as strong, into the weights of a UNet and of text encoders. `model` is what they
    /// come from.
    #[napi(ts_return_type = "Promise<Outcome<AppliedAdapter>>", catch_unwind)]
    pub fn apply_adapter<'env>(
        &self,
        env: &'env Env,
        path: String,
        weight: f64,
        model: String,
        unet: Option<f64>,
        text: Option<f64>,
    ) -> napi::Result<Object<'env>> {
        self.query(env, "applyAdapter", move |state| {
            let adapter = open(&path, Some(model.as_str()))?;
            let lay = |params: &Params, component| {
                let changed = apply(params, &adapter, component, weight);
                changed.map(|count| count as u32).map_err(|error| of_file(error, &path))
            };
            let all = adapter.modules.len() as u32;
            let mut applied = AppliedAdapter {
                unet: 0,
                text: 0,
                left_over: 0,
            };
            if let Some(unet) = unet {
                let module = state.get::<UnetModule>(id(unet))?;
                applied.unet = lay(module.unet.params(), Component::Unet)?;
            }
            if let Some(text) = text {
                let encoder = state.get::<PromptEncoder>(id(text))?;
                for (encoder, component) in encoder
                    .encoders()
                    .zip([Component::TextEncoder, Component::TextEncoder2])
                {
                    applied.text += lay(encoder.params(), component)?;
                }
            }
            applied.left_over = all - applied.unet - applied.text;
            Ok(applied)
        })
    }
}

fn options_of(settings: LoraSettings) -> LoraOptions {
    let block = |LoraBlock { layers, rank, alpha }| BlockOptions {
        layers,
        rank: rank as usize,
        alpha,
    };
    LoraOptions {
        rank: settings.rank as usize,
        alpha: settings.alpha,
        targets: settings.targets,
        blocks: settings.blocks.into_iter().map(block).collect(),
        dora: settings.dora,
        seed: settings.seed.get_u64().1,
    }
}

/// Of a LoRA on text encoders: what it trains belongs to the UNet's.
fn put_beside(state: &mut State, out: f64, unet: f64, lora: TrainedLora) -> Result<AttachedLora> {
    let module = state.get::<UnetModule>(id(unet))?;
    module.beside.borrow_mut().extend(lora.params().iter().cloned());
    put(state, out, lora)
}

fn put(state: &mut State, out: f64, lora: TrainedLora) -> Result<AttachedLora> {
    let facts = AttachedLora {
        layers: lora.layers() as u32,
        parameters: lora.params().count() as f64,
    };
    state.put(id(out), Ok(lora));
    Ok(facts)
}
