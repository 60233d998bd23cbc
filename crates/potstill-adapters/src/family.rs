//! The layers that an adapter can sit on, and what each dialect calls them.

use std::collections::HashMap;
use std::path::Path;

use potstill_models::{Checkpoint, Component, ComponentConfig, ModelKind, Site, TextConfig, UnetConfig};

use crate::error::{AdapterError, Result};

/// The layers of a model's UNet and text encoders.
pub struct Family {
    /// Which family.
    pub kind: ModelKind,
    /// For messages: `Stable Diffusion XL`, or the model's path.
    pub label: String,
    sites: Vec<Site>,
    by_name: HashMap<String, usize>,
}

impl Family {
    /// The published model of a kind.
    ///
    /// # Errors
    /// Never for the kinds that exist.
    pub fn published(kind: ModelKind) -> Result<Self> {
        let text = (Component::TextEncoder, ComponentConfig::Text(TextConfig::clip_l()));
        let (label, configs) = match kind {
            ModelKind::Sd15 => (
                "Stable Diffusion 1.x",
                vec![(Component::Unet, ComponentConfig::Unet(UnetConfig::sd15())), text],
            ),
            ModelKind::Sdxl => (
                "Stable Diffusion XL",
                vec![
                    (Component::Unet, ComponentConfig::Unet(UnetConfig::sdxl())),
                    text,
                    (Component::TextEncoder2, ComponentConfig::Text(TextConfig::clip_g())),
                ],
            ),
        };
        Self::new(kind, label.to_string(), &configs)
    }

    /// That of a checkpoint, of whatever widths it has.
    ///
    /// # Errors
    /// When it cannot be read or has no UNet.
    pub fn of_model(path: &Path) -> Result<Self> {
        let model = Checkpoint::open(path)?;
        let kind = model
            .kind()
            .ok_or_else(|| AdapterError::file(path, "holds no UNet; give the model that the adapter is for"))?;
        Self::new(kind, path.display().to_string(), &model.configs())
    }

    /// Of given configurations.
    ///
    /// # Errors
    /// When a configuration is none that such a network can have.
    pub fn new(kind: ModelKind, label: String, configs: &[(Component, ComponentConfig)]) -> Result<Self> {
        let mut sites = Vec::new();
        for (component, config) in configs.iter().filter(|(c, _)| *c != Component::Vae) {
            sites.extend(config.sites(*component)?);
        }
        let mut by_name = HashMap::new();
        for (i, site) in sites.iter().enumerate() {
            for name in accepted_names(kind, site) {
                by_name.entry(name).or_insert(i);
            }
        }
        Ok(Self {
            kind,
            label,
            sites,
            by_name,
        })
    }

    /// The layer that a key without its ending names, in any dialect.
    #[must_use]
    pub fn site(&self, base: &str) -> Option<&Site> {
        let plain = self.by_name.get(base).copied();
        let found = plain.or_else(|| self.by_name.get(&without_processor(base)?).copied());
        found.map(|i| &self.sites[i])
    }

    /// The layer of a diffusers path.
    #[must_use]
    pub fn site_at(&self, component: Component, path: &str) -> Option<&Site> {
        self.site(&dotted(component, path))
    }
}

/// `unet.down_blocks…`: diffusers' name, which no two layers share.
pub(crate) fn dotted(component: Component, path: &str) -> String {
    format!("{}.{path}", component.name())
}

/// kohya's prefix of a component.
pub(crate) fn kohya_prefix(kind: ModelKind, component: Component) -> &'static str {
    match (component, kind) {
        (Component::TextEncoder, ModelKind::Sd15) => "lora_te_",
        (Component::TextEncoder, ModelKind::Sdxl) => "lora_te1_",
        (Component::TextEncoder2, _) => "lora_te2_",
        _ => "lora_unet_",
    }
}

/// kohya's name of a layer: diffusers' path for SD1.x, the original code's for SDXL, as kohya trains them.
pub(crate) fn kohya_name(kind: ModelKind, site: &Site) -> String {
    let path = match (kind, site.component, &site.single_file) {
        (ModelKind::Sdxl, Component::Unet, Some(ldm)) => ldm,
        _ => &site.path,
    };
    format!("{}{}", kohya_prefix(kind, site.component), path.replace('.', "_"))
}

