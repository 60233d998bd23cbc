//! LoRAs on a UNet or on text encoders, as branches beside their layers: to be trained, or to be looked at with their
//! gradients.

use std::collections::BTreeMap;

use potstill_engine::{Device, Param, Tensor};
use potstill_io::Dtype;
use potstill_models::{
    Branch, Component, ComponentConfig, ModelKind, Params, Site, Sockets, Switch, TextEncoder, Unet, to_file_layout,
    to_memory_layout,
};
use potstill_noise::TorchGenerator;
use serde_json::Value as Json;

use crate::adapter::Adapter;
use crate::dialects::{Dialect, LayerScale, stated_scales};
use crate::error::{AdapterError, Result};
use crate::family::{Family, dotted};
use crate::module::{Array, Module, Update};
use crate::targets::{choose_layers, is_chosen};

/// A LoRA that is to be trained.
#[derive(Debug, Clone)]
pub struct LoraOptions {
    /// Of every layer's product.
    pub rank: usize,
    /// The product is multiplied by alpha / rank.
    pub alpha: f64,
    /// Presets and patterns: [`choose_layers`](crate::choose_layers).
    pub targets: Vec<String>,
    /// Layers with a rank and an alpha of their own; the last that chooses a layer counts.
    pub blocks: Vec<BlockOptions>,
    /// Trains the lengths of the weights' rows too (DoRA), which start as they are.
    pub dora: bool,
    /// Of the starting values.
    pub seed: u64,
}

/// What some of a LoRA's layers have of their own.
#[derive(Debug, Clone)]
pub struct BlockOptions {
    /// A preset or a pattern.
    pub layers: String,
    /// Of these layers' products.
    pub rank: usize,
    /// The product is multiplied by alpha / rank.
    pub alpha: f64,
}

/// A network that LoRAs can be attached to.
struct Host<'a> {
    component: Component,
    sockets: &'a Sockets,
    params: &'a Params,
    device: &'a Device,
}

impl<'a> Host<'a> {
    fn unet(unet: &'a Unet) -> Self {
        Self {
            component: Component::Unet,
            sockets: unet.sockets(),
            params: unet.params(),
            device: unet.device(),
        }
    }

    fn text(component: Component, encoder: &'a TextEncoder) -> Self {
        Self {
            component,
            sockets: encoder.sockets(),
            params: encoder.params(),
            device: encoder.device(),
        }
    }

    /// Lengths of the rows of a layer's weight, `[out]`: what a DoRA starts from.
    fn lengths(&self, path: &str) -> Result<Tensor> {
        let weight = self.params.get(&format!("{path}.weight"));
        let weight = weight
            .ok_or_else(|| AdapterError::input(path, "has no weight"))?
            .tensor();
        let rows = weight.to_dtype(potstill_engine::DType::F32)?.flatten_from(1)?;
        Ok(rows.sqr()?.sum(1)?.sqrt()?)
    }
}

/// What a layer is called in targets and parameters: by its path in a UNet, with the encoder before it in others.
fn layer_name(component: Component, path: &str) -> String {
    match component {
        Component::Unet => path.to_string(),
        _ => dotted(component, path),
    }
}

/// A LoRA that is attached to a UNet, or to text encoders. It stays attached when this is dropped.
pub struct TrainedLora {
    kind: ModelKind,
    layers: Vec<(Site, Branch, f64)>,
    params: Params,
    switch: Switch,
}

impl TrainedLora {
    /// Attaches a new LoRA to a UNet, which it leaves as it is until it is trained: `up` is zero, `down` uniform in
    /// ±1/√fan_in, as peft and kohya start. The i-th of all layers that could be chosen, in the order of their paths,
    /// draws from a `torch` generator of seed `seed + i`, in diffusers' layout.
    ///
    /// # Errors
    /// For a rank of 0, an alpha that is 0 or not finite, and targets that fit nothing.
    pub fn new(unet: &Unet, options: &LoraOptions) -> Result<Self> {
        Self::on(&family_of(unet)?, &[Host::unet(unet)], options)
    }

    /// [`TrainedLora::new`] on the text encoders of a model: one of SD1.x, two of SDXL. Targets and parameters have the
    /// encoder's name before the path: `text_encoder.text_model.encoder.layers.0.self_attn.q_proj`.
    ///
    /// # Errors
    /// As [`TrainedLora::new`].
    pub fn on_text(encoders: &[&TextEncoder], options: &LoraOptions) -> Result<Self> {
        let kind = kind_of(encoders);
        let configs: Vec<_> = TEXT_COMPONENTS
            .into_iter()
            .zip(encoders)
            .map(|(component, encoder)| (component, ComponentConfig::Text(encoder.config().clone())))
            .collect();
        let family = Family::new(kind, "the text encoders".to_string(), &configs)?;
        Self::on(&family, &text_hosts(encoders), options)
    }

