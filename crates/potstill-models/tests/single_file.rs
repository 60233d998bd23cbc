//! Single files: what is recognised, how every key is accounted for, what is refused, and the way there and back.

mod common;
#[path = "common/stored.rs"]
mod stored;
#[path = "common/tiny.rs"]
mod tiny;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::values;
use potstill_engine::{DType, Device};
use potstill_io::Dtype;
use potstill_models::{
    Checkpoint, CheckpointReport, Component, ConvertOptions, Converted, Dialect, Layout, Model, ModelError, ModelKind,
    PredictionKind, TextEncoder, Unet, Vae, convert_checkpoint,
};
use serde_json::{Value as Json, json};
use stored::{Stored, StoredFile, only, renamed};
use tempfile::TempDir;

const UNET: &str = "model.diffusion_model.";
const FIRST: &str = "conditioner.embedders.0.transformer.";
const SECOND: &str = "conditioner.embedders.1.model.";

fn keep(layout: Layout) -> ConvertOptions<'static> {
    ConvertOptions {
        layout,
        dtype: None,
        title: None,
        allow: &[],
        vae: None,
        edit: None,
        quantize: None,
    }
}

fn convert(source: &Path, target: &Path, options: &ConvertOptions) -> Result<Converted, ModelError> {
    convert_checkpoint(&Checkpoint::open(source)?, target, options, &mut |_, _| Ok(()))
}

fn report(path: &Path) -> CheckpointReport {
    Checkpoint::open(path)
        .unwrap_or_else(|e| panic!("{e}"))
        .report()
        .unwrap()
}

struct Case {
    folder: TempDir,
}

impl Case {
    /// A folder `model` and the file `model.safetensors` made of it.
    fn new(kind: ModelKind, scheduler: Json) -> Self {
        let case = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        match kind {
            ModelKind::Sd15 => tiny::write_sd15(&case.path("model"), DType::F16, scheduler),
            ModelKind::Sdxl => tiny::write_sdxl(&case.path("model"), DType::F16, scheduler),
        }
        convert(&case.path("model"), &case.file(), &keep(Layout::File)).unwrap();
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self) -> PathBuf {
        self.path("model.safetensors")
    }

    fn tensors(&self) -> StoredFile {
        stored::read(&self.file())
    }

    /// Writes a changed file without metadata and gives its path.
    fn changed(&self, tensors: &StoredFile) -> PathBuf {
        let path = self.path("changed.safetensors");
        stored::write(&path, tensors, &BTreeMap::new());
        path
    }

    fn refusal(&self, tensors: &StoredFile) -> String {
        let path = self.changed(tensors);
        Model::open(&path).expect_err("refused").to_string()
    }
}

/// What a file without metadata is taken to have, whose marks are those of a scheduler's configuration.
fn implied_scheduler(kind: ModelKind, marked: Json) -> Json {
    let case = Case::new(kind, marked);
    Json::Object(report(&case.changed(&case.tensors())).scheduler)
}

/// The values of a component that is loaded from two places are the same.
fn assert_same_unet(a: &Path, b: &Path) {
    let load = |path: &Path| {
        Unet::load(path, &Device::Cpu)
            .unwrap()
            .params()
            .to_tensors(DType::F32)
            .unwrap()
    };
    let (a, b) = (load(a), load(b));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    assert!(a.iter().all(|(name, tensor)| values(tensor) == values(&b[name])));
}

#[test]
fn there_and_back_is_the_same_to_the_bit() {
    for kind in [ModelKind::Sd15, ModelKind::Sdxl] {
        let case = Case::new(kind, json!({}));
        convert(&case.file(), &case.path("back"), &keep(Layout::Folder)).unwrap();
        convert(&case.path("back"), &case.path("again.safetensors"), &keep(Layout::File)).unwrap();
        assert_eq!(
            std::fs::read(case.file()).unwrap(),
            std::fs::read(case.path("again.safetensors")).unwrap(),
            "{kind}: the second file is the first"
        );
        for component in kind.components() {
            let weights = match component {
                Component::Unet | Component::Vae => "diffusion_pytorch_model.safetensors",
                _ => "model.safetensors",
            };
            let read = |folder: &str| std::fs::read(case.path(folder).join(component.name()).join(weights)).unwrap();
            assert!(read("model") == read("back"), "{kind}: {component}");
        }
        // Nothing temporary is left.
        let names: Vec<_> = std::fs::read_dir(case.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with('.'))
            .collect();
        assert!(names.is_empty(), "{names:?}");
    }
}

