//! Files made by peft and diffusers, read and written in every dialect: the products must stay what peft computes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use potstill_adapters::{
    Adapter, AdapterError, Array, Dialect, Factors, Family, Matrix, MergeInput, Module, Resize, Update, WriteOptions,
    is_adapter, merge, resize, scale, write_adapter,
};
use potstill_io::{Dtype, SafetensorsFile, TensorSpec, f32_to_bytes, write_safetensors};
use potstill_models::{Component, ComponentConfig, ModelKind, PredictionKind, UnetConfig};

/// Factors are stored as f16, products compared in f64: what is left is f32's rounding of the reference.
const EXACT: f64 = 2e-6;
/// One more rounding of the factors to f16 (2⁻¹¹ each).
const F16: f64 = 1e-3;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/fixtures")
}

fn file(name: &str) -> PathBuf {
    fixtures().join("adapters").join(name)
}

fn family(name: &str) -> Family {
    let kind = ModelKind::from_name(name).unwrap();
    let config = fixtures().join(format!("unet_{name}_tiny/config.json"));
    let config = ComponentConfig::Unet(UnetConfig::read(&config).unwrap());
    Family::new(kind, "the tiny UNet".to_string(), &[(Component::Unet, config)]).unwrap()
}

fn open(name: &str, kind: &str) -> Adapter {
    Adapter::open(&file(name), Some(&family(kind))).unwrap()
}

/// A layer's change times the fixture's four vectors.
fn applied(delta: &Matrix) -> Matrix {
    let values = (0..delta.columns * 4).map(|i| (0.7 * i as f64 + 1.0).sin());
    delta.times(&Matrix {
        rows: delta.columns,
        columns: 4,
        values: values.collect(),
    })
}

