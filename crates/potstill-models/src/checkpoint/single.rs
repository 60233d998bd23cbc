//! A single file: recognised by its keys and shapes, never by its name.

use std::collections::BTreeMap;
use std::path::Path;

use potstill_io::SafetensorsFile;
use serde_json::{Map, Value as Json};

use super::config::ComponentConfig;
use super::family::{refuse_others, refuse_relatives};
use super::kinds::{Component, Dialect, SD15_SCALING_FACTOR, SDXL_SCALING_FACTOR};
use super::names::{Stored, single_file_name};
use super::part::Part;
use super::scheduler::{Marks, scheduler_config};
use super::shapes::{text_config, unet_config, vae_config};
use super::sort::{Group, UnusedKey, sort};
use super::weights::Weights;
use crate::clip::TextConfig;
use crate::error::{ModelError, Result};
use crate::model::ModelKind;
use crate::unet::UnetConfig;
use crate::vae::VaeConfig;

/// Metadata in which potstill states what shapes do not tell: a JSON object of components' configurations, by the
/// components' names, and of the scheduler's. Only what differs from what a reader would conclude is there.
pub(crate) const CONFIG_METADATA: &str = "potstill.config";
/// The key of the scheduler's configuration in it.
pub(crate) const SCHEDULER: &str = "scheduler";

/// A single file whose header has been read and understood.
pub(crate) struct SingleFile {
    pub(crate) file: SafetensorsFile,
    /// None without a UNet.
    pub(crate) kind: Option<ModelKind>,
    pub(crate) parts: Vec<Part>,
    pub(crate) unused: Vec<UnusedKey>,
    /// Keys that belong to nothing known.
    pub(crate) unexpected: Vec<String>,
    pub(crate) scheduler: Map<String, Json>,
}

/// Opens a file; see [`open_file_as`].
pub(crate) fn open_file(path: &Path) -> Result<SingleFile> {
    open_file_as(path, None)
}

/// Reads a file's header and finds out what it holds. `kind` is the family that a file without a UNet (a VAE) is meant
/// for: all VAEs have the same shapes.
///
/// # Errors
/// [`ModelError::Unsupported`] for anything but (a part of) an SD1.5 or SDXL base model, by name where it is known.
pub(crate) fn open_file_as(path: &Path, kind: Option<ModelKind>) -> Result<SingleFile> {
    let file = SafetensorsFile::open(path)?;
    let place = path.display().to_string();
    let tensors = file.header().tensors();
    refuse_others(tensors, &place)?;
    let sorted = sort(tensors);
    if sorted.groups.is_empty() {
        return Err(ModelError::Unsupported {
            place,
            what: format!(
                "a file of {} tensors, none of which belongs to a UNet, a VAE or a CLIP text encoder",
                tensors.len()
            ),
        });
    }
    let stated = stated(file.header().metadata(), &place)?;
    let mut recogniser = Recogniser {
        file: &file,
        place: &place,
        stated: &stated,
        kind,
        pooled: None,
        parts: Vec::new(),
    };
    // The second encoder tells the width of the pooled text; the UNet tells the family, which the VAE needs.
    for component in [
        Component::TextEncoder2,
        Component::Unet,
        Component::Vae,
        Component::TextEncoder,
    ] {
        if let Some(group) = sorted.groups.get(&component) {
            recogniser.recognise(component, group)?;
        }
    }
    let Recogniser { kind, mut parts, .. } = recogniser;
    parts.sort_by_key(|part| part.component);
    let marks = Marks::new(sorted.v_prediction, sorted.zero_terminal_snr, file.header().metadata());
    let scheduler = match stated.get(SCHEDULER) {
        Some(Json::Object(config)) => config.clone(),
        _ => scheduler_config(kind.unwrap_or(ModelKind::Sd15), marks),
    };
    let kind = parts
        .iter()
        .any(|part| part.component == Component::Unet)
        .then_some(kind)
        .flatten();
    Ok(SingleFile {
        kind,
        parts,
        unused: sorted.unused,
        unexpected: sorted.unexpected,
        scheduler,
        file,
    })
}

/// The configurations that the metadata states.
fn stated(metadata: &BTreeMap<String, String>, place: &str) -> Result<Map<String, Json>> {
    match metadata.get(CONFIG_METADATA).map(|text| serde_json::from_str(text)) {
        None => Ok(Map::new()),
        Some(Ok(Json::Object(map))) => Ok(map),
        Some(_) => Err(ModelError::Config {
            place: place.to_string(),
            field: CONFIG_METADATA.to_string(),
            reason: "in the metadata is not a JSON object; remove it, or take an intact copy".to_string(),
        }),
    }
}

struct Recogniser<'a> {
    file: &'a SafetensorsFile,
    place: &'a str,
    stated: &'a Map<String, Json>,
    kind: Option<ModelKind>,
    pooled: Option<usize>,
    parts: Vec<Part>,
}