#[test]
fn a_schedulers_settings_come_back_whole() {
    // Same alphas and prediction as what an SD1.5 file implies: only diffusers' sampling differs.
    let scheduler = json!({
        "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012, "beta_schedule": "scaled_linear",
        "beta_start": 0.00085, "num_train_timesteps": 1000, "prediction_type": "epsilon", "set_alpha_to_one": false,
        "skip_prk_steps": true, "steps_offset": 3, "timestep_spacing": "linspace", "trained_betas": null,
    });
    let case = Case::new(ModelKind::Sd15, scheduler.clone());
    convert(&case.file(), &case.path("back"), &keep(Layout::Folder)).unwrap();
    let text = std::fs::read_to_string(case.path("back/scheduler/scheduler_config.json")).unwrap();
    assert_eq!(serde_json::from_str::<Json>(&text).unwrap(), scheduler);
    let text = std::fs::read_to_string(case.path("back/model_index.json")).unwrap();
    let index: Json = serde_json::from_str(&text).unwrap();
    assert_eq!(index["scheduler"], json!(["diffusers", "PNDMScheduler"]));
}

#[test]
fn a_tokenizer_that_is_not_clips_is_not_lost_unnoticed() {
    let case = Case::new(ModelKind::Sdxl, json!({}));
    let words: Vec<&str> = vec!["<|startoftext|>", "<|endoftext|>", "!"];
    let vocabulary: BTreeMap<&str, usize> = words.into_iter().zip(0..).collect();
    let write = |name: &str| {
        let folder = case.path("model").join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("vocab.json"), json!(vocabulary).to_string()).unwrap();
        std::fs::write(folder.join("merges.txt"), "#version: 0.2\n").unwrap();
    };
    write("tokenizer_2");
    let target = case.path("lost.safetensors");
    let error = convert(&case.path("model"), &target, &keep(Layout::File))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("tokenizer_2") && error.contains("is not CLIP's tokenizer"),
        "{error}"
    );
    assert!(!target.exists());
    let allow = ["tokenizer_2".to_string()];
    let allowing = ConvertOptions {
        allow: &allow,
        ..keep(Layout::File)
    };
    assert_eq!(
        convert(&case.path("model"), &target, &allowing).unwrap().left_out,
        ["tokenizer_2"]
    );
    // A folder keeps it.
    assert!(
        convert(&case.path("model"), &case.path("copy"), &keep(Layout::Folder))
            .unwrap()
            .left_out
            .is_empty()
    );
    assert!(case.path("copy/tokenizer_2/vocab.json").is_file());
}

#[test]
fn thirds_of_different_dtypes_lose_nothing() {
    let case = Case::new(ModelKind::Sdxl, json!({}));
    let path = case.path("model/text_encoder_2/model.safetensors");
    let mut tensors = stored::read(&path);
    let name = "text_model.encoder.layers.0.self_attn.v_proj.weight";
    let shape = tensors[name].shape.clone();
    let numbers: Vec<f32> = (0..shape.iter().product::<usize>())
        .map(|i| 1. / (i + 3) as f32)
        .collect();
    tensors.insert(name.into(), Stored::f32(&shape, &numbers));
    stored::write(&path, &tensors, &BTreeMap::new());
    let target = case.path("mixed.safetensors");
    convert(&case.path("model"), &target, &keep(Layout::File)).unwrap();
    let merged = &stored::read(&target)[&format!("{SECOND}transformer.resblocks.0.attn.in_proj_weight")];
    assert_eq!(merged.dtype, Dtype::F32);
    let bytes: Vec<u8> = numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
    assert!(merged.bytes.ends_with(&bytes), "the values come last");
}