/// Frobenius norm of the difference over that of the reference, of the worst layer.
fn worst(adapter: &Adapter, expected: &BTreeMap<String, Matrix>) -> f64 {
    assert_eq!(
        adapter.modules.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    let distance = |(name, module): (&String, &potstill_adapters::Module)| {
        let mut difference = applied(&module.delta().unwrap());
        let reference = &expected[name];
        difference
            .values
            .iter_mut()
            .zip(&reference.values)
            .for_each(|(x, y)| *x -= y);
        difference.norm() / reference.norm()
    };
    adapter.modules.iter().map(distance).fold(0.0, f64::max)
}

fn expected(prefix: &str) -> BTreeMap<String, Matrix> {
    let file = SafetensorsFile::open(&file("expected.safetensors")).unwrap();
    let layers = file
        .names()
        .filter_map(|name| Some((name, name.strip_prefix(prefix)?.strip_prefix('.')?)));
    layers
        .map(|(name, path)| {
            let shape = file.tensor(name).unwrap().shape.to_vec();
            let matrix = Matrix::from_f32(shape[0], shape[1], &file.tensor_f32(name).unwrap());
            (format!("unet.{path}"), matrix)
        })
        .collect()
}

fn products(adapter: &Adapter) -> BTreeMap<String, Matrix> {
    let product = |(name, m): (&String, &potstill_adapters::Module)| (name.clone(), applied(&m.delta().unwrap()));
    adapter.modules.iter().map(product).collect()
}

fn options(dialect: Dialect) -> WriteOptions {
    WriteOptions {
        dialect,
        dtype: None,
        title: None,
        prediction: None,
    }
}

#[test]
fn every_file_does_what_peft_computes() {
    for kind in ["sd15", "sdxl"] {
        for (name, prefix, dialect) in [
            ("_lora_peft", "lora", Dialect::Peft),
            ("_rslora_peft", "rslora", Dialect::Peft),
            ("_diffusers.safetensors", "lora", Dialect::Diffusers),
            ("_kohya.safetensors", "lora", Dialect::Kohya),
        ] {
            let adapter = open(&format!("{kind}{name}"), kind);
            assert_eq!((adapter.dialect, adapter.dtype), (dialect, Dtype::F16), "{kind}{name}");
            let error = worst(&adapter, &expected(&format!("{kind}.{prefix}")));
            assert!(error < EXACT, "{kind}{name}: {error}");
        }
    }
}

#[test]
fn relatives_do_what_peft_computes() {
    for name in ["loha", "lokr", "lokr_whole"] {
        let adapter = open(&format!("sd15_{name}.safetensors"), "sd15");
        let error = worst(&adapter, &expected(&format!("sd15.{name}")));
        assert!(error < EXACT, "{name}: {error}");
    }
}

#[test]
fn mixed_names_without_metadata_have_scale_one() {
    for kind in ["sd15", "sdxl"] {
        let mut mixed = open(&format!("{kind}_mixed.safetensors"), kind);
        assert!(mixed.modules.values().all(|m| m.scale() == 1.0));
        let stated = open(&format!("{kind}_kohya.safetensors"), kind);
        for (name, module) in &mut mixed.modules {
            module.alpha = stated.modules[name].alpha;
        }
        assert!(worst(&mixed, &expected(&format!("{kind}.lora"))) < EXACT);
    }
}

#[test]
fn round_trips_through_every_dialect_keep_the_product() {
    let folder = tempfile::tempdir().unwrap();
    for (source, kind) in [
        ("sd15_lora_peft", "sd15"),
        ("sdxl_lora_peft", "sdxl"),
        ("sdxl_rslora_peft", "sdxl"),
        ("sd15_loha.safetensors", "sd15"),
        ("sd15_lokr.safetensors", "sd15"),
        ("sd15_lokr_whole.safetensors", "sd15"),
    ] {
        let adapter = open(source, kind);
        let before = products(&adapter);
        for dialect in Dialect::ALL {
            let target = folder.path().join(format!("{source}-{}", dialect.name()));
            let written = write_adapter(&adapter, &target, &options(dialect));
            if !source.contains("lora_") && matches!(dialect, Dialect::Peft | Dialect::Diffusers) {
                assert!(written.unwrap_err().to_string().contains("LoRA and DoRA only"));
                assert!(!target.exists());
                continue;
            }
            written.unwrap();
            let again = Adapter::open(&target, Some(&family(kind))).unwrap();
            assert_eq!(again.dialect, dialect);
            let error = worst(&again, &before);
            assert!(error < EXACT, "{source} as {}: {error}", dialect.name());
            let refused = write_adapter(&adapter, &target, &options(dialect)).unwrap_err();
            assert!(refused.to_string().contains("exists already"));
        }
    }
}

#[test]
fn written_files_say_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("a.safetensors");
    write_adapter(&open("sdxl_lora_peft", "sdxl"), &target, &options(Dialect::Kohya)).unwrap();
    let file = SafetensorsFile::open(&target).unwrap();
    let metadata = file.header().metadata();
    assert_eq!(metadata["modelspec.architecture"], "stable-diffusion-xl-v1-base/lora");
    assert_eq!(metadata["ss_network_dim"], "Dynamic");
    assert!(!metadata.contains_key("modelspec.prediction_type"), "as the model's");
    assert!(file.names().all(|name| name.starts_with("lora_unet_")));
    let bases = file.names().filter(|n| n.ends_with(".lora_up.weight")).count();
    assert_eq!(file.names().filter(|n| n.ends_with(".alpha")).count(), bases);
    assert!(
        file.names().any(|n| n.starts_with("lora_unet_input_blocks_")),
        "kohya's names of SDXL"
    );
    let other = folder.path().join("v.safetensors");
    let changed = WriteOptions {
        prediction: Some(PredictionKind::V),
        ..options(Dialect::Kohya)
    };
    write_adapter(&open("sdxl_lora_peft", "sdxl"), &other, &changed).unwrap();
    let file = SafetensorsFile::open(&other).unwrap();
    assert_eq!(
        file.header().metadata()["modelspec.prediction_type"],
        PredictionKind::V.name()
    );
}

