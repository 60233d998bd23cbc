//! Quantized weights: the codes of bitsandbytes and torch (test/fixtures/make_quantized.py), the files they are written to, what
//! is read from these, and what is refused.

mod common;
#[allow(dead_code)] // other tests use the rest
#[path = "common/stored.rs"]
mod stored;
#[allow(dead_code)]
#[path = "common/tiny.rs"]
mod tiny;

use std::path::{Path, PathBuf};

use common::{fixture, randn, values};
use potstill_engine::quant::{CodingError, fp8, int8, nf4};
use potstill_engine::{DType, Device, Value, no_grad};
use potstill_io::{Dtype, SafetensorsFile};
use potstill_models::{
    Checkpoint, Component, ConvertOptions, Converted, ForwardOptions, Layout, ModelError, Precision, QuantFormat,
    Quantize, Unet, UnetInputs, convert_checkpoint,
};
use serde_json::{Value as Json, json};
use stored::Stored;

const MATRICES: [&str; 3] = ["gaussian", "ragged", "zero_rows"];
/// How many times the weights' relative error a prediction of the tiny model may be off.
const AMPLIFIED: f64 = 5.;
const ALL: [QuantFormat; 3] = [QuantFormat::Nf4, QuantFormat::Int8, QuantFormat::Fp8];

fn reference() -> SafetensorsFile {
    SafetensorsFile::open(&fixture("quantized/reference.safetensors")).unwrap()
}

fn bytes(file: &SafetensorsFile, name: &str) -> Vec<u8> {
    file.tensor(name).unwrap().bytes.to_vec()
}

#[test]
fn codes_are_those_of_bitsandbytes_and_torch() {
    let file = reference();
    let floats = |name: String| file.tensor_f32(&name).unwrap();
    for name in MATRICES {
        let values = floats(format!("{name}.values"));
        let columns = file.tensor(&format!("{name}.values")).unwrap().shape[1];
        let mut decoded = vec![0f32; values.len()];

        assert_eq!(floats(format!("{name}.nf4.weight.quant_map")), nf4::VALUES);
        let scales = nf4::scales(&values);
        assert_eq!(scales, floats(format!("{name}.nf4.weight.absmax")), "{name}");
        let codes = nf4::encode(&values, &scales);
        assert_eq!(codes, bytes(&file, &format!("{name}.nf4.weight")), "{name}");
        nf4::decode(&codes, &nf4::VALUES, &scales, nf4::BLOCK, &mut decoded);
        assert_eq!(decoded, floats(format!("{name}.nf4.dequantized")), "{name}");

        let scales = int8::scales(&values, columns);
        assert_eq!(scales, floats(format!("{name}.int8.SCB")), "{name}");
        let codes: Vec<u8> = int8::encode(&values, columns, &scales)
            .iter()
            .map(|&c| c as u8)
            .collect();
        assert_eq!(codes, bytes(&file, &format!("{name}.int8.weight")), "{name}");
        int8::decode(&codes, columns, &scales, &mut decoded);
        assert_eq!(decoded, floats(format!("{name}.int8.dequantized")), "{name}");

        let scale = fp8::scale(&values);
        assert_eq!(vec![scale], floats(format!("{name}.fp8.scale_weight")), "{name}");
        let codes: Vec<u8> = values.iter().map(|v| fp8::to_e4m3(v / scale)).collect();
        assert_eq!(codes, bytes(&file, &format!("{name}.fp8.weight")), "{name}");
        let decoded: Vec<f32> = codes.iter().map(|&c| fp8::from_e4m3(c) * scale).collect();
        assert_eq!(decoded, floats(format!("{name}.fp8.dequantized")), "{name}");
    }
}

