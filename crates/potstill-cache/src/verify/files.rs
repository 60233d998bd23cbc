//! Verification of the files layout, which has no plan: what the files say must be in accord with their names, with one
//! another, and with what their seeds give.

use std::collections::{BTreeMap, BTreeSet};

use potstill_io::Dtype;
use potstill_noise::Mt19937;

use super::finite::first_not_finite;
use super::judge::{Predictions, judge};
use super::measure::{Moments, Products};
use super::plausibility::{self, Row};
use super::report::{ComponentReport, Findings, Kind, Level, NoiseShare, Place, Provenance, Report, TeacherStatistics};
use super::{FilesImages, VerifyOptions, kinds, map};
use crate::canonical::same_bytes;
use crate::component::TEMPORARY_PREFIX;
use crate::digest::Digest32;
use crate::files::{
    DrawRule, FilesName, HIDDEN_STATES, Loaded, NOISE, NoiseOrigin, NoiseSource, POOLED, PREDICTION, PREDICTION_KIND,
    Problem, SEED, TIMESTEP, files_path, files_seed, load, prediction_kind, problems, teacher_seed,
};
use crate::plan::PredictionKind;
use crate::source::Source;

/// Timesteps of Stable Diffusion's schedules.
const TIMESTEPS: u32 = 1000;
/// Entries that say from which range timesteps were drawn: of a foreign range not one in 10⁹ caches fits so many by chance.
const RANGE_SAMPLE: usize = 64;
/// With fewer entries only the usual range is asked for.
const MIN_RANGE_SAMPLE: usize = 4;
/// Version of a name that says none.
const DEFAULT_VERSION: &str = "1";

/// A teacher's folder.
struct Folder<'a> {
    /// Where it lies; empty when it is the cache itself.
    path: &'a str,
    entries: &'a [FilesName],
}

impl Folder<'_> {
    /// What the report calls it.
    fn id(&self) -> &str {
        if self.path.is_empty() { "." } else { self.path }
    }

    /// The teacher's id; unknown where the cache is the folder itself.
    fn teacher(&self) -> Option<&str> {
        let last = self.path.rsplit('/').next()?;
        (!last.is_empty()).then_some(last)
    }
}

/// What a file says that others are compared with.
struct Facts {
    entry: usize,
    seed: u64,
    /// What torch draws first with the seed.
    first_word: u32,
    timestep: i64,
    /// Of noise that no known generator made: its digest, where another teacher has other noise for the entry.
    noise: Option<Digest32>,
    noise_dtype: Dtype,
    /// Which of the texts of this entry, in the order of the teachers: equal ones are one.
    text: usize,
    /// Dtypes and shapes of all floats, in words.
    form: String,
    origin: Option<NoiseOrigin>,
    seeding: Seeding,
    /// The draw of a potstill cache that the file says it is.
    rule: Option<DrawRule>,
    /// What the teacher predicts, by what the file says.
    predicts: PredictionKind,
    row: Option<Row>,
}

/// Noise that other teachers' is compared with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Noise {
    /// What a generator makes of the seed: the same draw however it is stored, and on whichever class of CPUs it was made.
    Made(NoiseSource),
    /// Of no known generator: the very bytes.
    Stored(Option<Digest32>),
}

impl Facts {
    fn draw(&self) -> (u64, i64, Noise) {
        let noise = match self.origin.map(|origin| origin.source) {
            Some(NoiseSource::TorchAvx2 | NoiseSource::TorchDefault) => Noise::Made(NoiseSource::TorchAvx2),
            Some(source) => Noise::Made(source),
            None => Noise::Stored(self.noise),
        };
        (self.seed, self.timestep, noise)
    }

    /// Whether the noise was drawn in bf16; unknown where it is stored so.
    fn was_rounded(&self) -> Option<bool> {
        let origin = self.origin.filter(|_| self.noise_dtype != Dtype::Bf16)?;
        Some(origin.bf16)
    }
}

/// What a seed was made from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seeding {
    Unknown,
    Image,
    ImageAndTeacher,
    /// As potstill's own caches have it.
    Draw,
    /// Of none of these, for the image and base seed that the caller names.
    Foreign,
}

/// The images that the caller names.
struct Images<'a> {
    given: &'a FilesImages,
    /// By the name of a file: the image.
    by_name: BTreeMap<FilesName, &'a str>,
}

impl<'a> Images<'a> {
    /// The names that the images would have at every size that there is.
    fn of(given: &'a FilesImages, folders: &[Folder<'_>]) -> Self {
        let entries = folders.iter().flat_map(|folder| folder.entries);
        let sizes: BTreeSet<(u32, u32)> = entries.map(|name| (name.width, name.height)).collect();
        let named = |id: &'a String, (width, height)| (FilesName::of(id, width, height, &given.version), id.as_str());
        let by_name = given
            .ids
            .iter()
            .flat_map(|id| sizes.iter().map(move |&size| named(id, size)))
            .collect();
        Self { given, by_name }
    }
}

