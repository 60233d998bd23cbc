//! What every reader of checkpoints is given in the fuzz target and in the replay of its corpus.

#[path = "hostile_inputs.rs"]
mod inputs;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use potstill_adapters::{Adapter, Family, apply, is_adapter, report};
use potstill_engine::{DType, Device, no_grad};
use potstill_models::{
    Checkpoint, Component, ConvertOptions, Initialisation, Layout, Model, PromptEncoder, Schedule, TextConfig,
    TextEncoder, Tokenizer, Unet, UnetConfig, Vae, VaeConfig, convert_checkpoint,
};
use serde_json::{Map, Value as Json};
use tempfile::TempDir;

pub use inputs::Input;

const CPU: Device = Device::Cpu;
/// Seed of all weights here.
const SEED: u64 = 1;
/// What a reader says that has read its input.
pub const READ: &str = "read";
/// Weights of a diffusers UNet or VAE.
const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";

/// What each reader said of an input, by the reader's name: [`READ`] or the error.
pub type Said = BTreeMap<&'static str, String>;

/// Every reader of checkpoints, of what goes with them and of their configurations, with a folder of small sound models in
/// which an input takes the place of one file after the other.
pub struct Readers {
    folder: TempDir,
    family: Family,
    /// Of the two families.
    prompts: [PromptEncoder; 2],
}

