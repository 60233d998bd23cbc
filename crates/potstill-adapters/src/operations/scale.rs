//! One factor for the UNet and one for the text encoders.

use potstill_models::Component;
use serde_json::{Value as Json, json};

use crate::adapter::{Adapter, FACTORS};
use crate::error::{AdapterError, Result};

/// How strong an adapter is to be, beside what it was as made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factors {
    /// Of the UNet's layers.
    pub unet: f64,
    /// Of the text encoders' layers.
    pub text: f64,
}

impl Factors {
    const NONE: Self = Self { unet: 1.0, text: 1.0 };

    /// What was applied before, as the metadata says.
    fn applied(adapter: &Adapter) -> Self {
        let json: Option<Json> = adapter
            .metadata
            .get(FACTORS)
            .and_then(|text| serde_json::from_str(text).ok());
        let get = |key: &str| json.as_ref()?.get(key)?.as_f64().filter(|v| v.is_normal());
        Self {
            unet: get("unet").unwrap_or(Self::NONE.unet),
            text: get("text").unwrap_or(Self::NONE.text),
        }
    }

    fn of(self, component: Component) -> f64 {
        match component {
            Component::Unet => self.unet,
            _ => self.text,
        }
    }
}

/// Makes an adapter as strong as the factors say, in comparison with what it was as made. The factors are noted in the
/// metadata, so that scaling a scaled adapter by the same factors changes nothing: a factor is applied once, however
/// often the file is saved, loaded and scaled. Alpha alone is changed where there is one.
///
/// # Errors
/// For factors that are zero or not finite, and for a DoRA whose factor changes.
pub fn scale(adapter: &mut Adapter, factors: Factors) -> Result<()> {
    for (name, factor) in [
        ("the UNet's factor", factors.unet),
        ("the text encoders' factor", factors.text),
    ] {
        if !factor.is_normal() {
            let reason = format!("{factor} is no factor that can be taken back; leave the adapter out instead");
            return Err(AdapterError::input(name, reason));
        }
    }
    let applied = Factors::applied(adapter);
    if applied == factors {
        return Ok(());
    }
    for module in adapter.modules.values_mut() {
        let component = module.site.component;
        let (wanted, present) = (factors.of(component), applied.of(component));
        if wanted != present {
            module.multiply(wanted / present)?;
        }
    }
    let record = json!({ "unet": factors.unet, "text": factors.text });
    adapter.metadata.insert(FACTORS.to_string(), record.to_string());
    adapter.note("scale", record);
    Ok(())
}
