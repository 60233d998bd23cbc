//! A small synthetic cache whose predictions are as a trained teacher's: calibrated, and closer to the noise the later the
//! timestep.
#![allow(dead_code)] // each test uses a part of it

pub mod hostile;

use std::collections::BTreeMap;
use std::path::Path;

use potstill_cache::{
    Builder, CacheFormat, CachePlace, Digest32, EncoderDigest, LatentsPlan, Layout, ModelDigest, NoisePlan, Plan,
    PredictionField, PredictionKind, Sampling, SchedulePlan, StorageDtype, TeacherPlan, TextPlan, TextShape,
    Unconditional, VaePlan, ViewOfImage, WeightStorage, sha256,
};
use potstill_noise::{Generator, PhiloxNormals, Stream};

pub const DRAWS: u32 = 4;
pub const SIDE: u32 = 16;
pub const CHANNELS: u32 = 4;
pub const VALUES: usize = (SIDE * SIDE * CHANNELS) as usize;

pub fn digest(text: &str) -> Digest32 {
    sha256(text.as_bytes())
}

fn files(name: &str) -> BTreeMap<String, Digest32> {
    BTreeMap::from([(format!("{name}.safetensors"), digest(name))])
}

/// `images` views of the square size and two of a wide one.
pub fn latents_plan(images: usize) -> LatentsPlan {
    latents_plan_of(images, SIDE)
}

/// The same with latents of another size.
pub fn latents_plan_of(images: usize, side: u32) -> LatentsPlan {
    let pixels = side * 8;
    let view = |i: usize, view: String| ViewOfImage {
        image: digest(&format!("image {i}")),
        view: view.parse().unwrap(),
    };
    let square = (0..images).map(|i| view(i, format!("{pixels}x{pixels}+{}+0", i % 3)));
    let wide = (0..2).map(|i| view(i, format!("{}x{pixels}+0+0f", pixels * 2)));
    LatentsPlan {
        format: CacheFormat::default(),
        version: 1,
        component: Default::default(),
        dtype: StorageDtype::F16,
        shard_records: 16,
        vae: VaePlan {
            weights: files("vae"),
            config: digest("vae config"),
            scaling_factor: 0.18215,
            sampling: Sampling::Mean,
            channels: CHANNELS,
            downscale: 8,
        },
        views: square.chain(wide).collect(),
    }
}

pub fn text_plan() -> TextPlan {
    TextPlan {
        format: CacheFormat::default(),
        version: 1,
        component: Default::default(),
        dtype: StorageDtype::F16,
        shard_records: 16,
        encoders: vec![EncoderDigest {
            weights: files("text"),
            config: digest("text config"),
            tokenizer: BTreeMap::from([("vocab.json".to_owned(), digest("vocab"))]),
        }],
        shape: TextShape {
            tokens: 5,
            width: 8,
            pooled: Some(6),
        },
        captions: ["", "a cat", "a dog", "naïve “quotes” \\ 𝄞"]
            .map(str::to_owned)
            .to_vec(),
    }
}

/// ᾱ of Stable Diffusion: betas linear in their roots.
pub fn alphas() -> Vec<f32> {
    let (start, end) = (0.000_85f64.sqrt(), 0.012f64.sqrt());
    let mut product = 1.0;
    (0..1000)
        .map(|t| {
            let beta = (start + (end - start) * f64::from(t) / 999.0).powi(2);
            product *= 1.0 - beta;
            product as f32
        })
        .collect()
}

pub fn teacher_plan(id: &str, prediction: PredictionKind, latents: &LatentsPlan, text: &TextPlan) -> TeacherPlan {
    let captions = text.captions.len() as u32;
    TeacherPlan {
        format: CacheFormat::default(),
        version: 1,
        component: Default::default(),
        dtype: StorageDtype::F16,
        shard_records: 16,
        id: id.to_owned(),
        unet: ModelDigest {
            weights: files(id),
            config: digest("unet config"),
        },
        prediction,
        schedule: SchedulePlan::from_alphas(&alphas()),
        adapters: Vec::new(),
        storage: WeightStorage::F32,
        fields: vec![PredictionField::Cond, PredictionField::Uncond],
        unconditional: Unconditional::Empty,
        noise: NoisePlan {
            generator: Generator::Philox.into(),
            base_seed: 42,
        },
        draws: DRAWS,
        timesteps: (0, 1000),
        given: None,
        latents: Plan::Latents(latents.clone()).digest().unwrap(),
        text: Plan::Text(text.clone()).digest().unwrap(),
        samples: (0..latents.views.len() as u32)
            .map(|view| (view, 1 + view % (captions - 1)))
            .collect(),
        time_ids: None,
    }
}