#[test]
fn floats_of_eight_bits_are_those_of_torch() {
    let file = reference();
    for (kind, read) in [("e4m3", fp8::from_e4m3 as fn(u8) -> f32), ("e5m2", fp8::from_e5m2)] {
        let wanted = file.tensor_f32(&format!("{kind}.values")).unwrap();
        for (code, wanted) in (0..=255u8).zip(wanted) {
            let found = read(code);
            let found = if found.is_finite() { found } else { 0. }; // as the fixture has it
            assert_eq!(found, wanted, "{kind} {code:#x}");
        }
    }
    let given = file.tensor_f32("e4m3.unrounded").unwrap();
    let codes: Vec<u8> = given.iter().map(|&v| fp8::to_e4m3(v)).collect();
    assert_eq!(codes, bytes(&file, "e4m3.rounded"));
}

/// The relative errors on Gaussian values that the libraries have.
#[test]
fn errors_on_gaussian_weights_are_those_of_the_formats() {
    let values: Vec<f32> = common::values(&randn(5, &[512, 1024]))
        .iter()
        .map(|v| 0.02 * v)
        .collect();
    let mut decoded = vec![0f32; values.len()];
    let error = |decoded: &[f32]| CodingError::between(&values, decoded).relative();
    let scales = nf4::scales(&values);
    let codes = nf4::encode(&values, &scales);
    nf4::decode(&codes, &nf4::VALUES, &scales, nf4::BLOCK, &mut decoded);
    assert!((0.085..0.1).contains(&error(&decoded)), "nf4: {}", error(&decoded));
    let scales = int8::scales(&values, 1024);
    let codes: Vec<u8> = int8::encode(&values, 1024, &scales).iter().map(|&c| c as u8).collect();
    int8::decode(&codes, 1024, &scales, &mut decoded);
    assert!((0.007..0.0105).contains(&error(&decoded)), "int8: {}", error(&decoded));
    let scale = fp8::scale(&values);
    for (value, given) in decoded.iter_mut().zip(&values) {
        *value = fp8::from_e4m3(fp8::to_e4m3(given / scale)) * scale;
    }
    assert!((0.022..0.03).contains(&error(&decoded)), "fp8: {}", error(&decoded));
}

struct Case {
    folder: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        tiny::write_sdxl(&folder.path().join("model"), DType::F16, json!({}));
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The model in this format, in its layout.
    fn quantized(&self, format: QuantFormat, components: &[Component]) -> (PathBuf, Converted) {
        let (layout, target) = match format {
            QuantFormat::Fp8 => (Layout::File, self.path("fp8.safetensors")),
            _ => (Layout::Folder, self.path(format.name())),
        };
        let options = options(format, components, layout);
        let done = convert(&self.path("model"), &target, &options).unwrap_or_else(|e| panic!("{e}"));
        (target, done)
    }
}

fn options<'a>(format: QuantFormat, components: &'a [Component], layout: Layout) -> ConvertOptions<'a> {
    ConvertOptions {
        layout,
        dtype: None,
        title: None,
        allow: &[],
        vae: None,
        edit: None,
        quantize: Some(Quantize { format, components }),
    }
}

fn convert(source: &Path, target: &Path, options: &ConvertOptions) -> Result<Converted, ModelError> {
    convert_checkpoint(&Checkpoint::open(source)?, target, options, &mut |_, _| Ok(()))
}

fn unet(path: &Path) -> Unet {
    Unet::load(&path.join("unet"), &Device::Cpu).unwrap_or_else(|e| panic!("{e}"))
}

fn predict(unet: &Unet) -> Vec<f32> {
    let config = unet.config();
    let pooled = config.text_time.as_ref().unwrap().pooled_channels;
    let inputs = UnetInputs {
        sample: Value::constant(randn(1, &[1, 4, 8, 8])),
        timestep: &[500.],
        encoder_hidden_states: Value::constant(randn(2, &[1, 77, config.cross_attention_dim])),
        text_embeds: Some(Value::constant(randn(3, &[1, pooled]))),
        time_ids: Some(Value::constant(randn(4, &[1, 6]))),
    };
    values(
        no_grad(|| unet.forward(&inputs, &ForwardOptions::default()))
            .unwrap()
            .tensor(),
    )
}