#[test]
fn files_load_as_their_folders_do() {
    for kind in [ModelKind::Sd15, ModelKind::Sdxl] {
        let case = Case::new(kind, json!({}));
        let model = Model::open(&case.file()).unwrap();
        assert_eq!(model.kind(), kind);
        assert_same_unet(&case.file(), &case.path("model/unet"));
        let vae = |path: &Path| {
            let vae = Vae::load(path, &Device::Cpu).unwrap();
            (
                vae.config().scaling_factor,
                vae.params().to_tensors(DType::F32).unwrap(),
            )
        };
        let ((factor, a), (expected, b)) = (vae(&case.file()), vae(&case.path("model/vae")));
        assert_eq!(factor, expected);
        assert!(a.iter().all(|(name, tensor)| values(tensor) == values(&b[name])));
        for component in kind.components().iter().filter(|c| c.name().starts_with("text")) {
            let text = |path: &Path| TextEncoder::load(path, *component, &Device::Cpu).unwrap();
            let (a, b) = (text(&case.file()), text(&case.path("model").join(component.name())));
            let ids = vec![vec![1, 2, 603, 5]];
            let states = |encoder: &TextEncoder| {
                let output = encoder.forward(&ids).unwrap();
                let last = output.text_embeds.as_ref().unwrap_or(&output.last_hidden_state);
                values(last.tensor())
            };
            assert_eq!(states(&a), states(&b), "{component}");
        }
        // The text encoders of these models have a vocabulary that is not CLIP's: no tokenizer goes with them.
        let error = model.load_prompt_encoder(&Device::Cpu).err().unwrap().to_string();
        assert!(error.contains("vocabulary of 604"), "{error}");
    }
}

#[test]
fn shapes_imply_the_configuration_and_the_report_counts_every_key() {
    let case = Case::new(ModelKind::Sdxl, implied_scheduler(ModelKind::Sdxl, json!({})));
    assert!(!stored::metadata(&case.file()).contains_key("potstill.config"));
    let found = report(&case.changed(&case.tensors()));
    assert!(found.mismatch().is_empty(), "{}", found.mismatch());
    assert_eq!((found.kind, found.layout), (Some(ModelKind::Sdxl), Layout::File));
    let of = |component| found.components.iter().find(|c| c.component == component).unwrap();
    let [unet, vae, first, second] = Component::ALL.map(of);
    assert_eq!(
        [unet.dialect, vae.dialect, first.dialect, second.dialect],
        [Dialect::Ldm, Dialect::Ldm, Dialect::Diffusers, Dialect::OpenClip]
    );
    assert_eq!(second.converted.split, 3 * 3 * 2);
    assert_eq!((second.converted.transposed, vae.converted.squeezed), (1, 8));
    assert_eq!(unet.dtypes, BTreeMap::from([("F16", unet.matched)]));
    let tensors = case.tensors();
    let keys = unet.matched + vae.matched + first.matched + second.matched - 2 * 3 * 2 + found.unused.len();
    assert_eq!(keys, tensors.len());
    assert_eq!(found.unused[0].key, format!("{SECOND}logit_scale"));
    let bytes: u64 = found.components.iter().map(|c| c.bytes).sum();
    assert_eq!(bytes + 2, tensors.values().map(|t| t.bytes.len() as u64).sum::<u64>());
    // What shapes cannot tell is stated in the metadata.
    let other = tempfile::tempdir().unwrap();
    tiny::write_sd15(
        &other.path().join("model"),
        DType::F32,
        json!({"beta_start": 0.001, "prediction_type": "sample"}),
    );
    let odd = json!({"attention_head_dim": 4});
    let unet = Unet::random(
        tiny::unet_config("unet_sd15_tiny", odd),
        1,
        common::WEIGHTS,
        &Device::Cpu,
    )
    .unwrap();
    unet.save(&other.path().join("model/unet"), DType::F32).unwrap();
    let file = other.path().join("file.safetensors");
    convert(&other.path().join("model"), &file, &keep(Layout::File)).unwrap();
    let stated: Json = serde_json::from_str(&stored::metadata(&file)["potstill.config"]).unwrap();
    let names: Vec<&String> = stated.as_object().unwrap().keys().collect();
    assert_eq!(names, ["scheduler", "unet"]);
    let model = Model::open(&file).unwrap();
    assert_eq!(model.unet_config().heads, [4; 4]);
    assert_eq!(model.schedule().prediction(), PredictionKind::X0);
}

