//! What is compared with: the fixtures of the tests, inside the executable.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use potstill_io::{Dtype, Header};
use potstill_models::UnetConfig;
use serde_json::Value as Json;

use crate::{Error, Result};

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../../test/fixtures/", $name))
    };
}

/// Operations by PyTorch in f64, in its layout.
pub(crate) const OPS: &[u8] = fixture!("ops/expected.safetensors");
/// Ten steps of torch's AdamW, and what was asked of it.
pub(crate) const TRAINING: (&[u8], &[u8]) = (
    fixture!("training/expected.json"),
    fixture!("training/expected.safetensors"),
);

/// How far UNets in bf16 by torch are from those in f32.
pub(crate) const BF16: &[u8] = fixture!("bf16/expected.json");

/// A tiny UNet in the true shape, with diffusers' results.
pub(crate) struct UnetFixture {
    pub(crate) name: &'static str,
    config: &'static [u8],
    expected: &'static [u8],
    tensors: &'static [u8],
}

pub(crate) const UNETS: [UnetFixture; 2] = [
    UnetFixture {
        name: "sd15",
        config: fixture!("unet_sd15_tiny/config.json"),
        expected: fixture!("unet_sd15_tiny/expected.json"),
        tensors: fixture!("unet_sd15_tiny/expected.safetensors"),
    },
    UnetFixture {
        name: "sdxl",
        config: fixture!("unet_sdxl_tiny/config.json"),
        expected: fixture!("unet_sdxl_tiny/expected.json"),
        tensors: fixture!("unet_sdxl_tiny/expected.safetensors"),
    },
];

impl UnetFixture {
    pub(crate) fn config(&self) -> Result<UnetConfig> {
        match json(self.config)? {
            Json::Object(object) => Ok(UnetConfig::parse(object, self.name)?),
            _ => Err(Error::Input("a configuration is an object".to_owned())),
        }
    }

    pub(crate) fn expected(&self) -> Result<Json> {
        json(self.expected)
    }

    pub(crate) fn tensors(&self) -> Result<HashMap<String, Tensor>> {
        tensors(self.tensors)
    }
}

pub(crate) fn json(bytes: &[u8]) -> Result<Json> {
    serde_json::from_slice(bytes).map_err(|error| Error::Input(error.to_string()))
}

/// The tensors of a safetensors file, on the CPU in f64.
pub(crate) fn tensors(file: &[u8]) -> Result<HashMap<String, Tensor>> {
    let wrong = |error: potstill_io::HeaderError| Error::Input(error.to_string());
    let header = Header::from_bytes(file).map_err(wrong)?;
    let data = &file[header.data_start() as usize..];
    header
        .tensors()
        .iter()
        .map(|info| {
            let bytes = &data[info.start as usize..info.end as usize];
            let tensor = match info.dtype {
                Dtype::F64 => {
                    let values: Vec<f64> = bytes
                        .as_chunks::<8>()
                        .0
                        .iter()
                        .map(|b| f64::from_le_bytes(*b))
                        .collect();
                    Tensor::from_vec(values, info.shape.clone(), &Device::Cpu)?
                }
                other => {
                    let values = other.to_f32(bytes).map_err(wrong)?;
                    Tensor::from_vec(values, info.shape.clone(), &Device::Cpu)?.to_dtype(DType::F64)?
                }
            };
            Ok((info.name.clone(), tensor))
        })
        .collect()
}