#[test]
fn what_is_written_is_what_is_read_and_close_to_what_it_was_made_from() {
    let case = Case::new();
    let original = unet(&case.path("model"));
    let wanted = predict(&original);
    for format in ALL {
        let (path, done) = case.quantized(format, &[Component::Unet]);
        let [part] = &done.quantized[..] else {
            panic!("one component")
        };
        let name = format.name();
        let report = Checkpoint::open(&path).unwrap().report().unwrap();
        assert!(report.mismatch().is_empty(), "{name}: {}", report.mismatch());
        let found = &report.components[0];
        assert_eq!(found.quantized.tensors, part.tensors, "{name}");
        assert_eq!(found.quantized.parameters, part.parameters, "{name}");
        assert!(found.quantized.bytes >= part.bytes, "{name}");
        let linear = original.params().iter().filter(|p| p.tensor().rank() == 2).count();
        assert_eq!(part.tensors, linear, "{name}: every linear layer");
        assert!(part.worst_error >= part.error && part.error > 0., "{name}: {part:?}");

        let loaded = unet(&path);
        let (mut error, mut stored) = (CodingError::default(), 0);
        for (was, is) in original.params().iter().zip(loaded.params().iter()) {
            let (before, after) = (values(&was.tensor()), values(&is.tensor()));
            match before.len() > 16 * 1024 && was.tensor().rank() == 2 {
                true => {
                    assert!(is.is_stored(), "{name}: {} is held", is.name());
                    stored += 1;
                }
                false => assert!(!is.is_stored(), "{name}: {}", is.name()),
            }
            match was.tensor().rank() == 2 {
                true => error = error.plus(CodingError::between(&before, &after)),
                false => assert_eq!(before, after, "{name}: {}", was.name()),
            }
        }
        assert!(stored > 0, "the model is too small for this test");
        let said = (error.relative() / part.error - 1.).abs(); // sums in another order
        assert!(said < 1e-9, "{name}: the error that was reported is {said} off");
        let found = predict(&loaded);
        let apart = CodingError::between(&wanted, &found).relative();
        let layers = apart / part.error; // errors of layers add up, at random
        assert!(
            (0.5..AMPLIFIED).contains(&layers),
            "{name}: {apart}, {layers} times that of the weights"
        );

        // Quantized when it is loaded, to the same bits.
        let precision = Precision::from_name(name).unwrap();
        let at_once = Unet::load_in(&case.path("model/unet"), precision, &Device::Cpu).unwrap();
        assert_eq!(predict(&at_once), found, "{name}");
        let packed = at_once.params().iter().filter(|param| param.is_stored()).count();
        assert_eq!(packed, part.tensors, "{name}");
    }
}