/// That every teacher has a file for every image, and every file its image.
fn check_images(folders: &[Folder<'_>], images: &Images<'_>, findings: &mut [Findings]) {
    for (folder, findings) in folders.iter().zip(findings) {
        let mut present = BTreeSet::new();
        for name in folder.entries {
            if let Some(id) = images.by_name.get(name) {
                present.insert(*id);
                continue;
            }
            let (path, entry) = (files_path(folder.path, name), name.to_string());
            let place = Place {
                file: &path,
                entry: &entry,
            };
            let expected = format!("the name of an image, of version {}", images.given.version);
            findings.add(
                folder.id(),
                &kinds::IMAGE_UNKNOWN,
                place,
                expected,
                "none of the images given",
            );
        }
        for id in images.given.ids.iter().filter(|id| !present.contains(id.as_str())) {
            let place = Place { file: "", entry: id };
            findings.add(
                folder.id(),
                &kinds::IMAGE_MISSING,
                place,
                "a file of some size",
                "no file",
            );
        }
    }
}

/// What came of one file.
#[derive(Default)]
struct Looked {
    findings: Findings,
    bytes: u64,
    facts: Option<Facts>,
}

/// Verifies the teachers' folders of a cache.
pub(super) fn verify<S: Source + ?Sized>(
    source: &S,
    files: &[String],
    folders: &BTreeMap<String, Vec<FilesName>>,
    options: &VerifyOptions<'_>,
) -> Report {
    let folders: Vec<Folder<'_>> = folders.iter().map(|(path, entries)| Folder { path, entries }).collect();
    // The teachers' files of an entry together, so that their texts are compared while they are at hand.
    let mut groups: BTreeMap<&FilesName, Vec<(usize, usize)>> = BTreeMap::new();
    for (f, folder) in folders.iter().enumerate() {
        for (e, name) in folder.entries.iter().enumerate() {
            groups.entry(name).or_default().push((f, e));
        }
    }
    let groups: Vec<Vec<(usize, usize)>> = groups.into_values().collect();
    let groups: Vec<Vec<(usize, usize, u64)>> = map(&groups, |group| {
        let size = |folder: usize, entry: usize| {
            let Folder { path, entries } = &folders[folder];
            source.size(&files_path(path, &entries[entry])).unwrap_or(0)
        };
        group
            .iter()
            .map(|&(folder, entry)| (folder, entry, size(folder, entry)))
            .collect()
    });
    let total: u64 = groups.iter().flatten().map(|job| job.2).sum();
    let done = std::sync::atomic::AtomicU64::new(0);
    let images = options.images.map(|images| Images::of(images, &folders));
    let looked = map(&groups, |group| {
        let mut others = Others::default();
        let look_at = |&(folder, entry, bytes): &(usize, usize, u64)| {
            let looked = look(
                source,
                &folders[folder],
                entry,
                options.level,
                images.as_ref(),
                &mut others,
            );
            let so_far = done.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed) + bytes;
            if let Some(progress) = options.progress {
                progress.bytes(so_far, total);
            }
            (folder, looked)
        };
        let mut looked: Vec<(usize, Looked)> = group.iter().map(look_at).collect();
        others.name_noise(looked.iter_mut().filter_map(|(_, looked)| looked.facts.as_mut()));
        looked
    });

    let mut findings: Vec<Findings> = folders.iter().map(|_| Findings::default()).collect();
    let mut facts: Vec<Vec<Facts>> = folders.iter().map(|_| Vec::new()).collect();
    let mut reports: Vec<ComponentReport> = folders
        .iter()
        .map(|folder| ComponentReport {
            component: folder.id().to_owned(),
            plan: String::new(),
            seal: String::new(),
            records: folder.entries.len() as u64,
            shards: 0,
            bytes: 0,
        })
        .collect();
    for (folder, looked) in looked.into_iter().flatten() {
        reports[folder].bytes += looked.bytes;
        findings[folder].merge(looked.findings);
        facts[folder].extend(looked.facts);
    }
    check_other_files(&folders, files, &mut findings);
    check_coverage(&folders, &mut findings);
    if let Some(images) = &images {
        check_images(&folders, images, &mut findings);
    }
    let mut statistics = Vec::new();
    let mut provenance = Vec::new();
    for ((folder, facts), findings) in folders.iter().zip(&facts).zip(&mut findings) {
        check_forms(folder, facts, findings);
    }
    if options.level >= Level::Determinism {
        compare_teachers(&folders, &facts, &mut findings);
        let range = timestep_range(facts.iter().flatten());
        let teachers: Vec<_> = folders.iter().zip(&facts).collect();
        let judged = map(&teachers, |&(folder, facts)| {
            let mut own = Findings::default();
            let timesteps = check_timesteps(folder, facts, range, &mut own);
            let noise = check_noise(folder, facts, &mut own);
            let seeds = check_seeding(folder, facts, folders.len(), &mut own);
            let rows = check_predictions(folder, facts, &mut own);
            judge(&FilePredictions { source, folder }, &rows, &mut own);
            (own, noise, timesteps, seeds, plausibility::bands(&rows, TIMESTEPS))
        });
        for ((folder, findings), (own, noise, timesteps, seeds, bands)) in folders.iter().zip(&mut findings).zip(judged)
        {
            findings.merge(own);
            let component = folder.id().to_owned();
            statistics.push(TeacherStatistics {
                component: component.clone(),
                field: PREDICTION,
                bands,
            });
            provenance.push(Provenance {
                component,
                noise,
                timesteps,
                seeds,
            });
        }
    }
    Report::new(options.level, reports, findings, statistics).of_files(provenance)
}