impl Recogniser<'_> {
    fn recognise(&mut self, component: Component, group: &Group) -> Result<()> {
        let config = self.config(component, group)?;
        match &config {
            ComponentConfig::Unet(unet) => {
                refuse_relatives(unet, self.place)?;
                self.kind = Some(ModelKind::of(unet));
            }
            ComponentConfig::Text(text) if component == Component::TextEncoder2 => self.pooled = text.projection,
            _ => {}
        }
        let dialect = group.dialect;
        let stored = |name: &str| match dialect {
            Dialect::Diffusers => Some(Stored {
                key: name.to_string(),
                storage: super::kinds::Storage::Same,
            }),
            Dialect::Ldm | Dialect::OpenClip => single_file_name(component, &config, name),
        };
        let keys = (group.prefix, group.keys.as_slice());
        let squeeze = component == Component::Vae;
        let weights = Weights::of_keys(self.file, keys, &config.shapes()?, stored, squeeze);
        self.parts.push(Part {
            component,
            dialect,
            config,
            weights,
            files: vec![self.file.path().to_path_buf()],
            unused: Vec::new(),
        });
        Ok(())
    }

    fn config(&self, component: Component, group: &Group) -> Result<ComponentConfig> {
        let place = format!("{} ({component})", self.place);
        if let Some(Json::Object(json)) = self.stated.get(component.name()) {
            let json = json.clone();
            return Ok(match component {
                Component::Unet => ComponentConfig::Unet(UnetConfig::parse(json, &place)?),
                Component::Vae => ComponentConfig::Vae(VaeConfig::parse(json, &place)?),
                _ => ComponentConfig::Text(TextConfig::parse(json, &place)?),
            });
        }
        let keys = group.shapes(|key| self.file.header().get(key));
        Ok(match component {
            Component::Unet => ComponentConfig::Unet(unet_config(&keys, group.dialect, self.pooled, &place)?),
            Component::Vae => {
                let factor = match self.kind {
                    Some(ModelKind::Sdxl) => SDXL_SCALING_FACTOR,
                    Some(ModelKind::Sd15) | None => SD15_SCALING_FACTOR,
                };
                ComponentConfig::Vae(vae_config(&keys, group.dialect, factor, &place)?)
            }
            Component::TextEncoder | Component::TextEncoder2 => {
                ComponentConfig::Text(text_config(&keys, group.dialect, component, &place)?)
            }
        })
    }
}

impl SingleFile {
    /// One of its components.
    ///
    /// # Errors
    /// [`ModelError::Keys`] when the file has keys that belong to nothing known.
    pub(crate) fn take(self, component: Component) -> Result<Option<Part>> {
        if !self.unexpected.is_empty() {
            let mismatch = crate::error::KeyMismatch {
                unexpected: self.unexpected,
                ..Default::default()
            };
            let place = self.file.path().display().to_string();
            let mismatch = Box::new(mismatch);
            return Err(ModelError::Keys { place, mismatch });
        }
        Ok(self.parts.into_iter().find(|part| part.component == component))
    }
}

#[cfg(test)]
mod tests {
    use potstill_io::{Dtype, TensorSpec, layout_header};
    use serde_json::json;

    use super::*;

    /// A file of the size and header that a UNet has, without data: what is not written takes no place on the disk.
    fn sparse_file(path: &Path, config: &UnetConfig) {
        let config = ComponentConfig::Unet(config.clone());
        let spec = |(name, shape): (String, Vec<usize>)| TensorSpec {
            name: format!(
                "model.diffusion_model.{}",
                single_file_name(Component::Unet, &config, &name).unwrap().key
            ),
            dtype: Dtype::F16,
            shape,
        };
        let specs: Vec<TensorSpec> = config.shapes().unwrap().into_iter().map(spec).collect();
        let (header, _) = layout_header(&specs, &BTreeMap::new()).unwrap();
        std::fs::write(path, &header).unwrap();
        let file = std::fs::File::options().write(true).open(path).unwrap();
        let data: u64 = specs.iter().map(TensorSpec::bytes).sum();
        file.set_len(header.len() as u64 + data).unwrap();
    }

    #[test]
    fn full_size_relatives_are_recognised_by_their_shapes() {
        let sdxl = |changes: Json| {
            let mut map = UnetConfig::sdxl().json().clone();
            map.extend(changes.as_object().unwrap().clone());
            UnetConfig::parse(map, "config.json").unwrap()
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("unet.safetensors");
        for (name, config) in [
            ("SD1.5", UnetConfig::sd15()),
            ("SDXL", UnetConfig::sdxl()),
            (
                "SSD-1B",
                sdxl(json!({
                    "mid_block_type": "UNetMidBlock2D", "transformer_layers_per_block": [1, [2, 2], [4, 4]],
                    "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1],
                })),
            ),
            (
                "Vega",
                sdxl(json!({
                    "mid_block_type": "UNetMidBlock2D", "transformer_layers_per_block": [1, [1, 1], [2, 2]],
                    "reverse_transformer_layers_per_block": [[2, 2, 2], [1, 1, 1], 1],
                })),
            ),
            (
                "KOALA-700M",
                sdxl(json!({
                    "mid_block_type": null, "layers_per_block": 1, "transformer_layers_per_block": [1, 2, 5],
                })),
            ),
        ] {
            sparse_file(&path, &config);
            let file = open_file(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
            let part = &file.parts[0];
            assert!(
                part.config.same_architecture(&ComponentConfig::Unet(config)),
                "{name}: {:?}",
                part.config
            );
            let report = crate::checkpoint::ComponentReport::new(part).unwrap();
            assert!(report.mismatch.is_empty(), "{name}: {}", report.mismatch);
        }
    }
}
