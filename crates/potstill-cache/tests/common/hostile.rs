//! Damaged caches, and everything that reads one.
#![allow(dead_code)] // each user takes a part of it

use potstill_cache::{
    CacheReader, FilesEntry, FilesImages, Level, MemorySource, Plan, PredictionKind, Report, Seal, Source,
    VerifyOptions, verify,
};
use potstill_cache::{FolderSource, files_entries, files_path};

use super::{build, build_teacher, latent, latents_plan_of, normals, teacher_plan, text_plan};

/// A cache in shards, small enough to be verified thousands of times a second.
pub fn small_cache() -> MemorySource {
    let folder = tempfile::tempdir().unwrap();
    let (latents, text) = (latents_plan_of(3, 2), text_plan());
    build(
        folder.path(),
        &Plan::Latents(latents.clone()),
        &mut |_, _, record, n| latent(record, n),
    );
    build(folder.path(), &Plan::Text(text.clone()), &mut |_, _, record, n| {
        normals(record, n)
    });
    build_teacher(folder.path(), &teacher_plan("only", PredictionKind::V, &latents, &text));
    in_memory(&FolderSource::new(folder.path()))
}

/// All files of a folder.
pub fn in_memory(source: &FolderSource) -> MemorySource {
    let read = |path: String| (path.clone(), source.read_all(&path, u64::MAX).unwrap());
    MemorySource {
        files: source.list().unwrap().into_iter().map(read).collect(),
    }
}

/// One change to a file; `below(n)` draws a number below n.
pub fn mutate(bytes: &mut Vec<u8>, below: &mut dyn FnMut(usize) -> usize) {
    if bytes.is_empty() {
        bytes.push(below(256) as u8);
        return;
    }
    let at = below(bytes.len());
    match below(6) {
        0 => bytes[at] ^= 1 << below(8),
        1 => bytes[at] = below(256) as u8,
        2 => bytes.truncate(at),
        3 => bytes.insert(at, b"0129\"{}[],:-e."[below(14)]),
        4 => drop(bytes.remove(at)),
        _ => {
            // A digit made another: plans and headers stay well-formed.
            let digits: Vec<usize> = (0..bytes.len()).filter(|&i| bytes[i].is_ascii_digit()).collect();
            if let Some(&i) = digits.get(below(digits.len().max(1))) {
                bytes[i] = b'0' + below(10) as u8;
            }
        }
    }
}

/// Verifies a cache, both levels.
pub fn verified(source: &MemorySource, images: Option<&FilesImages>) -> Option<Report> {
    let options = VerifyOptions {
        level: Level::Determinism,
        progress: None,
        images,
    };
    verify(source, &options).ok()
}

/// Gives every file to the readers of documents and records, and the whole to those of caches. They may refuse all of it,
/// but neither panic nor hang.
pub fn give_to_all_readers(source: &MemorySource) -> Option<Report> {
    for bytes in source.files.values() {
        let _ = Plan::parse(bytes);
        let _ = Seal::parse(bytes);
    }
    let files: Vec<String> = source.files.keys().cloned().collect();
    for (folder, names) in files_entries(&files) {
        for name in &names {
            let _ = FilesEntry::read(source, &files_path(&folder, name));
        }
    }
    let images = FilesImages {
        ids: vec!["cats/0".to_owned()],
        version: "1".to_owned(),
        base_seed: 42,
    };
    let report = verified(source, Some(&images));
    if let Ok(reader) = CacheReader::open(Box::new(source.clone()), None) {
        let _ = reader.latents(&[0, 1, 2]);
        for teacher in reader.teachers().map(str::to_owned).collect::<Vec<_>>() {
            let _ = reader.noise(&teacher, &[0, 5]);
            let _ = reader.read(&potstill_cache::ComponentId::Teacher(teacher), "cond", &[0, 1]);
        }
    }
    report
}