/// ComfyUI's own name of a layer: the path in its loaded model.
pub(crate) fn comfy_name(site: &Site) -> String {
    match (site.component, &site.single_file) {
        (Component::TextEncoder, _) => format!("text_encoders.clip_l.transformer.{}", site.path),
        (Component::TextEncoder2, _) => format!("text_encoders.clip_g.transformer.{}", site.path),
        (_, ldm) => format!("diffusion_model.{}", ldm.as_ref().unwrap_or(&site.path)),
    }
}

fn accepted_names(kind: ModelKind, site: &Site) -> Vec<String> {
    let prefix = kohya_prefix(kind, site.component);
    let mut names = vec![
        dotted(site.component, &site.path),
        comfy_name(site),
        format!("{prefix}{}", site.path.replace('.', "_")),
    ];
    match (site.component, &site.single_file) {
        (Component::Unet, ldm) => {
            names.push(site.path.clone()); // attention processors of old diffusers have no prefix
            if let Some(ldm) = ldm {
                names.push(format!("{prefix}{}", ldm.replace('.', "_")));
            }
        }
        (component, _) => {
            // transformers has dropped `text_model.` from the first encoder's names.
            let short = site.path.strip_prefix("text_model.");
            names.extend(short.map(|short| dotted(component, short)));
            // diffusers writes kohya's names with SDXL's prefix for both families.
            if kind == ModelKind::Sd15 {
                let prefix = kohya_prefix(ModelKind::Sdxl, component);
                names.push(format!("{prefix}{}", site.path.replace('.', "_")));
            }
        }
    }
    names
}

/// `attn1.processor.to_out` of old diffusers is `attn1.to_out.0`.
fn without_processor(base: &str) -> Option<String> {
    let plain = base.replacen(".processor.", ".", 1);
    match plain.strip_suffix(".to_out") {
        Some(start) => Some(format!("{start}.to_out.0")),
        None => (plain != base).then_some(plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dialect_names_every_layer_and_no_two_alike() {
        for (kind, linears) in [(ModelKind::Sd15, 282), (ModelKind::Sdxl, 794)] {
            let family = Family::published(kind).unwrap();
            let unet = |site: &&Site| site.component == Component::Unet && site.shape.len() > 1;
            assert_eq!(family.sites.iter().filter(unet).count(), linears);
            for site in &family.sites {
                for name in accepted_names(kind, site) {
                    assert_eq!(family.site(&name), Some(site), "{name}");
                }
            }
        }
    }

    #[test]
    fn names_of_published_files() {
        let sd15 = Family::published(ModelKind::Sd15).unwrap();
        let sdxl = Family::published(ModelKind::Sdxl).unwrap();
        let down = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0";
        for (family, name, path) in [
            (
                &sd15,
                "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_out_0",
                down,
            ),
            (
                &sdxl,
                "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_out_0",
                down,
            ),
            (
                &sdxl,
                "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_out.0",
                down,
            ),
            (
                &sd15,
                "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_out",
                down,
            ),
            (
                &sd15,
                "down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_out",
                down,
            ),
            (&sdxl, "lora_unet_label_emb_0_0", "add_embedding.linear_1"),
            (
                &sd15,
                "lora_te1_text_model_encoder_layers_3_mlp_fc1",
                "text_model.encoder.layers.3.mlp.fc1",
            ),
            (
                &sd15,
                "lora_te_text_model_encoder_layers_3_mlp_fc1",
                "text_model.encoder.layers.3.mlp.fc1",
            ),
            (
                &sdxl,
                "lora_te2_text_model_encoder_layers_31_self_attn_q_proj",
                "text_model.encoder.layers.31.self_attn.q_proj",
            ),
            (
                &sdxl,
                "text_encoder.encoder.layers.0.mlp.fc2",
                "text_model.encoder.layers.0.mlp.fc2",
            ),
        ] {
            assert_eq!(family.site(name).map(|s| s.path.as_str()), Some(path), "{name}");
        }
        for name in [
            "lora_te_text_model_encoder_layers_12_mlp_fc1",
            "lora_unet_mid",
            "",
            "unet",
        ] {
            assert_eq!(sd15.site(name), None, "{name}");
        }
    }
}
