//! Adapters laid into a checkpoint as it is written.

use potstill_models::{Component, ModelError, WeightEdit};

use crate::adapter::Adapter;
use crate::apply::{Part, change};
use crate::error::AdapterError;
use crate::family::dotted;
use crate::module::Module;

/// Adds what adapters do, one after the other, to the weights of a checkpoint on their way into another: computed in f64 and
/// rounded once for each adapter, then to the dtype that is written. One tensor is in memory at a time.
pub struct AppliedTo {
    adapters: Vec<(Adapter, f64)>,
}

impl AppliedTo {
    /// Adapters with their weights.
    #[must_use]
    pub fn new(adapters: Vec<(Adapter, f64)>) -> Self {
        Self { adapters }
    }

    /// The modules that change a parameter, with their adapters' weights.
    fn modules(&self, component: Component, name: &str) -> impl Iterator<Item = (&Module, Part, f64)> {
        let parts = [Part::Weight, Part::Bias];
        let place = parts.into_iter().find_map(|part| {
            let path = name.strip_suffix(part.name())?.strip_suffix('.')?;
            Some((dotted(component, path), part))
        });
        self.adapters.iter().filter_map(move |(adapter, weight)| {
            let (name, part) = place.as_ref()?;
            let module = adapter.modules.get(name)?;
            part.is_changed_by(module).then_some((module, *part, *weight))
        })
    }
}

impl WeightEdit for AppliedTo {
    fn changes(&self, component: Component, name: &str) -> bool {
        self.modules(component, name).next().is_some()
    }

    fn change(&self, component: Component, name: &str, values: &mut [f32]) -> potstill_models::Result<()> {
        for (module, part, weight) in self.modules(component, name) {
            change(module, part, weight, values).map_err(|error| match error {
                AdapterError::Model(error) => error,
                AdapterError::Engine(error) => error.into(),
                other => ModelError::File {
                    path: name.into(),
                    reason: other.to_string(),
                },
            })?;
        }
        Ok(())
    }
}
