//! How long UNets take, and how much memory.

use std::time::Instant;

use potstill_adapters::{LoraOptions, TrainedLora};
use potstill_engine::{DType, Device, Tensor, Value, backward, devices, no_grad};
use potstill_models::{ForwardOptions, Initialisation, Precision, Unet, UnetConfig, UnetInputs, default_time_ids};
use serde::Serialize;

use crate::checks::caught;
use crate::embedded::UNETS;
use crate::random::randn;
use crate::{Error, Result};

const TOKENS: usize = 77;
/// Pixels to a latent.
const LATENT: usize = 8;
const LORA_RANK: usize = 16;
/// Values of a prediction that are reported, as in `bench/gpu/torch_unet.py`.
const PROBES: usize = 256;
/// Runs that do not count: memory pools fill and libraries choose their algorithms.
const WARM_UP: usize = 2;

/// What one run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// A prediction.
    Forward,
    /// A prediction and the gradients of a LoRA of rank 16 on attention.
    Lora,
    /// A prediction and the gradients of all weights.
    Full,
}

/// Whose shape a UNet has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// SD1.5's.
    Sd15,
    /// SDXL's.
    Sdxl,
    /// That of SD1.5's fixture: to try the timing itself.
    TinySd15,
    /// That of SDXL's fixture.
    TinySdxl,
}

impl Arch {
    fn name(self) -> &'static str {
        match self {
            Arch::Sd15 => "sd15",
            Arch::Sdxl => "sdxl",
            Arch::TinySd15 => "tiny-sd15",
            Arch::TinySdxl => "tiny-sdxl",
        }
    }

    fn config(self) -> Result<UnetConfig> {
        match self {
            Arch::Sd15 => Ok(UnetConfig::sd15()),
            Arch::Sdxl => Ok(UnetConfig::sdxl()),
            Arch::TinySd15 => UNETS[0].config(),
            Arch::TinySdxl => UNETS[1].config(),
        }
    }
}

/// A UNet and what is done with it, batch 1.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// Its shape.
    pub arch: Arch,
    /// Side of the picture in pixels.
    pub size: usize,
    /// What one run is.
    pub mode: Mode,
}

/// The workloads that can be timed, smallest first.
pub const WORKLOADS: [Workload; 12] = {
    const fn of(arch: Arch, size: usize, mode: Mode) -> Workload {
        Workload { arch, size, mode }
    }
    [
        of(Arch::TinySd15, 64, Mode::Forward),
        of(Arch::TinySd15, 64, Mode::Lora),
        of(Arch::TinySd15, 64, Mode::Full),
        of(Arch::TinySdxl, 64, Mode::Forward),
        of(Arch::TinySdxl, 64, Mode::Lora),
        of(Arch::TinySdxl, 64, Mode::Full),
        of(Arch::Sd15, 512, Mode::Forward),
        of(Arch::Sd15, 512, Mode::Lora),
        of(Arch::Sd15, 512, Mode::Full),
        of(Arch::Sdxl, 1024, Mode::Forward),
        of(Arch::Sdxl, 1024, Mode::Lora),
        of(Arch::Sdxl, 1024, Mode::Full),
    ]
};

impl Workload {
    /// Such as `sdxl 1024 lora`.
    pub fn name(self) -> String {
        let mode = match self.mode {
            Mode::Forward => "forward",
            Mode::Lora => "lora",
            Mode::Full => "full",
        };
        format!("{} {} {mode}", self.arch.name(), self.size)
    }

    /// Whether a device computes it in a number format: a CPU's activations are f32, and so are weights that are trained.
    pub fn runs_in(self, dtype: DType, device: &Device) -> bool {
        dtype == DType::F32 || !device.is_cpu() || self.mode != Mode::Full
    }
}

/// A measurement.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timing {
    /// [`Workload::name`].
    pub name: String,
    /// Number format of the products: `bf16` weights where they are frozen, and on a card bf16 activations.
    pub dtype: String,
    /// Of every run that counts.
    pub seconds: Vec<f64>,
    /// Most bytes in use, where the device tells.
    pub peak_bytes: Option<u64>,
    /// Root mean square of the prediction: two sides that compute the same agree in it.
    pub rms: Option<f64>,
    /// Some values of the prediction, from its first to its last.
    pub probes: Vec<f64>,
    /// Why there are no seconds.
    pub why: Option<String>,
}

impl Timing {
    /// The median.
    pub fn median(&self) -> Option<f64> {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }
}

