//! Files made by peft and diffusers, read and written in every dialect: the products must stay what peft computes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use potstill_adapters::{
    Adapter, AdapterError, Dialect, Factors, Family, Matrix, MergeInput, Resize, WriteOptions, merge, resize, scale,
    write_adapter,
};
use potstill_io::{Dtype, SafetensorsFile, TensorSpec, f32_to_bytes, write_safetensors};
use potstill_models::{Component, ComponentConfig, ModelKind, UnetConfig};

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
    assert!(file.names().all(|name| name.starts_with("lora_unet_")));
    let bases = file.names().filter(|n| n.ends_with(".lora_up.weight")).count();
    assert_eq!(file.names().filter(|n| n.ends_with(".alpha")).count(), bases);
    assert!(
        file.names().any(|n| n.starts_with("lora_unet_input_blocks_")),
        "kohya's names of SDXL"
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
        assert!(resize(&mut one, how).is_err(), "{how:?}");
    }
    let mut lokr = open("sd15_lokr.safetensors", "sd15");
    assert!(
        resize(
            &mut lokr,
            Resize {
                rank: Some(1),
                energy: None
            }
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
    )
    .unwrap(); // factors that f16 does not hold
    let before = products(&adapter);
    let target = folder.path().join("a.safetensors");
    write_adapter(&adapter, &target, &options(Dialect::Kohya)).unwrap();
    let again = Adapter::open(&target, Some(&family("sd15"))).unwrap();
    let error = worst(&again, &before);
    assert!(error < F16 && error > 0.0, "{error}");
    let merged = merge(vec![input(adapter, 1e6, &[])]).unwrap();
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
        assert!(merge(vec![input(adapter, 1.0, &[])]).is_err());
    }
}
