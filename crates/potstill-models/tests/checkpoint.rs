//! Diffusers folders: what is read, what is written, and what is refused.

mod common;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write;
use std::path::Path;

use common::{fixture, unet_config, values};
use potstill_engine::{DType, Device, Tensor};
use potstill_io::{Dtype, SafetensorsFile, TensorSpec, f32_to_bytes, write_safetensors};
use potstill_models::{Component, ModelError, TextConfig, TextEncoder, Unet, Vae, VaeConfig};
use tempfile::TempDir;

const NAME: &str = "unet_sd15_tiny";
const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";

type Tensors = BTreeMap<String, Tensor>;

fn unet() -> Unet {
    Unet::random(unet_config(NAME), 7, common::WEIGHTS, &Device::Cpu).unwrap()
}

/// A folder with the configuration of a fixture.
fn folder(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(fixture(name).join("config.json"), folder.path().join("config.json")).unwrap();
    folder
}

fn write(path: &Path, tensors: &Tensors, dtype: Dtype) {
    let specs: Vec<TensorSpec> = tensors
        .iter()
        .map(|(n, t)| TensorSpec {
            name: n.clone(),
            dtype,
            shape: t.dims().to_vec(),
        })
        .collect();
    let data: Vec<Vec<u8>> = tensors
        .values()
        .map(|t| f32_to_bytes(&values(t), dtype).unwrap())
        .collect();
    write_safetensors(path, &specs, &BTreeMap::new(), &mut |i, w: &mut dyn Write| {
        w.write_all(&data[i])
    })
    .unwrap();
}

fn assert_same(unet: &Unet, tensors: &Tensors, tolerance: f32) {
    let loaded = unet.params().to_tensors(DType::F32).unwrap();
    assert_eq!(loaded.keys().collect::<Vec<_>>(), tensors.keys().collect::<Vec<_>>());
    for (name, tensor) in tensors {
        let pairs = values(tensor).into_iter().zip(values(&loaded[name]));
        assert!(
            pairs
                .into_iter()
                .all(|(a, b)| (a - b).abs() <= tolerance * a.abs().max(1e-3)),
            "{name}"
        );
    }
}

fn load_error(folder: &Path) -> ModelError {
    Unet::load(folder, &Device::Cpu).err().expect("refused")
}

#[test]
fn a_saved_unet_is_the_same_unet() {
    let unet = unet();
    let tensors = unet.params().to_tensors(DType::F32).unwrap();
    for (dtype, stored, tolerance) in [(DType::F32, Dtype::F32, 0.), (DType::F16, Dtype::F16, 1e-3)] {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("new").join("unet");
        unet.save(&target, dtype).unwrap();
        let again = Unet::load(&target, &Device::Cpu).unwrap();
        assert_same(&again, &tensors, tolerance);
        assert_eq!(again.config(), unet.config());
        let file = SafetensorsFile::open(&target.join(WEIGHTS)).unwrap();
        assert!(file.header().tensors().iter().all(|t| t.dtype == stored));
        assert_eq!(file.header().metadata()["format"], "pt");
    }
    assert!(unet.save(tempfile::tempdir().unwrap().path(), DType::U8).is_err());
}

#[test]
fn variants_and_dtypes_are_read() {
    let tensors = unet().params().to_tensors(DType::F32).unwrap();
    for (file, dtype, tolerance) in [
        ("diffusion_pytorch_model.fp16.safetensors", Dtype::F16, 1e-3),
        ("diffusion_pytorch_model.bf16.safetensors", Dtype::Bf16, 1e-2),
        ("model.safetensors", Dtype::F64, 0.),
    ] {
        let folder = folder(NAME);
        write(&folder.path().join(file), &tensors, dtype);
        assert_same(&Unet::load(folder.path(), &Device::Cpu).unwrap(), &tensors, tolerance);
    }
}

