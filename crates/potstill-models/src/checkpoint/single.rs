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
        let weights = Weights::of_keys(self.file, keys, &config.shapes()?, stored, squeeze)?;
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
    use std::io::Read;

    use flate2::read::GzDecoder;
    use potstill_io::{Dtype, TensorSpec, layout_header};

    use super::super::shapes::Keys;
    use super::*;

    /// Names and shapes of a denoiser of diffusers' (test/fixtures/make_families.py).
    fn family(name: &str) -> Vec<(String, Vec<usize>)> {
        let path = format!(
            "{}/../../test/fixtures/families/{name}.tsv.gz",
            env!("CARGO_MANIFEST_DIR")
        );
        let mut text = String::new();
        let file = std::fs::File::open(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        GzDecoder::new(file).read_to_string(&mut text).unwrap();
        text.lines()
            .map(|line| {
                let (key, shape) = line.split_once('\t').unwrap();
                let sizes = shape.split('x').map(|n| n.parse().unwrap()).collect();
                (key.to_string(), sizes)
            })
            .collect()
    }

    /// The same under the original code's names.
    fn as_single_files_have_it(tensors: &[(String, Vec<usize>)]) -> Vec<(String, Vec<usize>)> {
        let shapes = tensors.iter().map(|(key, shape)| (key.as_str(), shape.as_slice()));
        let config = unet_config(&Keys::new(shapes), Dialect::Diffusers, None, "a family").unwrap();
        let config = ComponentConfig::Unet(config);
        let key = |name: &str| {
            let stored = single_file_name(Component::Unet, &config, name).unwrap_or_else(|| panic!("{name}"));
            format!("model.diffusion_model.{}", stored.key)
        };
        tensors.iter().map(|(name, shape)| (key(name), shape.clone())).collect()
    }

    /// A file of the size and header that the tensors have, without data: what is not written takes no place on the disk.
    fn sparse_file(path: &Path, tensors: &[(String, Vec<usize>)]) {
        let spec = |(name, shape): &(String, Vec<usize>)| TensorSpec {
            name: name.clone(),
            dtype: Dtype::F16,
            shape: shape.clone(),
        };
        let specs: Vec<TensorSpec> = tensors.iter().map(spec).collect();
        let (header, _) = layout_header(&specs, &BTreeMap::new()).unwrap();
        std::fs::write(path, &header).unwrap();
        let file = std::fs::File::options().write(true).open(path).unwrap();
        let data: u64 = specs.iter().map(TensorSpec::bytes).sum();
        file.set_len(header.len() as u64 + data).unwrap();
    }

    #[test]
    fn full_size_unets_are_recognised_by_their_shapes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("unet.safetensors");
        for (name, kind, architecture) in [
            ("sd15", ModelKind::Sd15, Some(UnetConfig::sd15())),
            ("sdxl", ModelKind::Sdxl, Some(UnetConfig::sdxl())),
            ("ssd1b", ModelKind::Sdxl, None),
            ("vega", ModelKind::Sdxl, None),
            ("koala700m", ModelKind::Sdxl, None),
        ] {
            let tensors = family(name);
            for tensors in [as_single_files_have_it(&tensors), tensors] {
                sparse_file(&path, &tensors);
                let file = open_file(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
                assert_eq!(file.kind, Some(kind), "{name}");
                let part = &file.parts[0];
                if let Some(config) = &architecture {
                    assert!(
                        part.config.same_architecture(&ComponentConfig::Unet(config.clone())),
                        "{name}: {:?}",
                        part.config
                    );
                }
                let report = crate::checkpoint::ComponentReport::new(part).unwrap();
                assert!(report.mismatch.is_empty(), "{name}: {}", report.mismatch);
                assert_eq!(report.matched, tensors.len(), "{name}");
            }
        }
    }

    #[test]
    fn full_size_models_of_other_families_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        for (name, word) in [
            ("sd2", "Stable Diffusion 2"),
            ("sdxl_refiner", "the SDXL refiner"),
            ("sd15_inpainting", "an inpainting model (SD1.5)"),
            ("sd2_inpainting", "an inpainting model (SD2)"),
            ("sdxl_inpainting", "an inpainting model (SDXL)"),
            ("sd3", "Stable Diffusion 3"),
            ("flux", "Flux"),
        ] {
            let tensors = family(name);
            let mut forms = vec![tensors.clone()];
            if !["sd3", "flux"].contains(&name) {
                forms.push(as_single_files_have_it(&tensors));
            }
            for tensors in forms {
                sparse_file(&path, &tensors);
                let error = open_file(&path).err().unwrap_or_else(|| panic!("{name} is read"));
                assert!(matches!(error, ModelError::Unsupported { .. }), "{name}: {error}");
                let error = error.to_string();
                assert!(error.contains(&format!("this is {word}")), "{name}: {error}");
            }
        }
    }
}