    fn on(family: &Family, hosts: &[Host], options: &LoraOptions) -> Result<Self> {
        let LoraOptions {
            rank,
            alpha,
            targets,
            blocks,
            dora,
            seed,
        } = options;
        let own = blocks.iter().map(|block| (block.rank, block.alpha));
        for (rank, alpha) in [(*rank, *alpha)].into_iter().chain(own) {
            if rank == 0 {
                return Err(AdapterError::input("rank", "is 0; give at least 1"));
            }
            if !alpha.is_normal() {
                let reason = format!("is {alpha}; give a finite number other than 0");
                return Err(AdapterError::input("alpha", reason));
            }
        }
        let switch = Switch::default();
        let layers: Vec<(&Host, &str, &[usize], String)> = hosts
            .iter()
            .flat_map(|host| {
                let layers = host.sockets.layers();
                layers.map(move |(path, shape)| (host, path, shape, layer_name(host.component, path)))
            })
            .collect();
        let names: Vec<&str> = layers.iter().map(|(.., name)| name.as_str()).collect();
        let chosen = choose_layers(targets, &names)?;
        for block in blocks {
            choose_layers(std::slice::from_ref(&block.layers), &chosen)?;
        }
        let starts = layers
            .iter()
            .zip(0u64..)
            .filter(|((.., name), _)| chosen.contains(&name.as_str()));
        let trained = starts.map(|((host, path, shape, name), index)| {
            let block = blocks.iter().rev().find(|block| is_chosen(&block.layers, name));
            let (rank, alpha) = block.map_or((*rank, *alpha), |block| (block.rank, block.alpha));
            let down = start(&with_rank(shape, rank), seed.wrapping_add(index), host.device)?;
            let up = Tensor::zeros(up_shape(shape, rank), potstill_engine::DType::F32, host.device)?;
            let mut branch = branch(name, &down, &up, alpha / rank as f64, &switch)?;
            if *dora {
                branch.magnitude = Some(magnitude(name, host.lengths(path)?));
            }
            Ok((site(family, host.component, path)?, branch, alpha))
        });
        let trained = trained.collect::<Result<_>>()?;
        Self::attach(hosts, family.kind, trained, switch)
    }

    /// Attaches an adapter's part for the UNet, `weight` times as strong, frozen. Cores of Tucker's form are multiplied
    /// out.
    ///
    /// # Errors
    /// When the adapter is for another family, does nothing to the UNet, or holds what is no LoRA: that can be laid into
    /// the weights instead ([`apply`](crate::apply)).
    pub fn of_adapter(unet: &Unet, adapter: &Adapter, weight: f64) -> Result<Self> {
        Self::of(family_of(unet)?.kind, &[Host::unet(unet)], adapter, weight)
    }

    /// [`TrainedLora::of_adapter`] for its part for the text encoders of a model. Parameters are named as
    /// [`TrainedLora::on_text`]'s.
    ///
    /// # Errors
    /// As [`TrainedLora::of_adapter`].
    pub fn of_text_adapter(encoders: &[&TextEncoder], adapter: &Adapter, weight: f64) -> Result<Self> {
        Self::of(kind_of(encoders), &text_hosts(encoders), adapter, weight)
    }

    fn of(kind: ModelKind, hosts: &[Host], adapter: &Adapter, weight: f64) -> Result<Self> {
        if adapter.kind != kind {
            let reason = format!("is for {}, the model is {}", adapter.kind.name(), kind.name());
            return Err(AdapterError::input("adapter", reason));
        }
        let switch = Switch::default();
        let own = |module: &Module| hosts.iter().find(|host| host.component == module.site.component);
        let modules = adapter
            .modules
            .values()
            .filter_map(|module| Some((module, own(module)?)));
        let layers = modules.map(|(module, host)| {
            let (site, rank) = (module.site.clone(), module.rank().unwrap_or(0));
            let name = layer_name(host.component, &site.path);
            // A share of a DoRA is none.
            let plain = module.bias.is_none() && (module.magnitude.is_none() || weight == 1.);
            let Some(Update::Lora { up, down, mid }) = module.update.as_ref().filter(|_| plain) else {
                let reason = format!("is a {}; a LoRA alone can be attached, or a whole DoRA", module.kind());
                return Err(AdapterError::input(&name, reason));
            };
            let down = Module::down(down, mid.as_ref());
            let down = Tensor::from_vec(down.to_f32(), with_rank(&site.shape, rank), host.device)?;
            let up = Tensor::from_vec(up.values.clone(), up_shape(&site.shape, rank), host.device)?;
            let mut branch = branch(&name, &down, &up, weight * module.scale(), &switch)?;
            if let Some(lengths) = &module.magnitude {
                let lengths = Tensor::from_vec(lengths.clone(), lengths.len(), host.device)?;
                branch.magnitude = Some(magnitude(&name, lengths));
            }
            Ok((site, branch, weight * module.alpha))
        });
        let layers: Vec<_> = layers.collect::<Result<_>>()?;
        if layers.is_empty() {
            let components: Vec<_> = hosts.iter().map(|host| host.component.name()).collect();
            let reason = format!("does nothing to {}", components.join(" and "));
            return Err(AdapterError::input("adapter", reason));
        }
        Self::attach(hosts, kind, layers, switch)
    }

