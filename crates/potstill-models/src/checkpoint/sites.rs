//! Where adapters can sit: the layers of a component that have a weight, under both names.

use super::config::ComponentConfig;
use super::kinds::Component;
use super::names::single_file_name;
use crate::error::Result;

/// A layer with a weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The network.
    pub component: Component,
    /// diffusers' (transformers') path: `down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q`.
    pub path: String,
    /// The path in single files without the component's prefix, where the layer is one of its own there. The second
    /// text encoder's query, key and value are thirds of one matrix and have none.
    pub single_file: Option<String>,
    /// Shape of its weight in diffusers' layout: `[out, in]`, `[out, in, height, width]`, or `[channels]` of a norm.
    pub shape: Vec<usize>,
}

impl ComponentConfig {
    /// The component's layers in diffusers' order, embeddings of tokens and positions left out.
    ///
    /// # Errors
    /// When the configuration is none that such a network can have.
    pub fn sites(&self, component: Component) -> Result<Vec<Site>> {
        let layer = |(name, shape): (String, Vec<usize>)| {
            let path = name.strip_suffix(".weight")?;
            let stored = single_file_name(component, self, &name);
            let single_file = stored.and_then(|s| Some(s.key.strip_suffix(".weight")?.to_string()));
            (!path.contains("embeddings.")).then(|| Site {
                component,
                path: path.to_string(),
                single_file,
                shape,
            })
        };
        Ok(self.shapes()?.into_iter().filter_map(layer).collect())
    }
}