#[test]
fn what_people_keep_in_files_is_known() {
    let case = Case::new(ModelKind::Sd15, json!({}));
    let mut tensors = case.tensors();
    let position = Stored::i64(&[1, 77], 0..77);
    let text = "cond_stage_model.transformer.text_model.";
    tensors.insert(format!("{text}embeddings.position_ids"), position);
    tensors.insert("model_ema.decay".into(), Stored::f32(&[], &[0.9999]));
    tensors.insert(
        "model_ema.diffusion_modelinput_blocks00weight".into(),
        Stored::f32(&[1], &[1.]),
    );
    tensors.insert("betas".into(), Stored::f32(&[2], &[0.1, 0.2]));
    tensors.insert("global_step".into(), Stored::i64(&[], [7].into_iter()));
    tensors.insert("first_stage_model.loss.logvar".into(), Stored::f32(&[], &[0.]));
    let found = report(&case.changed(&tensors));
    assert!(found.mismatch().is_empty(), "{}", found.mismatch());
    assert_eq!(found.unused.len(), 6);
    assert!(
        found
            .unused
            .iter()
            .any(|u| u.key.ends_with("position_ids") && u.reason.contains("76"))
    );
    assert_same_unet(&case.path("changed.safetensors"), &case.path("model/unet"));
    // Old files have no `text_model.`.
    let bare = renamed(&case.tensors(), text, "cond_stage_model.transformer.");
    let path = case.changed(&bare);
    assert!(report(&path).mismatch().is_empty());
    assert!(TextEncoder::load(&path, Component::TextEncoder, &Device::Cpu).is_ok());
}

#[test]
fn a_unet_alone_is_read_under_every_name() {
    for kind in [ModelKind::Sd15, ModelKind::Sdxl] {
        let case = Case::new(kind, json!({}));
        let unet = only(&case.tensors(), UNET);
        let diffusers = stored::read(&case.path("model/unet/diffusion_pytorch_model.safetensors"));
        for tensors in [
            unet.clone(),
            renamed(&unet, UNET, "diffusion_model."),
            renamed(&unet, UNET, ""),
            diffusers.clone(),
            diffusers
                .iter()
                .map(|(name, t)| (format!("{UNET}{name}"), t.clone()))
                .collect(),
        ] {
            let path = case.changed(&tensors);
            assert_same_unet(&path, &case.path("model/unet"));
            let found = report(&path);
            assert!(found.mismatch().is_empty());
            assert_eq!(found.kind, Some(kind));
        }
        let error = Vae::load(&case.changed(&unet), &Device::Cpu).err().unwrap().to_string();
        assert!(error.contains("holds no vae"), "{error}");
    }
}