#[test]
fn keys_that_fit_nothing_are_all_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let spec = |name: &str, shape: &[usize]| TensorSpec {
        name: name.to_string(),
        dtype: Dtype::F32,
        shape: shape.to_vec(),
    };
    let specs = [
        spec("lora_unet_conv_in.lora_up.weight", &[64, 2, 1, 1]),
        spec("lora_unet_conv_in.alpha", &[]),
        spec("lora_unet_conv_out.alpha", &[]),
        spec("lora_unet_mid_block_attentions_0_proj_in.hada_w1_a", &[128, 2]),
        spec("lora_unet_mid_block_attentions_0_proj_in.lora_up.weight", &[128, 2]),
        spec("lora_unet_mid_block_attentions_0_proj_in.lora_down.weight", &[2, 128]),
        spec("lora_unet_nowhere.lora_up.weight", &[4, 2]),
        spec("unet.conv_out.lora_C.weight", &[2, 2]),
        spec("lora_unet_time_embedding_linear_1.lora_up.weight", &[8, 2]),
        spec("lora_unet_time_embedding_linear_1.lora_down.weight", &[2, 8]),
        spec("lora_unet_time_embedding_linear_2.hada_w1_a", &[8, 2]),
    ];
    write_safetensors(&path, &specs, &BTreeMap::new(), &mut |i, w| {
        w.write_all(&f32_to_bytes(&vec![1.0; specs[i].shape.iter().product()], Dtype::F32).unwrap())
    })
    .unwrap();
    let Err(AdapterError::Keys { problems, .. }) = Adapter::open(&path, Some(&family("sd15"))) else {
        panic!("was read");
    };
    let mut keys: Vec<&str> = problems.iter().map(|p| p.key.as_str()).collect();
    keys.sort_unstable();
    let mut all: Vec<&str> = specs.iter().map(|s| s.name.as_str()).collect();
    all.sort_unstable();
    assert_eq!(keys, all);
    // The tiny model's adapter fits no published model.
    assert!(matches!(
        Adapter::open(&file("sd15_kohya.safetensors"), None),
        Err(AdapterError::Keys { .. })
    ));
}

#[test]
fn scaling_is_applied_once() {
    let folder = tempfile::tempdir().unwrap();
    let plain = expected("sd15.lora");
    let half: BTreeMap<_, _> = plain.iter().map(|(k, m)| (k.clone(), m.clone().scaled(0.3))).collect();
    let factors = Factors { unet: 0.3, text: 1.0 };
    let mut adapter = open("sd15_lora_peft", "sd15");
    for (i, dialect) in Dialect::ALL.into_iter().enumerate() {
        scale(&mut adapter, factors).unwrap();
        assert!(worst(&adapter, &half) < EXACT, "{i}");
        let target = folder.path().join(i.to_string());
        write_adapter(&adapter, &target, &options(dialect)).unwrap();
        adapter = Adapter::open(&target, Some(&family("sd15"))).unwrap();
    }
    let target = folder.path().join("again");
    scale(&mut adapter, factors).unwrap();
    write_adapter(&adapter, &target, &options(Dialect::Kohya)).unwrap();
    let bytes = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    assert!(bytes("0") == bytes("again"));
    scale(&mut adapter, Factors { unet: 1.0, text: 1.0 }).unwrap();
    assert!(worst(&adapter, &plain) < EXACT);
    assert!(scale(&mut adapter, Factors { unet: 0.0, text: 1.0 }).is_err());
    for name in ["loha", "lokr", "lokr_whole"] {
        let mut adapter = open(&format!("sd15_{name}.safetensors"), "sd15");
        scale(&mut adapter, factors).unwrap();
        let wanted = expected(&format!("sd15.{name}"));
        let wanted = wanted.into_iter().map(|(k, m)| (k, m.scaled(0.3))).collect();
        assert!(worst(&adapter, &wanted) < EXACT, "{name}");
    }
}

fn input(adapter: Adapter, weight: f64, blocks: &[(&str, f64)]) -> MergeInput {
    MergeInput {
        adapter,
        name: "given".to_string(),
        weight,
        blocks: blocks
            .iter()
            .map(|(pattern, weight)| ((*pattern).to_string(), *weight))
            .collect(),
    }
}

