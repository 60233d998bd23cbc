//! Optimizers and moving averages of a UNet's trained weights.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use potstill_adapters::{choose_layers, is_chosen};
use potstill_engine::optim::{
    Adafactor, AdafactorConfig, AdamW, AdamWConfig, Ema, EmaConfig, Lion, LionConfig, Optimizer, Prodigy,
    ProdigyConfig, clip_grad_norm,
};
use potstill_engine::{DType, Device, Gradients, Param, Tensor, Value};
use potstill_io::Dtype;
use potstill_models::{to_file_layout, to_memory_layout};

use super::unet::UnetModule;
use crate::core::{Accumulator, Engine, OpError, Result, State, id, read_tensors, write_tensors};

/// An optimizer, and the gradients it steps on.
struct Stepping {
    optimizer: RefCell<Box<dyn Optimizer>>,
    params: Vec<Param>,
    gradients: Accumulator,
}

/// A moving average.
struct Average(RefCell<Ema>);

/// torch's `AdamW` without amsgrad.
#[napi(object)]
pub struct AdamWOptions {
    /// Decay of the average of the gradient.
    pub beta1: f64,
    /// Decay of the average of its square.
    pub beta2: f64,
    /// Added to the root of the second average.
    pub eps: f64,
    /// Decoupled decay.
    pub weight_decay: f64,
}

/// lion-pytorch's `Lion`.
#[napi(object)]
pub struct LionOptions {
    /// Share of the average in the update.
    pub beta1: f64,
    /// Decay of the average.
    pub beta2: f64,
    /// Decoupled decay.
    pub weight_decay: f64,
}

/// prodigyopt's `Prodigy` with decoupled decay.
#[napi(object)]
pub struct ProdigyOptions {
    /// Decay of the average of the gradient.
    pub beta1: f64,
    /// Decay of the average of its square.
    pub beta2: f64,
    /// Added to the root of the second average, times d.
    pub eps: f64,
    /// Decoupled decay.
    pub weight_decay: f64,
    /// First estimate of the distance.
    pub d0: f64,
    /// Factor on the estimates.
    pub d_coef: f64,
    /// Largest factor from one estimate to the next.
    pub growth_rate: f64,
    /// Corrects the averages for their beginning at zero.
    pub bias_correction: bool,
    /// Leaves the learning rate out of the estimate's denominator.
    pub safeguard_warmup: bool,
}

/// transformers' `Adafactor` without the first moment.
#[napi(object)]
pub struct AdafactorOptions {
    /// Added to squared gradients.
    pub eps: f64,
    /// Least size that a parameter counts as.
    pub least_size: f64,
    /// Largest root mean square of an update.
    pub clip_threshold: f64,
    /// Averages of squares decay by 1 − t^decay_rate.
    pub decay_rate: f64,
    /// Decoupled decay.
    pub weight_decay: f64,
    /// Multiplies the learning rate by a parameter's root mean square.
    pub scale_parameter: bool,
    /// min(0.01, 1/√t) in the place of the learning rate.
    pub relative_step: bool,
}

/// A factor on the learning rate of the parameters whose layers a word chooses.
#[napi(object)]
pub struct RateOfLayers {
    /// A preset, or a pattern of diffusers' paths.
    pub layers: String,
    /// The factor; the last word that chooses a layer counts.
    pub factor: f64,
}

/// diffusers' `EMAModel`.
#[napi(object)]
pub struct EmaOptions {
    /// Largest decay.
    pub decay: f64,
    /// Smallest decay once it has started.
    pub min_decay: f64,
    /// Updates before the average starts.
    pub update_after: u32,
}

#[napi]
impl Engine {
    /// Fills `out` with an AdamW of the parameters that the UNet trains now, those of LoRAs on it among them.
    #[napi(catch_unwind)]
    pub fn create_adamw(&self, out: f64, unet: f64, options: AdamWOptions) {
        self.create_optimizer(out, unet, "AdamW", move |params| {
            let config = AdamWConfig {
                betas: (options.beta1, options.beta2),
                eps: options.eps,
                weight_decay: options.weight_decay,
            };
            Ok(Box::new(AdamW::new(params, config)?))
        });
    }

    /// As [`Engine::create_adamw`], a Lion.
    #[napi(catch_unwind)]
    pub fn create_lion(&self, out: f64, unet: f64, options: LionOptions) {
        self.create_optimizer(out, unet, "Lion", move |params| {
            let config = LionConfig {
                betas: (options.beta1, options.beta2),
                weight_decay: options.weight_decay,
            };
            Ok(Box::new(Lion::new(params, config)?))
        });
    }