/// Adds findings about one file.
struct FileFindings<'a> {
    id: &'a str,
    path: &'a str,
    name: String,
    findings: Findings,
}

impl FileFindings<'_> {
    fn add(&mut self, kind: &Kind, tensor: &str, expected: impl ToString, found: impl ToString) {
        let entry = if tensor.is_empty() {
            self.name.clone()
        } else {
            format!("{}|{tensor}", self.name)
        };
        let place = Place {
            file: self.path,
            entry: &entry,
        };
        self.findings.add(self.id, kind, place, expected, found);
    }
}

/// Looks at one file.
fn look<S: Source + ?Sized>(
    source: &S,
    folder: &Folder<'_>,
    entry: usize,
    level: Level,
    images: Option<&Images<'_>>,
    others: &mut Others,
) -> Looked {
    let name = &folder.entries[entry];
    let path = files_path(folder.path, name);
    let mut at = FileFindings {
        id: folder.id(),
        path: &path,
        name: name.to_string(),
        findings: Findings::default(),
    };
    let mut bytes = 0;
    let facts = match load(source, &path) {
        Err(error) => {
            at.add(&kinds::UNREADABLE, "", "a readable file", error);
            None
        }
        Ok(Err(error)) => {
            bytes = source.size(&path).unwrap_or(0);
            let found = format!("{}: {error}", error.code());
            at.add(&kinds::FILE_HEADER, "", "a sound safetensors file", found);
            None
        }
        Ok(Ok(loaded)) => {
            bytes = loaded.bytes.len() as u64;
            let facts = look_inside(&loaded, folder, entry, level, images, others, &mut at);
            facts.map(|facts| Facts {
                noise: others.digest_of_noise(&loaded, &facts),
                text: others.class_of_text(loaded, &facts),
                ..facts
            })
        }
    };
    Looked {
        findings: at.findings,
        bytes,
        facts,
    }
}

/// Looks at the tensors of a file; nothing comes of one that others cannot be compared with.
fn look_inside(
    loaded: &Loaded,
    folder: &Folder<'_>,
    entry: usize,
    level: Level,
    images: Option<&Images<'_>>,
    others: &Others,
    at: &mut FileFindings<'_>,
) -> Option<Facts> {
    let name = &folder.entries[entry];
    let mut whole = true;
    for problem in problems(name, &loaded.header) {
        match problem {
            Problem::Missing { name, expected } => {
                whole = false;
                at.add(&kinds::FILE_TENSOR_MISSING, name, expected, "nothing");
            }
            Problem::Shape { name, expected, found } => {
                whole = false;
                at.add(&kinds::FILE_TENSOR_SHAPE, &name, expected, found);
            }
            Problem::Extra { name, found } => at.add(&kinds::FILE_TENSOR_EXTRA, &name, "no such tensor", found),
        }
    }
    if let Some([width, height]) = loaded.resolution() {
        let found = (i64::from(width), i64::from(height));
        if found != (name.width.into(), name.height.into()) {
            let expected = format!("{} x {}, as the file's name says", name.width, name.height);
            at.add(&kinds::RESOLUTION_MISMATCH, "", expected, format!("{width} x {height}"));
        }
    }
    let mut finite = true;
    for tensor in [PREDICTION, NOISE, HIDDEN_STATES, POOLED] {
        let Some((info, bytes)) = loaded.tensor(tensor) else {
            continue;
        };
        if let Some((index, value)) = first_not_finite(info.dtype, bytes) {
            finite = false;
            at.add(
                &kinds::NOT_FINITE,
                tensor,
                "finite values",
                format!("{value} at {index}"),
            );
        }
    }
    let seeding = check_metadata(loaded, folder, name, images, at);
    if !whole {
        return None;
    }
    let (noise_info, noise_bytes) = loaded.tensor(NOISE)?;
    let (seed, timestep) = (loaded.integer(SEED)? as u64, loaded.integer(TIMESTEP)?);
    let (mut origin, mut row) = (None, None);
    if level >= Level::Determinism {
        origin = others
            .origin_of(seed, noise_info.dtype, noise_bytes)
            .unwrap_or_else(|| NoiseOrigin::recognise_stored(seed, noise_bytes, noise_info.dtype));
        row = finite.then(|| moments(loaded)).flatten().map(|(moments, values)| Row {
            record: entry as u64,
            timestep: u32::try_from(timestep).unwrap_or(0).min(TIMESTEPS - 1),
            values,
            moments,
        });
    }
    let form = [PREDICTION, NOISE, HIDDEN_STATES, POOLED].map(|tensor| match loaded.header.get(tensor) {
        // Latents have the shape that the file's name says.
        Some(info) if tensor == PREDICTION || tensor == NOISE => info.dtype.name().to_owned(),
        Some(info) => format!("{} {:?}", info.dtype.name(), info.shape),
        None => "nothing".to_owned(),
    });
    let [prediction, noise, states, pooled] = form;
    Some(Facts {
        entry,
        seed,
        first_word: Mt19937::new(seed).next_u32(),
        timestep,
        noise: None,
        noise_dtype: noise_info.dtype,
        text: 0,
        form: format!("{PREDICTION} {prediction}, {NOISE} {noise}, {HIDDEN_STATES} {states}, {POOLED} {pooled}"),
        origin,
        seeding,
        rule: DrawRule::of_metadata(loaded.header.metadata()),
        predicts: prediction_kind(loaded.header.metadata()).unwrap_or(PredictionKind::Epsilon),
        row,
    })
}

