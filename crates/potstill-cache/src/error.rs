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
    #[error("{component:?} is no component of a cache")]
    NoSuchComponent {
        /// The name given.
        component: String,
    },
    /// The folder holds nothing of a cache.
    #[error("there is no cache here: neither latents nor text nor teachers have a plan")]
    NoCache,
    /// A component without a seal.
    #[error("{component} has no seal: it was not built to its end")]
    Unsealed {
        /// The component.
        component: ComponentId,
    },
    /// A component without a plan.
    #[error("{component} has no plan")]
    Unplanned {
        /// The component.
        component: ComponentId,
    },
    /// Two documents that belong together do not.
    #[error("{component} was made for another {what}: it says {expected}, but {other} is {found}")]
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
    #[error("{component} holds a cache with another plan ({found}, wanted {wanted})")]
    ForeignPlan {
        /// The component.
        component: ComponentId,
        /// Digest of the plan found.
        found: String,
        /// Digest of the plan wanted.
        wanted: String,
    },
    /// A sealed component is immutable.
    #[error("{component} is sealed and cannot be written")]
    Sealed {
        /// The component.
        component: ComponentId,
    },
    /// Another build is at work on the component.
    #[error("{component} is being built by {}", process_name(*process))]
    Busy {
        /// The component.
        component: ComponentId,
        /// The process that builds it, where it said so.
        process: Option<u32>,
    },
    /// A NaN or infinity among what was to be written.
    #[error(
        "{component}: {field} of {entry} has the value {value} at {index}, which {dtype} cannot hold as a finite number"
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
    /// A record whose file could not be read.
    #[error("{component}: {field} of {entry} cannot be read: {source}")]
    Record {
        /// The component.
        component: ComponentId,
        /// The field.
        field: String,
        /// The record.
        entry: String,
        /// What is wrong with the file.
        source: SourceError,
    },
    /// A file of the files layout that is not as the layout has it.
    #[error("{path}: {reason}")]
    Entry {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A folder that is to be written is not empty.
    #[error("the folder {folder} is not empty")]
    Occupied {
        /// The folder, relative to the one named.
        folder: String,
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
    /// Whether a server failed, which says nothing of the cache.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        matches!(
            self,
            Self::Source(SourceError::Remote(_))
                | Self::Record {
                    source: SourceError::Remote(_),
                    ..
                }
        )
    }

    /// A stable name of the kind of failure.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Source(_) | Self::Record { .. } => "unreadable",
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
            Self::Busy { .. } => "busy",
            Self::NotFinite { .. } => "not-finite",
            Self::Shard { .. } => "shard",
            Self::Entry { .. } => "entry",
            Self::Occupied { .. } => "occupied",
            Self::OutOfRange { .. } => "out-of-range",
            Self::MixedShapes { .. } => "mixed-shapes",
        }
    }

    /// What to do about it, where that is known: a sentence with its full stop.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        let remedy = match self {
            Self::Source(source) | Self::Record { source, .. } => source.remedy(),
            Self::Json { .. } => "Remove that file and run `potstill cache build` again.",
            Self::Shard { .. } => "Remove that shard's file and run `potstill cache build` again.",
            Self::Occupied { .. } => "Name another folder, or remove that one: nothing is mixed with what is there.",
            Self::Entry { .. } => "Copy that file again from where the cache came from, or build it again.",
            Self::Plan { place, .. } => return Some(format!("Remove the folder of {place} and build it again.")),
            Self::NoSuchComponent { .. } => "Use latents, text or teachers/<id>.",
            Self::NoCache => {
                "Name the folder that has latents, text and teachers in it, or make one with `potstill cache build RECIPE`."
            }
            Self::Unsealed { .. } => "Run `potstill cache build` again with its recipe: it goes on where it stopped.",
            Self::Unplanned { .. } => "Build it with `potstill cache build`.",
            Self::Mismatch { remedy, .. } => remedy,
            Self::ForeignPlan { .. } => "Remove the folder, or set cache.dir to another one.",
            Self::Sealed { .. } => "Remove its folder to build it again.",
            Self::Busy { .. } => {
                "Wait until that build has ended, then run the same command again: what is complete is kept. Several builds may run at once when each builds another part (--only)."
            }
            Self::NotFinite { .. } => "Look at the model, or set cache.dtype to \"f32\".",
            _ => return None,
        };
        Some(remedy.to_owned())
    }
}

fn process_name(process: Option<u32>) -> String {
    process.map_or_else(|| "another process".to_owned(), |id| format!("process {id}"))
}