    /// As [`Engine::create_adamw`], a Prodigy.
    #[napi(catch_unwind)]
    pub fn create_prodigy(&self, out: f64, unet: f64, options: ProdigyOptions) {
        self.create_optimizer(out, unet, "Prodigy", move |params| {
            let config = ProdigyConfig {
                betas: (options.beta1, options.beta2),
                eps: options.eps,
                weight_decay: options.weight_decay,
                d0: options.d0,
                d_coef: options.d_coef,
                growth_rate: options.growth_rate,
                bias_correction: options.bias_correction,
                safeguard_warmup: options.safeguard_warmup,
            };
            Ok(Box::new(Prodigy::new(params, config)?))
        });
    }

    /// As [`Engine::create_adamw`], an Adafactor.
    #[napi(catch_unwind)]
    pub fn create_adafactor(&self, out: f64, unet: f64, options: AdafactorOptions) {
        self.create_optimizer(out, unet, "Adafactor", move |params| {
            let config = AdafactorConfig {
                eps: (options.eps, options.least_size),
                clip_threshold: options.clip_threshold,
                decay_rate: options.decay_rate,
                weight_decay: options.weight_decay,
                scale_parameter: options.scale_parameter,
                relative_step: options.relative_step,
            };
            Ok(Box::new(Adafactor::new(params, config)?))
        });
    }

    /// Sets the factor on the learning rate of the layers that words choose; 1 for those that none does.
    #[napi(catch_unwind)]
    pub fn set_optimizer_rates(&self, optimizer: f64, rates: Vec<RateOfLayers>) {
        self.effect::<()>(&[], "optimizer.setRates", move |state| {
            let stepping = state.get::<Stepping>(id(optimizer))?;
            let names: Vec<&str> = stepping.params.iter().map(|param| layer_of(param.name())).collect();
            for RateOfLayers { layers, .. } in &rates {
                choose_layers(std::slice::from_ref(layers), &names)?;
            }
            let rate = |name: &str| {
                let chosen = rates.iter().rev().find(|rate| is_chosen(&rate.layers, layer_of(name)));
                chosen.map_or(1., |rate| rate.factor)
            };
            stepping.optimizer.borrow_mut().set_rates(&rate)?;
            Ok(Vec::new())
        });
    }

    /// Fills `out` with the norm of the gathered gradients, and scales them down to `max` when it is larger.
    #[napi(catch_unwind)]
    pub fn clip_gradients(&self, out: f64, optimizer: f64, max: f64) {
        self.effect(&[out], "optimizer.clip", move |state| {
            let optimizer = state.get::<Stepping>(id(optimizer))?;
            let norm = clip_grad_norm(&optimizer.params, &mut optimizer.gradients.borrow_mut(), max)?;
            Ok(vec![Value::constant(
                norm.to_dtype(DType::F32)?.to_device(state.device()?)?,
            )])
        });
    }

    /// Updates the weights by the gathered gradients.
    #[napi(catch_unwind)]
    pub fn optimizer_step(&self, optimizer: f64, lr: f64) {
        self.effect::<()>(&[], "optimizer.step", move |state| {
            let optimizer = state.get::<Stepping>(id(optimizer))?;
            let gradients = optimizer.gradients.borrow();
            if gradients.is_empty() {
                return Err(
                    OpError::input("ERR_GRADIENT_GRAPH", "there are no gradients to step on")
                        .remedy("Run a tape backward before each step."),
                );
            }
            optimizer.optimizer.borrow_mut().step(lr, &gradients)?;
            Ok(Vec::new())
        });
    }

    /// Forgets the gathered gradients.
    #[napi(catch_unwind)]
    pub fn zero_gradients(&self, optimizer: f64) {
        self.effect::<()>(&[], "optimizer.zeroGrad", move |state| {
            let optimizer = state.get::<Stepping>(id(optimizer))?;
            *optimizer.gradients.borrow_mut() = Gradients::default();
            Ok(Vec::new())
        });
    }