#[test]
fn a_vae_alone_takes_its_scaling_from_the_model_that_it_is_for() {
    let case = Case::new(ModelKind::Sdxl, json!({}));
    let vae = only(&case.tensors(), "first_stage_model.");
    let diffusers = stored::read(&case.path("model/vae/diffusion_pytorch_model.safetensors"));
    for tensors in [vae.clone(), renamed(&vae, "first_stage_model.", ""), diffusers] {
        let path = case.changed(&tensors);
        let factor = |kind| {
            Vae::load_for(&path, kind, &Device::Cpu)
                .unwrap()
                .config()
                .scaling_factor
        };
        assert_eq!(
            [
                factor(None),
                factor(Some(ModelKind::Sd15)),
                factor(Some(ModelKind::Sdxl))
            ],
            [0.18215, 0.18215, 0.13025]
        );
        assert_eq!(report(&path).kind, None);
        assert!(Model::open(&path).unwrap_err().to_string().contains("holds no unet"));
    }
    // Converted by itself, it keeps bare names; in place of a model's own, it is the model's.
    let other = case.path("vae-only");
    convert(
        &case.path("model/vae"),
        &case.path("vae.safetensors"),
        &keep(Layout::File),
    )
    .unwrap();
    let alone = stored::read(&case.path("vae.safetensors"));
    assert_eq!(
        alone.keys().collect::<Vec<_>>(),
        renamed(&vae, "first_stage_model.", "").keys().collect::<Vec<_>>()
    );
    let changed: StoredFile = alone
        .iter()
        .map(|(name, t)| {
            (
                name.clone(),
                Stored {
                    bytes: vec![0; t.bytes.len()],
                    ..t.clone()
                },
            )
        })
        .collect();
    let zeros = Checkpoint::open_as(&case.changed(&changed), Some(ModelKind::Sdxl)).unwrap();
    let options = ConvertOptions {
        vae: Some(&zeros),
        ..keep(Layout::Folder)
    };
    convert(&case.file(), &other, &options).unwrap();
    let vae = Vae::load(&other.join("vae"), &Device::Cpu).unwrap();
    assert_eq!(vae.config().scaling_factor, 0.13025);
    let weights = vae.params().to_tensors(DType::F32).unwrap();
    assert!(weights.values().all(|t| values(t).iter().all(|v| *v == 0.)));
}

#[test]
fn marks_of_velocity_and_of_the_schedules_end() {
    let velocity = json!({"prediction_type": "v_prediction", "rescale_betas_zero_snr": true});
    let case = Case::new(ModelKind::Sdxl, implied_scheduler(ModelKind::Sdxl, velocity.clone()));
    let tensors = case.tensors();
    assert_eq!(
        (tensors["v_pred"].shape.as_slice(), tensors["ztsnr"].bytes.len()),
        (&[0][..], 0)
    );
    assert_eq!(stored::metadata(&case.file())["modelspec.prediction_type"], "v");
    assert!(!stored::metadata(&case.file()).contains_key("potstill.config"));
    let schedule = |path: &Path| {
        let model = Model::open(path).unwrap();
        let last = model.schedule().alphas_cumprod()[999];
        (model.schedule().prediction(), last == 0.)
    };
    // Marks alone say it, without metadata.
    assert_eq!(schedule(&case.changed(&tensors)), (PredictionKind::V, true));
    let mut epsilon = tensors.clone();
    epsilon.remove("v_pred");
    epsilon.remove("ztsnr");
    assert_eq!(schedule(&case.changed(&epsilon)), (PredictionKind::Epsilon, false));
    convert(&case.file(), &case.path("back"), &keep(Layout::Folder)).unwrap();
    assert_eq!(schedule(&case.path("back")), (PredictionKind::V, true));
    // kohya's trainers say it in the metadata.
    let kohya = ["modelspec.prediction_type", "ss_zero_terminal_snr"].map(String::from);
    let kohya: BTreeMap<String, String> = kohya.into_iter().zip(["v", "True"].map(String::from)).collect();
    let path = case.path("kohya.safetensors");
    stored::write(&path, &epsilon, &kohya);
    assert_eq!(schedule(&path), (PredictionKind::V, true));
    // SD1.5 files have no marks; metadata says it.
    let case = Case::new(ModelKind::Sd15, velocity);
    assert!(!case.tensors().contains_key("v_pred"));
    assert_eq!(schedule(&case.file()), (PredictionKind::V, true));
    // A flow-trained model is known by its scheduler's configuration.
    let case = Case::new(ModelKind::Sd15, json!({"prediction_type": "flow_prediction"}));
    assert_eq!(schedule(&case.file()).0, PredictionKind::Flow);
}

