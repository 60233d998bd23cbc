//! What a perfect teacher would predict, made from the plan and the latents.

use std::sync::Arc;

use potstill_io::{Dtype, Header};
use potstill_noise::NoiseStream;

use super::kept_noise::KeptNoise;
use super::measure::{Moments, Products};
use super::stream::read_header;
use crate::component::shard_file;
use crate::layout::{Draw, LATENTS, Layout, NOISE};
use crate::plan::{NoiseOfPlan, PredictionKind, TeacherPlan};
use crate::source::Source;

/// Values that are made and multiplied at a time: few enough for the nearest cache, and whole groups of the sums' lanes.
const PIECE: usize = 2048;
/// No last piece is shorter.
const TAIL: usize = NoiseStream::STEP;

/// Makes noise and targets record by record, in buffers that it keeps.
pub(crate) struct Target<'a, S: Source + ?Sized> {
    source: &'a S,
    layout: &'a Layout,
    latents: Option<&'a Layout>,
    plan: Option<Arc<TeacherPlan>>,
    alphas: Vec<f32>,
    kept: &'a mut KeptNoise,
    noise: Vec<f32>,
    clean: Vec<f32>,
    target: Vec<f32>,
    /// Where the latents are read from.
    latent: Records,
    /// Where stored noise is read from.
    stored: Records,
}

/// Records of one component, read one by one.
#[derive(Default)]
struct Records {
    /// Header of the shard that was read last.
    shard: Option<(u32, Header)>,
    bytes: Vec<u8>,
}

impl Records {
    /// Fills `out` with a field of a record; `None` when it cannot be read, or has another number of values.
    fn read<S: Source + ?Sized>(
        &mut self,
        source: &S,
        layout: &Layout,
        field: &str,
        record: u64,
        out: &mut [f32],
    ) -> Option<()> {
        let (range, within) = layout.locate(record).ok()?;
        let path = layout.component().file(&shard_file(range.index));
        if self.shard.as_ref().is_none_or(|(index, _)| *index != range.index) {
            self.shard = Some((range.index, read_header(source, &path).ok()?.0));
        }
        let header = &self.shard.as_ref()?.1;
        let dtype = Dtype::from(layout.dtype());
        let length = out.len() * dtype.size();
        let tensor = header.get(field)?;
        let fits = tensor.dtype == dtype && tensor.bytes() == length as u64 * u64::from(range.records);
        self.bytes.resize(length, 0);
        let offset = header.data_start() + tensor.start + u64::from(within) * length as u64;
        source.read(&path, offset, &mut self.bytes).ok().filter(|()| fits)?;
        dtype.to_f32_into(&self.bytes, out).ok()
    }
}

impl<'a, S: Source + ?Sized> Target<'a, S> {
    pub fn new(source: &'a S, layout: &'a Layout, latents: Option<&'a Layout>, kept: &'a mut KeptNoise) -> Self {
        let plan = layout.teacher_plan().cloned();
        let alphas = plan
            .as_ref()
            .and_then(|plan| plan.schedule.alphas().ok())
            .unwrap_or_default();
        Self {
            source,
            layout,
            latents,
            plan,
            alphas,
            kept,
            noise: Vec::new(),
            clean: Vec::new(),
            target: Vec::new(),
            latent: Records::default(),
            stored: Records::default(),
        }
    }

    /// Makes noise and target of a record; `None` when the latents that the target needs cannot be read, which the
    /// latents' own findings say.
    pub fn prepare(&mut self, record: u64, draw: Draw, values: usize) -> Option<()> {
        let plan = Arc::clone(self.plan.as_ref()?);
        self.noise.resize(values, 0.0);
        match plan.noise.generator {
            NoiseOfPlan::Made(generator) => match self.kept.of(generator, draw.seed, values) {
                Some(noise) => self.noise.copy_from_slice(noise),
                None => generator.fill_noise(draw.seed, &mut self.noise),
            },
            NoiseOfPlan::Stored => {
                let mut noise = std::mem::take(&mut self.noise);
                let read = self.stored.read(self.source, self.layout, NOISE, record, &mut noise);
                self.noise = noise;
                read?;
            }
        }
        if plan.prediction == PredictionKind::Epsilon {
            return Some(());
        }
        self.read_clean(record, values)?;
        let (signal, spread) = match plan.prediction {
            PredictionKind::Epsilon => (0.0, 1.0),
            PredictionKind::V => {
                let alpha = f64::from(*self.alphas.get(draw.timestep as usize)?);
                (-(1.0 - alpha).sqrt(), alpha.sqrt())
            }
            PredictionKind::X0 => (1.0, 0.0),
            PredictionKind::Flow => (-1.0, 1.0),
        };
        self.target.clear();
        self.target.extend(
            self.clean
                .iter()
                .zip(&self.noise)
                .map(|(&x, &e)| (signal * f64::from(x) + spread * f64::from(e)) as f32),
        );
        Some(())
    }

    /// The moments of a prediction as it is stored whose target is noise that is made: piece by piece, in the nearest cache.
    /// `None` for other targets, which are [prepared](Self::prepare).
    pub fn moments_of_made_noise(&mut self, draw: Draw, dtype: Dtype, prediction: &[u8]) -> Option<Moments> {
        let plan = self.plan.as_ref()?;
        let NoiseOfPlan::Made(generator) = plan.noise.generator else {
            return None;
        };
        if plan.prediction != PredictionKind::Epsilon {
            return None;
        }
        let (size, mut products) = (dtype.size(), Products::default());
        let mut values = [0f32; PIECE + TAIL];
        if let Some(noise) = self.kept.of(generator, draw.seed, prediction.len() / size) {
            for (piece, noise) in prediction.chunks(PIECE * size).zip(noise.chunks(PIECE)) {
                let values = &mut values[..noise.len()];
                dtype.to_f32_into(piece, values).ok()?;
                products.add(values, noise);
            }
            return Some(products.moments_of_noise());
        }
        let (mut stream, mut noise, mut left) = (generator.noise(draw.seed), [0f32; PIECE + TAIL], prediction);
        while !left.is_empty() {
            let count = left.len() / size;
            let (piece, rest) = left.split_at(if count < PIECE + TAIL { left.len() } else { PIECE * size });
            let count = piece.len() / size;
            let (values, noise) = (&mut values[..count], &mut noise[..count]);
            dtype.to_f32_into(piece, values).ok()?;
            stream.fill(noise);
            products.add(values, noise);
            left = rest;
        }
        Some(products.moments_of_noise())
    }

    /// The target and the noise of the record that was prepared last.
    pub fn slices(&self) -> (&[f32], &[f32]) {
        let epsilon = self
            .plan
            .as_ref()
            .is_some_and(|plan| plan.prediction == PredictionKind::Epsilon);
        (if epsilon { &self.noise } else { &self.target }, &self.noise)
    }

    fn read_clean(&mut self, record: u64, values: usize) -> Option<()> {
        let record = self.layout.latents_record(record).ok()?;
        self.clean.resize(values, 0.0);
        self.latent
            .read(self.source, self.latents?, LATENTS, record, &mut self.clean)
    }
}
