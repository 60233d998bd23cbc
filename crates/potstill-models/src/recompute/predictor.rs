//! The models that a cache was made of, one of which is loaded at a time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use potstill_cache::{
    Batch, CacheReader, ComponentId, Digest32, EncodedText, EncoderDigest, ModelDigest, PredictionInputs, Predictor,
    TeacherPlan, ViewOfImage, WeightStorage,
};
use potstill_engine::{Value, no_grad};
use potstill_io::disk::is_dir;

use super::RecomputeError;
use super::identity::Digests;
use super::images::Images;
use crate::checkpoint::Component;
use crate::model::{Model, ModelKind};
use crate::nn::Precision;
use crate::prediction::add_noise;
use crate::prompt::PromptEncoder;
use crate::unet::{ForwardOptions, Unet, UnetInputs};
use crate::vae::Vae;

/// The digits of a digest that people compare.
const SHOWN: usize = 12;

/// Models that were found to have made components of a cache.
pub(super) struct Models {
    makers: Vec<Maker>,
    /// Which of them made a component; a component of another is not here.
    made_by: BTreeMap<ComponentId, usize>,
    /// Components that cannot be computed again, and why.
    left_out: BTreeMap<ComponentId, String>,
    images: Images,
    /// What teachers' matrices were held in.
    held: BTreeMap<ComponentId, Precision>,
    device: Device,
    loaded: Option<(ComponentId, Network)>,
}

/// What components are made with.
enum Maker {
    Model(Box<Model>),
    /// A VAE that is no part of a model, for one of a family.
    Vae(PathBuf, ModelKind),
}

impl Maker {
    /// A model, or else a VAE alone.
    fn open(path: &Path, kind: ModelKind) -> Result<Self, RecomputeError> {
        let error = match Model::open(path) {
            Ok(model) => return Ok(Self::Model(Box::new(model))),
            Err(error) if is_dir(&path.join(Component::Unet.name())) => return Err(error.into()),
            Err(error) => error,
        };
        let inside = path.join(Component::Vae.name());
        let vae = if is_dir(&inside) { inside } else { path.to_path_buf() };
        match Vae::on_disk(&vae, Some(kind)) {
            Ok(_) => Ok(Self::Vae(vae, kind)),
            Err(_) => Err(error.into()),
        }
    }

    fn vae(&self, device: &Device) -> crate::Result<Vae> {
        match self {
            Self::Model(model) => model.load_vae(device),
            Self::Vae(path, kind) => Vae::load_for(path, Some(*kind), device),
        }
    }

    /// The model, for components that a VAE alone does not make.
    fn model(&self) -> &Model {
        match self {
            Self::Model(model) => model,
            Self::Vae(..) => unreachable!("a VAE makes latents alone"),
        }
    }
}

/// What is loaded.
enum Network {
    Vae(Box<Vae>),
    Text(PromptEncoder),
    Unet(Unet),
}

