//! Reading: every key belongs to a part of a layer, or is an error.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use potstill_io::{Dtype, SafetensorsFile, TensorView};
use potstill_models::{Component, Site};
use serde_json::{Map, Value as Json};

use super::Dialect;
use super::keys::{Slot, is_of_peft, split};
use super::metadata::PEFT_METADATA;
use super::peft::PeftConfig;
use crate::adapter::Adapter;
use crate::error::{AdapterError, KeyProblem, Result};
use crate::family::{Family, dotted};
use crate::module::{Array, Kronecker, Module, Update};

/// What peft puts before a layer's path.
pub(super) const PEFT_PREFIX: &str = "base_model.model.";
/// peft's file names.
pub(super) const PEFT_WEIGHTS: &str = "adapter_model.safetensors";
pub(super) const PEFT_CONFIG: &str = "adapter_config.json";
/// Largest configuration that is read: one that names every layer of SDXL by itself has a tenth of a megabyte.
const MOST_CONFIG_BYTES: u64 = 16 << 20;

/// A file, the component that its keys are about when they do not say, and what its configuration says of alpha.
struct Source {
    file: SafetensorsFile,
    component: Component,
    configs: BTreeMap<Component, PeftConfig>,
}

/// The parts of one layer, by slot, with their keys.
type Parts = BTreeMap<Slot, (String, Array)>;

/// Reads a file or a peft folder as an adapter for a family.
pub(crate) fn read_adapter(path: &Path, family: &Family) -> Result<Adapter> {
    let sources = match path.is_dir() {
        true => folder_sources(path)?,
        false => vec![file_source(path)?],
    };
    let mut problems = Vec::new();
    let mut layers: BTreeMap<String, (Site, Parts)> = BTreeMap::new();
    let mut dtype: Option<Dtype> = None;
    for source in &sources {
        for key in source.file.names() {
            let found = split(key).map(|(base, slot)| (layer_name(base, source.component), slot));
            let Some((site, slot)) = found.and_then(|(base, slot)| Some((family.site(&base)?, slot))) else {
                problems.push(problem(key, "names no layer or no part of one that is known"));
                continue;
            };
            if let Some(reason) = source.unknown_scale(key, site) {
                problems.push(problem(key, reason));
            }
            let view = source.file.tensor(key)?;
            let Some(values) = values_of(&view, slot) else {
                problems.push(problem(key, &format!("has the dtype {}", view.dtype.name())));
                continue;
            };
            if values.iter().any(|v| !v.is_finite()) {
                problems.push(problem(key, "holds NaN or infinity"));
            }
            if slot != Slot::Alpha {
                dtype = Some(dtype.map_or(view.dtype, |dtype| wider(dtype, view.dtype)));
            }
            let array = Array {
                shape: view.shape.to_vec(),
                values,
            };
            let name = dotted(site.component, &site.path);
            let (_, parts) = layers.entry(name).or_insert_with(|| (site.clone(), Parts::new()));
            if let Some((other, _)) = parts.insert(slot, (key.to_string(), array)) {
                problems.push(problem(key, &format!("is the same part of the same layer as {other}")));
            }
        }
    }
    let mut adapter = Adapter {
        kind: family.kind,
        dialect: dialect_of(path, &sources),
        modules: BTreeMap::new(),
        metadata: sources[0].file.header().metadata().clone(),
        // Nothing is written as f64.
        dtype: dtype.filter(|dtype| *dtype != Dtype::F64).unwrap_or(Dtype::F32),
    };
    for (_, (site, parts)) in layers {
        let keys: Vec<String> = parts.values().map(|(key, _)| key.clone()).collect();
        let config = sources.iter().find_map(|source| source.configs.get(&site.component));
        match build(site, parts, config) {
            Ok(module) => adapter.insert(module),
            Err(reason) => problems.extend(keys.iter().map(|key| problem(key, &reason))),
        }
    }
    if !problems.is_empty() {
        return Err(AdapterError::Keys {
            place: path.display().to_string(),
            family: family.label.clone(),
            problems,
        });
    }
    match adapter.modules.is_empty() {
        true => Err(AdapterError::file(path, "holds no tensor, so it is no adapter")),
        false => Ok(adapter),
    }
}

fn problem(key: &str, reason: &str) -> KeyProblem {
    KeyProblem {
        key: key.to_string(),
        reason: reason.to_string(),
    }
}

