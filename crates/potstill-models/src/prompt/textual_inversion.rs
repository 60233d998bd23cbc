//! Textual-inversion embeddings: vectors that stand in a prompt in place of tokens.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use potstill_io::SafetensorsFile;

use crate::error::{ModelError, Result};

/// Most vectors of one embedding: more than a sequence holds would break it.
const MAX_VECTORS: usize = 75;

/// Keys that name an encoder in the files of SDXL's embeddings.
const ENCODER_KEYS: [&str; 2] = ["clip_l", "clip_g"];

/// Key of the vectors in files for one encoder, where there are other tensors too.
const ONLY_KEY: &str = "emb_params";

/// Formats of other programs that are executable code.
const PICKLES: [&str; 4] = ["pt", "bin", "pth", "ckpt"];

/// Reads the vectors of an embedding for the `encoder`-th text encoder, which is `width` wide, from `NAME.safetensors` in a
/// folder: tensors `clip_l` and `clip_g`, or `emb_params`, or the only one; `[width]` or `[vectors, width]`.
pub(super) fn read(folder: &Path, name: &str, encoder: usize, width: usize) -> Result<Vec<Arc<[f32]>>> {
    let path = path_of(folder, name)?;
    let file = SafetensorsFile::open(&path)?;
    let names: Vec<&str> = file.names().collect();
    let key = ENCODER_KEYS.get(encoder).filter(|key| names.contains(key)).copied();
    let only = || match names[..] {
        // A file for one encoder says nothing about another.
        [key] if encoder == 0 && !ENCODER_KEYS.contains(&key) => Some(key),
        _ => (encoder == 0 && names.contains(&ONLY_KEY)).then_some(ONLY_KEY),
    };
    let Some(key) = key.or_else(only) else {
        let wanted = ENCODER_KEYS.get(encoder).copied().unwrap_or_default();
        let reason = format!(
            "has no vectors `{wanted}` for text encoder {}; its tensors are {names:?}",
            encoder + 1
        );
        return Err(ModelError::file(&path, reason));
    };
    let shape = file.tensor(key)?.shape.to_vec();
    let rows = match shape[..] {
        [columns] if columns == width => 1,
        [rows, columns] if columns == width && (1..=MAX_VECTORS).contains(&rows) => rows,
        _ => {
            let reason = format!(
                "`{key}` has the shape {shape:?}; text encoder {} takes 1 to {MAX_VECTORS} vectors of {width}",
                encoder + 1
            );
            return Err(ModelError::file(&path, reason));
        }
    };
    let values = file.tensor_f32(key)?;
    if values.iter().any(|value| !value.is_finite()) {
        return Err(ModelError::file(
            &path,
            format!("`{key}` has values that are not finite"),
        ));
    }
    Ok(values.chunks(values.len() / rows).map(Arc::from).collect())
}

/// The file of a name, which may be in a folder within: `styles/ink`. Names do not lead out of the folder.
fn path_of(folder: &Path, name: &str) -> Result<PathBuf> {
    let is_plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', ':', '\0']);
    if !name.split('/').all(is_plain) {
        let reason = format!("`embedding:{name}` must name a file in {}", folder.display());
        return Err(ModelError::input("prompt", reason));
    }
    let stem = name.strip_suffix(".safetensors").unwrap_or(name);
    let path = folder.join(format!("{stem}.safetensors"));
    if path.is_file() {
        return Ok(path);
    }
    let pickle = PICKLES
        .iter()
        .map(|kind| folder.join(format!("{stem}.{kind}")))
        .find(|path| path.is_file());
    Err(match pickle {
        Some(pickle) => ModelError::file(
            &pickle,
            "is a pickle, which runs code when it is read: convert the embedding to safetensors",
        ),
        None => ModelError::file(&path, format!("is missing: the prompt names embedding:{name}")),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use candle_core::{Device, Tensor};

    use super::*;

    fn write(folder: &Path, name: &str, tensors: &[(&str, &[usize], f32)]) {
        let tensors: HashMap<String, Tensor> = tensors
            .iter()
            .map(|(key, shape, value)| {
                let tensor = Tensor::full(*value, *shape, &Device::Cpu).unwrap();
                (key.to_string(), tensor)
            })
            .collect();
        candle_core::safetensors::save(&tensors, folder.join(name)).unwrap();
    }

    #[test]
    fn every_dialect_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write(folder, "a.safetensors", &[("emb_params", &[2, 3], 1.)]);
        write(folder, "b.safetensors", &[("<cat>", &[3], 2.)]);
        write(
            folder,
            "c.safetensors",
            &[("clip_l", &[1, 3], 3.), ("clip_g", &[2, 4], 4.)],
        );
        let vectors = |name: &str, encoder, width| -> Vec<Vec<f32>> {
            let found = read(folder, name, encoder, width).unwrap();
            found.iter().map(|vector| vector.to_vec()).collect()
        };
        assert_eq!(vectors("a", 0, 3), [[1.; 3], [1.; 3]]);
        assert_eq!(vectors("a.safetensors", 0, 3).len(), 2);
        assert_eq!(vectors("b", 0, 3), [[2.; 3]]);
        assert_eq!(vectors("c", 0, 3), [[3.; 3]]);
        assert_eq!(vectors("c", 1, 4), [[4.; 4], [4.; 4]]);
        std::fs::create_dir_all(folder.join("styles/old")).unwrap();
        write(folder, "styles/old/ink.safetensors", &[("emb_params", &[1, 3], 5.)]);
        assert_eq!(vectors("styles/old/ink", 0, 3), [[5.; 3]]);
    }

    #[test]
    fn others_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write(folder, "a.safetensors", &[("emb_params", &[2, 3], 1.)]);
        write(folder, "nan.safetensors", &[("emb_params", &[2, 3], f32::NAN)]);
        std::fs::write(folder.join("old.pt"), b"pickle").unwrap();
        std::fs::write(folder.join("broken.safetensors"), b"no").unwrap();
        for (name, encoder, width, word) in [
            ("a", 0, 4, "vectors of 4"),
            ("a", 1, 3, "clip_g"),
            ("nan", 0, 3, "not finite"),
            ("old", 0, 3, "pickle"),
            ("nowhere", 0, 3, "nowhere.safetensors"),
            ("broken", 0, 3, "broken.safetensors"),
            ("../a", 0, 3, "must name a file"),
            ("styles/../../a", 0, 3, "must name a file"),
            ("/a", 0, 3, "must name a file"),
            ("C:\\a", 0, 3, "must name a file"),
            ("", 0, 3, "must name a file"),
        ] {
            let error = read(folder, name, encoder, width).unwrap_err().to_string();
            assert!(error.contains(word), "{name}: {error}");
        }
    }
}
