//! Caches that were made to harm whoever reads them.

mod common;

use std::fs::{self, File};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::hostile::small_cache;
use common::{build_cache, latents_plan, teacher_plan, text_plan};
use potstill_cache::{
    CacheError, CacheReader, FolderSource, Level, MemorySource, Plan, PredictionKind, Source, SourceError,
    VerifyOptions, verify,
};

const OPTIONS: VerifyOptions<'static> = VerifyOptions {
    level: Level::Determinism,
    progress: None,
    images: None,
};

fn codes(source: &(impl Source + ?Sized)) -> Vec<String> {
    let report = verify(source, &OPTIONS).unwrap();
    let mut codes: Vec<String> = report
        .findings
        .iter()
        .map(|f| format!("{} {}", f.component, f.code))
        .collect();
    codes.sort();
    codes.dedup();
    codes
}

/// Documents of gigabytes are told by their length: nothing of them is read.
#[test]
fn documents_of_gigabytes_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    build_cache(folder.path(), PredictionKind::Epsilon);
    for file in ["latents/plan.json", "text/seal.json"] {
        let path = folder.path().join(file);
        let before = fs::read(&path).unwrap();
        // Sparse, so that it takes no room.
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(8 << 30)
            .unwrap();
        let found = codes(&FolderSource::new(folder.path()));
        assert!(
            found.iter().any(|code| code.ends_with("unreadable")),
            "{file}: {found:?}"
        );
        let opened = CacheReader::open(Box::new(FolderSource::new(folder.path())), None);
        assert!(
            matches!(opened, Err(CacheError::Source(SourceError::TooLarge { bytes, .. })) if bytes == 8 << 30),
            "{file}"
        );
        fs::write(&path, before).unwrap();
    }
    assert!(codes(&FolderSource::new(folder.path())).is_empty());
}

/// The same record under two names, or twice under one.
#[test]
fn what_is_planned_twice_is_refused() {
    let (mut latents, mut text) = (latents_plan(4), text_plan());
    let mut plan = teacher_plan("animals", PredictionKind::Epsilon, &latents, &text);
    plan.samples[1] = plan.samples[0];
    assert!(
        Plan::Teacher(plan)
            .validate()
            .unwrap_err()
            .to_string()
            .contains("twice")
    );
    latents.views[1] = latents.views[0];
    assert!(
        Plan::Latents(latents)
            .validate()
            .unwrap_err()
            .to_string()
            .contains("twice")
    );
    text.captions[2] = text.captions[1].clone();
    assert!(Plan::Text(text).validate().unwrap_err().to_string().contains("twice"));
    // JSON with a key twice means different things to different readers.
    let source = small_cache();
    let bytes = &source.files["latents/plan.json"];
    let twice = String::from_utf8(bytes.clone())
        .unwrap()
        .replacen('{', "{\"dtype\":\"f32\",", 1);
    assert!(Plan::parse(twice.as_bytes()).is_err());
}

/// Names that lead out of the cache, in every place where a document names a file or a component.
#[test]
fn names_that_lead_out_of_the_cache_are_findings() {
    let clean = small_cache();
    let text = |path: &str| String::from_utf8(clean.files[path].clone()).unwrap();
    for (path, from, to) in [
        ("latents/seal.json", "shard-00000.safetensors", "../../etc/passwd"),
        ("latents/seal.json", "shard-00000.safetensors", "/etc/passwd"),
        ("teachers/only/plan.json", "\"id\":\"only\"", "\"id\":\"../../x\""),
        ("teachers/only/seal.json", "teachers/only", "teachers/../.."),
    ] {
        let mut damaged = clean.clone();
        damaged
            .files
            .insert(path.to_owned(), text(path).replace(from, to).into_bytes());
        let asked = Asked {
            inner: damaged,
            outside: AtomicUsize::new(0),
        };
        assert!(!codes(&asked).is_empty(), "{path} {to}");
        assert_eq!(asked.outside.load(Ordering::Relaxed), 0, "{path} {to}");
        assert!(CacheReader::open(Box::new(asked.inner), None).is_err(), "{path} {to}");
    }
}

/// Counts the files that are asked for and are not in the list.
struct Asked {
    inner: MemorySource,
    outside: AtomicUsize,
}

impl Asked {
    fn note(&self, path: &str) {
        if path.split('/').any(|part| part == ".." || part.is_empty()) {
            self.outside.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Source for Asked {
    fn list(&self) -> Result<Vec<String>, SourceError> {
        self.inner.list()
    }

    fn size(&self, path: &str) -> Result<u64, SourceError> {
        self.note(path);
        self.inner.size(path)
    }

    fn read(&self, path: &str, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        self.note(path);
        self.inner.read(path, offset, buffer)
    }
}

/// Somebody writes to the cache while it is verified: what was there when a file's length was asked is gone, or more.
struct Changing {
    before: MemorySource,
    after: MemorySource,
    reads: AtomicUsize,
    turn: usize,
}

impl Changing {
    fn now(&self) -> &MemorySource {
        if self.reads.fetch_add(1, Ordering::Relaxed) < self.turn {
            &self.before
        } else {
            &self.after
        }
    }
}

impl Source for Changing {
    fn list(&self) -> Result<Vec<String>, SourceError> {
        self.before.list()
    }

    fn size(&self, path: &str) -> Result<u64, SourceError> {
        self.now().size(path)
    }

    fn read(&self, path: &str, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        self.now().read(path, offset, buffer)
    }
}

#[test]
fn files_that_change_while_they_are_read_are_findings() {
    let clean = small_cache();
    let path = "teachers/only/shard-00000.safetensors";
    for change in [
        (|bytes: &mut Vec<u8>| bytes.truncate(40)) as fn(&mut Vec<u8>),
        |bytes| bytes.clear(),
        |bytes| bytes.extend([0; 999]),
        |bytes| bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes()),
    ] {
        let mut after = clean.clone();
        change(after.files.get_mut(path).unwrap());
        // At any of the reads that a verification makes.
        for turn in 0..60 {
            let source = Changing {
                before: clean.clone(),
                after: after.clone(),
                reads: AtomicUsize::new(0),
                turn,
            };
            // The last reads may all be over by then; what is seen of it is told.
            let found = codes(&source);
            assert!(
                found.iter().all(|code| code.starts_with("teachers/only ")),
                "turn {turn}: {found:?}"
            );
            if turn == 0 {
                assert!(!found.is_empty());
            }
        }
    }
}