impl Readers {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let sound = folder.path().join("sound");
        inputs::write_models(&sound);
        let text = |second: bool| {
            let mut config = inputs::text_config(second);
            config.insert("vocab_size".into(), 49408.into());
            config.insert("max_position_embeddings".into(), 77.into());
            (TextConfig::parse(config, "text").expect("a sound configuration"), SEED)
        };
        let prompts = [None, Some(text(true))]
            .map(|second| PromptEncoder::random(text(false), second, &CPU).expect("encoders of random weights"));
        Self {
            family: Family::of_model(&sound.join("sd15")).expect("a sound model"),
            folder,
            prompts,
        }
    }

    /// Sound inputs of every reader, which mutations start from.
    pub fn inputs(&self) -> Vec<Input> {
        inputs::of(&self.folder.path().join("sound"))
    }

    /// Gives bytes to every reader that takes such. Readers may refuse, they may not panic.
    pub fn give(&self, bytes: &[u8]) -> Said {
        let mut said = Noted::default();
        self.single_file(bytes, &mut said);
        self.components(bytes, &mut said);
        self.embedding(bytes, &mut said);
        self.adapter(bytes, &mut said);
        if std::str::from_utf8(bytes).is_ok() {
            self.configurations(bytes, &mut said);
            self.whole_folder(bytes, &mut said);
        }
        said.0
    }

    /// A file under a name in the folder, with all folders that it needs.
    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a writable folder");
        std::fs::write(&path, bytes).expect("a writable folder");
        path
    }

    fn single_file(&self, bytes: &[u8], said: &mut Noted) {
        let file = self.put("input.safetensors", bytes);
        let checkpoint = said.of("single file", Checkpoint::open(&file));
        if let Some(report) = said.then("report", checkpoint.as_ref().map(Checkpoint::report)) {
            let sound = report.mismatch().is_empty();
            assert_eq!(report.to_json().to_string().contains("\"sound\":true"), sound);
            if sound && let Some(checkpoint) = &checkpoint {
                self.convert(checkpoint, said);
            }
        }
        let Some(model) = said.of("model of a file", Model::open(&file)) else {
            let _ = said.of("VAE of a file", Vae::load(&file, &CPU));
            return;
        };
        if let Some(unet) = said.of("UNet of a file", Unet::load(&file, &CPU)) {
            assert_eq!(unet.config(), model.unet_config());
        }
        let _ = said.of("VAE of a file", model.load_vae(&CPU));
        for (reader, component) in [
            ("text encoder of a file", Component::TextEncoder),
            ("second text encoder of a file", Component::TextEncoder2),
        ] {
            let _ = said.of(reader, TextEncoder::load(&file, component, &CPU));
        }
    }

    /// What converts a checkpoint reads it in a way of its own.
    fn convert(&self, checkpoint: &Checkpoint, said: &mut Noted) {
        for (reader, layout, name) in [
            ("conversion to a file", Layout::File, "converted.safetensors"),
            ("conversion to a folder", Layout::Folder, "converted"),
        ] {
            let options = ConvertOptions {
                layout,
                dtype: None,
                title: None,
                allow: &[],
                vae: None,
                edit: None,
                quantize: None,
            };
            let target = self.folder.path().join(name);
            let done = convert_checkpoint(checkpoint, &target, &options, &mut |_, _| Ok(()));
            if said.of(reader, done).is_some() {
                match layout {
                    Layout::File => std::fs::remove_file(target),
                    Layout::Folder => std::fs::remove_dir_all(target),
                }
                .expect("a writable folder");
            }
        }
    }

    /// Weights beside a sound configuration: of a folder's file, and of its only shard.
    fn components(&self, bytes: &[u8], said: &mut Noted) {
        for (reader, name) in [("UNet's folder", "unet"), ("UNet's shard", "sharded")] {
            self.put(&format!("{name}/config.json"), &document(&inputs::unet_config(false)));
            match name {
                "unet" => self.put(&format!("unet/{WEIGHTS}"), bytes),
                _ => {
                    self.put("sharded/input.safetensors", bytes);
                    let index = inputs::index("input.safetensors");
                    self.put(&format!("sharded/{WEIGHTS}.index.json"), index.as_bytes())
                }
            };
            let unet = Unet::load(&self.folder.path().join(name), &CPU);
            said.of(reader, unet);
        }
        self.put("vae/config.json", &document(&inputs::vae_config()));
        self.put(&format!("vae/{WEIGHTS}"), bytes);
        said.of("VAE's folder", Vae::load(&self.folder.path().join("vae"), &CPU));
        let components = [
            ("text encoder's folder", "text_encoder", Component::TextEncoder),
            (
                "second text encoder's folder",
                "text_encoder_2",
                Component::TextEncoder2,
            ),
        ];
        for (reader, name, component) in components {
            let second = component == Component::TextEncoder2;
            self.put(
                &format!("text/{name}/config.json"),
                &document(&inputs::text_config(second)),
            );
            self.put(&format!("text/{name}/model.safetensors"), bytes);
            let folder = self.folder.path().join("text").join(name);
            if let Some(encoder) = said.of(reader, TextEncoder::load(&folder, component, &CPU)) {
                // Quantized weights are read at every use.
                let ids = vec![vec![0; inputs::TOKENS]];
                no_grad(|| encoder.forward(&ids)).expect("encodes what it has read");
            }
        }
        let text = Checkpoint::open(&self.folder.path().join("text"));
        said.of("report of a folder", text.and_then(|checkpoint| checkpoint.report()));
    }

    /// A textual inversion, for either family.
    fn embedding(&self, bytes: &[u8], said: &mut Noted) {
        let file = self.put("embeddings/input.safetensors", bytes);
        let folder = file.parent();
        for (reader, encoder) in ["embedding", "embedding of two encoders"]
            .into_iter()
            .zip(&self.prompts)
        {
            let encoded = no_grad(|| encoder.encode_weighted("embedding:input", 0, folder));
            said.of(reader, encoded);
        }
    }

    /// An adapter: a file, and peft's folder of it. What was read is laid into a model.
    fn adapter(&self, bytes: &[u8], said: &mut Noted) {
        let file = self.put("adapter.safetensors", bytes);
        let folder = self.folder.path().join("peft");
        self.put("peft/adapter_model.safetensors", bytes);
        self.put("peft/adapter_config.json", inputs::PEFT_CONFIG.as_bytes());
        for (reader, path) in [("adapter", &file), ("peft's folder", &folder)] {
            let _ = is_adapter(path);
            self.lay(reader, path, said);
        }
    }

    fn lay(&self, reader: &'static str, path: &Path, said: &mut Noted) {
        let Some(adapter) = said.of(reader, Adapter::open(path, Some(&self.family))) else {
            return;
        };
        said.of("adapter's report", report(&adapter));
        let unet = Unet::load(&self.folder.path().join("sound/sd15/unet"), &CPU).expect("a sound UNet");
        said.of(
            "adapter laid into a UNet",
            apply(unet.params(), &adapter, Component::Unet, 1.),
        );
    }

    /// Text as each of the configurations, by itself.
    fn configurations(&self, bytes: &[u8], said: &mut Noted) {
        let place = "config.json";
        if let Ok(Json::Object(map)) = serde_json::from_slice::<Json>(bytes) {
            let unet = UnetConfig::parse(map.clone(), place).and_then(|config| Unet::shapes(&config));
            said.of("UNet's configuration", unet);
            let vae = VaeConfig::parse(map.clone(), place).and_then(|config| Vae::shapes(&config));
            said.of("VAE's configuration", vae);
            let text = TextConfig::parse(map.clone(), place).and_then(|config| TextEncoder::shapes(&config));
            said.of("text encoder's configuration", text);
            said.of("schedule", Schedule::parse(&map, place));
        }
        self.put("shards/config.json", &document(&inputs::unet_config(false)));
        let source = self.folder.path().join("sound/sd15/unet").join(WEIGHTS);
        let shard = self.folder.path().join("shards").join(inputs::SHARD);
        std::fs::copy(source, shard).expect("a writable folder");
        let index = self.put(&format!("shards/{WEIGHTS}.index.json"), bytes);
        said.of("index of shards", Unet::load(index.parent().expect("a folder"), &CPU));
        for (reader, name) in [("vocabulary", "vocab.json"), ("merges", "merges.txt")] {
            for (other, text) in [("vocab.json", inputs::VOCABULARY), ("merges.txt", inputs::MERGES)] {
                self.put(&format!("{reader}/{other}"), text.as_bytes());
            }
            let file = self.put(&format!("{reader}/{name}"), bytes);
            let tokenizer = Tokenizer::load(file.parent().expect("a folder"), None);
            if let Some(tokenizer) = said.of(reader, tokenizer) {
                tokenizer.encode("a b, aa");
            }
        }
        let weights = self.folder.path().join("sound/adapter.safetensors");
        let folder = self.put("peft-config/adapter_config.json", bytes);
        let folder = folder.parent().expect("a folder");
        std::fs::copy(weights, folder.join("adapter_model.safetensors")).expect("a writable folder");
        self.lay("peft's configuration", folder, said);
    }

    /// Text as every document of one model.
    fn whole_folder(&self, bytes: &[u8], said: &mut Noted) {
        for name in [
            "model/unet/diffusion_pytorch_model.safetensors.index.json",
            "model/unet/config.json",
            "model/scheduler/scheduler_config.json",
            "model/model_index.json",
            "model/tokenizer/tokenizer.json",
            "model/tokenizer/tokenizer_config.json",
        ] {
            self.put(name, bytes);
        }
        let model = self.folder.path().join("model");
        said.of("model's folder", Model::open(&model));
        let report = Checkpoint::open(&model).and_then(|checkpoint| checkpoint.report());
        said.of("report of a model's folder", report);
        said.of("tokenizer", Tokenizer::load(&model.join("tokenizer"), None));
    }
}

