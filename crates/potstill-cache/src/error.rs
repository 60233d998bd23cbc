//! Why a cache could not be written or read.

use crate::component::ComponentId;
use crate::plan::PlanError;
use crate::source::SourceError;

/// A failure that stops building or reading. (What verification finds is no failure but a [`crate::Finding`].)
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A file could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A file could not be written.
    #[cfg(feature = "fs")]
    #[error(transparent)]
    Io(#[from] potstill_io::IoError),
    /// A plan that cannot be.
    #[error("{place}: {source}")]
    Plan {
        /// The file, or which plan.
        place: String,
        /// What is wrong.
        source: PlanError,
    },
    /// A document that JSON cannot hold, or is not what it should be.
    #[error("not a JSON document of this kind: {reason}")]
    Json {
        /// What serde said.
        reason: String,
    },
    /// A name that no component has.
    #[error("{component:?} is no component of a cache; use latents, text or teachers/<id>")]
    NoSuchComponent {
        /// The name given.
        component: String,
    },
    /// The folder holds nothing of a cache.
    #[error(
        "there is no cache here: neither latents nor text nor teachers have a plan; build one with `potstill cache build`"
    )]
    NoCache,
    /// A component without a seal.
    #[error(
        "{component} has no seal: it was not built to its end; run `potstill cache build` again, or `potstill cache seal`"
    )]
    Unsealed {
        /// The component.
        component: ComponentId,
    },
    /// A component without a plan.
    #[error("{component} has no plan; build it with `potstill cache build`")]
    Unplanned {
        /// The component.
        component: ComponentId,
    },
    /// Two documents that belong together do not.
    #[error("{component} was made for another {what}: it says {expected}, but {other} is {found}; {remedy}")]
    Mismatch {
        /// The component that refers.
        component: ComponentId,
        /// What it refers to: "plan of latents" …
        what: &'static str,
        /// What it refers to, by digest.
        expected: Box<str>,
        /// The thing referred to.
        other: String,
        /// Its digest.
        found: Box<str>,
        /// What to do.
        remedy: &'static str,
    },
    /// A component with another plan than the one to build.
    #[error(
        "{component} holds a cache with another plan ({found}, wanted {wanted}); remove the folder or choose another cache folder"
    )]
    ForeignPlan {
        /// The component.
        component: ComponentId,
        /// Digest of the plan found.
        found: String,
        /// Digest of the plan wanted.
        wanted: String,
    },
    /// A sealed component is immutable.
    #[error("{component} is sealed and cannot be written; remove its folder to build it again")]
    Sealed {
        /// The component.
        component: ComponentId,
    },
    /// A NaN or infinity among what was to be written.
    #[error(
        "{component}: {field} of {entry} has the value {value} at {index}, which {dtype} cannot hold as a finite number; look at the model, or store f32"
    )]
    NotFinite {
        /// The component.
        component: ComponentId,
        /// The field.
        field: String,
        /// The record.
        entry: String,
        /// Position within the record.
        index: usize,
        /// The value given.
        value: f32,
        /// The dtype stored.
        dtype: &'static str,
    },
    /// More, fewer or other values than a shard needs.
    #[error("{component}, shard {shard}: {reason}")]
    Shard {
        /// The component.
        component: ComponentId,
        /// Index of the shard.
        shard: u32,
        /// What is wrong.
        reason: String,
    },
    /// A record, field or shard that the plan does not have.
    #[error("{component} has no {what}")]
    OutOfRange {
        /// The component.
        component: ComponentId,
        /// What was asked for.
        what: String,
    },
    /// Records of different shapes asked for in one batch.
    #[error("{component}: records {first} and {other} differ in shape and cannot be read as one batch")]
    MixedShapes {
        /// The component.
        component: ComponentId,
        /// A record.
        first: u64,
        /// Another of another size.
        other: u64,
    },
}

impl CacheError {
    /// A stable name of the kind of failure.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Source(_) => "unreadable",
            #[cfg(feature = "fs")]
            Self::Io(_) => "io",
            Self::Plan { .. } => "plan-invalid",
            Self::Json { .. } => "json",
            Self::NoSuchComponent { .. } => "no-such-component",
            Self::NoCache => "no-cache",
            Self::Unsealed { .. } => "unsealed",
            Self::Unplanned { .. } => "unplanned",
            Self::Mismatch { .. } => "mismatch",
            Self::ForeignPlan { .. } => "foreign-plan",
            Self::Sealed { .. } => "sealed",
            Self::NotFinite { .. } => "not-finite",
            Self::Shard { .. } => "shard",
            Self::OutOfRange { .. } => "out-of-range",
            Self::MixedShapes { .. } => "mixed-shapes",
        }
    }
}
