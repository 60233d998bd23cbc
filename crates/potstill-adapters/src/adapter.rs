//! An adapter as a whole.

use std::collections::BTreeMap;
use std::path::Path;

use potstill_io::Dtype;
use potstill_models::ModelKind;
use serde_json::{Value as Json, json};

use crate::dialects::{Dialect, read_adapter};
use crate::error::{AdapterError, Result};
use crate::family::{Family, dotted};
use crate::module::Module;

/// Where an adapter came from: one entry for each thing that was done to it, the oldest first.
pub type Provenance = Vec<Json>;

/// Metadata in which [`Provenance`] is kept, as a JSON array.
pub(crate) const PROVENANCE: &str = "potstill.provenance";
/// Metadata in which the factors of [`crate::scale`] are kept, as a JSON object by component.
pub(crate) const FACTORS: &str = "potstill.scale";

/// What an adapter does to a model.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// The family that it is for.
    pub kind: ModelKind,
    /// Whose names the file has.
    pub dialect: Dialect,
    /// By diffusers' name with the component before it: `unet.mid_block…`.
    pub modules: BTreeMap<String, Module>,
    /// The file's metadata, as it stands there.
    pub metadata: BTreeMap<String, String>,
    /// The widest dtype of its tensors, which writing keeps unless told otherwise.
    pub dtype: Dtype,
}

impl Adapter {
    /// Reads a safetensors file, or a folder as peft saves it (itself, or one for each component), in whichever dialect.
    /// Without a model the family is the published one that all keys fit, and where they fit both, the one that the
    /// metadata names.
    ///
    /// # Errors
    /// [`AdapterError::Keys`] with every key that names no layer or does not fit it; an adapter of both families that does
    /// not say whose it is.
    pub fn open(path: &Path, family: Option<&Family>) -> Result<Self> {
        if !path.exists() {
            return Err(AdapterError::file(path, "does not exist"));
        }
        if let Some(family) = family {
            return read_adapter(path, family);
        }
        let mut fewest: Option<(usize, AdapterError)> = None;
        for kind in [ModelKind::Sd15, ModelKind::Sdxl] {
            match read_adapter(path, &Family::published(kind)?) {
                Err(error @ AdapterError::Keys { .. }) => {
                    let AdapterError::Keys { problems, .. } = &error else {
                        unreachable!("matched above")
                    };
                    let count = problems.len();
                    if fewest.as_ref().is_none_or(|(least, _)| count < *least) {
                        fewest = Some((count, error));
                    }
                }
                Ok(adapter) => return of_stated_family(adapter, path),
                Err(error) => return Err(error),
            }
        }
        Err(fewest.expect("two families were tried").1)
    }

    /// The family that the metadata names, as kohya's trainers and model specifications do.
    fn stated_kind(&self) -> Option<ModelKind> {
        let stated = ["ss_base_model_version", "modelspec.architecture"].map(|key| self.metadata.get(key));
        stated.into_iter().flatten().find_map(|text| {
            let text = text.to_lowercase();
            if text.contains("sdxl") || text.contains("stable-diffusion-xl") {
                Some(ModelKind::Sdxl)
            } else {
                let first = text.contains("sd_v1") || text.contains("stable-diffusion-v1");
                first.then_some(ModelKind::Sd15)
            }
        })
    }

    /// Adds a module under its name.
    pub(crate) fn insert(&mut self, module: Module) {
        let name = dotted(module.site.component, &module.site.path);
        self.modules.insert(name, module);
    }

    /// What was done to it so far.
    #[must_use]
    pub fn provenance(&self) -> Provenance {
        let text = self.metadata.get(PROVENANCE);
        text.and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    }

    /// Notes that something was done.
    pub(crate) fn note(&mut self, operation: &str, details: Json) {
        let mut provenance = self.provenance();
        let tool = concat!("potstill ", env!("CARGO_PKG_VERSION"));
        provenance.push(json!({ "tool": tool, "operation": operation, "details": details }));
        let text = Json::from(provenance).to_string();
        self.metadata.insert(PROVENANCE.to_string(), text);
    }
}

/// An adapter for Stable Diffusion 1.x may be one for XL as well: their first text encoders are the same, and a few
/// layers of the UNets are.
fn of_stated_family(adapter: Adapter, path: &Path) -> Result<Adapter> {
    let other = Family::published(ModelKind::Sdxl)?;
    let same = |module: &Module| {
        let site = other.site_at(module.site.component, &module.site.path);
        site.is_some_and(|site| site.shape == module.site.shape)
    };
    if adapter.kind == ModelKind::Sdxl || !adapter.modules.values().all(same) {
        return Ok(adapter);
    }
    let Ok(another) = read_adapter(path, &other) else {
        return Ok(adapter); // its names are those of 1.x alone
    };
    match adapter.stated_kind() {
        Some(ModelKind::Sd15) => Ok(adapter),
        Some(ModelKind::Sdxl) => Ok(another),
        None => Err(AdapterError::file(
            path,
            "fits Stable Diffusion 1.x and XL alike, and does not say which it is for; name its model with --model",
        )),
    }
}
