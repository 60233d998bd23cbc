//! The configuration that a component's keys and shapes imply, for files that come without one.

mod text;
mod unet;
mod vae;

use std::collections::HashMap;

pub(super) use text::text_config;
pub(super) use unet::unet_config;
pub(super) use vae::vae_config;

/// Shapes of one component's tensors by their keys without the component's prefix.
pub(super) struct Keys<'a> {
    shapes: HashMap<&'a str, &'a [usize]>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(shapes: impl IntoIterator<Item = (&'a str, &'a [usize])>) -> Self {
        Self {
            shapes: shapes.into_iter().collect(),
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.shapes.contains_key(key)
    }

    /// The size of one dimension of a tensor; none when there is no such tensor or dimension.
    fn size(&self, key: &str, dimension: usize) -> Option<usize> {
        self.shapes.get(key)?.get(dimension).copied()
    }

    fn rank(&self, key: &str) -> Option<usize> {
        Some(self.shapes.get(key)?.len())
    }

    /// How many of the keys `key(0)`, `key(1)` … there are in a row.
    fn count(&self, key: impl Fn(usize) -> String) -> usize {
        (0..).take_while(|i| self.has(&key(*i))).count()
    }

    /// The size of a dimension of some tensor whose key ends so.
    fn size_of_any(&self, ending: &str, dimension: usize) -> Option<usize> {
        let key = self.shapes.keys().filter(|key| key.ends_with(ending)).min()?;
        self.size(key, dimension)
    }

    fn rank_of_any(&self, ending: &str) -> Option<usize> {
        let key = self.shapes.keys().filter(|key| key.ends_with(ending)).min()?;
        self.rank(key)
    }
}