/// Values that are converted and multiplied at a time: few enough for the nearest cache, and whole groups of the sums' lanes.
const PIECE: usize = 2048;

/// The moments of a prediction with its noise, which share a shape, and the number of their values.
fn moments(loaded: &Loaded) -> Option<(Moments, u32)> {
    let ((p_info, p), (t_info, t)) = (loaded.tensor(PREDICTION)?, loaded.tensor(NOISE)?);
    let (p_size, t_size) = (p_info.dtype.size(), t_info.dtype.size());
    let (mut p_values, mut t_values) = ([0f32; PIECE], [0f32; PIECE]);
    let mut products = Products::default();
    for (p, t) in p.chunks(PIECE * p_size).zip(t.chunks(PIECE * t_size)) {
        let (p_values, t_values) = (&mut p_values[..p.len() / p_size], &mut t_values[..t.len() / t_size]);
        p_info.dtype.to_f32_into(p, p_values).ok()?;
        t_info.dtype.to_f32_into(t, t_values).ok()?;
        products.add(p_values, t_values);
    }
    Some((products.moments_of_noise(), (t.len() / t_size) as u32))
}

fn hash(parts: &[&[u8]]) -> Digest32 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    Digest32(hasher.finalize().into())
}

/// Files of one entry that are kept to be compared with those of the other teachers. Most often all texts are one, and all
/// noise, and comparing is far quicker than hashing or making anew; of teachers that all have another text, only digests are kept.
const KEPT_FILES: usize = 4;

/// What is kept of the files of one entry.
#[derive(Default)]
struct Others {
    /// The first, and then those with another text than all before.
    kept: Vec<Loaded>,
    /// Of the first: its seed, and where its noise comes from.
    first: Option<(u64, Option<NoiseOrigin>)>,
    /// Digests of the texts that are in none of the files kept.
    texts: Vec<Digest32>,
}

impl Others {
    /// Where noise comes from that the first file has as well, with the same seed.
    fn origin_of(&self, seed: u64, dtype: Dtype, noise: &[u8]) -> Option<Option<NoiseOrigin>> {
        let (info, first) = self.kept.first()?.tensor(NOISE)?;
        let (first_seed, origin) = self.first?;
        let same = first_seed == seed && info.dtype == dtype && same_bytes(first, noise);
        same.then_some(origin)
    }

    /// Keeps a file, if it is needed; the number of its text.
    fn class_of_text(&mut self, loaded: Loaded, facts: &Facts) -> usize {
        self.first.get_or_insert((facts.seed, facts.origin));
        let same = |kept: &Loaded| {
            let mut pairs = text_of(kept).into_iter().zip(text_of(&loaded));
            pairs.all(|(kept, own)| same_bytes(kept, own))
        };
        if let Some(class) = self.kept.iter().position(same) {
            return class;
        }
        if self.kept.len() < KEPT_FILES {
            self.kept.push(loaded);
            return self.kept.len() - 1;
        }
        let digest = hash(&text_of(&loaded));
        let class = self.texts.iter().position(|other| *other == digest);
        let class = class.unwrap_or_else(|| {
            self.texts.push(digest);
            self.texts.len() - 1
        });
        KEPT_FILES + class
    }

    /// The digest of a file's noise, if no generator made it, and unless it is that of the first file.
    fn digest_of_noise(&self, loaded: &Loaded, facts: &Facts) -> Option<Digest32> {
        let (first, own) = (noise_of(self.kept.first()?), noise_of(loaded));
        (facts.origin.is_none() && !same_bytes(first, own)).then(|| hash(&[own]))
    }

    /// Gives those that have the first file's noise its digest, if others have not.
    fn name_noise<'a>(&self, facts: impl Iterator<Item = &'a mut Facts>) {
        let unknown: Vec<&mut Facts> = facts.filter(|facts| facts.origin.is_none()).collect();
        let differ = unknown.iter().any(|facts| facts.noise.is_some());
        let Some(first) = self.kept.first().filter(|_| differ) else {
            return;
        };
        let digest = hash(&[noise_of(first)]);
        for facts in unknown {
            facts.noise.get_or_insert(digest);
        }
    }
}

fn noise_of(loaded: &Loaded) -> &[u8] {
    loaded.tensor(NOISE).map_or(&[], |(_, bytes)| bytes)
}