    fn attach(hosts: &[Host], kind: ModelKind, layers: Vec<(Site, Branch, f64)>, switch: Switch) -> Result<Self> {
        for host in hosts {
            let own = layers.iter().filter(|(site, ..)| site.component == host.component);
            let branches = own.map(|(site, branch, _)| (site.path.as_str(), branch.clone()));
            host.sockets.attach(branches)?;
        }
        let params = layers.iter().flat_map(|(_, branch, _)| branch.params().cloned());
        let params = Params::of(params.collect());
        Ok(Self {
            kind,
            layers,
            params,
            switch,
        })
    }

    /// Turns it off, as if it were not attached, and on again: for the model as it is without it.
    pub fn switch(&self, on: bool) {
        self.switch.set(on);
    }

    /// What is trained: `NAME.lora_A.weight` (down) and `NAME.lora_B.weight` (up) of every layer, in peft's shapes, and
    /// `NAME.lora_magnitude_vector`, `[out]`, of DoRAs. The name is the path in a UNet, and in text encoders that with the
    /// encoder before it.
    #[must_use]
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Metadata for a file of [`TrainedLora::params`] alone, by which it is read as the adapter that it is: without, the
    /// names do not say how strong it is.
    #[must_use]
    pub fn scales(&self) -> BTreeMap<String, String> {
        let components = [Component::Unet, Component::TextEncoder, Component::TextEncoder2];
        let networks = components.map(|component| {
            let own = self.layers.iter().filter(|(site, ..)| site.component == component);
            let scales = own.map(|(site, branch, alpha)| LayerScale {
                path: &site.path,
                rank: branch.down.tensor().dims()[0],
                alpha: *alpha,
                dora: branch.magnitude.is_some(),
            });
            (component, scales.collect::<Vec<_>>())
        });
        let present: Vec<_> = networks.into_iter().filter(|(_, layers)| !layers.is_empty()).collect();
        stated_scales(&present)
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
        self.add_to(&mut adapter)?;
        adapter.note(operation, details);
        Ok(adapter)
    }

    /// Adds its layers, as they are now, to an adapter of the same model: a UNet's and its text encoders' are one file.
    ///
    /// # Errors
    /// When its values cannot be read.
    pub fn add_to(&self, adapter: &mut Adapter) -> Result<()> {
        for (site, branch, alpha) in &self.layers {
            adapter.insert(Module {
                site: site.clone(),
                update: Some(Update::Lora {
                    up: array(&branch.up.tensor(), 2)?,
                    down: array(&branch.down.tensor(), site.shape.len())?,
                    mid: None,
                }),
                alpha: *alpha,
                magnitude: branch.magnitude.as_ref().map(|m| m.tensor().to_vec1()).transpose()?,
                bias: None,
            });
        }
        Ok(())
    }
}

/// A model's text encoders, in their order.
const TEXT_COMPONENTS: [Component; 2] = [Component::TextEncoder, Component::TextEncoder2];

fn text_hosts<'a>(encoders: &[&'a TextEncoder]) -> Vec<Host<'a>> {
    let both = TEXT_COMPONENTS.into_iter().zip(encoders.iter().copied());
    both.map(|(component, encoder)| Host::text(component, encoder))
        .collect()
}

/// The family that has so many text encoders.
fn kind_of(encoders: &[&TextEncoder]) -> ModelKind {
    match encoders.len() {
        1 => ModelKind::Sd15,
        _ => ModelKind::Sdxl,
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

fn site(family: &Family, component: Component, path: &str) -> Result<Site> {
    let found = family.site_at(component, path).cloned();
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
fn branch(name: &str, down: &Tensor, up: &Tensor, scale: f64, switch: &Switch) -> Result<Branch> {
    Ok(Branch {
        down: Param::new(format!("{name}.lora_A.weight"), to_memory_layout(down)?),
        up: Param::new(format!("{name}.lora_B.weight"), to_memory_layout(up)?),
        scale,
        magnitude: None,
        switch: switch.clone(),
    })
}

fn magnitude(name: &str, lengths: Tensor) -> Param {
    Param::new(format!("{name}.lora_magnitude_vector"), lengths)
}

fn start(shape: &[usize], seed: u64, device: &Device) -> Result<Tensor> {
    let fan_in: usize = shape[1..].iter().product();
    let bound = (1. / (fan_in as f64).sqrt()) as f32;
    let mut values = vec![0f32; shape.iter().product()];
    TorchGenerator::new(seed).rand(&mut values);
    values.iter_mut().for_each(|v| *v = (*v * 2. - 1.) * bound);
    Ok(Tensor::from_vec(values, shape, device)?)
}

/// A parameter's values in diffusers' layout; with `rank` dimensions, of which the last are ones.
fn array(tensor: &Tensor, rank: usize) -> Result<Array> {
    let tensor = to_file_layout(tensor)?;
    Ok(Array {
        shape: tensor.dims()[..rank].to_vec(),
        values: tensor.flatten_all()?.to_vec1()?,
    })
}
