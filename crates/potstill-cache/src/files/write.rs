//! Writing a file of the layout.

use std::io::Write;
use std::path::{Path, PathBuf};

use potstill_io::{Dtype, TensorSpec, create_dir_durably, f32_to_bytes, write_safetensors};

use super::entry::{FilesEntry, HIDDEN_STATES, NOISE, POOLED, PREDICTION, RESOLUTION, SEED, TIMESTEP};
use crate::error::CacheError;

impl FilesEntry {
    /// Writes the file into a teacher's folder, which is made when it is not there; the file appears whole or not at all.
    ///
    /// # Errors
    /// [`CacheError::Entry`] when values are missing, too many, or beyond what the dtype holds as finite numbers;
    /// [`CacheError::Io`].
    pub fn write(&self, folder: &Path) -> Result<PathBuf, CacheError> {
        let wrong = |reason: String| CacheError::Entry {
            path: self.name.file(),
            reason,
        };
        let latent = self.name.latent().to_vec();
        let mut floats = vec![
            (PREDICTION, latent.clone(), &self.prediction),
            (NOISE, latent, &self.noise),
            (HIDDEN_STATES, self.text.to_vec(), &self.hidden_states),
        ];
        if let Some(pooled) = &self.pooled {
            floats.push((POOLED, vec![pooled.len()], pooled));
        }
        let mut tensors: Vec<(TensorSpec, Vec<u8>)> = Vec::new();
        let spec = |name: &str, dtype, shape| TensorSpec {
            name: name.to_owned(),
            dtype,
            shape,
        };
        for (name, shape, values) in floats {
            if shape.iter().product::<usize>() != values.len() {
                return Err(wrong(format!(
                    "{} values are no {name} of shape {shape:?}",
                    values.len()
                )));
            }
            let bytes = f32_to_bytes(values, self.dtype).map_err(|error| wrong(error.to_string()))?;
            let stored = self.dtype.to_f32(&bytes).map_err(|error| wrong(error.to_string()))?;
            if let Some(at) = stored.iter().position(|value| !value.is_finite()) {
                let dtype = self.dtype.name();
                return Err(wrong(format!(
                    "{name} has the value {} at {at}, which {dtype} cannot hold",
                    values[at]
                )));
            }
            tensors.push((spec(name, self.dtype, shape), bytes));
        }
        let resolution = [self.name.width, self.name.height];
        let resolution = resolution.iter().flat_map(|side| side.to_le_bytes()).collect();
        tensors.push((spec(SEED, Dtype::I64, vec![1]), self.seed.to_le_bytes().to_vec()));
        tensors.push((
            spec(TIMESTEP, Dtype::I64, vec![1]),
            self.timestep.to_le_bytes().to_vec(),
        ));
        tensors.push((spec(RESOLUTION, Dtype::I32, vec![2]), resolution));

        create_dir_durably(folder)?;
        let path = folder.join(self.name.file());
        let (specs, bytes): (Vec<_>, Vec<_>) = tensors.into_iter().unzip();
        write_safetensors(&path, &specs, &self.metadata, &mut |i, writer: &mut dyn Write| {
            writer.write_all(&bytes[i])
        })?;
        Ok(path)
    }
}