/// The dtype that holds what both do; f16 and bf16 together need f32.
fn wider(a: Dtype, b: Dtype) -> Dtype {
    match (a, b) {
        (Dtype::F16, Dtype::Bf16) | (Dtype::Bf16, Dtype::F16) => Dtype::F32,
        (a, b) if a.size() >= b.size() => a,
        (_, b) => b,
    }
}

/// A tensor's values; none for a dtype that the part cannot have. diffusers writes kohya's alpha as an integer.
fn values_of(view: &TensorView, slot: Slot) -> Option<Vec<f32>> {
    match (view.dtype, slot) {
        (Dtype::I64, Slot::Alpha) => {
            let chunks = view.bytes.as_chunks::<8>().0;
            Some(chunks.iter().map(|b| i64::from_le_bytes(*b) as f32).collect())
        }
        (Dtype::I32, Slot::Alpha) => {
            let chunks = view.bytes.as_chunks::<4>().0;
            Some(chunks.iter().map(|b| i32::from_le_bytes(*b) as f32).collect())
        }
        _ => view.to_f32().ok(),
    }
}

impl Source {
    /// Why the scale of a key's layer cannot be known: peft's own names are of files whose alpha is in a configuration.
    /// With diffusers' prefixes, and in the older names, an alpha that is nowhere is the rank.
    fn unknown_scale(&self, key: &str, site: &Site) -> Option<&'static str> {
        let (base, slot) = split(key)?;
        let peft = is_of_peft(key) && (base.starts_with(PEFT_PREFIX) || base == site.path);
        let stated = || {
            let alpha = format!("{base}.alpha");
            self.configs.contains_key(&site.component) || self.file.names().any(|name| name == alpha)
        };
        let unknown = peft && matches!(slot, Slot::Up | Slot::Down) && !stated();
        unknown.then_some(
            "is named as in peft's files, whose alpha is in a configuration, and there is none: put the \
             adapter_config.json that was saved with it beside it",
        )
    }
}

/// The name that [`Family::site`] knows, of a key without its ending.
fn layer_name(base: &str, component: Component) -> String {
    base.strip_prefix(PEFT_PREFIX)
        .map_or_else(|| base.to_string(), |path| dotted(component, path))
}

fn dialect_of(path: &Path, sources: &[Source]) -> Dialect {
    let first = sources[0].file.names().next().unwrap_or_default();
    match path.is_dir() || first.starts_with(PEFT_PREFIX) {
        true => Dialect::Peft,
        false if first.starts_with("lora_") => Dialect::Kohya,
        false if first.starts_with("diffusion_model.") || first.starts_with("text_encoders.") => Dialect::Comfy,
        false => Dialect::Diffusers,
    }
}

/// What else than its own file says the scales of peft's weights: the configuration beside them.
fn file_source(path: &Path) -> Result<Source> {
    let file = SafetensorsFile::open(path)?;
    let of_peft = file.names().any(|key| key.starts_with(PEFT_PREFIX));
    if of_peft && path.with_file_name(PEFT_CONFIG).is_file() {
        return peft_source(path, None);
    }
    let mut configs = BTreeMap::new();
    if let Some(text) = file.header().metadata().get(PEFT_METADATA) {
        let json = object(text, path)?;
        for component in COMPONENTS {
            if let Some(config) = PeftConfig::of(&json, &format!("{}.", component.name()), path)? {
                configs.insert(component, config);
            }
        }
        // diffusers' models, saved by themselves, put nothing before the keys.
        if json.contains_key("r")
            && let Some(config) = PeftConfig::of(&json, "", path)?
        {
            configs.insert(Component::Unet, config);
        }
    }
    Ok(Source {
        file,
        component: Component::Unet,
        configs,
    })
}

/// Those that an adapter can be for.
const COMPONENTS: [Component; 3] = [Component::Unet, Component::TextEncoder, Component::TextEncoder2];

/// peft's folders at a path: itself, or one for each component.
fn peft_folders(path: &Path) -> Vec<(PathBuf, Option<Component>)> {
    if path.join(PEFT_WEIGHTS).is_file() {
        return vec![(path.to_owned(), None)];
    }
    let folders = COMPONENTS.map(|component| (path.join(component.name()), Some(component)));
    let present = folders
        .into_iter()
        .filter(|(folder, _)| folder.join(PEFT_WEIGHTS).is_file());
    present.collect()
}