#[test]
fn scales_that_are_quantized_themselves_are_read() {
    let file = reference();
    let case = Case::new();
    let (path, _) = case.quantized(QuantFormat::Nf4, &[Component::Unet]);
    let weights = path.join("unet/diffusion_pytorch_model.safetensors");
    let mut tensors = stored::read(&weights);
    // A bias's layer is as good as any: its values are replaced by the fixture's first ones.
    let key = "time_embedding.linear_1.weight";
    let shape: Vec<usize> = unet(&case.path("model"))
        .params()
        .get(key)
        .unwrap()
        .tensor()
        .dims()
        .to_vec();
    let count: usize = shape.iter().product();
    let blocks = count.div_ceil(64);
    let map = file.tensor_f32("gaussian.nested.weight.nested_quant_map").unwrap();
    let outer: Vec<f32> = (0..blocks.div_ceil(256)).map(|i| 0.01 + i as f32).collect();
    let codes: Vec<u8> = (0..blocks).map(|i| (i * 7 % 256) as u8).collect();
    let state = json!({"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": shape,
        "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.5});
    let text = |json: &Json| json.to_string().into_bytes();
    let u8s = |shape: &[usize], bytes: Vec<u8>| Stored {
        dtype: Dtype::U8,
        shape: shape.to_vec(),
        bytes,
    };
    tensors.insert(format!("{key}.absmax"), u8s(&[blocks], codes.clone()));
    tensors.insert(format!("{key}.nested_absmax"), Stored::f32(&[outer.len()], &outer));
    tensors.insert(format!("{key}.nested_quant_map"), Stored::f32(&[256], &map));
    tensors.insert(
        format!("{key}.quant_state.bitsandbytes__nf4"),
        u8s(&[text(&state).len()], text(&state)),
    );
    let packed = tensors[key].bytes.clone();
    stored::write(&weights, &tensors, &stored::metadata(&weights));
    let found = values(&unet(&path).params().get(key).unwrap().tensor());
    for (i, found) in found.iter().enumerate() {
        let code = (packed[i / 2] >> (4 * (1 - i % 2))) & 15;
        let scale = map[usize::from(codes[i / 64])] * outer[i / 64 / 256] + 0.5;
        assert_eq!(*found, nf4::VALUES[usize::from(code)] * scale, "{i}");
    }
    // And the library's own, whole.
    for name in MATRICES {
        let state: Json = serde_json::from_slice(&bytes(
            &file,
            &format!("{name}.nested.weight.quant_state.bitsandbytes__nf4"),
        ))
        .unwrap();
        let floats = |key: &str| file.tensor_f32(&format!("{name}.nested.{key}")).unwrap();
        let (map, outer) = (floats("weight.nested_quant_map"), floats("weight.nested_absmax"));
        let offset = state["nested_offset"].as_f64().unwrap() as f32;
        let scales: Vec<f32> = bytes(&file, &format!("{name}.nested.weight.absmax"))
            .iter()
            .map(|&code| map[usize::from(code)] * outer[0] + offset)
            .collect();
        let wanted = floats("dequantized");
        let mut decoded = vec![0f32; wanted.len()];
        let codes = bytes(&file, &format!("{name}.nested.weight"));
        nf4::decode(&codes, &nf4::VALUES, &scales, 64, &mut decoded);
        let apart = CodingError::between(&wanted, &decoded).relative();
        assert!(apart < 1e-6, "{name}: {apart}");
    }
}

#[test]
fn a_quantized_model_is_written_with_its_values_again() {
    let case = Case::new();
    for format in ALL {
        let (path, _) = case.quantized(format, &[Component::Unet]);
        let plain = ConvertOptions {
            dtype: Some(Dtype::F32),
            quantize: None,
            ..options(format, &[], Layout::Folder)
        };
        let back = case.path(&format!("{}-back", format.name()));
        convert(&path, &back, &plain).unwrap();
        let (coded, written) = (unet(&path), unet(&back));
        for (coded, written) in coded.params().iter().zip(written.params().iter()) {
            assert!(!written.is_stored());
            assert_eq!(values(&coded.tensor()), values(&written.tensor()), "{}", coded.name());
        }
        let config = std::fs::read_to_string(back.join("unet/config.json")).unwrap();
        assert!(!config.contains("quantization_config"), "{config}");
        let twice = convert(
            &path,
            &case.path("twice"),
            &options(QuantFormat::Nf4, &[Component::Unet], Layout::Folder),
        );
        assert!(twice.unwrap_err().to_string().contains("is quantized already"));
    }
    let config = std::fs::read_to_string(case.path("nf4/unet/config.json")).unwrap();
    let config: Json = serde_json::from_str(&config).unwrap();
    assert_eq!(config["quantization_config"]["quant_method"], "bitsandbytes");
    assert_eq!(config["quantization_config"]["load_in_4bit"], true);
}

#[test]
fn text_encoders_are_quantized_when_they_are_named() {
    let case = Case::new();
    let components = [Component::TextEncoder, Component::TextEncoder2];
    let (path, done) = case.quantized(QuantFormat::Int8, &components);
    let quantized: Vec<_> = done
        .quantized
        .iter()
        .map(|part| (part.component, part.tensors))
        .collect();
    // Three layers of six matrices; embeddings and the projection stay.
    assert_eq!(quantized, [(Component::TextEncoder, 18), (Component::TextEncoder2, 18)]);
    let report = Checkpoint::open(&path).unwrap().report().unwrap();
    assert!(report.mismatch().is_empty(), "{}", report.mismatch());
    assert_eq!(report.components[0].quantized.tensors, 0, "the UNet stays");
}

#[test]
fn what_cannot_be_quantized_is_refused_in_words() {
    let case = Case::new();
    let refuse = |format, components: &[Component], layout| {
        let target = case.path("refused");
        let error = convert(&case.path("model"), &target, &options(format, components, layout)).unwrap_err();
        assert!(!target.exists());
        error.to_string()
    };
    let unet = [Component::Unet];
    assert!(refuse(QuantFormat::Nf4, &unet, Layout::File).contains("kept in diffusers folders"));
    assert!(refuse(QuantFormat::Fp8, &unet, Layout::Folder).contains("kept in single files"));
    assert!(refuse(QuantFormat::Nf4, &[Component::Vae], Layout::Folder).contains("vae is not written in nf4"));
    let text = [Component::TextEncoder];
    assert!(refuse(QuantFormat::Fp8, &text, Layout::File).contains("text_encoder is not written in fp8"));
}

#[test]
fn codes_without_what_belongs_to_them_are_refused_by_name() {
    let case = Case::new();
    let key = "time_embedding.linear_1.weight";
    let (nf4, int8) = (
        case.quantized(QuantFormat::Nf4, &[Component::Unet]).0,
        case.quantized(QuantFormat::Int8, &[Component::Unet]).0,
    );
    let state = format!("{key}.quant_state.bitsandbytes__nf4");
    let scales = "time_embedding.linear_1.SCB".to_string();
    let text = |text: &str| Stored {
        dtype: Dtype::U8,
        shape: vec![text.len()],
        bytes: text.as_bytes().to_vec(),
    };
    let changes: [(&Path, String, Option<Stored>, &str); 8] = [
        (&nf4, format!("{key}.absmax"), None, "is not there"),
        (
            &nf4,
            format!("{key}.absmax"),
            Some(Stored::f32(&[1], &[1.])),
            "has 1 F32",
        ),
        (&nf4, format!("{key}.quant_map"), None, "needs 16 floats"),
        (&nf4, state.clone(), Some(text("{\"shape\": [2, 2]}")), "`blocksize`"),
        (&nf4, state.clone(), Some(text("[]")), "is not a JSON object"),
        (
            &nf4,
            state.clone(),
            Some(text("{\"blocksize\": 64, \"shape\": [4294967296, 4294967296, 9]}")),
            "too large",
        ),
        (&nf4, state, None, "shape"),
        (&int8, scales, Some(Stored::f32(&[2], &[1., 1.])), "has 2 F32"),
    ];
    for (model, key, tensor, message) in changes {
        let weights = model.join("unet/diffusion_pytorch_model.safetensors");
        let whole = std::fs::read(&weights).unwrap();
        let mut tensors = stored::read(&weights);
        match tensor {
            Some(tensor) => tensors.insert(key.clone(), tensor),
            None => tensors.remove(&key),
        };
        stored::write(&weights, &tensors, &stored::metadata(&weights));
        let error = Unet::load(&model.join("unet"), &Device::Cpu)
            .err()
            .expect("refused")
            .to_string();
        assert!(error.contains(message), "{key}: {error}");
        std::fs::write(&weights, whole).unwrap();
    }
}