#[test]
fn dtypes_are_converted_and_what_does_not_fit_is_refused() {
    let case = Case::new(ModelKind::Sdxl, json!({}));
    for (dtype, tolerance) in [(Dtype::F32, 0.), (Dtype::Bf16, 1. / 128.)] {
        let options = ConvertOptions {
            dtype: Some(dtype),
            ..keep(Layout::File)
        };
        let path = case.path(dtype.name());
        convert(&case.path("model"), &path, &options).unwrap();
        let tensors = stored::read(&path);
        assert!(tensors.values().all(|t| t.dtype == dtype || t.bytes.is_empty()));
        let load = |path: &Path| {
            Unet::load(path, &Device::Cpu)
                .unwrap()
                .params()
                .to_tensors(DType::F32)
                .unwrap()
        };
        let (a, b) = (load(&path), load(&case.file()));
        for (name, tensor) in a {
            let pairs = values(&tensor).into_iter().zip(values(&b[&name]));
            assert!(
                pairs.into_iter().all(|(a, b)| (a - b).abs() <= tolerance * b.abs()),
                "{name}"
            );
        }
    }
    let mut large = stored::read(&case.path("F32"));
    let key = format!("{UNET}out.2.bias");
    large.insert(key.clone(), Stored::f32(&[4], &[0., 1e5, 0., 0.]));
    let options = ConvertOptions {
        dtype: Some(Dtype::F16),
        ..keep(Layout::File)
    };
    let error = convert(&case.changed(&large), &case.path("f16"), &options)
        .unwrap_err()
        .to_string();
    assert!(error.contains("conv_out.bias") && error.contains("100000"), "{error}");
    assert!(!case.path("f16").exists());
    let error = convert(&case.file(), &case.path("F32"), &keep(Layout::File))
        .unwrap_err()
        .to_string();
    assert!(error.contains("exists already"), "{error}");
    // An end in the middle leaves nothing either.
    let source = Checkpoint::open(&case.file()).unwrap();
    for layout in [Layout::File, Layout::Folder] {
        let mut calls = 0;
        let ended = convert_checkpoint(&source, &case.path("ended"), &keep(layout), &mut |done, total| {
            calls += 1;
            assert!(done <= total);
            match calls {
                40 => Err(ModelError::File {
                    path: "ended".into(),
                    reason: "interrupted".into(),
                }),
                _ => Ok(()),
            }
        });
        assert!(ended.unwrap_err().to_string().contains("interrupted"));
        assert!(!case.path("ended").exists());
    }
}

