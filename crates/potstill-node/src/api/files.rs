//! Tensors in safetensors files.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use potstill_engine::Value;
use potstill_io::{Dtype, SafetensorsFile};

use crate::core::{Engine, id, read_tensor, run_job, tensor, write_tensors};

/// One tensor of a file.
#[napi(object)]
pub struct StoredTensor {
    /// Its name.
    pub name: String,
    /// As the file says it: `F32`, `F16`, `I64` …
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<u32>,
}

/// A file's table of contents.
#[napi(object)]
pub struct TensorFile {
    /// In the order of the data.
    pub tensors: Vec<StoredTensor>,
    /// The header's `__metadata__`.
    pub metadata: HashMap<String, String>,
}

/// Reads the header of a safetensors file.
#[napi(ts_return_type = "Promise<Outcome<TensorFile>>", catch_unwind)]
pub fn inspect_tensors(env: &Env, file: String) -> napi::Result<Object<'_>> {
    run_job(env, "inspectTensors", move || {
        let file = SafetensorsFile::open(Path::new(&file))?;
        let tensors = file.header().tensors().iter().map(|info| StoredTensor {
            name: info.name.clone(),
            dtype: info.dtype.name().to_owned(),
            shape: info.shape.iter().map(|&size| size as u32).collect(),
        });
        let metadata = file
            .header()
            .metadata()
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()));
        Ok(TensorFile {
            tensors: tensors.collect(),
            metadata: metadata.collect(),
        })
    })
}

#[napi]
impl Engine {
    /// Fills `outs` with the named tensors of a file, as f32.
    #[napi(ts_return_type = "Promise<Outcome<undefined>>", catch_unwind)]
    pub fn read_tensors<'env>(
        &self,
        env: &'env Env,
        outs: Vec<f64>,
        file: String,
        names: Vec<String>,
    ) -> napi::Result<Object<'env>> {
        self.query(env, "readTensors", move |state| {
            let file = SafetensorsFile::open(Path::new(&file))?;
            for (out, name) in outs.iter().zip(&names) {
                state.put(
                    id(*out),
                    Ok(Value::constant(read_tensor(&file, name, state.device()?)?)),
                );
            }
            Ok(())
        })
    }

    /// Writes tensors to a file, which appears whole or not at all.
    #[napi(ts_return_type = "Promise<Outcome<undefined>>", catch_unwind)]
    pub fn write_tensors<'env>(
        &self,
        env: &'env Env,
        file: String,
        tensors: HashMap<String, f64>,
        #[napi(ts_arg_type = "'f16' | 'f32'")] dtype: String,
        metadata: HashMap<String, String>,
    ) -> napi::Result<Object<'env>> {
        self.query(env, "writeTensors", move |state| {
            let tensors = tensors
                .into_iter()
                .map(|(name, handle)| Ok((name, tensor(state, id(handle))?.tensor().clone())))
                .collect::<crate::core::Result<BTreeMap<_, _>>>()?;
            let dtype = if dtype == "f16" { Dtype::F16 } else { Dtype::F32 };
            write_tensors(Path::new(&file), &tensors, dtype, &metadata.into_iter().collect())
        })
    }
}
