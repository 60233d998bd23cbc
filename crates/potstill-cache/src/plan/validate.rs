//! What a plan must keep to besides its form.

use std::collections::HashSet;

use potstill_noise::TimestepRange;

use super::documents::{LatentsPlan, NoiseOfPlan, PLAN_VERSION, PredictionField, SchedulePlan, TeacherPlan, TextPlan};
use crate::component::is_teacher_id;
use crate::plan::Plan;

/// Largest integer that every JSON reader holds exactly.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;
/// Most records of a shard: beyond it a lost shard is a lost day.
const MAX_SHARD_RECORDS: u32 = 1 << 16;
/// Most bytes of a record's field, which readers hold in memory: 512 MiB is a 4-channel f32 latent of 46,000² pixels.
const MAX_RECORD_BYTES: u64 = 512 << 20;
/// Longest schedule: those in use have 1,000 timesteps.
const MAX_SCHEDULE: u32 = 1 << 20;

/// What is wrong with a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the fields are named in the messages
pub enum PlanError {
    #[error("not a plan: {reason}")]
    Json { reason: String },
    #[error("the format is {format:?}, not \"potstill-cache\"")]
    Format { format: String },
    #[error(
        "the plan has version {version}; this potstill reads version {PLAN_VERSION}: use the potstill that wrote it, or build the cache again"
    )]
    Version { version: u64 },
    #[error("there is no component {component:?}")]
    Component { component: String },
    #[error("the plan is not in canonical form (RFC 8785): it was edited or written by another program")]
    NotCanonical,
    #[error("{what}")]
    Invalid { what: String },
}

fn ensure(condition: bool, what: impl FnOnce() -> String) -> Result<(), PlanError> {
    if condition {
        Ok(())
    } else {
        Err(PlanError::Invalid { what: what() })
    }
}

impl Plan {
    /// Checks everything that can be checked without the other plans.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn validate(&self) -> Result<(), PlanError> {
        let (version, shard_records) = match self {
            Self::Latents(p) => (p.version, p.shard_records),
            Self::Text(p) => (p.version, p.shard_records),
            Self::Teacher(p) => (p.version, p.shard_records),
        };
        if version != PLAN_VERSION {
            return Err(PlanError::Version {
                version: version.into(),
            });
        }
        ensure((1..=MAX_SHARD_RECORDS).contains(&shard_records), || {
            format!("shardRecords must be 1 to {MAX_SHARD_RECORDS}, got {shard_records}")
        })?;
        match self {
            Self::Latents(plan) => validate_latents(plan),
            Self::Text(plan) => validate_text(plan),
            Self::Teacher(plan) => validate_teacher(plan),
        }
    }
}

fn validate_latents(plan: &LatentsPlan) -> Result<(), PlanError> {
    let vae = &plan.vae;
    ensure(!vae.weights.is_empty(), || "vae.weights names no file".to_owned())?;
    ensure(vae.scaling_factor.is_finite() && vae.scaling_factor != 0.0, || {
        "vae.scalingFactor is no number to scale by".to_owned()
    })?;
    ensure(vae.channels > 0 && vae.downscale > 0, || {
        "vae.channels and vae.downscale must be positive".to_owned()
    })?;
    ensure(!plan.views.is_empty(), || "views is empty".to_owned())?;
    ensure(u32::try_from(plan.views.len()).is_ok(), || {
        "there are more views than an index can name".to_owned()
    })?;
    let (mut seen, mut finished_sizes) = (HashSet::with_capacity(plan.views.len()), HashSet::new());
    let mut size = None;
    for (i, entry) in plan.views.iter().enumerate() {
        let view = entry.view;
        ensure(seen.insert(entry), || format!("views[{i}] is there twice"))?;
        ensure(
            view.width % vae.downscale == 0 && view.height % vae.downscale == 0,
            || format!("views[{i}] has sides that are no multiples of {}", vae.downscale),
        )?;
        if size != Some((view.width, view.height)) {
            finished_sizes.extend(size);
            size = Some((view.width, view.height));
            ensure(!finished_sizes.contains(&(view.width, view.height)), || {
                format!(
                    "views[{i}] returns to the size {}x{}: views of one size must lie together",
                    view.width, view.height
                )
            })?;
            let area = u64::from(view.width / vae.downscale) * u64::from(view.height / vae.downscale);
            ensure(
                area.checked_mul(4 * u64::from(vae.channels))
                    .is_some_and(|b| b <= MAX_RECORD_BYTES),
                || format!("views[{i}] has a latent beyond {MAX_RECORD_BYTES} bytes"),
            )?;
        }
    }
    Ok(())
}

fn validate_text(plan: &TextPlan) -> Result<(), PlanError> {
    ensure(!plan.encoders.is_empty(), || "encoders is empty".to_owned())?;
    let shape = plan.shape;
    let values = u64::from(shape.tokens) * u64::from(shape.width);
    ensure(
        values > 0 && values <= MAX_RECORD_BYTES / 4 && shape.pooled != Some(0),
        || {
            format!(
                "shape {}x{} is no shape of an encoded caption",
                shape.tokens, shape.width
            )
        },
    )?;
    ensure(plan.captions.first().is_some_and(String::is_empty), || {
        "captions[0] must be the empty caption, the unconditional text".to_owned()
    })?;
    ensure(u32::try_from(plan.captions.len()).is_ok(), || {
        "there are more captions than an index can name".to_owned()
    })?;
    let mut seen = HashSet::with_capacity(plan.captions.len());
    for (i, caption) in plan.captions.iter().enumerate() {
        ensure(seen.insert(caption), || format!("captions[{i}] is there twice"))?;
    }
    Ok(())
}

