//! What a cache is: plans, shards, seals, and their verification. The format is written down in `docs/cache-format.md`.
//!
//! * [`Plan`]: the canonical JSON that fixes the content of a component; [`Layout`]: which record lies where.
//! * [`Builder`], [`ShardWriter`] (feature `fs`): writing that a kill at any moment cannot spoil, and resuming it.
//! * [`Seal`]: what was written; [`seal()`] (feature `fs`) joins what several builders wrote.
//! * [`CachePlace`], [`Store`] (feature `fs`): where it is written, a folder or what is like one.
//! * [`find_garbage`] (feature `fs`): what nothing refers to.
//! * [`CacheReader`]: records by index, over any [`Source`] of files; [`ReadAhead`] (feature `fs`) reads before they are
//!   wanted.
//! * [`FilesEntry`]: the files layout, a file for every image and teacher.
//! * [`recompute()`]: entries drawn by the verifier, computed again by a [`Predictor`] and compared.
//! * [`verify()`]: structure and determinism, with the same report to the byte natively and in WASM.

mod canonical;
mod component;
mod digest;
mod error;
mod files;
mod layout;
mod plan;
mod reader;
mod recompute;
mod seal;
mod source;
mod verify;

#[cfg(feature = "fs")]
mod ahead;
#[cfg(feature = "fs")]
mod builder;
#[cfg(feature = "fs")]
mod folder;
#[cfg(feature = "fs")]
mod garbage;
#[cfg(feature = "fs")]
mod lock;
#[cfg(feature = "fs")]
mod site;
#[cfg(feature = "fs")]
mod store;

pub use canonical::{canonical_json, sha256};
pub use component::{ComponentId, PLAN_FILE, SEAL_FILE, shard_file};
pub use digest::Digest32;
pub use error::CacheError;
pub use files::{
    FilesEntry, FilesName, FilesNameError, NoiseOrigin, NoiseSource, files_entries, files_path, files_seed,
};
pub use layout::{Draw, Layout, ShardRange};
pub use plan::{
    Adapter, CacheFormat, EncoderDigest, GivenDraw, LatentsPlan, ModelDigest, NoiseOfPlan, NoisePlan, Plan, PlanError,
    PredictionField, PredictionKind, Sampling, SchedulePlan, StorageDtype, TeacherPlan, TextPlan, TextShape,
    Unconditional, VaePlan, ViewOfImage, WeightStorage,
};
pub use reader::{Batch, CacheReader, Rows, read_components};
pub use recompute::{
    EncodedText, OmittedComponent, PredictionInputs, Predictor, Recomputation, RecomputeOptions, Recomputed,
    RecomputedComponent, recompute,
};
pub use seal::{Dependencies, Seal, ShardInfo};
pub use source::{MaybeSend, MaybeSync, MemorySource, OwnedSource, RemoteFailure, Source, SourceError};
pub use verify::{
    Band, ComponentReport, FilesImages, Finding, Level, NoiseShare, Progress, Provenance, Report, Severity,
    TeacherStatistics, Verdict, VerifyOptions, verify,
};

#[cfg(feature = "fs")]
pub use ahead::ReadAhead;
#[cfg(feature = "fs")]
pub use builder::{Builder, ComponentState, ShardWriter, component_state};
#[cfg(feature = "fs")]
pub use files::{ExportOptions, Exported, ImportedTeacher, export_files, import_teacher, survey_files};
#[cfg(feature = "fs")]
pub use folder::FolderSource;
#[cfg(feature = "fs")]
pub use garbage::{Garbage, GarbageFound, GarbageKind, find_garbage, remove_garbage};
#[cfg(feature = "fs")]
pub use site::{Coverage, coverage, seal};
#[cfg(feature = "fs")]
pub use store::{CachePlace, Store};
