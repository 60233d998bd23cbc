//! UNets.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use napi::Env;
use napi::bindgen_prelude::{Float64Array, Object};
use napi_derive::napi;
use potstill_engine::{DType, Gradients, Param, Value, no_grad};
use potstill_io::Dtype;
use potstill_models::{ForwardOptions, Precision, Unet, UnetConfig, UnetInputs};
use sha2::{Digest, Sha256};

use super::random::{parse_config, parse_initialisation};
use crate::core::{
    Accumulator, Engine, OpError, Result, State, Tape, id, module_input, read_tensors, tensor, tensors, values,
    write_tensors,
};

/// A UNet and the gradients that its tapes have gathered.
pub struct UnetModule {
    pub unet: Unet,
    pub gradients: Accumulator,
    /// What is trained beside it by the same optimizer, with gradients in the same place: LoRAs on text encoders.
    pub beside: RefCell<Vec<Param>>,
}

impl UnetModule {
    /// What is trained now: of the UNet's own parameters, then of the LoRAs on it and of those beside it.
    pub fn trained(&self) -> Vec<Param> {
        let (attached, beside) = (self.unet.sockets().params(), self.beside.borrow());
        let all = self.unet.params().iter().chain(attached.iter()).chain(beside.iter());
        all.filter(|param| param.trainable()).cloned().collect()
    }
}

/// What a UNet is made for.
#[napi(object)]
pub struct LoadedUnet {
    /// Channels of the latents it takes.
    pub in_channels: u32,
    /// Channels of what it predicts.
    pub out_channels: u32,
    /// Width of the text.
    pub text_width: u32,
    /// SDXL: width of the pooled text.
    pub pooled_width: Option<u32>,
    /// Number of values in all parameters.
    pub parameters: f64,
}

/// A parameter.
#[napi(object)]
pub struct Parameter {
    /// diffusers' name.
    pub name: String,
    /// diffusers' shape.
    pub shape: Vec<u32>,
}

/// Handles of a forward's inputs.
#[napi(object)]
pub struct UnetInputHandles {
    /// Noisy latents.
    pub sample: f64,
    /// One for all rows, or one per row.
    pub timesteps: Float64Array,
    /// The text.
    pub encoder_hidden_states: f64,
    /// SDXL: the pooled text.
    pub text_embeds: Option<f64>,
    /// SDXL: sizes and crop.
    pub time_ids: Option<f64>,
}

/// How to run a forward with gradients.
#[napi(object)]
pub struct TapeOptions {
    /// Handle to fill with the tape.
    pub tape: f64,
    /// Keep no activations; compute them again on the way back.
    pub recompute: bool,
    /// Names of the inputs whose gradients are asked for, in the order in which the tape gives them.
    pub input_gradients: Vec<String>,
}