#[derive(Default)]
struct Noted(Said);

impl Noted {
    fn of<T, E: Display>(&mut self, reader: &'static str, result: Result<T, E>) -> Option<T> {
        let words = match &result {
            Ok(_) => READ.to_string(),
            Err(error) => error.to_string(),
        };
        self.0.insert(reader, words);
        result.ok()
    }

    fn then<T, E: Display>(&mut self, reader: &'static str, result: Option<Result<T, E>>) -> Option<T> {
        result.and_then(|result| self.of(reader, result))
    }
}

fn document(map: &Map<String, Json>) -> Vec<u8> {
    serde_json::to_vec(map).expect("JSON")
}

/// The models of both families that the inputs are made of.
fn save(folder: &Path, unet: UnetConfig, text: &[TextConfig]) {
    const HOW: Initialisation = Initialisation::Normal;
    let vae = VaeConfig::parse(inputs::vae_config(), "vae").expect("a sound configuration");
    let unet = Unet::random(unet, SEED, HOW, &CPU).expect("a UNet");
    unet.save(&folder.join("unet"), DType::F16).expect("saved");
    let vae = Vae::random(vae, SEED, HOW, &CPU).expect("a VAE");
    vae.save(&folder.join("vae"), DType::F16).expect("saved");
    for (config, name) in text.iter().zip(["text_encoder", "text_encoder_2"]) {
        let encoder = TextEncoder::random(config.clone(), SEED, HOW, &CPU).expect("a text encoder");
        encoder.save(&folder.join(name), DType::F16).expect("saved");
    }
}