/// What a file has of its caption.
fn text_of(loaded: &Loaded) -> [&[u8]; 2] {
    [HIDDEN_STATES, POOLED].map(|tensor| loaded.tensor(tensor).map_or(&[][..], |(_, bytes)| bytes))
}

/// The layout asks for no metadata. Where a file names its image and base seed, name and seed must be theirs.
fn check_metadata(
    loaded: &Loaded,
    folder: &Folder<'_>,
    name: &FilesName,
    images: Option<&Images<'_>>,
    at: &mut FileFindings<'_>,
) -> Seeding {
    let metadata = loaded.header.metadata();
    let of = |key: &str| metadata.get(key).map(String::as_str);
    if let (Some(said), Some(teacher)) = (of("teacher_id"), folder.teacher())
        && said != teacher
    {
        let expected = format!("teacher_id {teacher}, as the folder's name says");
        at.add(&kinds::METADATA_MISMATCH, "", expected, format!("teacher_id {said}"));
    }
    if prediction_kind(metadata).is_none() {
        let expected = format!(
            "a {PREDICTION_KIND} among {}",
            PredictionKind::ALL.map(PredictionKind::name).join(", ")
        );
        at.add(
            &kinds::METADATA_MISMATCH,
            "",
            expected,
            of(PREDICTION_KIND).unwrap_or_default(),
        );
    }
    let Some(image) = of("image_id") else {
        return seeding_of_images(loaded, folder, name, images);
    };
    let version = of("version").unwrap_or(DEFAULT_VERSION);
    let named = FilesName::of(image, name.width, name.height, version);
    if named != *name {
        at.add(
            &kinds::METADATA_MISMATCH,
            "",
            format!("the name {named} of image_id {image} and version {version}"),
            name,
        );
    }
    if let (Some(rule), Some(seed)) = (DrawRule::of_metadata(metadata), loaded.integer(SEED)) {
        let (expected, found) = (rule.seed(), seed as u64);
        if found != expected {
            let expected = format!("{expected}, of the image, view, draw and base seed in its metadata");
            at.add(&kinds::SEED_MISMATCH, "", expected, found);
        }
        return if found == expected {
            Seeding::Draw
        } else {
            Seeding::Unknown
        };
    }
    let base_seed = of("base_seed").and_then(|text| text.parse::<i64>().ok());
    let (Some(base_seed), Some(seed)) = (base_seed, loaded.integer(SEED)) else {
        return Seeding::Unknown;
    };
    let (seed, expected) = (seed as u64, files_seed(image, base_seed));
    let teacher = of("teacher_id").or(folder.teacher());
    if seed == expected {
        Seeding::Image
    } else if teacher.is_some_and(|teacher| seed == teacher_seed(image, teacher, base_seed)) {
        Seeding::ImageAndTeacher
    } else {
        let expected = format!("{expected}, of image_id {image} and base_seed {base_seed}");
        at.add(&kinds::SEED_MISMATCH, "", expected, seed);
        Seeding::Unknown
    }
}

/// What the seed of a file that does not name its image was made from, going by the images that the caller names. A base
/// seed that the caller did not know makes all of them unknown, so that none is an error yet.
fn seeding_of_images(loaded: &Loaded, folder: &Folder<'_>, name: &FilesName, images: Option<&Images<'_>>) -> Seeding {
    let Some((images, seed)) = images.zip(loaded.integer(SEED)) else {
        return Seeding::Unknown;
    };
    let (Some(id), seed, base_seed) = (images.by_name.get(name), seed as u64, images.given.base_seed) else {
        return Seeding::Unknown;
    };
    let of_teacher = |teacher| seed == teacher_seed(id, teacher, base_seed);
    if seed == files_seed(id, base_seed) {
        Seeding::Image
    } else if folder.teacher().is_some_and(of_teacher) {
        Seeding::ImageAndTeacher
    } else {
        Seeding::Foreign
    }
}

