//! One shard: its file, its tensors, and every record in it.

use potstill_io::{Dtype, Header, TensorSpec};

use super::documents::Examined;
use super::finite::first_not_finite;
use super::kept_noise::KeptNoise;
use super::kinds;
use super::measure::Moments;
use super::plausibility::Row;
use super::report::{Findings, Kind, Level, Place};
use super::stream::stream_shard;
use super::target::Target;
use crate::component::{ComponentId, shard_file};
use crate::digest::Digest32;
use crate::layout::{Draw, KEY, Layout, NOISE, SEED, ShardRange, TIMESTEP};
use crate::plan::PredictionField;
use crate::source::{Source, SourceError};

/// What came of a shard.
pub(crate) struct ShardOutcome {
    pub findings: Findings,
    /// Level 2: statistics of the predictions.
    pub rows: Vec<(PredictionField, Row)>,
    /// Length of the file.
    pub bytes: u64,
}

/// What a tensor of a shard is for.
#[derive(Clone, Copy)]
enum Role {
    Key,
    Seed,
    Timestep,
    Field(&'static str, Option<PredictionField>),
    Ignored,
}

/// Checks a shard. `latents` says where the latents lie that predictions are compared with, `kept` has their noise.
pub(crate) fn check_shard<S: Source + ?Sized>(
    source: &S,
    examined: &Examined,
    layout: &Layout,
    range: ShardRange,
    latents: Option<&Layout>,
    level: Level,
    kept: &mut KeptNoise,
) -> ShardOutcome {
    let file = shard_file(range.index);
    let path = examined.id.file(&file);
    let mut findings = Findings::default();
    let at = Place { file: &path, entry: "" };
    let mut records = Records {
        id: &examined.id,
        path: &path,
        layout,
        range,
        level,
        target: Target::new(source, layout, latents, kept),
        roles: Vec::new(),
        draws: Vec::new(),
        values: Vec::new(),
        findings: Findings::default(),
        rows: Vec::new(),
    };
    let records_cell = std::cell::RefCell::new(&mut records);
    let streamed = stream_shard(
        source,
        &path,
        |header| {
            let (roles, sizes) = inspect(
                &examined.id,
                layout,
                range,
                header,
                at,
                examined.plan_digest,
                &mut findings,
            );
            records_cell.borrow_mut().roles = roles;
            sizes
        },
        |tensor, record, bytes| records_cell.borrow_mut().record(tensor, record, bytes),
    );
    let streamed = match streamed {
        Ok(streamed) => streamed,
        Err(error) => {
            let kind = if matches!(error, SourceError::Missing { .. }) {
                &kinds::SHARD_MISSING
            } else {
                &kinds::UNREADABLE
            };
            findings.add(&examined.id, kind, at, "a readable file", error);
            return ShardOutcome {
                findings,
                rows: Vec::new(),
                bytes: 0,
            };
        }
    };
    findings.merge(records.findings);
    if let Err(error) = &streamed.header {
        findings.add(
            &examined.id,
            &kinds::SHARD_HEADER,
            at,
            "a sound safetensors file",
            format!("{}: {error}", error.code()),
        );
    }
    let sealed = examined
        .seal
        .as_ref()
        .ok()
        .and_then(|seal| seal.shards.get(range.index as usize));
    if let Some(info) = sealed.filter(|info| info.file == file) {
        if info.bytes != streamed.size {
            findings.add(&examined.id, &kinds::SHARD_SIZE, at, info.bytes, streamed.size);
        } else if info.blake3 != streamed.blake3 {
            findings.add(&examined.id, &kinds::SHARD_DIGEST, at, info.blake3, streamed.blake3);
        }
    }
    ShardOutcome {
        findings,
        rows: records.rows,
        bytes: streamed.size,
    }
}

/// Compares a header with the plan; gives each tensor its role and the bytes of its records.
fn inspect(
    id: &ComponentId,
    layout: &Layout,
    range: ShardRange,
    header: &Header,
    at: Place<'_>,
    plan: Option<crate::digest::Digest32>,
    findings: &mut Findings,
) -> (Vec<Role>, Vec<u64>) {
    let metadata = header.metadata();
    let expected = (plan.map(|p| p.to_string()).unwrap_or_default(), range.index.to_string());
    let named = |key: &str| metadata.get(key).cloned().unwrap_or_default();
    let found = (named("plan"), named("shard"));
    if found != expected {
        let text = |(plan, shard): (String, String)| format!("shard {shard} of plan {plan}");
        findings.add(id, &kinds::SHARD_FOREIGN, at, text(expected), text(found));
    }
    // The layout is of this plan and the range one of its own, so that there are specifications.
    let specs = layout.tensors(range).unwrap_or_default();
    let describe = |dtype: Dtype, shape: &[usize]| format!("{} {shape:?}", dtype.name());
    for spec in specs.iter().filter(|spec| header.get(&spec.name).is_none()) {
        findings.add(
            id,
            &kinds::TENSOR_MISSING,
            Place {
                entry: &spec.name,
                ..at
            },
            describe(spec.dtype, &spec.shape),
            "nothing",
        );
    }
    let fields = layout.fields(range.start).unwrap_or_default();
    let mut role = |tensor: &potstill_io::TensorInfo| {
        let place = Place {
            entry: &tensor.name,
            ..at
        };
        let found = describe(tensor.dtype, &tensor.shape);
        let Some(spec) = specs.iter().find(|spec: &&TensorSpec| spec.name == tensor.name) else {
            findings.add(id, &kinds::TENSOR_EXTRA, place, "no such tensor", found);
            return Role::Ignored;
        };
        if spec.dtype != tensor.dtype || spec.shape != tensor.shape {
            findings.add(
                id,
                &kinds::TENSOR_SHAPE,
                place,
                describe(spec.dtype, &spec.shape),
                found,
            );
            return Role::Ignored;
        }
        match spec.name.as_str() {
            KEY => Role::Key,
            SEED => Role::Seed,
            TIMESTEP => Role::Timestep,
            name => fields
                .iter()
                .find(|(field, _)| *field == name)
                .map_or(Role::Ignored, |(field, _)| {
                    let kept = layout
                        .teacher_plan()
                        .and_then(|p| p.fields.iter().copied().find(|f| f.name() == *field));
                    Role::Field(field, kept)
                }),
        }
    };
    let roles: Vec<Role> = header.tensors().iter().map(&mut role).collect();
    let sizes = header.tensors().iter().zip(&roles).map(|(tensor, role)| match role {
        Role::Ignored => 0,
        _ => tensor.bytes() / u64::from(range.records).max(1),
    });
    let sizes = sizes.collect();
    (roles, sizes)
}

/// Looks at records as they stream by.
struct Records<'a, S: Source + ?Sized> {
    id: &'a ComponentId,
    path: &'a str,
    layout: &'a Layout,
    range: ShardRange,
    level: Level,
    target: Target<'a, S>,
    roles: Vec<Role>,
    /// Of the shard's records, once one was asked for: three tensors need each.
    draws: Vec<Option<Draw>>,
    values: Vec<f32>,
    findings: Findings,
    rows: Vec<(PredictionField, Row)>,
}