impl Models {
    /// Opens models and finds out which components each of them made.
    ///
    /// # Errors
    /// [`RecomputeError::Foreign`] for a model that made none.
    pub(super) fn open(
        reader: &CacheReader,
        paths: &[&Path],
        images: &[String],
        device: &Device,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Self, RecomputeError> {
        let mut digests = Digests::new(interrupted);
        let mut found = Self {
            makers: Vec::new(),
            made_by: BTreeMap::new(),
            left_out: left_out(reader)?,
            images: Images::new(images),
            held: held(reader)?,
            device: device.clone(),
            loaded: None,
        };
        // SDXL has two text encoders.
        let kind = match reader.text_plan().encoders.len() {
            1 => ModelKind::Sd15,
            _ => ModelKind::Sdxl,
        };
        for path in paths {
            let maker = Maker::open(path, kind)?;
            let mut differences = Vec::new();
            let mut made = 0;
            for component in components(reader) {
                match difference(reader, &maker, &component, &mut digests)? {
                    None => {
                        made += 1;
                        found.made_by.entry(component).or_insert(found.makers.len());
                    }
                    Some(reason) => differences.push(format!("{component} {reason}")),
                }
            }
            if made == 0 {
                return Err(RecomputeError::Foreign {
                    model: path.display().to_string(),
                    reason: differences.join("; "),
                });
            }
            found.makers.push(maker);
        }
        Ok(found)
    }

    /// What made a component: one that [`Predictor::omits`] does not leave out.
    fn maker(&self, component: &ComponentId) -> &Maker {
        &self.makers[self.made_by[component]]
    }

    fn load(&mut self, component: &ComponentId) -> Result<&Network, RecomputeError> {
        if self.loaded.as_ref().is_none_or(|(loaded, _)| loaded != component) {
            self.loaded = None; // frees its memory first
            let maker = self.maker(component);
            let network = match component {
                ComponentId::Latents => Network::Vae(Box::new(maker.vae(&self.device)?)),
                ComponentId::Text => Network::Text(maker.model().load_prompt_encoder(&self.device)?),
                ComponentId::Teacher(_) => {
                    let precision = self.held.get(component).copied().unwrap_or_default();
                    Network::Unet(maker.model().load_unet(precision, &self.device)?)
                }
            };
            self.loaded = Some((component.clone(), network));
        }
        match &self.loaded {
            Some((_, network)) => Ok(network),
            None => unreachable!("it was loaded above"),
        }
    }
}

/// Teachers whose predictions a model alone does not give again.
fn left_out(reader: &CacheReader) -> Result<BTreeMap<ComponentId, String>, RecomputeError> {
    let mut reasons = BTreeMap::new();
    for id in reader.teachers() {
        let plan = reader.teacher_plan(id)?;
        let count = plan.adapters.len();
        let reason = if count > 0 {
            format!("it was made with {count} adapters, which are not laid on the model here")
        } else if plan.storage == WeightStorage::Bf16 {
            // A sum in another order is rounded to another bf16 now and then, and layer by layer that adds up.
            "it was held in bf16, whose roundings differ from batch to batch and from processor to processor".to_owned()
        } else {
            continue;
        };
        reasons.insert(ComponentId::Teacher(id.to_owned()), reason);
    }
    Ok(reasons)
}

/// What the plans say of how teachers' weights were held.
fn held(reader: &CacheReader) -> Result<BTreeMap<ComponentId, Precision>, RecomputeError> {
    let of = |id: &str| {
        let precision = Precision::from_name(reader.teacher_plan(id)?.storage.name()).unwrap_or_default();
        Ok((ComponentId::Teacher(id.to_owned()), precision))
    };
    reader.teachers().map(of).collect()
}

/// The components of a cache.
fn components(reader: &CacheReader) -> Vec<ComponentId> {
    let teachers = reader.teachers().map(|id| ComponentId::Teacher(id.to_owned()));
    [ComponentId::Latents, ComponentId::Text]
        .into_iter()
        .chain(teachers)
        .collect()
}

/// How a model's component differs from the one that a plan names; none when it is the same.
fn difference(
    reader: &CacheReader,
    maker: &Maker,
    component: &ComponentId,
    digests: &mut Digests<'_>,
) -> Result<Option<String>, RecomputeError> {
    let model = match maker {
        Maker::Model(model) => model,
        Maker::Vae(path, kind) => {
            if *component != ComponentId::Latents {
                return Ok(Some("was made with a model, this is a VAE".to_owned()));
            }
            let (config, files) = Vae::on_disk(path, Some(*kind))?;
            let found = digests.of_parts(config.json(), &files)?;
            let vae = &reader.latents_plan().vae;
            return Ok(difference_from(Component::Vae, (&vae.weights, vae.config), &found));
        }
    };
    match component {
        ComponentId::Latents => {
            let vae = &reader.latents_plan().vae;
            digest_difference(model, Component::Vae, (&vae.weights, vae.config), digests)
        }
        ComponentId::Text => {
            let parts = &model.kind().components()[2..];
            let encoders = &reader.text_plan().encoders;
            if encoders.len() != parts.len() {
                return Ok(Some(format!(
                    "was made with {} text encoders, the model has {}",
                    encoders.len(),
                    parts.len()
                )));
            }
            for (encoder, &part) in encoders.iter().zip(parts) {
                let EncoderDigest {
                    weights,
                    config,
                    tokenizer,
                } = encoder;
                let reason = match digest_difference(model, part, (weights, *config), digests)? {
                    None => {
                        let found = digests.by_name(&model.tokenizer_files(part))?;
                        (found != *tokenizer).then(|| files_difference("tokenizer", tokenizer, &found))
                    }
                    reason => reason,
                };
                if reason.is_some() {
                    return Ok(reason);
                }
            }
            Ok(None)
        }
        ComponentId::Teacher(id) => {
            let plan = reader.teacher_plan(id)?;
            let ModelDigest { weights, config } = &plan.unet;
            let reason = digest_difference(model, Component::Unet, (weights, *config), digests)?;
            Ok(reason.or_else(|| schedule_difference(plan, model)))
        }
    }
}

/// How the weights or the configuration of a component differ.
fn digest_difference(
    model: &Model,
    component: Component,
    made: (&BTreeMap<String, Digest32>, Digest32),
    digests: &mut Digests<'_>,
) -> Result<Option<String>, RecomputeError> {
    if !model.has(component)? {
        return Ok(Some(format!("was made with a {component}, which the model lacks")));
    }
    let found = digests.component(model, component)?;
    Ok(difference_from(component, made, &found))
}

fn difference_from(
    component: Component,
    (weights, config): (&BTreeMap<String, Digest32>, Digest32),
    found: &ModelDigest,
) -> Option<String> {
    match (found.weights == *weights, found.config == config) {
        (true, true) => None,
        (false, _) => Some(files_difference(component.name(), weights, &found.weights)),
        (true, false) => Some(format!(
            "was made with another configuration of the {component}: {}, the model has {}",
            short(config),
            short(found.config)
        )),
    }
}

fn files_difference(what: &str, made: &BTreeMap<String, Digest32>, found: &BTreeMap<String, Digest32>) -> String {
    let list = |files: &BTreeMap<String, Digest32>| match files.is_empty() {
        true => "none".to_owned(),
        false => {
            let files = files.iter().map(|(name, digest)| format!("{name} {}", short(*digest)));
            files.collect::<Vec<_>>().join(", ")
        }
    };
    format!("was made with {what} {}, the model has {}", list(made), list(found))
}

fn short(digest: Digest32) -> String {
    format!("{}…", &digest.to_string()[..SHOWN])
}

/// How the schedule that a plan states differs from the model's.
fn schedule_difference(plan: &TeacherPlan, model: &Model) -> Option<String> {
    let schedule = model.schedule();
    let alphas = schedule.alphas_cumprod().iter().flat_map(|a| a.to_le_bytes());
    let hex: String = alphas.map(|byte| format!("{byte:02x}")).collect();
    let (stated, own) = (plan.prediction.name(), schedule.prediction().name());
    match (plan.schedule.alphas_cumprod == hex, stated == own) {
        (true, true) => None,
        (_, false) => Some(format!("states predictions of {stated}, the model predicts {own}")),
        (false, true) => Some("states another noise schedule than the model's".to_owned()),
    }
}

fn value(batch: Batch, device: &Device) -> Result<Value, RecomputeError> {
    let tensor = Tensor::from_vec(batch.values, batch.shape, device);
    Ok(Value::constant(tensor.map_err(crate::ModelError::from)?))
}

fn values(value: &Value) -> Result<Vec<f32>, RecomputeError> {
    let flat = value.tensor().flatten_all().and_then(|tensor| tensor.to_vec1());
    Ok(flat.map_err(crate::ModelError::from)?)
}

impl Predictor for Models {
    type Error = RecomputeError;