/// Files in teachers' folders that are no entries.
fn check_other_files(folders: &[Folder<'_>], files: &[String], findings: &mut [Findings]) {
    for path in files {
        let (parent, file) = path.rsplit_once('/').unwrap_or(("", path));
        let Some(index) = folders.iter().position(|folder| folder.path == parent) else {
            continue;
        };
        if FilesName::of_file(file).is_some() {
            continue;
        }
        let kind = if file.starts_with(TEMPORARY_PREFIX) {
            &kinds::LEFTOVER
        } else {
            &kinds::FILE_UNKNOWN
        };
        let place = Place { file: path, entry: "" };
        findings[index].add(folders[index].id(), kind, place, "no such file", "a file");
    }
}

/// That every teacher has the entries of the others.
fn check_coverage(folders: &[Folder<'_>], findings: &mut [Findings]) {
    let mut owners: BTreeMap<&FilesName, usize> = BTreeMap::new();
    for (index, folder) in folders.iter().enumerate() {
        for name in folder.entries {
            owners.entry(name).or_insert(index);
        }
    }
    for (folder, findings) in folders.iter().zip(findings) {
        let own: BTreeSet<&FilesName> = folder.entries.iter().collect();
        for (name, &owner) in owners.iter().filter(|(name, _)| !own.contains(*name)) {
            let path = files_path(folder.path, name);
            let entry = name.to_string();
            let place = Place {
                file: &path,
                entry: &entry,
            };
            let expected = format!("an entry, as {} has", folders[owner].id());
            findings.add(folder.id(), &kinds::ENTRY_MISSING, place, expected, "no file");
        }
    }
}

/// The value that most have; of equals the first.
fn most_common<T: Ord>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut counts: BTreeMap<T, (usize, usize)> = BTreeMap::new();
    for (index, value) in values.enumerate() {
        counts.entry(value).or_insert((0, index)).0 += 1;
    }
    let best = |(_, (count, first)): &(T, (usize, usize))| (*count, usize::MAX - first);
    counts.into_iter().max_by_key(best).map(|(value, _)| value)
}

/// That all entries of a teacher have the same text widths and dtypes.
fn check_forms(folder: &Folder<'_>, facts: &[Facts], findings: &mut Findings) {
    let Some(usual) = most_common(facts.iter().map(|facts| facts.form.as_str())) else {
        return;
    };
    for facts in facts.iter().filter(|facts| facts.form != usual) {
        let expected = format!("{usual}, as other entries");
        add(
            folder,
            facts,
            &kinds::FILE_TENSOR_SHAPE,
            expected,
            &facts.form,
            findings,
        );
    }
}

fn add(
    folder: &Folder<'_>,
    facts: &Facts,
    kind: &Kind,
    expected: impl ToString,
    found: impl ToString,
    findings: &mut Findings,
) {
    let name = &folder.entries[facts.entry];
    let (path, entry) = (files_path(folder.path, name), name.to_string());
    let place = Place {
        file: &path,
        entry: &entry,
    };
    findings.add(folder.id(), kind, place, expected, found);
}

/// That all teachers saw the same noise and timestep for the same entry, and whether they read the same text.
fn compare_teachers(folders: &[Folder<'_>], facts: &[Vec<Facts>], findings: &mut [Findings]) {
    let mut entries: BTreeMap<&FilesName, Vec<(usize, &Facts)>> = BTreeMap::new();
    for (index, (folder, facts)) in folders.iter().zip(facts).enumerate() {
        for facts in facts {
            entries
                .entry(&folder.entries[facts.entry])
                .or_default()
                .push((index, facts));
        }
    }
    /// What differs between a teacher and the others.
    #[derive(Default)]
    struct Differences<'a> {
        shared: u64,
        seeds: u64,
        texts: u64,
        /// The same draws, in another precision.
        rounded: Vec<(&'a Facts, &'a Facts)>,
        /// By entry: the facts, and a teacher whose draw most have.
        draws: Vec<(&'a Facts, usize, &'a Facts)>,
        other: usize,
    }
    let mut differences: Vec<Differences<'_>> = folders.iter().map(|_| Differences::default()).collect();
    for shared in entries.values().filter(|shared| shared.len() > 1) {
        let Some(usual) = most_common(shared.iter().map(|(_, facts)| facts.draw())) else {
            continue;
        };
        let Some(&(owner, model)) = shared.iter().find(|(_, facts)| facts.draw() == usual) else {
            continue;
        };
        for &(index, facts) in shared {
            let own = &mut differences[index];
            own.shared += 1;
            if index == owner {
                continue;
            }
            own.other = owner;
            own.seeds += u64::from(facts.seed != model.seed);
            own.texts += u64::from(facts.text != model.text);
            if facts.draw() != usual {
                own.draws.push((facts, owner, model));
            } else if let (Some(here), Some(there)) = (facts.was_rounded(), model.was_rounded())
                && here != there
            {
                own.rounded.push((facts, model));
            }
        }
    }
    for (index, (folder, differences)) in folders.iter().zip(differences).enumerate() {
        let findings = &mut findings[index];
        let Differences {
            shared,
            seeds,
            texts,
            rounded,
            draws,
            other,
        } = differences;
        let nowhere = Place::default();
        // Seeds of their own for most entries are a rule, for a few a damage.
        let keyed = seeds * 2 > shared;
        // Metadata that say so are told of with the seeds.
        if keyed && count(&facts[index], Seeding::ImageAndTeacher) == 0 {
            let expected = format!("the seeds, and so the noise and timesteps, of {}", folders[other].id());
            let found = format!("other seeds in {seeds} of {shared} entries");
            findings.add(folder.id(), &kinds::NOISE_KEYED_BY_TEACHER, nowhere, expected, found);
        }
        for (facts, owner, model) in draws {
            if keyed && facts.seed != model.seed {
                continue;
            }
            let same = facts.seed == model.seed && facts.timestep == model.timestep;
            let text = |facts: &Facts| {
                let noise = match facts.origin {
                    _ if !same => String::new(),
                    Some(origin) => format!(", noise by {origin}"),
                    None => format!(
                        ", noise {}",
                        facts.noise.map(|digest| digest.to_string()).unwrap_or_default()
                    ),
                };
                format!("seed {}, timestep {}{noise}", facts.seed, facts.timestep)
            };
            let expected = format!("{}, as {} has", text(model), folders[owner].id());
            add(folder, facts, &kinds::DRAW_DIFFERS, expected, text(facts), findings);
        }
        if let Some((own, model)) = rounded.first() {
            let by = |facts: &Facts| facts.origin.map(|origin| origin.to_string()).unwrap_or_default();
            let expected = format!("noise by {}, as {} has", by(model), folders[other].id());
            let found = format!("by {} in {} of {shared} entries", by(own), rounded.len());
            findings.add(folder.id(), &kinds::DRAWS_ROUNDED, nowhere, expected, found);
        }
        if texts > 0 {
            let expected = format!("the encoded captions of {}", folders[other].id());
            let found = format!("others in {texts} of {shared} entries");
            findings.add(folder.id(), &kinds::TEXT_DIFFERS, nowhere, expected, found);
        }
    }
}

/// The timestep that torch's `randint` makes of the first word that it draws.
fn drawn(word: u32, (min, max): (u32, u32)) -> i64 {
    i64::from(min + word % (max - min))
}

/// The range that timesteps were drawn from by `torch.randint` with a generator fresh from the seed; none when no range
/// fits at least half of them.
fn timestep_range<'a>(facts: impl Iterator<Item = &'a Facts>) -> Option<(u32, u32)> {
    let draws: BTreeSet<(u64, i64, u32)> = facts
        .filter(|facts| facts.rule.is_none())
        .map(|facts| (facts.seed, facts.timestep, facts.first_word))
        .collect();
    let draws: Vec<(u32, i64)> = draws
        .iter()
        .take(RANGE_SAMPLE)
        .map(|&(_, timestep, word)| (word, timestep))
        .collect();
    let fitting = |range: (u32, u32)| {
        draws
            .iter()
            .filter(|&&(word, timestep)| drawn(word, range) == timestep)
            .count()
    };
    let enough = |count: usize| count > 0 && count * 2 >= draws.len();
    let usual = (0, TIMESTEPS);
    if enough(fitting(usual)) {
        return Some(usual);
    }
    if draws.len() < MIN_RANGE_SAMPLE {
        return None;
    }
    // From wide to narrow: a narrow range fits a few by chance.
    let ranges = (1..=TIMESTEPS)
        .rev()
        .flat_map(|width| (0..=TIMESTEPS - width).map(move |min| (min, min + width)));
    let best = ranges
        .map(|range| (fitting(range), range))
        .reduce(|best, next| if next.0 > best.0 { next } else { best })?;
    (enough(best.0) && best.0 >= MIN_RANGE_SAMPLE).then_some(best.1)
}