#[test]
fn a_merge_is_the_sum() {
    let (a, b) = (open("sd15_lora_peft", "sd15"), open("sd15_rslora_peft", "sd15"));
    let sum = |x: &BTreeMap<String, Matrix>, y: &BTreeMap<String, Matrix>, special: f64| -> BTreeMap<_, _> {
        let layer = |(name, x): (&String, &Matrix)| {
            let mut total = x.clone().scaled(0.5);
            let weight = if name.starts_with("unet.down_blocks.1.") {
                special
            } else {
                -2.0
            };
            total
                .values
                .iter_mut()
                .zip(&y[name].values)
                .for_each(|(t, y)| *t += weight * y);
            (name.clone(), total)
        };
        x.iter().map(layer).collect()
    };
    let blocks = [("unet.down_blocks.1", 0.25)];
    let merged = merge(vec![input(a.clone(), 0.5, &[]), input(b.clone(), -2.0, &blocks)]).unwrap();
    assert!(worst(&merged, &sum(&products(&a), &products(&b), 0.25)) < EXACT);
    assert_eq!(merged.modules["unet.conv_in"].rank(), Some(6));
    // With a LoKr among them the sum is a whole difference.
    let other = open("sd15_lokr.safetensors", "sd15");
    let merged = merge(vec![input(a.clone(), 0.5, &[]), input(other.clone(), -2.0, &[])]).unwrap();
    assert!(worst(&merged, &sum(&products(&a), &products(&other), -2.0)) < EXACT);
    assert_eq!(merged.modules["unet.conv_in"].kind(), "full");
    assert!(
        merge(vec![input(a.clone(), 1.0, &[("unet.down", 1.0)])]).is_err(),
        "a pattern that fits nothing"
    );
    assert!(
        merge(vec![
            input(a, 1.0, &[]),
            input(open("sdxl_lora_peft", "sdxl"), 1.0, &[])
        ])
        .is_err()
    );
    assert!(merge(Vec::new()).is_err());
}

#[test]
fn resizing_loses_what_it_says() {
    let adapter = open("sd15_lora_peft", "sd15");
    let doubled = merge(vec![
        input(adapter.clone(), 0.25, &[]),
        input(adapter.clone(), 0.75, &[]),
    ])
    .unwrap();
    // Twice the ranks say the same: half of them are nothing.
    let mut back = doubled.clone();
    let report = resize(
        &mut back,
        Resize {
            rank: Some(3),
            energy: None,
        },
        &mut || Ok(()),
    )
    .unwrap();
    assert!(worst(&back, &products(&adapter)) < EXACT);
    assert!(report.iter().all(|r| r.lost < 1e-7 && r.to == 3.min(r.from)));
    let mut least = doubled;
    let report = resize(
        &mut least,
        Resize {
            rank: None,
            energy: Some(1.0 - 1e-12),
        },
        &mut || Ok(()),
    )
    .unwrap();
    assert!(
        report.iter().all(|r| r.to == adapter.modules[&r.name].rank().unwrap()),
        "{report:?}"
    );
    let mut one = adapter.clone();
    for r in resize(
        &mut one,
        Resize {
            rank: Some(1),
            energy: None,
        },
        &mut || Ok(()),
    )
    .unwrap()
    {
        let (whole, mut left) = (
            adapter.modules[&r.name].delta().unwrap(),
            one.modules[&r.name].delta().unwrap(),
        );
        left.values.iter_mut().zip(&whole.values).for_each(|(x, y)| *x -= y);
        assert!(
            (left.norm() / whole.norm() - r.lost).abs() < 1e-6 && r.lost > 0.01,
            "{r:?}"
        );
    }
    for how in [(None, None), (Some(0), None), (None, Some(0.0)), (Some(2), Some(1.5))] {
        let how = Resize {
            rank: how.0,
            energy: how.1,
        };
        assert!(resize(&mut one, how, &mut || Ok(())).is_err(), "{how:?}");
    }
    let mut lokr = open("sd15_lokr.safetensors", "sd15");
    assert!(
        resize(
            &mut lokr,
            Resize {
                rank: Some(1),
                energy: None
            },
            &mut || Ok(()),
        )
        .is_err()
    );
}

