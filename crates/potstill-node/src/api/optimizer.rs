//! Optimizers and moving averages of a UNet's trained weights.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use potstill_engine::optim::{AdamW, AdamWConfig, Ema, EmaConfig, clip_grad_norm};
use potstill_engine::{DType, Device, Gradients, Param, Tensor, Value};
use potstill_io::Dtype;
use potstill_models::{to_file_layout, to_memory_layout};

use super::unet::UnetModule;
use crate::core::{Accumulator, Engine, OpError, Result, State, id, read_tensors, write_tensors};

/// An optimizer, and the gradients it steps on.
struct Optimizer {
    adamw: RefCell<AdamW>,
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
    /// Fills `out` with an optimizer of the parameters that the UNet trains now, those of LoRAs on it among them.
    #[napi(catch_unwind)]
    pub fn create_adamw(&self, out: f64, unet: f64, options: AdamWOptions) {
        self.submit(out, "AdamW", move |state| {
            let module = state.get::<UnetModule>(id(unet))?;
            let params = trained(&module)?;
            let config = AdamWConfig {
                betas: (options.beta1, options.beta2),
                eps: options.eps,
                weight_decay: options.weight_decay,
            };
            let adamw = RefCell::new(AdamW::new(params.clone(), config)?);
            Ok(Optimizer {
                adamw,
                params,
                gradients: Accumulator::clone(&module.gradients),
            })
        });
    }

    /// Fills `out` with the norm of the gathered gradients, and scales them down to `max` when it is larger.
    #[napi(catch_unwind)]
    pub fn clip_gradients(&self, out: f64, optimizer: f64, max: f64) {
        self.effect(&[out], "optimizer.clip", move |state| {
            let optimizer = state.get::<Optimizer>(id(optimizer))?;
            let norm = clip_grad_norm(&optimizer.params, &mut optimizer.gradients.borrow_mut(), max)?;
            Ok(vec![Value::constant(Tensor::new(norm as f32, &Device::Cpu)?)])
        });
    }

    /// Updates the weights by the gathered gradients.
    #[napi(catch_unwind)]
    pub fn optimizer_step(&self, optimizer: f64, lr: f64) {
        self.effect::<()>(&[], "optimizer.step", move |state| {
            let optimizer = state.get::<Optimizer>(id(optimizer))?;
            let gradients = optimizer.gradients.borrow();
            if gradients.is_empty() {
                return Err(
                    OpError::input("ERR_GRADIENT_GRAPH", "there are no gradients to step on")
                        .remedy("Run a tape backward before each step."),
                );
            }
            optimizer.adamw.borrow_mut().step(lr, &gradients)?;
            Ok(Vec::new())
        });
    }

    /// Forgets the gathered gradients.
    #[napi(catch_unwind)]
    pub fn zero_gradients(&self, optimizer: f64) {
        self.effect::<()>(&[], "optimizer.zeroGrad", move |state| {
            let optimizer = state.get::<Optimizer>(id(optimizer))?;
            *optimizer.gradients.borrow_mut() = Gradients::default();
            Ok(Vec::new())
        });
    }

    /// Writes an optimizer's state.
    #[napi(ts_return_type = "Promise<Outcome<undefined>>", catch_unwind)]
    pub fn save_optimizer<'env>(&self, env: &'env Env, optimizer: f64, file: String) -> napi::Result<Object<'env>> {
        self.query(env, "optimizer.save", move |state| {
            save(&file, state.get::<Optimizer>(id(optimizer))?.adamw.borrow().state()?)
        })
    }

    /// Takes over a written state.
    #[napi(ts_return_type = "Promise<Outcome<undefined>>", catch_unwind)]
    pub fn load_optimizer<'env>(&self, env: &'env Env, optimizer: f64, file: String) -> napi::Result<Object<'env>> {
        self.query(env, "optimizer.load", move |state| {
            let optimizer = state.get::<Optimizer>(id(optimizer))?;
            let loaded = optimizer.adamw.borrow_mut().load_state(&load(&file)?);
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
            let loaded = average.0.borrow_mut().load_state(&load(&file)?);
            loaded.map_err(|error| of_file(error, &file))
        })
    }
}

impl Engine {
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

fn load(file: &str) -> Result<Named> {
    read_tensors(Path::new(file))?
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
