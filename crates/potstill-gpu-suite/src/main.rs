//! `potstill-gpu-suite [--device cpu|host|cuda:N] [--size small|full] [--torch-noise FILE] [--only TEXT] [--time RUNS]
//! [--workload TEXT] [--dtype f32|bf16] [--json FILE]`: the table on stdout, every result as it comes on stderr. Exit code 1 when a check
//! failed, 2 when the words are no options or name no check, 3 when there is no such device.

use std::path::PathBuf;
use std::process::ExitCode;

use potstill_driver::{DRIVER_LIBRARY, inspect_driver};
use potstill_engine::devices::{self, DeviceName};
use potstill_engine::{DType, kernel_class};
use potstill_gpu_suite::checks::{Options, Size, run};
use potstill_gpu_suite::timing::{WORKLOADS, time};
use potstill_gpu_suite::{Check, Outcome, Place, Report, markdown};

/// Activations and graphs of thousands of operations: the engine's threads have as much.
const STACK: usize = 64 << 20;

/// Gradients of gigabytes come and go.
#[global_allocator]
static MEMORY: potstill_engine::Recycler = potstill_engine::Recycler;

struct Words {
    device: String,
    size: Size,
    torch_noise: Option<PathBuf>,
    only: Option<String>,
    runs: usize,
    workload: Option<String>,
    dtypes: Vec<DType>,
    json: Option<PathBuf>,
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Words, String> {
    let mut parsed = Words {
        device: if cfg!(feature = "cuda") { "cuda:0" } else { "cpu" }.to_owned(),
        size: Size::Full,
        torch_noise: None,
        only: None,
        runs: 0,
        workload: None,
        dtypes: vec![DType::F32, DType::BF16],
        json: None,
    };
    while let Some(option) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{option} needs a value"));
        match option.as_str() {
            "--device" => parsed.device = value()?,
            "--size" => {
                parsed.size = match value()?.as_str() {
                    "small" => Size::Small,
                    "full" => Size::Full,
                    other => return Err(format!("--size is small or full, not {other:?}")),
                }
            }
            "--torch-noise" => parsed.torch_noise = Some(value()?.into()),
            "--only" => parsed.only = Some(value()?),
            "--time" => {
                parsed.runs = value()?
                    .parse()
                    .map_err(|_| "--time needs a number of runs".to_owned())?
            }
            "--workload" => parsed.workload = Some(value()?),
            "--dtype" => {
                let name = value()?;
                parsed.dtypes.retain(|dtype| dtype.as_str() == name);
                if parsed.dtypes.is_empty() {
                    return Err(format!("--dtype is f32 or bf16, not {name:?}"));
                }
            }
            "--json" => parsed.json = Some(value()?.into()),
            other => return Err(format!("there is no option {other:?}")),
        }
    }
    Ok(parsed)
}

/// The place of a name, and what it is.
fn open(name: &str) -> Result<(Place, String), String> {
    #[cfg(feature = "host")]
    if name == "host" {
        return Ok((Place::Host, "the cards' kernels on the host".to_owned()));
    }
    let name: DeviceName = name.parse().map_err(|error: devices::DeviceError| error.to_string())?;
    let DeviceName::Cuda(number) = name else {
        return Ok((Place::Cpu, kernel_class().to_owned()));
    };
    let driver = inspect_driver(DRIVER_LIBRARY).map_err(|error| error.to_string())?;
    let cards = driver.devices.map_err(|error| error.to_string())?;
    let count = cards.len();
    let card = cards.into_iter().nth(number);
    let card = card.ok_or_else(|| format!("there is no {name}: the driver has {count} devices"))?;
    let device = devices::open(name).map_err(|error| error.to_string())?;
    Ok((Place::Card(device), card.name))
}

fn show(check: &Check) {
    let error = check.error.map_or_else(String::new, |error| format!("{error:.1e}"));
    let how = match &check.outcome {
        Outcome::Passed => "ok     ".to_owned(),
        Outcome::Failed(why) => format!("FAILED {why}"),
        Outcome::Skipped(why) => format!("skipped {why}"),
    };
    eprintln!("{error:>8} {how} {} {} {}", check.group, check.name, check.dtype);
}

fn suite(words: &Words, place: &Place, device_name: String) -> Result<Report, String> {
    let device = place.device();
    let options = Options {
        size: words.size,
        torch_noise: words.torch_noise.as_deref(),
        only: words.only.as_deref(),
    };
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        device: words.device.clone(),
        device_name,
        checks: run(place, options, &mut show),
        timings: Vec::new(),
    };
    if report.checks.is_empty() && words.runs == 0 {
        return Err(format!(
            "no check is called {:?}",
            words.only.as_deref().unwrap_or_default()
        ));
    }
    let wanted = |name: &str| words.workload.as_deref().is_none_or(|text| name.contains(text));
    for workload in WORKLOADS.into_iter().filter(|w| words.runs > 0 && wanted(&w.name())) {
        for &dtype in words.dtypes.iter().filter(|dtype| workload.runs_in(**dtype, device)) {
            let timing = place.run(|| time(device, workload, dtype, words.runs));
            eprintln!(
                "{:?} {:?}: {} {}",
                timing.median(),
                timing.why,
                timing.name,
                timing.dtype
            );
            report.timings.push(timing);
        }
    }
    if let Some(file) = &words.json {
        let text = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
        std::fs::write(file, text + "\n").map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(report)
}

fn main() -> ExitCode {
    let words = match parse(std::env::args().skip(1)) {
        Ok(words) => words,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    // A device belongs to the thread that opens it.
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(move || {
        let (place, name) = open(&words.device).map_err(|error| (3, error))?;
        suite(&words, &place, name).map_err(|error| (2, error))
    });
    match thread.map(std::thread::JoinHandle::join) {
        Ok(Ok(Ok(report))) => {
            println!("{}", markdown(&report));
            ExitCode::from(u8::from(report.failures() > 0))
        }
        Ok(Ok(Err((code, error)))) => {
            eprintln!("{error}");
            ExitCode::from(code)
        }
        Ok(Err(_)) | Err(_) => ExitCode::from(1),
    }
}