/// Unit normals of a seed that belongs to no draw.
pub fn normals(seed: u64, n: usize) -> Vec<f32> {
    let mut out = vec![0.0; n];
    PhiloxNormals::new(seed, Stream::VaeSample).fill(&mut out);
    out
}

/// Writes all shards of a component with `values(field, record, number of values)`.
pub fn build(cache: impl Into<CachePlace>, plan: &Plan, values: &mut dyn FnMut(&Layout, &str, u64, usize) -> Vec<f32>) {
    let builder = Builder::begin(cache, plan).unwrap();
    for range in builder.layout().shards().collect::<Vec<_>>() {
        let mut writer = builder.shard(range.index).unwrap();
        for record in range.start..range.start + u64::from(range.records) {
            for (field, shape) in builder.layout().fields(record).unwrap() {
                writer
                    .put(field, &values(builder.layout(), field, record, shape.iter().product()))
                    .unwrap();
            }
        }
        writer.finish().unwrap();
    }
    builder.seal().unwrap();
}

pub fn latent(record: u64, n: usize) -> Vec<f32> {
    normals(1_000 + record, n).iter().map(|v| v * 0.8 + 0.1).collect()
}

/// The best guess of the target that sees a share r² of it, in the least-squares sense.
pub fn prediction(layout: &Layout, plan: &TeacherPlan, field: &str, record: u64, n: usize) -> Vec<f32> {
    let draw = layout.draw(record).unwrap();
    let mut noise = vec![0.0; n];
    Generator::Philox.fill_noise(draw.seed, &mut noise);
    let t = draw.timestep as usize;
    let alpha = f64::from(f32::from_bits(
        u32::from_str_radix(&plan.schedule.alphas_cumprod[8 * t..8 * t + 8], 16)
            .unwrap()
            .swap_bytes(),
    ));
    let target: Vec<f32> = match plan.prediction {
        PredictionKind::Epsilon => noise,
        _ => {
            let clean = latent(layout.latents_record(record).unwrap(), n);
            let (signal, spread) = (-(1.0 - alpha).sqrt() as f32, alpha.sqrt() as f32);
            clean.iter().zip(&noise).map(|(x, e)| signal * x + spread * e).collect()
        }
    };
    let r2 = 0.35 + 0.64 * (1.0 - alpha).powf(0.3);
    let energy = target.iter().map(|v| f64::from(v * v)).sum::<f64>() / n as f64;
    let b = ((r2 - r2 * r2) * energy).sqrt();
    let error = normals(record * 7 + if field == "cond" { 1 } else { 2 } + 1_000_000, n);
    target
        .iter()
        .zip(error)
        .map(|(t, e)| (r2 * f64::from(*t) + b * f64::from(e)) as f32)
        .collect()
}

/// Latents, text and two teachers.
pub fn build_cache(cache: &Path, prediction_kind: PredictionKind) {
    build_cache_of(cache, prediction_kind, latents_plan(40));
}

/// The same on other latents.
pub fn build_cache_of(cache: &Path, prediction_kind: PredictionKind, latents: LatentsPlan) {
    build_cache_with(cache, prediction_kind, latents, |_, _| {});
}

/// The same with a change to the teachers' plans.
pub fn build_cache_with(
    cache: &Path,
    prediction_kind: PredictionKind,
    latents: LatentsPlan,
    change: impl Fn(&mut TeacherPlan, &LatentsPlan),
) {
    let text = text_plan();
    build(cache, &Plan::Latents(latents.clone()), &mut |_, _, record, n| {
        latent(record, n)
    });
    build(cache, &Plan::Text(text.clone()), &mut |_, field, record, n| {
        normals(record + field.len() as u64, n)
    });
    for id in ["animals", "food"] {
        let mut plan = teacher_plan(id, prediction_kind, &latents, &text);
        change(&mut plan, &latents);
        build_teacher(cache, &plan);
    }
}

pub fn build_teacher(cache: &Path, plan: &TeacherPlan) {
    build(cache, &Plan::Teacher(plan.clone()), &mut |layout, field, record, n| {
        prediction(layout, plan, field, record, n)
    });
}
