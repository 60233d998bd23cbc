//! The parameters of a model: an ordered map from diffusers' names to shared handles.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Tensor};
use potstill_engine::{Gradients, Param};

use crate::error::{KeyMismatch, ModelError, Result};
use crate::layout::{file_copy, file_shape, to_file_layout, to_memory_layout};

/// Every parameter of a model, in the order in which its layers are built. Cloning shares the parameters.
#[derive(Clone)]
pub struct Params {
    list: Vec<Param>,
    index: HashMap<String, usize>,
}

impl Params {
    /// Of a list; no two may have one name.
    pub fn of(list: Vec<Param>) -> Self {
        let index = list
            .iter()
            .enumerate()
            .map(|(i, p)| (p.name().to_string(), i))
            .collect();
        Self { list, index }
    }

    /// All parameters. Their tensors are in memory order (convolutions OHWI), f32.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Param> {
        self.list.iter()
    }

    /// The parameter of a diffusers name.
    pub fn get(&self, name: &str) -> Option<&Param> {
        self.index.get(name).map(|&i| &self.list[i])
    }

    /// Number of parameter tensors.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// True for a model without parameters.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Number of values in all parameters.
    pub fn count(&self) -> usize {
        self.list.iter().map(|p| p.dims().iter().product::<usize>()).sum()
    }

    /// Names and shapes in diffusers' order (convolutions OIHW).
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.list
            .iter()
            .map(|p| (p.name().to_string(), file_shape(p.dims())))
            .collect()
    }

    /// Chooses what is trained; parameters start frozen. Only trained parameters get gradients.
    pub fn set_trainable(&self, trainable: impl Fn(&str) -> bool) {
        for param in &self.list {
            param.set_trainable(trainable(param.name()));
        }
    }

    /// Copies of all parameters in diffusers' layout, as `dtype` (f32, f16 or bf16).
    pub fn to_tensors(&self, dtype: DType) -> Result<BTreeMap<String, Tensor>> {
        self.list
            .iter()
            .map(|p| Ok((p.name().to_string(), file_copy(&p.tensor(), dtype)?)))
            .collect()
    }

    /// Overwrites the parameters in place with tensors of diffusers' layout (any float dtype). The names must be
    /// exactly this model's; nothing is changed when one is missing, unexpected or of another shape.
    ///
    /// `place` names the tensors' origin in errors.
    pub fn load_from(&self, tensors: &HashMap<String, Tensor>, place: &str) -> Result<()> {
        let mut mismatch = KeyMismatch::default();
        for param in &self.list {
            let wanted = file_shape(param.dims());
            match tensors.get(param.name()) {
                None => mismatch.missing.push(param.name().to_string()),
                Some(t) if t.dims() != wanted => {
                    mismatch
                        .misshapen
                        .push((param.name().to_string(), wanted, t.dims().to_vec()));
                }
                Some(_) => {}
            }
        }
        mismatch.unexpected = tensors
            .keys()
            .filter(|name| !self.index.contains_key(*name))
            .cloned()
            .collect();
        mismatch.unexpected.sort();
        if !mismatch.is_empty() {
            return Err(ModelError::Keys {
                place: place.to_string(),
                mismatch: Box::new(mismatch),
            });
        }
        for param in &self.list {
            let tensor = to_memory_layout(&tensors[param.name()])?.to_dtype(DType::F32)?;
            param.assign(&tensor)?;
        }
        Ok(())
    }

    /// Takes the gradients of the trained parameters out of `gradients`, in diffusers' layout and this map's order.
    /// A trained parameter that did not take part has `None`; frozen parameters are left out.
    pub fn take_gradients(&self, gradients: &mut Gradients) -> Result<Vec<(String, Option<Tensor>)>> {
        self.list
            .iter()
            .filter(|p| p.trainable())
            .map(|p| {
                let gradient = gradients.take(p.leaf()).map(|g| to_file_layout(&g)).transpose()?;
                Ok((p.name().to_string(), gradient))
            })
            .collect()
    }
}