fn folder_sources(path: &Path) -> Result<Vec<Source>> {
    let folders = peft_folders(path);
    match folders.is_empty() {
        true => Err(AdapterError::file(
            path,
            format!("has no {PEFT_WEIGHTS}, nor has a folder unet, text_encoder or text_encoder_2 in it"),
        )),
        false => folders
            .iter()
            .map(|(folder, component)| peft_source(&folder.join(PEFT_WEIGHTS), *component))
            .collect(),
    }
}

/// Whether an adapter is at a path rather than a model: a safetensors file with a key that only adapters have, or a folder
/// as peft saves it. What cannot be read is none.
#[must_use]
pub fn is_adapter(path: &Path) -> bool {
    // Some networks have parameters that are called alpha.
    let tells = |key: &str| split(key).is_some_and(|(_, slot)| slot != Slot::Alpha);
    match path.is_dir() {
        true => !peft_folders(path).is_empty(),
        false => SafetensorsFile::open(path).is_ok_and(|file| file.names().any(tells)),
    }
}

fn peft_source(weights: &Path, component: Option<Component>) -> Result<Source> {
    let file = SafetensorsFile::open(weights)?;
    // peft does not write which network a folder is for; text encoders' layers are named unlike any of a UNet.
    let text = |key: &str| key.contains(".self_attn.") || key.contains(".mlp.fc");
    let component = component.or_else(|| named_component(weights));
    let component = component.unwrap_or(match file.names().any(text) {
        true => Component::TextEncoder,
        false => Component::Unet,
    });
    let path = weights.with_file_name(PEFT_CONFIG);
    let unknown =
        |e: std::io::Error| AdapterError::file(&path, format!("cannot be read: {e}; without it the scale is unknown"));
    let mut text = String::new();
    let source = File::open(&path).map_err(unknown)?;
    source
        .take(MOST_CONFIG_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(unknown)?;
    if text.len() as u64 > MOST_CONFIG_BYTES {
        return Err(AdapterError::file(
            &path,
            format!("has more than {MOST_CONFIG_BYTES} bytes, so it is no configuration"),
        ));
    }
    let config = PeftConfig::of(&object(&text, &path)?, "", &path)?;
    Ok(Source {
        file,
        component,
        configs: config.map(|config| (component, config)).into_iter().collect(),
    })
}

/// The component that the folder of some weights is called after.
fn named_component(weights: &Path) -> Option<Component> {
    let folder = weights.parent()?.file_name()?;
    COMPONENTS.into_iter().find(|component| folder == component.name())
}

fn object(text: &str, place: &Path) -> Result<Map<String, Json>> {
    match serde_json::from_str(text) {
        Ok(Json::Object(object)) => Ok(object),
        _ => Err(AdapterError::file(place, "its configuration is no JSON object")),
    }
}

/// Why an alpha of 0 is refused.
pub(super) const ALPHA_ZERO: &str = "its alpha is 0, which kohya reads as the rank and others as nothing";

/// A module of its parts, checked against the layer; the error is why not.
fn build(site: Site, mut parts: Parts, config: Option<&PeftConfig>) -> std::result::Result<Module, String> {
    let bias = parts.remove(&Slot::Bias).map(|(_, array)| array.values);
    if let Some(bias) = bias.as_ref().filter(|bias| bias.len() != site.shape[0]) {
        return Err(format!("changes {} biases of {}", bias.len(), site.shape[0]));
    }
    let magnitude = parts.remove(&Slot::Magnitude);
    let stated = match parts.remove(&Slot::Alpha) {
        Some((_, alpha)) => match alpha.values[..] {
            [value] if value != 0.0 => Some(f64::from(value)),
            [_] => return Err(ALPHA_ZERO.to_string()),
            _ => return Err("its alpha is not one number".to_string()),
        },
        None => None,
    };
    let update = update_of(&site, &mut parts)?;
    if let Some((slot, (key, _))) = parts.first_key_value() {
        return Err(format!(
            "its part {slot:?} ({key}) has no counterpart, or belongs to another kind of adapter"
        ));
    }
    if update.is_none() && bias.is_none() {
        return Err("has an alpha or a magnitude, but nothing that it applies to".to_string());
    }
    let magnitude = magnitude
        .map(|(key, array)| magnitude_of(&site, &key, array))
        .transpose()?;
    if magnitude.is_some() && !matches!(update, Some(Update::Lora { .. })) {
        return Err("DoRA's magnitude is read with a LoRA only".to_string());
    }
    let mut module = Module {
        alpha: 1.0,
        site,
        update,
        magnitude,
        bias,
    };
    if let Some(rank) = module.rank() {
        module.alpha = match (stated, config) {
            (Some(alpha), _) => alpha,
            (None, Some(config)) => config.alpha(&module.site.path, rank)?,
            (None, None) => rank as f64,
        };
    }
    Ok(module)
}

/// One magnitude per output channel: peft keeps a convolution's as `[1, out, 1, 1]`, all others as `[out, 1 …]`. LyCORIS
/// can have them by input channel, `[1, in …]`, which is something else even where there are as many.
fn magnitude_of(site: &Site, key: &str, array: Array) -> std::result::Result<Vec<f32>, String> {
    let out = site.shape[0];
    let peft = key.contains("lora_magnitude_vector") && array.shape.len() == 4;
    let at = usize::from(peft);
    match array.shape.get(at) == Some(&out) && array.values.len() == out {
        true => Ok(array.values),
        false => Err(format!(
            "DoRA's magnitude has the shape {:?}; one for each of the {out} output channels is read",
            array.shape
        )),
    }
}

const LACKING: &str = "lacks a part: up and down, or all of a LoHa's or LoKr's, belong together";

/// The update that the parts make; what is left in `parts` belongs to none. None where there is nothing but a bias.
fn update_of(site: &Site, parts: &mut Parts) -> std::result::Result<Option<Update>, String> {
    let is_loha = |slot: &Slot| (Slot::Hada1A..=Slot::Hada2Core).contains(slot);
    let is_lokr = |slot: &Slot| (Slot::Kron1..=Slot::Kron2Core).contains(slot);
    let (has_loha, has_lokr) = (parts.keys().any(is_loha), parts.keys().any(is_lokr));
    if let Some(difference) = take_one(parts, Slot::Difference) {
        let wanted: usize = site.shape.iter().product();
        return match difference.values.len() == wanted {
            true => Ok(Some(Update::Full(Array {
                shape: site.shape.clone(),
                values: difference.values,
            }))),
            false => Err(misshapen(&difference.shape, site)),
        };
    }
    if has_loha {
        let mut half = |a, b, core| side(None, take_both(parts, a, b), take_one(parts, core)).ok_or(LACKING);
        let first = half(Slot::Hada1A, Slot::Hada1B, Slot::Hada1Core)?;
        let second = half(Slot::Hada2A, Slot::Hada2B, Slot::Hada2Core)?;
        for side in [&first, &second] {
            let shape = product_shape(side)?;
            if shape[0] != site.shape[0] || shape[1..].iter().product::<usize>() != inputs(site) {
                return Err(misshapen(&shape, site));
            }
        }
        return Ok(Some(Update::Loha { first, second }));
    }
    if has_lokr {
        let factors = take_both(parts, Slot::Kron1A, Slot::Kron1B);
        let first = side(take_one(parts, Slot::Kron1), factors, None);
        let factors = take_both(parts, Slot::Kron2A, Slot::Kron2B);
        let second = side(take_one(parts, Slot::Kron2), factors, take_one(parts, Slot::Kron2Core));
        let (first, second) = first.zip(second).ok_or(LACKING)?;
        return lokr(site, first, second).map(Some);
    }
    match take_both(parts, Slot::Up, Slot::Down) {
        Some((up, down)) => lora(site, up, down, take_one(parts, Slot::Mid)).map(Some),
        None => Ok(None),
    }
}

fn take_one(parts: &mut Parts, slot: Slot) -> Option<Array> {
    parts.remove(&slot).map(|(_, array)| array)
}

/// Both or, where one is missing, none: the other is then left over, which is an error.
fn take_both(parts: &mut Parts, a: Slot, b: Slot) -> Option<(Array, Array)> {
    match parts.contains_key(&a) && parts.contains_key(&b) {
        true => take_one(parts, a).zip(take_one(parts, b)),
        false => None,
    }
}

fn inputs(site: &Site) -> usize {
    site.shape[1..].iter().product()
}

fn misshapen(found: &[usize], site: &Site) -> String {
    let wanted = &site.shape;
    format!("makes {found:?} where the layer has {wanted:?}; is it for another model?")
}

fn lora(site: &Site, mut up: Array, mut down: Array, mid: Option<Array>) -> std::result::Result<Update, String> {
    let (out, rank) = (site.shape[0], down.shape.first().copied().unwrap_or(0));
    if site.shape.len() < 2 || rank == 0 || up.shape.first() != Some(&out) || up.values.len() != out * rank {
        return Err(misshapen(&[up.shape.clone(), down.shape.clone()].concat(), site));
    }
    let wanted = match &mid {
        Some(mid) => {
            let taps = site.shape.get(2..).unwrap_or_default();
            if mid.shape.len() != 4 || mid.shape[..2] != [rank, rank] || mid.shape[2..] != *taps {
                return Err(misshapen(&mid.shape, site));
            }
            vec![rank, site.shape[1]]
        }
        None => [&[rank], &site.shape[1..]].concat(),
    };
    if down.values.len() != wanted.iter().product::<usize>() {
        return Err(misshapen(&down.shape, site));
    }
    up.shape = vec![out, rank];
    down.shape = wanted;
    Ok(Update::Lora { up, down, mid })
}

/// One side of a product, of what is there of it.
fn side(whole: Option<Array>, factors: Option<(Array, Array)>, core: Option<Array>) -> Option<Kronecker> {
    match (whole, factors, core) {
        (Some(whole), None, None) => Some(Kronecker::Whole(whole)),
        (None, Some((a, b)), None) => Some(Kronecker::Factored { a, b }),
        (None, Some((a, b)), Some(core)) => Some(Kronecker::Tucker { core, a, b }),
        _ => None,
    }
}

/// The shape of a side's product, once its factors are known to fit each other.
fn product_shape(side: &Kronecker) -> std::result::Result<Vec<usize>, String> {
    let fits = match side {
        Kronecker::Whole(whole) => whole.shape.len() >= 2,
        Kronecker::Factored { a, b } => {
            a.shape.len() == 2 && b.shape.len() >= 2 && a.shape[1] == b.shape[0] && a.shape[1] > 0
        }
        Kronecker::Tucker { core, a, b } => {
            let matrices = a.shape.len() == 2 && b.shape.len() == 2 && core.shape.len() == 4;
            let ranks = matrices && core.shape[0] == a.shape[0] && core.shape[1] == b.shape[0];
            ranks && core.shape[0] > 0 && core.shape[1] > 0
        }
    };
    if !fits {
        return Err("has factors that do not fit each other".to_string());
    }
    Ok(match side {
        Kronecker::Whole(whole) => whole.shape.clone(),
        Kronecker::Factored { a, b } => [&[a.shape[0]], &b.shape[1..]].concat(),
        Kronecker::Tucker { core, a, b } => vec![a.shape[1], b.shape[1], core.shape[2], core.shape[3]],
    })
}

fn lokr(site: &Site, first: Kronecker, second: Kronecker) -> std::result::Result<Update, String> {
    let (small, mut large) = (product_shape(&first)?, product_shape(&second)?);
    if large.len() == 2 && site.shape.len() == 4 {
        // A factored side keeps a convolution's taps in its columns.
        let taps = site.shape[2] * site.shape[3];
        if large[1] % taps == 0 {
            large = vec![large[0], large[1] / taps, site.shape[2], site.shape[3]];
        }
    }
    let made: Vec<usize> = match (small.len(), large.len()) {
        (2, 2 | 4) => [&[small[0] * large[0], small[1] * large[1]], &large[2..]].concat(),
        _ => return Err(misshapen(&large, site)),
    };
    match made == site.shape {
        true => Ok(Update::Lokr {
            first,
            second: with_taps(second, &large),
        }),
        false => Err(misshapen(&made, site)),
    }
}

/// Gives a factored side's columns the shape `[rank, in, height, width]`.
fn with_taps(side: Kronecker, shape: &[usize]) -> Kronecker {
    match side {
        Kronecker::Factored { a, mut b } => {
            b.shape = [&[b.shape[0]], &shape[1..]].concat();
            Kronecker::Factored { a, b }
        }
        other => other,
    }
}