fn validate_teacher(plan: &TeacherPlan) -> Result<(), PlanError> {
    ensure(is_teacher_id(&plan.id), || {
        format!(
            "the id {:?} must be 1 to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit",
            plan.id
        )
    })?;
    ensure(!plan.unet.weights.is_empty(), || {
        "unet.weights names no file".to_owned()
    })?;
    ensure(plan.adapters.iter().all(|a| a.scale.is_finite()), || {
        "adapters have a scale that is no number".to_owned()
    })?;
    let fields_known = matches!(
        plan.fields[..],
        [PredictionField::Cond] | [PredictionField::Uncond] | [PredictionField::Cond, PredictionField::Uncond]
    );
    ensure(fields_known, || {
        "fields must be [\"cond\"], [\"uncond\"] or [\"cond\",\"uncond\"]".to_owned()
    })?;
    ensure(plan.noise.base_seed <= MAX_SAFE_INTEGER, || {
        format!("noise.baseSeed must be at most {MAX_SAFE_INTEGER}, which every JSON reader holds exactly")
    })?;
    ensure(plan.draws > 0, || "draws must be at least 1".to_owned())?;
    let (min, max) = plan.timesteps;
    TimestepRange::new(min, max).map_err(|error| PlanError::Invalid {
        what: error.to_string(),
    })?;
    ensure(max <= plan.schedule.timesteps, || {
        format!(
            "timesteps reach to {max}, but the schedule has {}",
            plan.schedule.timesteps
        )
    })?;
    plan.schedule.alphas()?;
    ensure(!plan.samples.is_empty(), || "samples is empty".to_owned())?;
    let records = (plan.samples.len() as u64).checked_mul(plan.draws.into());
    ensure(records.is_some_and(|n| n <= u32::MAX.into()), || {
        "there are more predictions than an index can name".to_owned()
    })?;
    validate_given(plan, records.unwrap_or_default())?;
    for (i, pair) in plan.samples.windows(2).enumerate() {
        ensure(pair[0] < pair[1], || {
            format!("samples[{}] is out of order or there twice", i + 1)
        })?;
    }
    ensure(plan.time_ids.iter().flatten().flatten().all(|v| v.is_finite()), || {
        "timeIds holds no numbers".to_owned()
    })
}

/// Stored noise has a given draw for every record; other noise has none.
fn validate_given(plan: &TeacherPlan, records: u64) -> Result<(), PlanError> {
    let stored = plan.noise.generator == NoiseOfPlan::Stored;
    ensure(stored == plan.given.is_some(), || {
        "given must be there for noise.generator \"stored\", and for it only".to_owned()
    })?;
    let Some(given) = &plan.given else {
        return Ok(());
    };
    ensure(given.len() as u64 == records, || {
        format!("given has {} draws for {records} records", given.len())
    })?;
    let (min, max) = plan.timesteps;
    for (i, draw) in given.iter().enumerate() {
        ensure((min..max).contains(&draw.timestep), || {
            format!("given[{i}] has timestep {}, beyond timesteps", draw.timestep)
        })?;
    }
    Ok(())
}

impl SchedulePlan {
    /// ᾱ of every timestep.
    ///
    /// # Errors
    /// [`PlanError::Invalid`] when it is no table of as many values in [0, 1] that never rise.
    pub fn alphas(&self) -> Result<Vec<f32>, PlanError> {
        let invalid = |what: &str| PlanError::Invalid {
            what: format!("schedule.alphasCumprod {what}"),
        };
        ensure((1..=MAX_SCHEDULE).contains(&self.timesteps), || {
            format!("schedule.timesteps must be 1 to {MAX_SCHEDULE}")
        })?;
        let (digits, rest) = self.alphas_cumprod.as_bytes().as_chunks::<8>();
        if !rest.is_empty() || digits.len() != self.timesteps as usize {
            return Err(invalid("must have 8 hex digits for each timestep"));
        }
        let parse = |digits: &[u8; 8]| {
            let lower = digits.iter().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
            let word = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
            lower.then_some(f32::from_bits(word.swap_bytes()))
        };
        let table: Option<Vec<f32>> = digits.iter().map(parse).collect();
        let table = table.ok_or_else(|| invalid("must be lower-case hex"))?;
        if !table.iter().all(|a| (0.0..=1.0).contains(a)) || table.windows(2).any(|w| w[1] > w[0]) {
            return Err(invalid("must lie in [0, 1] and never rise"));
        }
        Ok(table)
    }

    /// A schedule of these ᾱ.
    #[must_use]
    pub fn from_alphas(alphas: &[f32]) -> Self {
        let alphas_cumprod = alphas
            .iter()
            .map(|a| format!("{:08x}", a.to_bits().swap_bytes()))
            .collect();
        Self {
            timesteps: alphas.len() as u32,
            alphas_cumprod,
        }
    }
}