    fn omits(&self, component: &ComponentId) -> Option<String> {
        match component {
            _ if self.left_out.contains_key(component) => self.left_out.get(component).cloned(),
            _ if !self.made_by.contains_key(component) => Some("none of the models given made it".to_owned()),
            ComponentId::Latents if self.images.is_empty() => Some("the images were not given".to_owned()),
            _ => None,
        }
    }

    fn latents(&mut self, view: &ViewOfImage) -> Result<Option<Vec<f32>>, RecomputeError> {
        let Some(planes) = self.images.planes(view)? else {
            return Ok(None);
        };
        let pixels = Batch {
            shape: vec![1, 3, view.view.height as usize, view.view.width as usize],
            values: planes,
        };
        let pixels = value(pixels, &self.device)?;
        match self.load(&ComponentId::Latents)? {
            Network::Vae(vae) => values(&no_grad(|| vae.encode(&pixels)?.mode())?).map(Some),
            _ => unreachable!("a VAE was asked for"),
        }
    }

    fn text(&mut self, caption: &str) -> Result<EncodedText, RecomputeError> {
        match self.load(&ComponentId::Text)? {
            Network::Text(encoder) => {
                let encoded = no_grad(|| encoder.encode(&[caption.to_owned()], 0))?;
                Ok(EncodedText {
                    hidden_states: values(&encoded.encoder_hidden_states)?,
                    pooled: encoded.pooled.as_ref().map(values).transpose()?,
                })
            }
            _ => unreachable!("a text encoder was asked for"),
        }
    }

    fn prediction(&mut self, teacher: &TeacherPlan, inputs: PredictionInputs) -> Result<Vec<f32>, RecomputeError> {
        let component = ComponentId::Teacher(teacher.id.clone());
        let model = self.maker(&component).model();
        let timestep = [f64::from(inputs.timestep)];
        let levels = model.schedule().alpha_bars(&timestep)?;
        let value = |batch| value(batch, &self.device);
        let sample = no_grad(|| {
            add_noise(&value(inputs.latents)?, &value(inputs.noise)?, &levels).map_err(RecomputeError::from)
        })?;
        let time_ids = inputs.time_ids.map(|ids| Batch {
            shape: vec![1, ids.len()],
            values: ids.to_vec(),
        });
        let inputs = UnetInputs {
            sample,
            timestep: &timestep,
            encoder_hidden_states: value(inputs.hidden_states)?,
            text_embeds: inputs.pooled.map(&value).transpose()?,
            time_ids: time_ids.map(&value).transpose()?,
        };
        match self.load(&component)? {
            Network::Unet(unet) => values(&no_grad(|| unet.forward(&inputs, &ForwardOptions::default()))?),
            _ => unreachable!("a UNet was asked for"),
        }
    }
}
