//! LoRAs on a UNet, as branches beside its layers: to be trained, or to be looked at with their gradients.

use std::collections::BTreeMap;

use potstill_engine::{Device, Param, Tensor};
use potstill_io::Dtype;
use potstill_models::{
    Branch, Component, ComponentConfig, ModelKind, Params, Site, Unet, to_file_layout, to_memory_layout,
};
use potstill_noise::TorchGenerator;
use serde_json::Value as Json;

use crate::adapter::Adapter;
use crate::dialects::{Dialect, LayerScale, unet_scales};
use crate::error::{AdapterError, Result};
use crate::family::Family;
use crate::module::{Array, Module, Update};
use crate::targets::choose_layers;

/// A LoRA that is to be trained.
#[derive(Debug, Clone)]
pub struct LoraOptions {
    /// Of every layer's product.
    pub rank: usize,
    /// The product is multiplied by alpha / rank.
    pub alpha: f64,
    /// Presets and patterns: [`choose_layers`](crate::choose_layers).
    pub targets: Vec<String>,
    /// Of the starting values.
    pub seed: u64,
}

/// A LoRA that is attached to a UNet. It stays attached when this is dropped.
pub struct TrainedLora {
    kind: ModelKind,
    layers: Vec<(Site, Branch, f64)>,
    params: Params,
}

impl TrainedLora {
    /// Attaches a new LoRA to a UNet, which it leaves as it is until it is trained: `up` is zero, `down` uniform in
    /// ±1/√fan_in, as peft and kohya start. The i-th of all layers that could be chosen, in the order of their paths,
    /// draws from a `torch` generator of seed `seed + i`, in diffusers' layout.
    ///
    /// # Errors
    /// For a rank of 0, an alpha that is 0 or not finite, and targets that fit nothing.
    pub fn new(unet: &Unet, options: &LoraOptions) -> Result<Self> {
        let LoraOptions {
            rank,
            alpha,
            targets,
            seed,
        } = options;
        if *rank == 0 {
            return Err(AdapterError::input("rank", "is 0; give at least 1"));
        }
        if !alpha.is_normal() {
            return Err(AdapterError::input(
                "alpha",
                format!("is {alpha}; give a finite number other than 0"),
            ));
        }
        let family = family_of(unet)?;
        let layers: Vec<(&str, &[usize])> = unet.sockets().layers().collect();
        let paths: Vec<&str> = layers.iter().map(|(path, _)| *path).collect();
        let chosen = choose_layers(targets, &paths)?;
        let starts = layers.iter().zip(0u64..).filter(|((path, _), _)| chosen.contains(path));
        let layers = starts.map(|((path, shape), index)| {
            let down = start(&with_rank(shape, *rank), seed.wrapping_add(index))?;
            let up = Tensor::zeros(up_shape(shape, *rank), potstill_engine::DType::F32, &Device::Cpu)?;
            Ok((
                site(&family, path)?,
                branch(path, &down, &up, alpha / *rank as f64)?,
                *alpha,
            ))
        });
        Self::attach(unet, family.kind, layers.collect::<Result<_>>()?)
    }

    /// Attaches an adapter's part for the UNet, `weight` times as strong, frozen. Cores of Tucker's form are multiplied
    /// out.
    ///
    /// # Errors
    /// When the adapter is for another family, does nothing to the UNet, or holds what is no LoRA: that can be laid into
    /// the weights instead ([`apply`](crate::apply)).
    pub fn of_adapter(unet: &Unet, adapter: &Adapter, weight: f64) -> Result<Self> {
        let own = family_of(unet)?.kind;
        if adapter.kind != own {
            let reason = format!("is for {}, the model is {}", adapter.kind.name(), own.name());
            return Err(AdapterError::input("adapter", reason));
        }
        let modules = adapter.modules.values().filter(|m| m.site.component == Component::Unet);
        let layers = modules.map(|module| {
            let (site, rank) = (module.site.clone(), module.rank().unwrap_or(0));
            let plain = module.bias.is_none() && module.magnitude.is_none();
            let Some(Update::Lora { up, down, mid }) = module.update.as_ref().filter(|_| plain) else {
                let reason = format!("is a {}; a LoRA alone can be attached", module.kind());
                return Err(AdapterError::input(&site.path, reason));
            };
            let down = Module::down(down, mid.as_ref());
            let down = Tensor::from_vec(down.to_f32(), with_rank(&site.shape, rank), &Device::Cpu)?;
            let up = Tensor::from_vec(up.values.clone(), up_shape(&site.shape, rank), &Device::Cpu)?;
            let branch = branch(&site.path, &down, &up, weight * module.scale())?;
            Ok((site, branch, weight * module.alpha))
        });
        let layers: Vec<_> = layers.collect::<Result<_>>()?;
        if layers.is_empty() {
            return Err(AdapterError::input("adapter", "does nothing to the UNet"));
        }
        Self::attach(unet, adapter.kind, layers)
    }