#[napi]
impl Engine {
    /// Loads a UNet's component folder; its matrices are kept and multiplied in `precision`.
    #[napi(ts_return_type = "Promise<Outcome<LoadedUnet>>", catch_unwind)]
    pub fn load_unet<'env>(
        &self,
        env: &'env Env,
        out: f64,
        folder: String,
        #[napi(ts_arg_type = "'f32' | 'bf16' | 'nf4' | 'int8' | 'fp8'")] precision: String,
    ) -> napi::Result<Object<'env>> {
        self.query(env, "loadUnet", move |state| {
            let precision = parse_precision(&precision)?;
            let unet = Unet::load_in(Path::new(&folder), precision, state.device()?)?;
            put(state, out, unet)
        })
    }

    /// A UNet with random weights, from the JSON of a diffusers configuration.
    #[napi(ts_return_type = "Promise<Outcome<LoadedUnet>>", catch_unwind)]
    pub fn random_unet<'env>(
        &self,
        env: &'env Env,
        out: f64,
        config: String,
        seed: napi::bindgen_prelude::BigInt,
        #[napi(ts_arg_type = "'training' | 'normal'")] initialisation: String,
        #[napi(ts_arg_type = "'f32' | 'bf16'")] precision: String,
    ) -> napi::Result<Object<'env>> {
        let seed = seed.get_u64().1;
        self.query(env, "randomUnet", move |state| {
            let json = parse_config(&config)?;
            let initialisation = parse_initialisation(&initialisation)?;
            let (config, precision) = (UnetConfig::parse(json, "config")?, parse_precision(&precision)?);
            let unet = Unet::random_in(config, seed, initialisation, precision, state.device()?)?;
            put(state, out, unet)
        })
    }

    /// Names and shapes of the parameters, in diffusers' layout.
    #[napi(ts_return_type = "Promise<Outcome<Parameter[]>>", catch_unwind)]
    pub fn unet_parameters<'env>(&self, env: &'env Env, unet: f64) -> napi::Result<Object<'env>> {
        self.query(env, "parameters", move |state| {
            let module = state.get::<UnetModule>(id(unet))?;
            let shapes = module.unet.params().shapes().into_iter();
            let facts = shapes.map(|(name, shape)| Parameter {
                name,
                shape: shape.iter().map(|&n| n as u32).collect(),
            });
            Ok(facts.collect::<Vec<_>>())
        })
    }

    /// Trains the named parameters and no others.
    #[napi(catch_unwind)]
    pub fn set_unet_trainable(&self, unet: f64, names: Vec<String>) {
        self.effect::<()>(&[], "setTrainable", move |state| {
            let module = state.get::<UnetModule>(id(unet))?;
            let params = module.unet.params();
            if let Some(name) = names.iter().find(|name| params.get(name).is_none()) {
                return Err(OpError::input(
                    "ERR_MODEL_KEYS",
                    format!("the UNet has no parameter {name:?}"),
                ));
            }
            let names: HashSet<&str> = names.iter().map(String::as_str).collect();
            require_trainable(params.iter().filter(|param| names.contains(param.name())))?;
            params.set_trainable(|name| names.contains(name));
            Ok(Vec::new())
        });
    }

    /// Trains all parameters, or none.
    #[napi(catch_unwind)]
    pub fn set_whole_unet_trainable(&self, unet: f64, trainable: bool) {
        self.effect::<()>(&[], "setTrainable", move |state| {
            let module = state.get::<UnetModule>(id(unet))?;
            if trainable {
                require_trainable(module.unet.params().iter())?;
            }
            module.unet.params().set_trainable(|_| trainable);
            Ok(Vec::new())
        });
    }

    /// Fills `out` with the prediction; with `gradients`, as a leaf, and the tape's handle with the way back.
    #[napi(catch_unwind)]
    pub fn unet_forward(&self, out: f64, unet: f64, inputs: UnetInputHandles, gradients: Option<TapeOptions>) {
        let timesteps = inputs.timesteps.to_vec();
        let (sample, text, pooled, sizes) = (
            inputs.sample,
            inputs.encoder_hidden_states,
            inputs.text_embeds,
            inputs.time_ids,
        );
        let tape = gradients.as_ref().map(|g| g.tape);
        self.submit_pair(out, tape, "unet.forward", move |state| {
            let module = state.get::<UnetModule>(id(unet))?;
            let given = |name: &'static str, handle: f64| Ok::<_, OpError>((name, tensor(state, id(handle))?));
            let sample = given("sample", sample)?;
            let text = given("encoderHiddenStates", text)?;
            let pooled = pooled.map(|handle| given("textEmbeds", handle)).transpose()?;
            let sizes = sizes.map(|handle| given("timeIds", handle)).transpose()?;
            let mut leaves = Vec::new();
            let mut input = |(name, value): (&'static str, Value)| match &gradients {
                None => Ok(value.detach()),
                Some(g) => module_input(name, value, g.input_gradients.iter().any(|n| n == name), &mut leaves),
            };
            let inputs = UnetInputs {
                sample: input(sample)?,
                timestep: &timesteps,
                encoder_hidden_states: input(text)?,
                text_embeds: pooled.map(&mut input).transpose()?,
                time_ids: sizes.map(&mut input).transpose()?,
            };
            let Some(g) = &gradients else {
                let prediction = no_grad(|| module.unet.forward(&inputs, &ForwardOptions::default()))?;
                return Ok((prediction, None));
            };
            let prediction = module
                .unet
                .forward(&inputs, &ForwardOptions { recompute: g.recompute })?;
            let leaf = Value::leaf(prediction.tensor().clone());
            Ok((
                leaf,
                Some(Tape::new("unet", vec![prediction], leaves, &module.gradients)),
            ))
        });
    }

    /// Runs a tape backward: adds to the module's gradients, and fills `outs` with those of the inputs asked for.
    #[napi(catch_unwind)]
    pub fn tape_backward(&self, outs: Vec<f64>, tape: f64, gradients: Vec<f64>) {
        let gradients: Vec<_> = gradients.into_iter().map(id).collect();
        self.effect(&outs, "tape.backward", move |state| {
            let gradients = tensors(state, &gradients)?;
            match state.take::<Option<Tape>>(id(tape))? {
                Some(tape) => tape.backward(gradients),
                None => Err(OpError::bug("a tape without a graph")),
            }
        });
    }

    /// Fills `outs` with the gradients gathered so far of the named parameters, the UNet's or those of a LoRA on it or beside
    /// it, in diffusers' layout.
    #[napi(catch_unwind)]
    pub fn unet_gradients(&self, outs: Vec<f64>, unet: f64, names: Vec<String>) {
        self.submit_many(&outs, "parameterGradients", move |state| {
            let module = state.get::<UnetModule>(id(unet))?;
            let gradients = module.gradients.borrow();
            let (own, attached) = (module.unet.params(), module.unet.sockets().params());
            let beside = module.beside.borrow();
            names
                .iter()
                .map(|name| {
                    let param = own.get(name).or_else(|| attached.get(name));
                    let param = param.or_else(|| beside.iter().find(|param| param.name() == name));
                    let gradient = param.and_then(|param| gradients.get(param.leaf())).ok_or_else(|| {
                        OpError::input(
                            "ERR_GRADIENT_GRAPH",
                            format!("there is no gradient of the parameter {name:?}"),
                        )
                        .remedy("Choose it with setTrainable and run a tape backward first.")
                    })?;
                    Ok(Value::constant(potstill_models::to_file_layout(gradient)?.copy()?))
                })
                .collect()
        });
    }

    /// Forgets the gradients gathered so far.
    #[napi(catch_unwind)]
    pub fn zero_unet_gradients(&self, unet: f64) {
        self.effect::<()>(&[], "zeroGradients", move |state| {
            *state.get::<UnetModule>(id(unet))?.gradients.borrow_mut() = Gradients::default();
            Ok(Vec::new())
        });
    }

    /// SHA-256 over the weights as little-endian f32 in diffusers' layout, in the order of the names.
    #[napi(ts_return_type = "Promise<Outcome<string>>", catch_unwind)]
    pub fn unet_digest<'env>(&self, env: &'env Env, unet: f64) -> napi::Result<Object<'env>> {
        self.query(env, "digest", move |state| {
            let module = state.get::<UnetModule>(id(unet))?;
            let mut hash = Sha256::new();
            for tensor in module.unet.params().to_tensors(DType::F32)?.values() {
                for value in values(tensor)? {
                    hash.update(value.to_le_bytes());
                }
            }
            Ok(hash
                .finalize()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>())
        })
    }

    /// Writes a diffusers component folder.
    #[napi(ts_return_type = "Promise<Outcome<undefined>>", catch_unwind)]
    pub fn save_unet_folder<'env>(
        &self,
        env: &'env Env,
        unet: f64,
        folder: String,
        #[napi(ts_arg_type = "'f16' | 'f32'")] dtype: String,
    ) -> napi::Result<Object<'env>> {
        self.query(env, "saveFolder", move |state| {
            let dtype = if dtype == "f16" { DType::F16 } else { DType::F32 };
            Ok(state
                .get::<UnetModule>(id(unet))?
                .unet
                .save(Path::new(&folder), dtype)?)
        })
    }

    /// Writes the weights as f32 to one safetensors file.
    #[napi(ts_return_type = "Promise<Outcome<undefined>>", catch_unwind)]
    pub fn save_unet_weights<'env>(&self, env: &'env Env, unet: f64, file: String) -> napi::Result<Object<'env>> {
        self.query(env, "saveWeights", move |state| {
            let weights = state
                .get::<UnetModule>(id(unet))?
                .unet
                .params()
                .to_tensors(DType::F32)?;
            write_tensors(Path::new(&file), &weights, Dtype::F32, &BTreeMap::new())
        })
    }

    /// Overwrites the weights with those of a safetensors file.
    #[napi(ts_return_type = "Promise<Outcome<undefined>>", catch_unwind)]
    pub fn load_unet_weights<'env>(&self, env: &'env Env, unet: f64, file: String) -> napi::Result<Object<'env>> {
        self.query(env, "loadWeights", move |state| {
            let module = state.get::<UnetModule>(id(unet))?;
            Ok(module
                .unet
                .params()
                .load_from(&read_tensors(Path::new(&file), state.device()?)?, &file)?)
        })
    }
}