#[test]
fn f16_rounds_the_product_little_and_refuses_what_overflows() {
    let folder = tempfile::tempdir().unwrap();
    let mut adapter = open("sd15_lora_peft", "sd15");
    resize(
        &mut adapter,
        Resize {
            rank: Some(3),
            energy: None,
        },
        &mut || Ok(()),
    )
    .unwrap(); // factors that f16 does not hold
    let before = products(&adapter);
    let target = folder.path().join("a.safetensors");
    write_adapter(&adapter, &target, &options(Dialect::Kohya)).unwrap();
    let again = Adapter::open(&target, Some(&family("sd15"))).unwrap();
    let error = worst(&again, &before);
    assert!(error < F16 && error > 0.0, "{error}");
    let merged = merge(vec![input(adapter, 1e14, &[])]).unwrap();
    let refused = write_adapter(&merged, &folder.path().join("b.safetensors"), &options(Dialect::Kohya)).unwrap_err();
    assert!(refused.to_string().contains("write bf16 or f32"), "{refused}");
}

#[test]
fn doras_keep_their_magnitudes_and_are_not_scaled() {
    let folder = tempfile::tempdir().unwrap();
    for kind in ["sd15", "sdxl"] {
        let mut adapter = open(&format!("{kind}_lora_peft"), kind);
        for module in adapter.modules.values_mut() {
            module.magnitude = Some((0..module.site.shape[0]).map(|i| 1.0 + i as f32 / 4.0).collect());
        }
        for dialect in Dialect::ALL {
            let target = folder.path().join(format!("{kind}-{}", dialect.name()));
            write_adapter(&adapter, &target, &options(dialect)).unwrap();
            let again = Adapter::open(&target, Some(&family(kind))).unwrap();
            for (name, module) in &again.modules {
                assert_eq!((module.kind(), module), ("dora", &adapter.modules[name]));
            }
        }
        let refused = scale(&mut adapter, Factors { unet: 0.5, text: 1.0 }).unwrap_err();
        assert!(refused.to_string().contains("DoRA"), "{refused}");
        let refused = merge(vec![input(adapter, 1.0, &[])]).unwrap_err();
        assert!(refused.to_string().starts_with("given, unet."), "{refused}");
    }
}

#[test]
fn pefts_weights_named_directly_have_the_scale_of_the_configuration_beside_them() {
    for (folder, prefix) in [("sd15_lora_peft", "lora"), ("sd15_rslora_peft", "rslora")] {
        let path = file(folder).join("unet/adapter_model.safetensors");
        let adapter = Adapter::open(&path, Some(&family("sd15"))).unwrap();
        assert_eq!(adapter.dialect, Dialect::Peft);
        assert!(
            worst(&adapter, &expected(&format!("sd15.{prefix}"))) < EXACT,
            "{folder}"
        );
        let alone = tempfile::tempdir().unwrap();
        let copy = alone.path().join("adapter_model.safetensors");
        std::fs::copy(&path, &copy).unwrap();
        let refused = Adapter::open(&copy, Some(&family("sd15"))).unwrap_err().to_string();
        assert!(refused.contains("adapter_config.json"), "{refused}");
        let config = alone.path().join("adapter_config.json");
        std::fs::write(&config, " ".repeat((16 << 20) + 1)).unwrap();
        let refused = Adapter::open(&copy, Some(&family("sd15"))).unwrap_err().to_string();
        assert!(refused.contains("no configuration"), "{refused}");
    }
}

/// A file of f32 tensors, with other dtypes where the name says so.
fn written(path: &Path, tensors: &[(&str, Dtype, &[usize], &[u8])], metadata: &[(&str, &str)]) {
    let specs: Vec<TensorSpec> = tensors
        .iter()
        .map(|(name, dtype, shape, _)| TensorSpec {
            name: (*name).to_string(),
            dtype: *dtype,
            shape: shape.to_vec(),
        })
        .collect();
    let metadata = metadata.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string()));
    write_safetensors(path, &specs, &metadata.collect(), &mut |i, w| w.write_all(tensors[i].3)).unwrap();
}

fn ones(count: usize, dtype: Dtype) -> Vec<u8> {
    f32_to_bytes(&vec![1.0; count], dtype).unwrap()
}

