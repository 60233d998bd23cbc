//! Which tensors of a single file belong to which component, and which to none.

use std::collections::BTreeMap;

use potstill_io::TensorInfo;

use super::kinds::{Component, Dialect};
use super::shapes::Keys;
use crate::clip::canonical_name;

/// Prefixes of components in single files.
const PREFIXES: [(&str, Component); 7] = [
    ("model.diffusion_model.", Component::Unet),
    ("diffusion_model.", Component::Unet),
    ("first_stage_model.", Component::Vae),
    ("vae.", Component::Vae),
    ("cond_stage_model.transformer.", Component::TextEncoder),
    ("conditioner.embedders.0.transformer.", Component::TextEncoder),
    ("conditioner.embedders.1.model.", Component::TextEncoder2),
];

/// Keys by which a file of one component is told from others when nothing has a prefix.
const LANDMARKS: [(&str, Component); 9] = [
    ("input_blocks.0.0.weight", Component::Unet),
    ("down_blocks.0.resnets.0.conv1.weight", Component::Unet),
    ("encoder.down.0.block.0.conv1.weight", Component::Vae),
    ("encoder.down_blocks.0.resnets.0.conv1.weight", Component::Vae),
    ("transformer.resblocks.0.attn.in_proj_weight", Component::TextEncoder2),
    ("text_projection.weight", Component::TextEncoder2),
    ("text_model.embeddings.token_embedding.weight", Component::TextEncoder),
    ("embeddings.token_embedding.weight", Component::TextEncoder),
    ("token_embedding.weight", Component::TextEncoder2),
];

/// Buffers of the original training code: functions of the noise schedule.
const BUFFERS: [&str; 20] = [
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "betas",
    "denoiser.sigmas",
    "epoch",
    "global_step",
    "log_one_minus_alphas_cumprod",
    "logvar",
    "lvlb_weights",
    "model_ema.decay",
    "model_ema.num_updates",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "posterior_variance",
    "scale_factor",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
];

/// A tensor that is not used, and why that is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusedKey {
    /// Its key.
    pub key: String,
    /// What it is.
    pub reason: &'static str,
}

/// One component's tensors in a single file.
pub(super) struct Group {
    pub(super) prefix: &'static str,
    pub(super) dialect: Dialect,
    /// Keys with their prefix and, beside them, as the component's dialect has them.
    pub(super) keys: Vec<(String, String)>,
}

/// What says that a model predicts velocities (as ComfyUI reads it).
pub(super) const V_PREDICTION: &str = "v_pred";
/// What says that a schedule ends at pure noise.
pub(super) const ZERO_TERMINAL_SNR: &str = "ztsnr";

/// A sorted file.
#[derive(Default)]
pub(super) struct Sorted {
    pub(super) groups: BTreeMap<Component, Group>,
    pub(super) unused: Vec<UnusedKey>,
    /// Keys that belong to nothing known.
    pub(super) unexpected: Vec<String>,
    pub(super) v_prediction: bool,
    pub(super) zero_terminal_snr: bool,
}

/// Sorts a file's tensors.
pub(super) fn sort(tensors: &[TensorInfo]) -> Sorted {
    let mut sorted = Sorted::default();
    let bare = match tensors.iter().any(|t| prefix_of(&t.name).is_some()) {
        true => None,
        false => LANDMARKS
            .iter()
            .find(|(key, _)| tensors.iter().any(|t| t.name == *key))
            .map(|(_, component)| *component),
    };
    for tensor in tensors {
        let key = tensor.name.as_str();
        match key {
            V_PREDICTION => sorted.v_prediction = true,
            ZERO_TERMINAL_SNR => sorted.zero_terminal_snr = true,
            _ => {}
        }
        if let Some(reason) = unused_anywhere(key) {
            sorted.unused.push(UnusedKey {
                key: key.to_string(),
                reason,
            });
            continue;
        }
        let (prefix, component) = match (prefix_of(key), bare) {
            (Some(found), _) => found,
            (None, Some(component)) => ("", component),
            (None, None) => {
                sorted.unexpected.push(key.to_string());
                continue;
            }
        };
        let inside = &key[prefix.len()..];
        if let Some(reason) = unused_inside(component, inside) {
            sorted.unused.push(UnusedKey {
                key: key.to_string(),
                reason,
            });
            continue;
        }
        let group = sorted.groups.entry(component).or_insert_with(|| Group {
            prefix,
            dialect: Dialect::Diffusers,
            keys: Vec::new(),
        });
        match group.prefix == prefix {
            true => group.keys.push((key.to_string(), inside.to_string())),
            false => sorted.unexpected.push(key.to_string()),
        }
    }
    for (component, group) in &mut sorted.groups {
        group.dialect = dialect(*component, group);
        if group.dialect == Dialect::Diffusers && matches!(component, Component::TextEncoder | Component::TextEncoder2)
        {
            for (_, inside) in &mut group.keys {
                *inside = canonical_name(inside).unwrap_or_else(|| std::mem::take(inside));
            }
        }
    }
    sorted
}

fn prefix_of(key: &str) -> Option<(&'static str, Component)> {
    PREFIXES.into_iter().find(|(prefix, _)| key.starts_with(prefix))
}

fn dialect(component: Component, group: &Group) -> Dialect {
    let has = |start: &str| group.keys.iter().any(|(_, key)| key.starts_with(start));
    match component {
        Component::Unet if has("input_blocks.") => Dialect::Ldm,
        Component::Vae if has("encoder.down.") || has("decoder.up.") => Dialect::Ldm,
        Component::TextEncoder | Component::TextEncoder2 if has("transformer.resblocks.") => Dialect::OpenClip,
        _ => Dialect::Diffusers,
    }
}

/// Why a key is not used, wherever it stands.
fn unused_anywhere(key: &str) -> Option<&'static str> {
    match key {
        V_PREDICTION | ZERO_TERMINAL_SNR => Some("says what the model predicts"),
        _ if BUFFERS.contains(&key) => Some("a buffer of the training code"),
        _ if key.starts_with("model_ema.") => Some("a second copy of the UNet: its moving average"),
        _ if key.starts_with("loss.") || key.starts_with("first_stage_model.loss.") => {
            Some("a network that only trained the VAE")
        }
        _ if key.ends_with(".logit_scale") || key == "logit_scale" => Some("compares texts with pictures"),
        _ => None,
    }
}

/// Why a component's key is not used.
fn unused_inside(component: Component, key: &str) -> Option<&'static str> {
    match (component, key) {
        (Component::TextEncoder, "text_projection.weight" | "text_projection") => {
            Some("the first encoder's projection, which no model uses")
        }
        (Component::TextEncoder | Component::TextEncoder2, key) if key.ends_with("position_ids") => {
            Some("the numbers from 0 to 76")
        }
        (Component::TextEncoder2, "attn_mask") => Some("the causal mask"),
        (Component::Vae, key) if key.starts_with("loss.") => Some("a network that only trained the VAE"),
        _ => None,
    }
}

impl Group {
    /// Shapes by the dialect's keys.
    pub(super) fn shapes<'a>(&'a self, tensors: impl Fn(&str) -> Option<&'a TensorInfo>) -> Keys<'a> {
        Keys::new(
            self.keys
                .iter()
                .filter_map(|(key, inside)| Some((inside.as_str(), tensors(key)?.shape.as_slice()))),
        )
    }
}
