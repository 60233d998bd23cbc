//! The names that single files have for diffusers' parameters. One function each way would be two tables to keep alike:
//! there is one, from diffusers' name to the stored one, and readers and writers both go through it.

mod openclip;
mod unet;
mod vae;

use super::config::ComponentConfig;
use super::kinds::{Component, Storage};

/// Where a parameter is kept, without the component's prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    /// The key.
    pub(crate) key: String,
    /// How the key's tensor holds it.
    pub(crate) storage: Storage,
}

impl Stored {
    fn same(key: impl Into<String>) -> Option<Self> {
        let (key, storage) = (key.into(), Storage::Same);
        Some(Self { key, storage })
    }
}

/// Where single files keep the parameter `name`: LDM's names for UNet and VAE, transformers' for the first text encoder,
/// OpenCLIP's for the second. None when `name` is no parameter of such a network.
pub(crate) fn single_file_name(component: Component, config: &ComponentConfig, name: &str) -> Option<Stored> {
    match config {
        ComponentConfig::Unet(config) => unet::ldm_name(config, name),
        ComponentConfig::Vae(config) => vae::ldm_name(config, name),
        ComponentConfig::Text(_) if component == Component::TextEncoder2 => openclip::name(name),
        ComponentConfig::Text(_) => Stored::same(name),
    }
}

/// Splits `3.rest` into the number and the rest.
fn numbered(text: &str) -> Option<(usize, &str)> {
    let (number, rest) = text.split_once('.')?;
    Some((number.parse().ok()?, rest))
}

/// Replaces the first of the prefixes that fits, which ends at a dot of `text` or its end.
fn replace_prefix(text: &str, table: &[(&str, &str)]) -> Option<String> {
    table.iter().find_map(|(from, to)| match text.strip_prefix(from) {
        Some(rest) if rest.is_empty() || rest.starts_with('.') => Some(format!("{to}{rest}")),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;
    use crate::clip::TextConfig;
    use crate::unet::UnetConfig;
    use crate::vae::VaeConfig;

    /// Rows of component, diffusers' name (empty where one key holds several), single file's name, its shape.
    fn published(component: &str) -> Vec<(String, String, String)> {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../test/fixtures/keymaps/single_files.tsv.gz"
        );
        let mut text = String::new();
        GzDecoder::new(std::fs::File::open(path).unwrap())
            .read_to_string(&mut text)
            .unwrap();
        text.lines()
            .map(|line| line.split('\t').collect::<Vec<_>>())
            .filter(|row| row[0] == component)
            .map(|row| (row[1].to_string(), row[2].to_string(), row[3].to_string()))
            .collect()
    }

    fn names(component: Component, config: &ComponentConfig) -> HashMap<String, Stored> {
        let name = |name: &str| single_file_name(component, config, name).unwrap_or_else(|| panic!("{name}"));
        config
            .shapes()
            .unwrap()
            .into_iter()
            .map(|(n, _)| (n.clone(), name(&n)))
            .collect()
    }

    #[test]
    fn unets_and_vaes_have_the_published_names() {
        for (rows, prefix, component, config) in [
            (
                "unet_sd15",
                "model.diffusion_model.",
                Component::Unet,
                ComponentConfig::Unet(UnetConfig::sd15()),
            ),
            (
                "unet_sdxl",
                "model.diffusion_model.",
                Component::Unet,
                ComponentConfig::Unet(UnetConfig::sdxl()),
            ),
            (
                "vae",
                "first_stage_model.",
                Component::Vae,
                ComponentConfig::Vae(VaeConfig::sd(0.18215)),
            ),
            (
                "clip_l",
                "",
                Component::TextEncoder,
                ComponentConfig::Text(TextConfig::clip_l()),
            ),
        ] {
            let (rows, ours) = (published(rows), names(component, &config));
            assert_eq!(rows.len(), ours.len());
            for (diffusers, ldm, shape) in rows {
                let Stored { key, storage } = &ours[&diffusers];
                assert_eq!(format!("{prefix}{key}"), ldm);
                assert_eq!(
                    *storage == Storage::Squeezed,
                    shape.ends_with("x1x1") && ldm.contains("attn_1"),
                    "{ldm}"
                );
            }
        }
    }

    #[test]
    fn the_second_encoder_has_openclips_names() {
        let config = ComponentConfig::Text(TextConfig::clip_g());
        let mut keys: BTreeMap<String, Vec<Storage>> = BTreeMap::new();
        for (_, Stored { key, storage }) in names(Component::TextEncoder2, &config) {
            keys.entry(key).or_default().push(storage);
        }
        let mut rows: BTreeMap<_, _> = published("clip_g")
            .into_iter()
            .map(|(_, key, shape)| (key, shape))
            .collect();
        assert_eq!(rows.remove("logit_scale").as_deref(), Some(""));
        assert_eq!(rows.len(), keys.len());
        for (key, shape) in rows {
            let mut storage = keys.remove(&key).unwrap_or_else(|| panic!("{key}"));
            storage.sort();
            let expected = match key.as_str() {
                key if key.contains("in_proj") => vec![Storage::Third(0), Storage::Third(1), Storage::Third(2)],
                "text_projection" => vec![Storage::Transposed],
                _ => vec![Storage::Same],
            };
            assert_eq!(storage, expected, "{key} {shape}");
        }
    }

    #[test]
    fn what_is_no_parameter_has_no_name() {
        let unet = ComponentConfig::Unet(UnetConfig::sd15());
        for name in [
            "",
            "down_blocks",
            "down_blocks.9.resnets.0.conv1.weight",
            "down_blocks.0.resnets.7.conv1.weight",
            "down_blocks.0.resnets.x.conv1.weight",
            "up_blocks.4.resnets.0.conv1.weight",
            "mid_block.resnets.2.conv1.weight",
            "mid_block.resnets.0",
            "conv_input.weight",
        ] {
            assert_eq!(single_file_name(Component::Unet, &unet, name), None, "{name}");
        }
    }
}