#[test]
fn bare_paths_with_pefts_names_need_a_stated_alpha() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let (up, down) = (ones(4 * 64, Dtype::F32), ones(4 * 36, Dtype::F32));
    let tensors: [(&str, Dtype, &[usize], &[u8]); 2] = [
        ("conv_in.lora_A.weight", Dtype::F32, &[4, 4, 3, 3], &down),
        ("conv_in.lora_B.weight", Dtype::F32, &[64, 4, 1, 1], &up),
    ];
    written(&path, &tensors, &[]);
    let refused = Adapter::open(&path, Some(&family("sd15"))).unwrap_err().to_string();
    assert!(refused.contains("alpha is in a configuration"), "{refused}");
    for stated in [r#"{"unet.r": 4, "unet.lora_alpha": 6}"#, r#"{"r": 4, "lora_alpha": 6}"#] {
        let path = folder.path().join(format!("{}.safetensors", stated.len()));
        written(&path, &tensors, &[("lora_adapter_metadata", stated)]);
        let adapter = Adapter::open(&path, Some(&family("sd15"))).unwrap();
        assert_eq!(adapter.modules["unet.conv_in"].scale(), 1.5, "{stated}");
    }
}

#[test]
fn the_dtype_is_the_widest_of_the_tensors() {
    let folder = tempfile::tempdir().unwrap();
    for (i, (up, down, whole)) in [
        (Dtype::Bf16, Dtype::Bf16, Dtype::Bf16),
        (Dtype::F16, Dtype::F16, Dtype::F16),
        (Dtype::Bf16, Dtype::F16, Dtype::F32),
        (Dtype::F16, Dtype::F32, Dtype::F32),
    ]
    .into_iter()
    .enumerate()
    {
        let path = folder.path().join(format!("{i}.safetensors"));
        let base = "lora_unet_conv_in";
        let names = [format!("{base}.lora_down.weight"), format!("{base}.lora_up.weight")];
        written(
            &path,
            &[
                (&names[0], down, &[4, 4, 3, 3], &ones(4 * 36, down)),
                (&names[1], up, &[64, 4, 1, 1], &ones(4 * 64, up)),
            ],
            &[],
        );
        let adapter = Adapter::open(&path, Some(&family("sd15"))).unwrap();
        assert_eq!(adapter.dtype, whole);
        let copy = folder.path().join(format!("{i}-copy.safetensors"));
        write_adapter(&adapter, &copy, &options(Dialect::Kohya)).unwrap();
        let copy = SafetensorsFile::open(&copy).unwrap();
        assert_eq!(copy.tensor(&names[0]).unwrap().dtype, whole);
    }
}

#[test]
fn kohyas_files_of_diffusers_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let base = "lora_te1_text_model_encoder_layers_3_mlp_fc1";
    let names = ["lora_down.weight", "lora_up.weight", "alpha"].map(|part| format!("{base}.{part}"));
    let alpha = 2i64.to_le_bytes();
    let (down, up) = (ones(4 * 768, Dtype::F16), ones(4 * 3072, Dtype::F16));
    let tensors: [(&str, Dtype, &[usize], &[u8]); 3] = [
        (&names[0], Dtype::F16, &[4, 768], &down),
        (&names[1], Dtype::F16, &[3072, 4], &up),
        (&names[2], Dtype::I64, &[], &alpha),
    ];
    written(&path, &tensors, &[]);
    let family = Family::published(ModelKind::Sd15).unwrap();
    let adapter = Adapter::open(&path, Some(&family)).unwrap();
    let module = &adapter.modules["text_encoder.text_model.encoder.layers.3.mlp.fc1"];
    assert_eq!(module.scale(), 0.5);
}

#[test]
fn what_fits_both_families_is_of_the_one_that_it_names() {
    let folder = tempfile::tempdir().unwrap();
    let base = "text_encoder.text_model.encoder.layers.3.mlp.fc1";
    let names = ["lora_A.weight", "lora_B.weight"].map(|part| format!("{base}.{part}"));
    let (down, up) = (ones(4 * 768, Dtype::F16), ones(4 * 3072, Dtype::F16));
    let tensors: [(&str, Dtype, &[usize], &[u8]); 2] = [
        (&names[0], Dtype::F16, &[4, 768], &down),
        (&names[1], Dtype::F16, &[3072, 4], &up),
    ];
    for (i, (key, value, kind)) in [
        ("ss_base_model_version", "sdxl_base_v1-0", Some(ModelKind::Sdxl)),
        (
            "modelspec.architecture",
            "stable-diffusion-xl-v1-base/lora",
            Some(ModelKind::Sdxl),
        ),
        ("ss_base_model_version", "sd_v1", Some(ModelKind::Sd15)),
        ("format", "pt", None),
    ]
    .into_iter()
    .enumerate()
    {
        let path = folder.path().join(format!("{i}.safetensors"));
        written(&path, &tensors, &[(key, value)]);
        match kind {
            Some(kind) => assert_eq!(Adapter::open(&path, None).unwrap().kind, kind),
            None => assert!(Adapter::open(&path, None).unwrap_err().to_string().contains("--model")),
        }
        let family = Family::published(ModelKind::Sdxl).unwrap();
        assert_eq!(Adapter::open(&path, Some(&family)).unwrap().kind, ModelKind::Sdxl);
    }
}