/// Compares timesteps with what their seeds give; the range that they were drawn from, where it is known.
fn check_timesteps(
    folder: &Folder<'_>,
    facts: &[Facts],
    range: Option<(u32, u32)>,
    findings: &mut Findings,
) -> Option<(u32, u32)> {
    for facts in facts {
        let by_rule = facts.rule.as_ref().and_then(|rule| Some((rule, rule.timestep()?)));
        let (expected, fits) = match (by_rule, range) {
            (Some((rule, timestep)), _) => {
                let expected = format!("{timestep}, of draw {} of {}", rule.draw, rule.draws);
                (expected, facts.timestep == i64::from(timestep))
            }
            (None, Some(range @ (min, max))) => {
                let drawn = drawn(facts.first_word, range);
                let expected = format!(
                    "{drawn}, which torch.randint({min}, {max}) draws with seed {}",
                    facts.seed
                );
                (expected, facts.timestep == drawn)
            }
            (None, None) => (
                format!("0 to {}", TIMESTEPS - 1),
                (0..i64::from(TIMESTEPS)).contains(&facts.timestep),
            ),
        };
        if !fits {
            add(
                folder,
                facts,
                &kinds::TIMESTEP_MISMATCH,
                expected,
                facts.timestep,
                findings,
            );
        }
    }
    if range.is_none() && facts.iter().any(|facts| facts.rule.is_none()) {
        findings.add(
            folder.id(),
            &kinds::TIMESTEPS_UNKNOWN,
            Place::default(),
            "timesteps that torch.randint draws with the seeds",
            "others, for every range",
        );
    }
    range.or_else(|| {
        most_common(
            facts
                .iter()
                .filter_map(|facts| facts.rule.as_ref())
                .map(|rule| rule.timesteps),
        )
    })
}

