//! The kinds of findings.

use super::report::Kind;
use super::report::Severity::{Error, Warning};

const REBUILD: &str = "remove the component's folder and build it again";
const RESTORE: &str =
    "copy the file again from where the cache came from, or remove it and its seal.json and build again";
const RESEAL: &str = "remove seal.json and run `potstill cache build` again: it looks at the shards and seals them";
const RESUME: &str = "run `potstill cache build` again: it continues where it stopped";
const SEAL: &str = "run `potstill cache build` again: it continues where it stopped; of a build in parts, run those that are missing and then `potstill cache seal`";
const REBUILD_TEACHER: &str =
    "build this teacher again on the latents and text at hand, or bring back those it was built on";
const RESTORE_ENTRY: &str = "copy the file again from where the cache came from, or build the entry again";
const BUILD_ENTRY: &str = "build the teacher's cache again over the same images: it skips what is there";
const FOREIGN: &str = "remove it: nothing reads it";
const DISTRUST: &str = "do not train on it; ask its maker, or build the component again";

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $severity:ident, $training:literal, $remedy:expr;)*) => {
        $($(#[$doc])* pub(crate) const $name: Kind =
            Kind { code: $code, severity: $severity, training: $training, remedy: $remedy };)*
    };
}

kinds! {
    /// A component's folder without a plan.
    PLAN_MISSING = "plan-missing", Error, true, REBUILD;
    /// A plan that is none, or contradicts itself.
    PLAN_INVALID = "plan-invalid", Error, true, REBUILD;
    /// The shards and the seal agree on another plan than the one that lies there.
    PLAN_EDITED = "plan-edited", Error, true, "bring back the original plan.json, or build the component again";
    /// The seal names another plan than the shards and the plan.json do.
    SEAL_FOREIGN = "seal-of-another-plan", Error, true, RESEAL;
    /// No seal: a build that has not ended, or parts that are not joined.
    UNSEALED = "unsealed", Error, true, SEAL;
    /// A seal that is none.
    SEAL_INVALID = "seal-invalid", Error, true, RESEAL;
    /// The seal lists other shards than the plan has.
    SEAL_COVERAGE = "seal-coverage", Error, true, RESUME;
    /// A teacher without latents or text, or made for others.
    DEPENDENCY_PLAN = "dependency-plan", Error, true, REBUILD_TEACHER;
    /// A teacher whose latents or text were built again since.
    DEPENDENCY_SEAL = "dependency-seal", Error, true, REBUILD_TEACHER;
    /// A planned shard that is not there.
    SHARD_MISSING = "shard-missing", Error, true, RESTORE;
    /// A shard beyond the plan.
    SHARD_EXTRA = "shard-extra", Error, false, FOREIGN;
    /// A shard's length differs from the seal's.
    SHARD_SIZE = "shard-size", Error, true, RESTORE;
    /// A shard's BLAKE3 differs from the seal's.
    SHARD_DIGEST = "shard-digest", Error, true, RESTORE;
    /// A shard that is no safetensors file.
    SHARD_HEADER = "shard-header", Error, true, RESTORE;
    /// A shard's header names another plan or place.
    SHARD_FOREIGN = "shard-of-another-plan", Error, true, RESTORE;
    /// A tensor that should be there.
    TENSOR_MISSING = "tensor-missing", Error, true, RESTORE;
    /// A tensor of another dtype or shape.
    TENSOR_SHAPE = "tensor-shape", Error, true, RESTORE;
    /// A tensor that should not be there.
    TENSOR_EXTRA = "tensor-extra", Error, false, FOREIGN;
    /// A key that is not its record's.
    KEY_MISMATCH = "key-mismatch", Error, true, DISTRUST;
    /// NaN or infinity.
    NOT_FINITE = "not-finite", Error, true, DISTRUST;
    /// A file that could not be read.
    UNREADABLE = "unreadable", Error, true, "look at the file's permissions and the disk";
    /// A file that no component has.
    FILE_UNKNOWN = "file-unknown", Warning, false, FOREIGN;
    /// What a killed build left.
    LEFTOVER = "leftover", Warning, false, "remove it, or run `potstill cache build`, which does";
    /// A seed other than the plan gives.
    SEED_MISMATCH = "seed-mismatch", Error, true, DISTRUST;
    /// A timestep other than the plan gives.
    TIMESTEP_MISMATCH = "timestep-mismatch", Error, true, DISTRUST;
    /// Teachers with different draws, which cannot be trained on together.
    DRAWS_DIFFER = "draws-differ", Error, true, "build the teachers with the same generator, base seed, draws and timesteps";
    /// A prediction that was made for the noise of another record.
    PREDICTION_SWAPPED = "prediction-swapped", Error, true, DISTRUST;
    /// A prediction that no teacher like this one makes at its timestep.
    PREDICTION_IMPLAUSIBLE = "prediction-implausible", Error, true, DISTRUST;
    /// A prediction whose slope deviates more than its neighbours', but not beyond what honest teachers show.
    PREDICTION_UNUSUAL = "prediction-unusual", Warning, false, "look at it if there are many: one or two among thousands are chance";
    /// A teacher none of whose predictions fit what the plan says they are. No contradiction: it may be untrained.
    TEACHER_IMPLAUSIBLE = "teacher-implausible", Warning, true,
        "unless the teacher is untrained, look at the plan's prediction type, schedule and base seed, and at the latents' scale";
    /// An entry that is not what the weights give.
    RECOMPUTED_DIFFERS = "recomputed-differs", Error, true, DISTRUST;
    /// An image that was drawn for recomputation and is not at hand.
    IMAGE_ABSENT = "image-absent", Warning, false,
        "its latents were not checked: name the folder that has it (--images)";
    /// A file of the files layout that is no safetensors file.
    FILE_HEADER = "file-header", Error, true, RESTORE_ENTRY;
    /// A tensor that a file should have.
    FILE_TENSOR_MISSING = "tensor-missing", Error, true, RESTORE_ENTRY;
    /// A tensor of another dtype or shape than the file's name or its neighbours say.
    FILE_TENSOR_SHAPE = "tensor-shape", Error, true, RESTORE_ENTRY;
    /// A tensor that the layout does not have.
    FILE_TENSOR_EXTRA = "tensor-unknown", Warning, false, "nothing reads it; it does no harm";
    /// A resolution other than the one in the file's name.
    RESOLUTION_MISMATCH = "resolution-mismatch", Error, true, DISTRUST;
    /// Metadata that contradict the file's name, folder or seed.
    METADATA_MISMATCH = "metadata-mismatch", Error, true, DISTRUST;
    /// An entry that another teacher has.
    ENTRY_MISSING = "entry-missing", Error, true, BUILD_ENTRY;
    /// An image without an entry.
    IMAGE_MISSING = "image-missing", Error, true, BUILD_ENTRY;
    /// An entry of no image.
    IMAGE_UNKNOWN = "image-unknown", Warning, false,
        "nothing reads it; its image was renamed or removed, or the names have another version (--name-version)";
    /// Noise that is not what the seed gives, in a cache whose other noise is.
    NOISE_MISMATCH = "noise-mismatch", Error, true, DISTRUST;
    /// Noise that no known generator makes of the seeds.
    NOISE_UNKNOWN = "noise-unknown", Warning, false,
        "nothing contradicts it, but nobody can make this noise anew: ask its maker for the generator";
    /// Timesteps that torch's randint does not make of the seeds for any range.
    TIMESTEPS_UNKNOWN = "timesteps-unknown", Warning, false,
        "nothing contradicts them, but nobody can draw these timesteps anew: ask their maker for the rule";
    /// Seeds whose making nobody can check: the files do not name their images.
    SEEDS_UNKNOWN = "seeds-unknown", Warning, false,
        "nothing contradicts them; name the folder of the images (--images) and the base seed (--base-seed), and they are checked";
    /// Teachers that saw other noise for the same image.
    NOISE_KEYED_BY_TEACHER = "noise-keyed-by-teacher", Error, true,
        "build the teachers' caches again with seeds of image and base seed alone: students of several teachers need the same noise";
    /// The same of a teacher that is alone.
    NOISE_KEYED_ALONE = "noise-keyed-by-teacher", Warning, false,
        "train on this teacher alone: others would have other noise";
    /// An entry with another draw than the other teachers'.
    DRAW_DIFFERS = "draws-differ", Error, true, "build the entry again for the teachers that differ";
    /// The same draws as the other teachers', drawn in another precision.
    DRAWS_ROUNDED = "draws-rounded", Warning, false,
        "the noise differs by rounding alone; for the very same, build the teachers in one precision (teacher.use_bf16)";
    /// Predictions of something else than the noise, which nobody can judge without the latents.
    PREDICTIONS_UNJUDGED = "predictions-unjudged", Warning, true,
        "train with them only a student that predicts the same; verify the cache that they were exported from, which has the latents";
    /// Teachers with other text for the same entries.
    TEXT_DIFFERS = "text-differs", Warning, true,
        "unless the teachers were meant to read the captions with encoders of their own, build them with one (model.text_encoder_id)";
}
