//! Writing a loaded component as diffusers does.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use candle_core::{DType, Tensor};
use potstill_io::{Dtype, TensorSpec, create_dir_durably, f32_to_bytes, write_atomic, write_safetensors};
use serde_json::{Map, Value as Json};

use super::weight_file;
use crate::checkpoint::kinds::Component;
use crate::error::{ModelError, Result};
use crate::layout::{file_shape, to_file_layout};
use crate::params::Params;

/// Writes `config.json` and the weights in `dtype` (f32, f16 or bf16) into a folder, which is created when absent. Each
/// file appears whole or not at all; no more than one converted tensor is held at a time.
pub(crate) fn write_params(
    folder: &Path,
    component: Component,
    config: &Map<String, Json>,
    params: &Params,
    dtype: DType,
) -> Result<()> {
    let dtype = match dtype {
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::Bf16,
        other => {
            let reason = format!(
                "{} is not a dtype that weights are written in: f32, f16 or bf16",
                other.as_str()
            );
            return Err(ModelError::input("dtype", reason));
        }
    };
    create_dir_durably(folder)?;
    let list: Vec<_> = params.iter().collect();
    let specs: Vec<TensorSpec> = list
        .iter()
        .map(|p| TensorSpec {
            name: p.name().to_string(),
            dtype,
            shape: file_shape(p.dims()),
        })
        .collect();
    let metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
    write_safetensors(
        &folder.join(weight_file(component)),
        &specs,
        &metadata,
        &mut |i, writer: &mut dyn Write| {
            let values = file_values(&list[i].tensor()).map_err(io::Error::other)?;
            writer.write_all(&f32_to_bytes(&values, dtype).map_err(io::Error::other)?)
        },
    )?;
    let text = serde_json::to_string_pretty(config).expect("a JSON object can be printed");
    let path = folder.join("config.json");
    write_atomic(&path, |writer| {
        writeln!(writer, "{text}").map_err(|e| ModelError::file(&path, format!("cannot be written: {e}")))
    })
}

/// A parameter's values in diffusers' order.
fn file_values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(to_file_layout(tensor)?.flatten_all()?.to_vec1()?)
}