impl<S: Source + ?Sized> Records<'_, S> {
    fn record(&mut self, tensor: usize, within: u64, bytes: &[u8]) {
        let record = self.range.start + within;
        match self.roles.get(tensor) {
            Some(Role::Key) => {
                let expected = self.layout.key(record).unwrap_or(crate::digest::Digest32([0; 32]));
                if bytes != expected.0 {
                    let found: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
                    self.add(&kinds::KEY_MISMATCH, record, "", expected, found);
                }
            }
            Some(Role::Seed) if self.level >= Level::Determinism => {
                self.compare(&kinds::SEED_MISMATCH, record, bytes, |draw| draw.seed);
            }
            Some(Role::Timestep) if self.level >= Level::Determinism => {
                self.compare(&kinds::TIMESTEP_MISMATCH, record, bytes, |draw| draw.timestep.into());
            }
            Some(&Role::Field(name, kept)) => self.field(record, name, kept, bytes),
            _ => {}
        }
    }

    fn add(&mut self, kind: &Kind, record: u64, field: &str, expected: impl ToString, found: impl ToString) {
        let name = self.layout.name(record).unwrap_or_default();
        let entry = if field.is_empty() {
            name
        } else {
            format!("{name}|{field}")
        };
        self.findings.add(
            self.id,
            kind,
            Place {
                file: self.path,
                entry: &entry,
            },
            expected,
            found,
        );
    }

    /// The draw of a record, where there is one.
    fn draw(&mut self, record: u64) -> Option<Draw> {
        let ShardRange { start, records, .. } = self.range;
        if self.draws.is_empty() {
            let records = start..start + u64::from(records);
            self.draws = records.map(|record| self.layout.draw(record).ok()).collect();
        }
        *self.draws.get((record - start) as usize)?
    }

    fn compare(&mut self, kind: &Kind, record: u64, bytes: &[u8], part: impl Fn(Draw) -> u64) {
        let (Some(draw), Ok(stored)) = (self.draw(record), <[u8; 8]>::try_from(bytes)) else {
            return;
        };
        let (expected, found) = (part(draw), u64::from_le_bytes(stored));
        if expected != found {
            self.add(kind, record, "", expected, found);
        }
    }

    fn field(&mut self, record: u64, name: &str, kept: Option<PredictionField>, bytes: &[u8]) {
        if name == NOISE {
            self.check_noise(record, bytes);
        }
        let dtype = Dtype::from(self.layout.dtype());
        let measured = kept.filter(|_| self.level >= Level::Determinism);
        if let Some((at, value)) = first_not_finite(dtype, bytes) {
            let found = format!("{value} at {at}");
            self.add(&kinds::NOT_FINITE, record, name, "finite values", found);
            return;
        }
        let Some((field, draw)) = measured.zip(self.draw(record)) else {
            return;
        };
        let count = bytes.len() / dtype.size();
        let moments = match self.target.moments_of_made_noise(draw, dtype, bytes) {
            Some(moments) => Some(moments),
            None => self.moments(record, draw, dtype, bytes),
        };
        if let Some(moments) = moments {
            let row = Row {
                record,
                timestep: draw.timestep,
                values: count as u32,
                moments,
            };
            self.rows.push((field, row));
        }
    }

    /// The moments of a prediction with a target that must be prepared.
    fn moments(&mut self, record: u64, draw: Draw, dtype: Dtype, bytes: &[u8]) -> Option<Moments> {
        self.values.resize(bytes.len() / dtype.size(), 0.0);
        // Cannot fail: the dtype is a float's, and a record is a whole number of elements.
        dtype.to_f32_into(bytes, &mut self.values).ok()?;
        self.target.prepare(record, draw, self.values.len())?;
        let (target, noise) = self.target.slices();
        Some(Moments::of(&self.values, target, noise))
    }

    /// Stored noise is what the plan says, by digest.
    fn check_noise(&mut self, record: u64, bytes: &[u8]) {
        let given = self.layout.teacher_plan().and_then(|plan| {
            let given = plan.given.as_ref()?.get(record as usize)?;
            Some(given.noise)
        });
        let found = Digest32(blake3::hash(bytes).into());
        if let Some(expected) = given.filter(|&expected| expected != found) {
            self.add(&kinds::NOISE_MISMATCH, record, NOISE, expected, found);
        }
    }
}