#[test]
fn a_merge_with_small_factors_survives_f16() {
    /// Both factors are rounded to f16, by 2⁻¹¹ at most and a third of that in the mean.
    const ROUNDED: f64 = 4e-4;
    let folder = tempfile::tempdir().unwrap();
    let mut adapter = open("sd15_lora_peft", "sd15");
    let module = adapter.modules.get_mut("unet.conv_in").unwrap();
    let rank = 128;
    let noise = |count: usize, size: f64| -> Vec<f32> {
        let value = |i: usize| size * (1.7 * i as f64 * (1.0 + i as f64 / 9.0)).sin();
        (0..count).map(|i| value(i) as f32).collect()
    };
    // A trainer's default alpha of 1, and values as large as training leaves them.
    *module = Module {
        update: Some(Update::Lora {
            up: Array {
                shape: vec![64, rank],
                values: noise(64 * rank, 3e-3),
            },
            down: Array {
                shape: vec![rank, 4, 3, 3],
                values: noise(rank * 36, 0.1),
            },
            mid: None,
        }),
        alpha: 1.0,
        ..module.clone()
    };
    for weight in [1.0, 0.2, -0.2] {
        let merged = merge(vec![input(adapter.clone(), weight, &[])]).unwrap();
        let target = folder.path().join(format!("{weight}.safetensors"));
        write_adapter(&merged, &target, &options(Dialect::Kohya)).unwrap();
        let again = Adapter::open(&target, Some(&family("sd15"))).unwrap();
        assert_eq!(again.dtype, Dtype::F16);
        let wanted = adapter.modules["unet.conv_in"].delta().unwrap().scaled(weight);
        let mut found = again.modules["unet.conv_in"].delta().unwrap();
        found.values.iter_mut().zip(&wanted.values).for_each(|(x, y)| *x -= y);
        let error = found.norm() / wanted.norm();
        assert!(error < ROUNDED, "weight {weight}: {error}");
    }
}

#[test]
fn doras_on_some_layers_have_no_place_in_peft() {
    let folder = tempfile::tempdir().unwrap();
    let mut adapter = open("sd15_lora_peft", "sd15");
    let module = adapter.modules.get_mut("unet.conv_in").unwrap();
    module.magnitude = Some(vec![2.0; module.site.shape[0]]);
    for dialect in Dialect::ALL {
        let target = folder.path().join(dialect.name());
        let written = write_adapter(&adapter, &target, &options(dialect));
        if matches!(dialect, Dialect::Kohya | Dialect::Comfy) {
            written.unwrap();
            continue;
        }
        let refused = written.unwrap_err().to_string();
        assert!(
            refused.contains("1 of its 9 layers are DoRAs") && refused.contains("unet.down_blocks"),
            "{refused}"
        );
        assert!(!target.exists());
    }
}

#[test]
fn cores_are_multiplied_into_peft_with_their_scale() {
    let folder = tempfile::tempdir().unwrap();
    let mut adapter = open("sd15_lora_peft", "sd15");
    let wave = |shape: &[usize]| Array {
        shape: shape.to_vec(),
        values: (0..shape.iter().product()).map(|i| (1.3 * i as f32).sin()).collect(),
    };
    let module = adapter.modules.get_mut("unet.conv_in").unwrap();
    module.update = Some(Update::Lora {
        up: wave(&[64, 2]),
        down: wave(&[2, 4]),
        mid: Some(wave(&[2, 2, 3, 3])),
    });
    module.alpha = 0.5;
    let before = products(&adapter);
    for dialect in Dialect::ALL {
        let target = folder.path().join(dialect.name());
        let options = WriteOptions {
            dtype: Some(Dtype::F32),
            ..options(dialect)
        };
        write_adapter(&adapter, &target, &options).unwrap();
        let again = Adapter::open(&target, Some(&family("sd15"))).unwrap();
        assert_eq!(again.modules["unet.conv_in"].alpha, 0.5);
        assert!(worst(&again, &before) < EXACT, "{}", dialect.name());
    }
}