#[test]
fn shards_are_read_through_their_index() {
    let tensors = unet().params().to_tensors(DType::F32).unwrap();
    let folder = folder(NAME);
    let mut parts = [Tensors::new(), Tensors::new()];
    let mut map = serde_json::Map::new();
    for (i, (name, tensor)) in tensors.iter().enumerate() {
        parts[i % 2].insert(name.clone(), tensor.clone());
        map.insert(name.clone(), format!("part-{}.safetensors", i % 2).into());
    }
    for (i, part) in parts.iter().enumerate() {
        write(&folder.path().join(format!("part-{i}.safetensors")), part, Dtype::F32);
    }
    let index = folder.path().join("diffusion_pytorch_model.safetensors.index.json");
    fs::write(
        &index,
        serde_json::json!({"metadata": {}, "weight_map": map}).to_string(),
    )
    .unwrap();
    assert_same(&Unet::load(folder.path(), &Device::Cpu).unwrap(), &tensors, 0.);

    fs::remove_file(folder.path().join("part-1.safetensors")).unwrap();
    assert!(load_error(folder.path()).to_string().contains("part-1.safetensors"));
    for hostile in ["../secret.safetensors", "/etc/passwd", "", "..", "a\\b"] {
        fs::write(
            &index,
            serde_json::json!({"weight_map": {"conv_in.bias": hostile}}).to_string(),
        )
        .unwrap();
        assert!(
            load_error(folder.path()).to_string().contains("conv_in.bias"),
            "{hostile}"
        );
    }
    fs::write(&index, "{}").unwrap();
    assert!(load_error(folder.path()).to_string().contains("weight_map"));
}