    fn attach(unet: &Unet, kind: ModelKind, layers: Vec<(Site, Branch, f64)>) -> Result<Self> {
        let branches = layers
            .iter()
            .map(|(site, branch, _)| (site.path.as_str(), branch.clone()));
        unet.sockets().attach(branches)?;
        let params = layers
            .iter()
            .flat_map(|(_, branch, _)| [branch.down.clone(), branch.up.clone()]);
        let params = Params::of(params.collect());
        Ok(Self { kind, layers, params })
    }

    /// What is trained: `PATH.lora_A.weight` (down) and `PATH.lora_B.weight` (up) of every layer, in peft's shapes.
    #[must_use]
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Metadata for a file of [`TrainedLora::params`] alone, by which it is read as the adapter that it is: without, the
    /// names do not say how strong it is.
    #[must_use]
    pub fn scales(&self) -> BTreeMap<String, String> {
        let layers = self.layers.iter().map(|(site, branch, alpha)| LayerScale {
            path: &site.path,
            rank: branch.down.tensor().dims()[0],
            alpha: *alpha,
            dora: false,
        });
        unet_scales(&layers.collect::<Vec<_>>())
    }

    /// Number of layers that it sits on.
    #[must_use]
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// As it is now, to be written: f32, in kohya's dialect unless told otherwise.
    ///
    /// # Errors
    /// When its values cannot be read.
    pub fn adapter(&self, metadata: BTreeMap<String, String>, operation: &str, details: Json) -> Result<Adapter> {
        let mut adapter = Adapter {
            kind: self.kind,
            dialect: Dialect::Kohya,
            modules: BTreeMap::new(),
            metadata,
            dtype: Dtype::F32,
        };
        for (site, branch, alpha) in &self.layers {
            adapter.insert(Module {
                site: site.clone(),
                update: Some(Update::Lora {
                    up: array(&branch.up.tensor(), 2)?,
                    down: array(&branch.down.tensor(), site.shape.len())?,
                    mid: None,
                }),
                alpha: *alpha,
                magnitude: None,
                bias: None,
            });
        }
        adapter.note(operation, details);
        Ok(adapter)
    }
}

fn family_of(unet: &Unet) -> Result<Family> {
    let config = unet.config();
    let kind = match config.text_time {
        Some(_) => ModelKind::Sdxl,
        None => ModelKind::Sd15,
    };
    let config = ComponentConfig::Unet(config.clone());
    Family::new(kind, "the UNet".to_string(), &[(Component::Unet, config)])
}

fn site(family: &Family, path: &str) -> Result<Site> {
    let found = family.site_at(Component::Unet, path).cloned();
    found.ok_or_else(|| AdapterError::input(path, "is no layer that adapters have a name for"))
}

/// diffusers' shape of `down` for a layer whose weight has `shape`.
fn with_rank(shape: &[usize], rank: usize) -> Vec<usize> {
    [&[rank], &shape[1..]].concat()
}

fn up_shape(shape: &[usize], rank: usize) -> Vec<usize> {
    let ones = shape[2..].iter().map(|_| 1);
    [shape[0], rank].into_iter().chain(ones).collect()
}

/// Of tensors in diffusers' layout.
fn branch(path: &str, down: &Tensor, up: &Tensor, scale: f64) -> Result<Branch> {
    Ok(Branch {
        down: Param::new(format!("{path}.lora_A.weight"), to_memory_layout(down)?),
        up: Param::new(format!("{path}.lora_B.weight"), to_memory_layout(up)?),
        scale,
    })
}

fn start(shape: &[usize], seed: u64) -> Result<Tensor> {
    let fan_in: usize = shape[1..].iter().product();
    let bound = (1. / (fan_in as f64).sqrt()) as f32;
    let mut values = vec![0f32; shape.iter().product()];
    TorchGenerator::new(seed).rand(&mut values);
    values.iter_mut().for_each(|v| *v = (*v * 2. - 1.) * bound);
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// A parameter's values in diffusers' layout; with `rank` dimensions, of which the last are ones.
fn array(tensor: &Tensor, rank: usize) -> Result<Array> {
    let tensor = to_file_layout(tensor)?;
    Ok(Array {
        shape: tensor.dims()[..rank].to_vec(),
        values: tensor.flatten_all()?.to_vec1()?,
    })
}