/// Names the generators of the noise; what the usual one of the folder does not make is an error.
fn check_noise(folder: &Folder<'_>, facts: &[Facts], findings: &mut Findings) -> Vec<NoiseShare> {
    let judged: Vec<&Facts> = facts.iter().filter(|facts| facts.row.is_some()).collect();
    let mut shares: BTreeMap<Option<NoiseOrigin>, u64> = BTreeMap::new();
    for facts in &judged {
        *shares.entry(facts.origin).or_default() += 1;
    }
    let known: u64 = shares
        .iter()
        .filter(|(origin, _)| origin.is_some())
        .map(|(_, n)| n)
        .sum();
    let usual = most_common(judged.iter().filter_map(|facts| facts.origin));
    match usual {
        // Half of the noise and more is a rule, less is chance or a forger's.
        Some(usual) if known * 2 >= judged.len() as u64 => {
            for facts in judged.iter().filter(|facts| facts.origin.is_none()) {
                let expected = format!("the noise of seed {} by {usual}, as of other entries", facts.seed);
                add(
                    folder,
                    facts,
                    &kinds::NOISE_MISMATCH,
                    expected,
                    "noise of no known generator",
                    findings,
                );
            }
        }
        _ if judged.is_empty() => {}
        _ => {
            let found = format!(
                "noise of no known generator in {} of {} entries",
                judged.len() as u64 - known,
                judged.len()
            );
            let expected = "noise that torch (CPU or CUDA) or potstill makes of the seeds";
            findings.add(folder.id(), &kinds::NOISE_UNKNOWN, Place::default(), expected, found);
        }
    }
    let mut shares: Vec<NoiseShare> = shares
        .into_iter()
        .map(|(origin, entries)| NoiseShare {
            noise: origin.map_or_else(|| "unknown".to_owned(), |origin| origin.to_string()),
            entries,
        })
        .collect();
    shares.sort_by(|a, b| b.entries.cmp(&a.entries).then_with(|| a.noise.cmp(&b.noise)));
    shares
}

/// The predictions that can be held against their noise: not those that, by what their files say, are of something else.
fn check_predictions(folder: &Folder<'_>, facts: &[Facts], findings: &mut Findings) -> Vec<Row> {
    let (of_noise, others): (Vec<&Facts>, Vec<&Facts>) = facts
        .iter()
        .partition(|facts| facts.predicts == PredictionKind::Epsilon);
    if let Some(first) = others.first() {
        let found = format!(
            "predictions of {} in {} of {} entries",
            first.predicts.name(),
            others.len(),
            facts.len()
        );
        let expected = "predictions of the noise, which readers of the layout take them for";
        findings.add(
            folder.id(),
            &kinds::PREDICTIONS_UNJUDGED,
            Place::default(),
            expected,
            found,
        );
    }
    of_noise.iter().filter_map(|facts| facts.row).collect()
}

fn count(facts: &[Facts], seeding: Seeding) -> usize {
    facts.iter().filter(|facts| facts.seeding == seeding).count()
}

/// What the seeds were made from, where the files' metadata say enough.
fn check_seeding(folder: &Folder<'_>, facts: &[Facts], teachers: usize, findings: &mut Findings) -> &'static str {
    let (of_image, keyed) = (count(facts, Seeding::Image), count(facts, Seeding::ImageAndTeacher));
    let known = of_image + keyed;
    for facts in facts
        .iter()
        .filter(|facts| facts.seeding == Seeding::Foreign && known > 0)
    {
        let expected = "the seed of its image and the base seed, as of other entries";
        add(folder, facts, &kinds::SEED_MISMATCH, expected, facts.seed, findings);
    }
    if keyed > 0 {
        let kind = if teachers > 1 {
            &kinds::NOISE_KEYED_BY_TEACHER
        } else {
            &kinds::NOISE_KEYED_ALONE
        };
        let found = format!(
            "seeds of image, teacher and base seed in {keyed} of {} entries",
            facts.len()
        );
        findings.add(
            folder.id(),
            kind,
            Place::default(),
            "seeds of image and base seed",
            found,
        );
    }
    if keyed > of_image {
        return "image and teacher";
    }
    if of_image > 0 {
        return "image";
    }
    if count(facts, Seeding::Draw) > 0 {
        return "image, view and draw";
    }
    if !facts.is_empty() {
        findings.add(
            folder.id(),
            &kinds::SEEDS_UNKNOWN,
            Place::default(),
            "seeds of images that are named, and of the base seed",
            if count(facts, Seeding::Foreign) > 0 {
                "seeds of another base seed or rule"
            } else {
                "files that name no image, as the layout allows"
            },
        );
    }
    "unknown"
}

/// The predictions of a folder.
struct FilePredictions<'a, S: ?Sized> {
    source: &'a S,
    folder: &'a Folder<'a>,
}

impl<S: Source + ?Sized> FilePredictions<'_, S> {
    fn floats(&self, record: u64, tensor: &str) -> Option<Vec<f32>> {
        load(self.source, &self.file(record)).ok()?.ok()?.floats(tensor)
    }
}

impl<S: Source + ?Sized> Predictions for FilePredictions<'_, S> {
    fn component(&self) -> String {
        self.folder.id().to_owned()
    }

    fn field(&self) -> &str {
        PREDICTION
    }

    fn target(&self) -> &str {
        "the noise, as of a teacher that predicts it"
    }

    fn file(&self, record: u64) -> String {
        files_path(self.folder.path, &self.folder.entries[record as usize])
    }

    fn name(&self, record: u64) -> String {
        self.folder.entries[record as usize].to_string()
    }

    fn entry(&self, record: u64) -> String {
        self.name(record)
    }

    fn noise(&self, row: &Row) -> Option<Vec<f32>> {
        self.floats(row.record, NOISE)
    }

    fn values(&self, row: &Row) -> Option<Vec<f32>> {
        self.floats(row.record, PREDICTION)
    }
}