#[test]
fn every_wrong_key_is_listed() {
    let mut tensors = unet().params().to_tensors(DType::F32).unwrap();
    for missing in ["conv_in.bias", "mid_block.attentions.0.norm.weight"] {
        tensors.remove(missing);
    }
    let stray = Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap();
    for name in ["stray.weight", "conv_out.bias"] {
        tensors.insert(name.to_string(), stray.clone());
    }
    let folder = folder(NAME);
    write(&folder.path().join(WEIGHTS), &tensors, Dtype::F32);
    let error = load_error(folder.path());
    let ModelError::Keys { mismatch, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(mismatch.missing, ["conv_in.bias", "mid_block.attentions.0.norm.weight"]);
    assert_eq!(mismatch.unexpected, ["stray.weight"]);
    assert_eq!(mismatch.misshapen, [("conv_out.bias".to_string(), vec![4], vec![3])]);
    let text = error.to_string();
    for part in [
        "conv_in.bias",
        "stray.weight",
        "conv_out.bias: shape [3]",
        "2 missing, 1 unexpected, 1 of another shape",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn broken_folders_are_errors_naming_the_place() {
    let empty = tempfile::tempdir().unwrap();
    assert!(load_error(empty.path()).to_string().contains("config.json"));
    assert!(
        load_error(&empty.path().join("nowhere"))
            .to_string()
            .contains("nowhere")
    );
    let folder = folder(NAME);
    assert!(load_error(folder.path()).to_string().contains("has no weights"));
    fs::write(folder.path().join("diffusion_pytorch_model.bin"), "pickle").unwrap();
    assert!(load_error(folder.path()).to_string().contains("safe_serialization"));
    // A truncated file, a file of integers, a hostile header.
    let tensors = unet().params().to_tensors(DType::F32).unwrap();
    let path = folder.path().join(WEIGHTS);
    write(&path, &tensors, Dtype::F16);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(load_error(folder.path()).to_string().contains(WEIGHTS));
    fs::write(&path, u64::MAX.to_le_bytes()).unwrap();
    assert!(load_error(folder.path()).to_string().contains(WEIGHTS));
    fs::write(folder.path().join("config.json"), "{\"act_fn\": \"mish\"}").unwrap();
    assert!(load_error(folder.path()).to_string().contains("act_fn"));
}

#[test]
fn parameters_are_replaced_together_or_not_at_all() {
    let unet = unet();
    let before = unet.params().to_tensors(DType::F32).unwrap();
    let other = Unet::random(unet_config(NAME), 8, common::WEIGHTS, &Device::Cpu).unwrap();
    let mut tensors: HashMap<String, Tensor> = other.params().to_tensors(DType::F32).unwrap().into_iter().collect();
    let bias = tensors.remove("conv_in.bias").unwrap();
    assert!(
        unet.params()
            .load_from(&tensors, "a checkpoint")
            .unwrap_err()
            .to_string()
            .contains("conv_in.bias")
    );
    assert_same(&unet, &before, 0.);
    tensors.insert("conv_in.bias".to_string(), bias);
    unet.params().load_from(&tensors, "a checkpoint").unwrap();
    assert_same(&unet, &tensors.into_iter().collect(), 0.);
    // Exported tensors are snapshots: the update above has not changed them.
    let again = Unet::random(unet_config(NAME), 7, common::WEIGHTS, &Device::Cpu).unwrap();
    assert_same(&again, &before, 0.);
}

#[test]
fn tensors_make_a_unet() {
    let tensors: HashMap<String, Tensor> = unet().params().to_tensors(DType::F16).unwrap().into_iter().collect();
    let made = Unet::from_tensors(unet_config(NAME), &tensors, "tensors", &Device::Cpu).unwrap();
    assert_same(&made, &unet().params().to_tensors(DType::F32).unwrap(), 1e-3);
}

#[test]
fn text_encoders_are_read_with_and_without_prefix() {
    let config = TextConfig::read(&fixture("clip_g_tiny").join("config.json")).unwrap();
    assert_eq!(config.projection, None);
    let encoder = TextEncoder::random(config, 3, common::WEIGHTS, &Device::Cpu).unwrap();
    let mut tensors = encoder.params().to_tensors(DType::F32).unwrap();
    // The weights have a projection although this configuration does not say so.
    let projection = Tensor::zeros((40, 80), DType::F32, &Device::Cpu).unwrap();
    tensors.insert("text_projection.weight".to_string(), projection);
    let buffer = Tensor::arange(0f32, 77., &Device::Cpu)
        .unwrap()
        .reshape((1, 77))
        .unwrap();
    let bare: Tensors = tensors
        .iter()
        .map(|(n, t)| (n.trim_start_matches("text_model.").to_string(), t.clone()))
        .collect();
    for (mut tensors, prefix) in [(tensors, "text_model."), (bare, "")] {
        tensors.insert(format!("{prefix}embeddings.position_ids"), buffer.clone());
        let folder = folder("clip_g_tiny");
        write(&folder.path().join("model.safetensors"), &tensors, Dtype::F32);
        let encoder = TextEncoder::load(folder.path(), Component::TextEncoder2, &Device::Cpu).unwrap();
        assert_eq!(encoder.config().projection, Some(40));
        assert!(encoder.forward(&[vec![598, 599]]).unwrap().text_embeds.is_some());
    }
}

#[test]
fn old_vae_folders_are_read() {
    let config = VaeConfig::read(&fixture("vae_tiny").join("config.json")).unwrap();
    let vae = Vae::random(config, 3, common::WEIGHTS, &Device::Cpu).unwrap();
    let tensors = vae.params().to_tensors(DType::F32).unwrap();
    let old: Tensors = tensors
        .iter()
        .map(|(name, tensor)| {
            let renamed = match name.contains("attentions") {
                true => name
                    .replace("to_out.0", "proj_attn")
                    .replace("to_q", "query")
                    .replace("to_k", "key")
                    .replace("to_v", "value"),
                false => name.clone(),
            };
            // The oldest keep the attention's matrices as 1×1 convolutions.
            let tensor = match (renamed.ends_with("query.weight"), tensor.dims()) {
                (true, &[o, i]) => tensor.reshape((o, i, 1, 1)).unwrap(),
                _ => tensor.clone(),
            };
            (renamed, tensor)
        })
        .collect();
    let folder = folder("vae_tiny");
    write(&folder.path().join(WEIGHTS), &old, Dtype::F32);
    let loaded = Vae::load(folder.path(), &Device::Cpu)
        .unwrap()
        .params()
        .to_tensors(DType::F32)
        .unwrap();
    assert!(
        tensors
            .iter()
            .all(|(name, tensor)| values(tensor) == values(&loaded[name]))
    );
}