#[test]
fn every_wrong_key_is_an_error_that_lists_it() {
    let case = Case::new(ModelKind::Sdxl, json!({}));
    let mut tensors = case.tensors();
    tensors.remove(&format!("{UNET}middle_block.0.in_layers.2.bias"));
    tensors.remove(&format!("{SECOND}ln_final.bias"));
    tensors.insert(format!("{UNET}stray.weight"), Stored::f32(&[1], &[0.]));
    tensors.insert("stranger".into(), Stored::f32(&[1], &[0.]));
    tensors.insert(format!("{UNET}out.2.bias"), Stored::f32(&[3], &[0.; 3]));
    tensors.insert(
        format!("{FIRST}text_model.final_layer_norm.bias"),
        Stored::i64(&[64], 0..64),
    );
    let path = case.changed(&tensors);
    let mismatch = report(&path).mismatch();
    assert_eq!(
        mismatch.missing,
        [
            format!("{UNET}middle_block.0.in_layers.2.bias"),
            format!("{SECOND}ln_final.bias")
        ]
    );
    assert_eq!(
        mismatch.unexpected,
        ["stranger".to_string(), format!("{UNET}stray.weight")]
    );
    assert_eq!(mismatch.misshapen, [(format!("{UNET}out.2.bias"), vec![4], vec![3])]);
    assert_eq!(
        mismatch.wrong_dtype,
        [(format!("{FIRST}text_model.final_layer_norm.bias"), "I64")]
    );
    let error = convert(&path, &case.path("out"), &keep(Layout::Folder))
        .unwrap_err()
        .to_string();
    for part in ["2 missing", "stranger", "stray.weight", "I64", "ln_final.bias"] {
        assert!(error.contains(part), "{error}");
    }
    // Loading one component names its keys as the file has them, and what belongs to nothing.
    let error = Unet::load(&path, &Device::Cpu).err().unwrap().to_string();
    assert!(error.contains("stranger"), "{error}");
    tensors.remove("stranger");
    let error = Unet::load(&case.changed(&tensors), &Device::Cpu)
        .err()
        .unwrap()
        .to_string();
    for part in [
        "missing: model.diffusion_model.middle_block.0.in_layers.2.bias",
        "stray.weight",
        "shape [3]",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn named_keys_may_be_left_out() {
    let case = Case::new(ModelKind::Sd15, json!({}));
    let mut tensors = case.tensors();
    for key in ["stranger", "extra.a", "extra.b"] {
        tensors.insert(key.into(), Stored::f32(&[1], &[0.]));
    }
    let path = case.changed(&tensors);
    let with = |allow: &[String]| {
        let options = ConvertOptions {
            allow,
            ..keep(Layout::File)
        };
        convert(&path, &case.path("clean.safetensors"), &options)
    };
    let error = with(&["extra.*".into()]).unwrap_err().to_string();
    assert!(error.contains("stranger") && !error.contains("extra.a"), "{error}");
    let written = with(&["extra.*".into(), "stranger".into()]).unwrap();
    assert_eq!(written.left_out, ["extra.a", "extra.b", "stranger"]);
    assert_eq!(case.tensors(), stored::read(&case.path("clean.safetensors")));
}

#[test]
fn weights_that_are_not_numbers_are_named() {
    let case = Case::new(ModelKind::Sd15, json!({}));
    let mut tensors = case.tensors();
    let key = format!("{UNET}out.2.bias");
    tensors.insert(key, Stored::f32(&[4], &[0., f32::NAN, 0., 0.]));
    let error = Unet::load(&case.changed(&tensors), &Device::Cpu)
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("1 with NaN or infinity") && error.contains("conv_out.bias"),
        "{error}"
    );
}

#[test]
fn other_families_are_refused_by_name() {
    let case = Case::new(ModelKind::Sdxl, json!({}));
    let tensors = case.tensors();
    let one = |key: &str| StoredFile::from([(key.to_string(), Stored::f32(&[1], &[0.]))]);
    for (key, name) in [
        (
            "model.diffusion_model.joint_blocks.0.context_block.adaLN_modulation.1.bias",
            "Stable Diffusion 3",
        ),
        ("double_blocks.0.img_attn.qkv.weight", "Flux"),
        ("model.diffusion_model.double_blocks.0.img_attn.qkv.weight", "Flux"),
        ("cond_stage_model.model.token_embedding.weight", "Stable Diffusion 2"),
        ("conditioner.embedders.0.model.token_embedding.weight", "SDXL refiner"),
        ("control_model.time_embed.0.weight", "ControlNet"),
        ("lora_unet_mid_block_attentions_0_proj_in.lora_down.weight", "LoRA"),
        ("edm_mean", "Playground"),
        ("emb_params", "textual-inversion"),
        ("something.else", "none of which belongs"),
    ] {
        let error = case.refusal(&one(key));
        assert!(
            error.contains(name) && error.contains("changed.safetensors"),
            "{key}: {error}"
        );
    }
    let reshaped = |key: &str, shape: &[usize]| {
        let mut tensors = tensors.clone();
        let count: usize = shape.iter().product();
        tensors.insert(format!("{UNET}{key}"), Stored::f32(shape, &vec![0.; count]));
        case.refusal(&tensors)
    };
    let inpainting = reshaped("input_blocks.0.0.weight", &[64, 9, 3, 3]);
    assert!(inpainting.contains("inpainting"), "{inpainting}");
    let edit = reshaped("input_blocks.0.0.weight", &[64, 8, 3, 3]);
    assert!(edit.contains("InstructPix2Pix"), "{edit}");
    let context = "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight";
    assert!(reshaped(context, &[96, 1024]).contains("Stable Diffusion 2"));
    assert!(reshaped(context, &[96, 1280]).contains("refiner"));
    // The same in folders.
    let config = case.path("model/unet/config.json");
    let mut json: Json = serde_json::from_str(&std::fs::read_to_string(&config).unwrap()).unwrap();
    json["in_channels"] = json!(9);
    std::fs::write(&config, json.to_string()).unwrap();
    assert!(
        Model::open(&case.path("model"))
            .unwrap_err()
            .to_string()
            .contains("inpainting")
    );
    let flux = tempfile::tempdir().unwrap();
    std::fs::write(
        flux.path().join("model_index.json"),
        r#"{"_class_name": "FluxPipeline"}"#,
    )
    .unwrap();
    assert!(
        Model::open(flux.path())
            .unwrap_err()
            .to_string()
            .contains("FluxPipeline")
    );
    // Stable Diffusion 3's folder has text encoders and a VAE that look like SDXL's.
    std::fs::remove_dir_all(case.path("model/unet")).unwrap();
    let index = r#"{"_class_name": "StableDiffusion3Pipeline"}"#;
    std::fs::write(case.path("model/model_index.json"), index).unwrap();
    for refused in [
        Checkpoint::open(&case.path("model")).err(),
        Model::open(&case.path("model")).err(),
    ] {
        let error = refused.expect("refused").to_string();
        assert!(error.contains("Stable Diffusion 3"), "{error}");
    }
}

#[test]
fn digests_and_titles_are_in_the_metadata() {
    use sha2::{Digest, Sha256};
    let case = Case::new(ModelKind::Sdxl, json!({}));
    let bytes = std::fs::read(case.file()).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let hex: String = Sha256::digest(&bytes[8 + header..])
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let metadata = stored::metadata(&case.file());
    assert_eq!(metadata["modelspec.hash_sha256"], format!("0x{hex}"));
    assert_eq!(metadata["modelspec.title"], "model");
    assert_eq!(metadata["modelspec.architecture"], "stable-diffusion-xl-v1-base");
    assert_eq!(metadata["modelspec.resolution"], "1024x1024");
    // Entries of others, and the scale that diffusers has no place for, outlive the way through a folder.
    let mut tensors = case.tensors();
    assert_eq!(tensors[&format!("{SECOND}logit_scale")].dtype, Dtype::F16);
    tensors.insert(format!("{SECOND}logit_scale"), Stored::f32(&[], &[4.25]));
    let mut metadata = metadata;
    metadata.insert("modelspec.author".into(), "somebody".into());
    metadata.insert("modelspec.title".into(), "A name".into());
    let path = case.path("changed.safetensors");
    stored::write(&path, &tensors, &metadata);
    convert(&path, &case.path("back"), &keep(Layout::Folder)).unwrap();
    convert(&case.path("back"), &case.path("again.safetensors"), &keep(Layout::File)).unwrap();
    let again = stored::metadata(&case.path("again.safetensors"));
    assert_eq!(
        (again["modelspec.author"].as_str(), again["modelspec.title"].as_str()),
        ("somebody", "A name")
    );
    let scale = &stored::read(&case.path("again.safetensors"))[&format!("{SECOND}logit_scale")];
    assert_eq!(scale, &Stored::f32(&[], &[4.25]), "with its dtype");
    // Folders of versions that did not write the dtype keep the scale; what is no number is an error.
    let index = case.path("back").join("model_index.json");
    let text = fs::read_to_string(&index).unwrap();
    let kept: Json = serde_json::from_str(&text).unwrap();
    let mut older = kept.clone();
    older["_potstill_metadata"]
        .as_object_mut()
        .unwrap()
        .remove("logit_scale_dtype")
        .unwrap();
    fs::write(&index, older.to_string()).unwrap();
    convert(&case.path("back"), &case.path("older.safetensors"), &keep(Layout::File)).unwrap();
    let scale = &stored::read(&case.path("older.safetensors"))[&format!("{SECOND}logit_scale")];
    assert_eq!(
        (scale.dtype, &scale.bytes[..]),
        (Dtype::F16, &[0x40, 0x44][..]),
        "the dtype of the encoder's last norm"
    );
    older["_potstill_metadata"]["logit_scale"] = "four".into();
    fs::write(&index, older.to_string()).unwrap();
    let error = convert(&case.path("back"), &case.path("none.safetensors"), &keep(Layout::File)).err();
    assert!(error.unwrap().to_string().contains("which is no number"));
}