/// Times a workload. What cannot be done (too little memory) is said in the result.
pub fn time(device: &Device, workload: Workload, dtype: DType, runs: usize) -> Timing {
    let mut timing = Timing {
        name: workload.name(),
        dtype: dtype.as_str().to_owned(),
        seconds: Vec::new(),
        peak_bytes: None,
        rms: None,
        probes: Vec::new(),
        why: None,
    };
    if let Err(error) = caught(|| measure(device, workload, dtype, runs, &mut timing)) {
        timing.why = Some(error.to_string());
    }
    timing
}

fn measure(device: &Device, workload: Workload, dtype: DType, runs: usize, timing: &mut Timing) -> Result<()> {
    let (config, normal) = (workload.arch.config()?, Initialisation::Normal);
    // What is trained stays f32: then it is the inputs that say in what activations are.
    let (precision, inputs) = match (dtype, workload.mode) {
        (DType::BF16, Mode::Full) => (Precision::F32, DType::BF16),
        (DType::BF16, _) => (Precision::Bf16, DType::F32),
        _ => (Precision::F32, DType::F32),
    };
    let unet = Unet::random_in(config, 0, normal, precision, device)?;
    // It stays attached.
    let lora = match workload.mode {
        Mode::Forward => None,
        Mode::Lora => {
            let options = LoraOptions {
                rank: LORA_RANK,
                alpha: LORA_RANK as f64,
                targets: vec!["attention".to_owned()],
                blocks: Vec::new(),
                dora: false,
                seed: 0,
            };
            Some(TrainedLora::new(&unet, &options)?)
        }
        Mode::Full => {
            unet.params().set_trainable(|_| true);
            None
        }
    };
    if let Some(lora) = &lora {
        lora.params().set_trainable(|_| true);
    }
    let batch = Batch::new(&unet, workload.size, inputs)?;
    for run in 0..WARM_UP + runs {
        synchronize(device)?;
        let start = Instant::now();
        let prediction = batch.run(&unet, workload.mode)?;
        synchronize(device)?;
        if run >= WARM_UP {
            timing.seconds.push(start.elapsed().as_secs_f64());
        }
        timing.peak_bytes = timing.peak_bytes.max(used_bytes(device));
        if run == 0 {
            let values = crate::compare::values(&prediction)?;
            timing.rms = Some((values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt());
            timing.probes = (0..PROBES)
                .map(|i| values[i * (values.len() - 1) / (PROBES - 1)])
                .collect();
        }
    }
    Ok(())
}

struct Batch {
    sample: Tensor,
    text: Tensor,
    pooled: Option<Tensor>,
    time_ids: Option<Tensor>,
    gradient: Tensor,
}

impl Batch {
    fn new(unet: &Unet, size: usize, dtype: DType) -> Result<Self> {
        let config = unet.config();
        let drawn = |seed: u64, shape: &[usize]| -> Result<Tensor> {
            Ok(randn(seed, shape)?.to_dtype(dtype)?.to_device(unet.device())?)
        };
        let latents = [1, config.in_channels, size / LATENT, size / LATENT];
        Ok(Self {
            sample: drawn(1, &latents)?,
            text: drawn(2, &[1, TOKENS, config.cross_attention_dim])?,
            pooled: config
                .text_time
                .map(|c| drawn(3, &[1, c.pooled_channels]))
                .transpose()?,
            time_ids: config
                .text_time
                .map(|_| default_time_ids(1, size, size, unet.device()))
                .transpose()?,
            gradient: drawn(4, &latents)?,
        })
    }

    fn run(&self, unet: &Unet, mode: Mode) -> Result<Tensor> {
        let inputs = UnetInputs {
            sample: Value::constant(self.sample.clone()),
            timestep: &[500.],
            encoder_hidden_states: Value::constant(self.text.clone()),
            text_embeds: self.pooled.clone().map(Value::constant),
            time_ids: self.time_ids.clone().map(Value::constant),
        };
        let options = ForwardOptions::default();
        if mode == Mode::Forward {
            return Ok(no_grad(|| unet.forward(&inputs, &options))?.tensor().clone());
        }
        let output = unet.forward(&inputs, &options)?;
        let prediction = output.tensor().clone();
        let gradients = backward(&[(output, self.gradient.to_dtype(prediction.dtype())?)])?;
        if gradients.is_empty() {
            return Err(Error::Input("nothing is trained".to_owned()));
        }
        Ok(prediction)
    }
}

/// Waits for the device.
fn synchronize(device: &Device) -> Result<()> {
    Ok(device.synchronize()?)
}

/// The most bytes in use until now: of this process on a CPU, else of the device, whose pool keeps what it has had.
fn used_bytes(device: &Device) -> Option<u64> {
    if let Some(memory) = devices::memory(device) {
        return Some(memory.total_bytes - memory.free_bytes);
    }
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace()
        .next()?
        .parse::<u64>()
        .ok()
        .map(|kibibytes| kibibytes * 1024)
}