    /// Writes an optimizer's state.
    #[napi(ts_return_type = "Promise<Outcome<undefined>>", catch_unwind)]
    pub fn save_optimizer<'env>(&self, env: &'env Env, optimizer: f64, file: String) -> napi::Result<Object<'env>> {
        self.query(env, "optimizer.save", move |state| {
            save(&file, state.get::<Stepping>(id(optimizer))?.optimizer.borrow().state()?)
        })
    }

    /// Takes over a written state.
    #[napi(ts_return_type = "Promise<Outcome<undefined>>", catch_unwind)]
    pub fn load_optimizer<'env>(&self, env: &'env Env, optimizer: f64, file: String) -> napi::Result<Object<'env>> {
        self.query(env, "optimizer.load", move |state| {
            let optimizer = state.get::<Stepping>(id(optimizer))?;
            let loaded = optimizer
                .optimizer
                .borrow_mut()
                .load_state(&load(&file, state.device()?)?);
            loaded.map_err(|error| of_file(error, &file))
        })
    }

    /// Fills `out` with a moving average of the parameters that the UNet trains now.
    #[napi(catch_unwind)]
    pub fn create_ema(&self, out: f64, unet: f64, options: EmaOptions) {
        self.submit(out, "Ema", move |state| {
            let module = state.get::<UnetModule>(id(unet))?;
            let config = EmaConfig {
                decay: options.decay,
                min_decay: options.min_decay,
                update_after: u64::from(options.update_after),
                warmup: None,
            };
            Ok(Average(RefCell::new(Ema::new(trained(&module)?, config)?)))
        });
    }

    /// Moves the average towards the weights.
    #[napi(catch_unwind)]
    pub fn ema_update(&self, ema: f64) {
        self.on_ema(ema, "ema.update", Ema::update);
    }

    /// Exchanges average and weights.
    #[napi(catch_unwind)]
    pub fn ema_swap(&self, ema: f64) {
        self.on_ema(ema, "ema.swap", Ema::swap);
    }

    /// Writes an average's state.
    #[napi(ts_return_type = "Promise<Outcome<undefined>>", catch_unwind)]
    pub fn save_ema<'env>(&self, env: &'env Env, ema: f64, file: String) -> napi::Result<Object<'env>> {
        self.query(env, "ema.save", move |state| {
            save(&file, state.get::<Average>(id(ema))?.0.borrow().state()?)
        })
    }

    /// Takes over a written state.
    #[napi(ts_return_type = "Promise<Outcome<undefined>>", catch_unwind)]
    pub fn load_ema<'env>(&self, env: &'env Env, ema: f64, file: String) -> napi::Result<Object<'env>> {
        self.query(env, "ema.load", move |state| {
            let average = state.get::<Average>(id(ema))?;
            let loaded = average.0.borrow_mut().load_state(&load(&file, state.device()?)?);
            loaded.map_err(|error| of_file(error, &file))
        })
    }
}

impl Engine {
    fn create_optimizer(
        &self,
        out: f64,
        unet: f64,
        name: &'static str,
        make: impl FnOnce(Vec<Param>) -> Result<Box<dyn Optimizer>> + Send + 'static,
    ) {
        self.submit(out, name, move |state| {
            let module = state.get::<UnetModule>(id(unet))?;
            let params = trained(&module)?;
            Ok(Stepping {
                optimizer: RefCell::new(make(params.clone())?),
                params,
                gradients: Accumulator::clone(&module.gradients),
            })
        });
    }

    fn on_ema(
        &self,
        ema: f64,
        name: &'static str,
        change: impl FnOnce(&mut Ema) -> potstill_engine::Result<()> + Send + 'static,
    ) {
        self.effect::<()>(&[], name, move |state: &mut State| {
            change(&mut state.get::<Average>(id(ema))?.0.borrow_mut())?;
            Ok(Vec::new())
        });
    }
}

/// The path of the layer that a parameter belongs to.
fn layer_of(name: &str) -> &str {
    let name = name
        .strip_suffix(".weight")
        .or_else(|| name.strip_suffix(".bias"))
        .unwrap_or(name);
    let factors = [".lora_A", ".lora_B", ".lora_magnitude_vector"];
    factors
        .iter()
        .find_map(|factor| name.strip_suffix(factor))
        .unwrap_or(name)
}

fn trained(module: &UnetModule) -> Result<Vec<Param>> {
    match module.trained() {
        params if params.is_empty() => {
            Err(OpError::input("ERR_GRADIENT_GRAPH", "nothing of the UNet is trained")
                .remedy("Call setTrainable first."))
        }
        params => Ok(params),
    }
}

type Named = BTreeMap<String, Tensor>;

/// Files are in diffusers' layout, as those of weights.
fn save(file: &str, state: Named) -> Result<()> {
    let state = state
        .into_iter()
        .map(|(name, tensor)| Ok((name, to_file_layout(&tensor)?)))
        .collect::<Result<Named>>()?;
    write_tensors(Path::new(file), &state, Dtype::F32, &BTreeMap::new())
}

fn load(file: &str, device: &Device) -> Result<Named> {
    read_tensors(Path::new(file), device)?
        .into_iter()
        .map(|(name, tensor)| Ok((name, to_memory_layout(&tensor)?.to_dtype(DType::F32)?)))
        .collect()
}

fn of_file(error: potstill_engine::EngineError, file: &str) -> OpError {
    OpError {
        place: Some(file.to_owned()),
        ..error.into()
    }
}