fn parse_precision(name: &str) -> Result<Precision> {
    Precision::from_name(name)
        .ok_or_else(|| OpError::input("ERR_MODEL_INPUT", format!("there is no precision {name:?}")))
}

fn put(state: &mut State, out: f64, unet: Unet) -> Result<LoadedUnet> {
    let config = unet.config();
    let facts = LoadedUnet {
        in_channels: config.in_channels as u32,
        out_channels: config.out_channels as u32,
        text_width: config.cross_attention_dim as u32,
        pooled_width: config.text_time.map(|c| c.pooled_channels as u32),
        parameters: unet.params().count() as f64,
    };
    state.put(
        id(out),
        Ok(UnetModule {
            unet,
            gradients: Accumulator::default(),
            beside: RefCell::default(),
        }),
    );
    Ok(facts)
}

/// Refuses parameters that cannot be trained: quantized ones would silently stay as they are.
fn require_trainable<'a>(mut params: impl Iterator<Item = &'a Param>) -> Result<()> {
    match params.find(|param| param.is_stored()) {
        None => Ok(()),
        Some(param) => Err(OpError::input(
            "ERR_MODEL_INPUT",
            format!(
                "{:?} is quantized and cannot be trained; train a LoRA beside it, or start from what it was made from",
                param.name()
            ),
        )),
    }
}