#[test]
fn factors_of_rank_zero_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let one = ones(1, Dtype::F32);
    let base = "lora_unet_time_embedding_linear_1"; // [256, 64]
    let loha: [(&str, &[usize], &[u8]); 4] = [
        ("hada_w1_a", &[256, 0], &[]),
        ("hada_w1_b", &[0, 64], &[]),
        ("hada_w2_a", &[256, 0], &[]),
        ("hada_w2_b", &[0, 64], &[]),
    ];
    let lokr: [(&str, &[usize], &[u8]); 3] = [
        ("lokr_w1", &[1, 1], &one),
        ("lokr_w2_a", &[256, 0], &[]),
        ("lokr_w2_b", &[0, 64], &[]),
    ];
    for (i, parts) in [&loha[..], &lokr[..]].into_iter().enumerate() {
        let path = folder.path().join(format!("{i}.safetensors"));
        let named: Vec<(String, &[usize], &[u8])> = parts
            .iter()
            .map(|(part, shape, bytes)| (format!("{base}.{part}"), *shape, *bytes))
            .collect();
        let tensors: Vec<_> = named
            .iter()
            .map(|(name, shape, bytes)| (name.as_str(), Dtype::F32, *shape, *bytes))
            .collect();
        written(&path, &tensors, &[]);
        let refused = Adapter::open(&path, Some(&family("sd15"))).unwrap_err().to_string();
        assert!(refused.contains("factors that do not fit each other"), "{refused}");
    }
}

#[test]
fn a_rank_far_above_the_layers_sides_is_resized_in_their_size() {
    let mut adapter = open("sd15_lora_peft", "sd15");
    adapter.modules.retain(|name, _| name == "unet.conv_in");
    let module = adapter.modules.get_mut("unet.conv_in").unwrap();
    // Its QR would need 40 000² numbers, 13 GB.
    let rank = 40_000;
    let wave = |shape: &[usize], step: f64| Array {
        shape: shape.to_vec(),
        values: (0..shape.iter().product())
            .map(|i| (step * i as f64 * (1.0 + i as f64 / 1e5)).sin() as f32)
            .collect(),
    };
    module.update = Some(Update::Lora {
        up: wave(&[64, rank], 1.7),
        down: wave(&[rank, 4, 3, 3], 0.9),
        mid: None,
    });
    let before = products(&adapter);
    let how = Resize {
        rank: Some(36),
        energy: None,
    };
    let report = resize(&mut adapter, how, &mut || Ok(())).unwrap();
    assert_eq!((report[0].from, report[0].to), (rank, 36));
    assert!(worst(&adapter, &before) < EXACT);
}

#[test]
fn adapters_are_told_from_models() {
    for name in [
        "sd15_kohya.safetensors",
        "sd15_diffusers.safetensors",
        "sdxl_mixed.safetensors",
        "sd15_loha.safetensors",
        "sd15_lokr_whole.safetensors",
        "sd15_lora_peft",
        "sd15_lora_peft/unet",
    ] {
        assert!(is_adapter(&file(name)), "{name}");
    }
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("old"); // an ending is not needed
    let one = ones(1, Dtype::F32);
    written(
        &old,
        &[("a.processor.to_q_lora.up.weight", Dtype::F32, &[1, 1], &one)],
        &[],
    );
    assert!(is_adapter(&old));
    for name in ["expected.safetensors", "layers.json", "", "nowhere"] {
        assert!(!is_adapter(&file(name)), "{name}");
    }
    let snake = folder.path().join("snake.safetensors");
    written(&snake, &[("decoder.act.alpha", Dtype::F32, &[1], &one)], &[]);
    assert!(!is_adapter(&snake));
}
