//! What nothing refers to, and removing it.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{build_cache, latents_plan};
use potstill_cache::{
    Builder, CacheError, ComponentId, GarbageKind, Plan, PredictionKind, find_garbage, remove_garbage, seal,
};

fn put(cache: &Path, path: &str, content: &str) {
    let path = cache.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Every file with its content.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                walk(root, &path, found);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}

fn found(cache: &Path) -> Vec<(String, GarbageKind)> {
    let found = find_garbage(cache, None).unwrap();
    found.garbage.into_iter().map(|g| (g.path, g.kind)).collect()
}

#[test]
fn a_sound_cache_has_none() {
    let folder = tempfile::tempdir().unwrap();
    build_cache(folder.path(), PredictionKind::Epsilon);
    let before = files(folder.path());
    assert_eq!(remove_garbage(folder.path(), None).unwrap(), Default::default());
    assert_eq!(files(folder.path()), before);
}

#[test]
fn what_builds_and_exports_leave_goes_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path();
    build_cache(cache, PredictionKind::Epsilon);
    // Somebody's own files, in and beside components.
    put(cache, "notes.txt", "mine");
    put(cache, "latents/notes.txt", "mine");
    put(cache, "latents/.potstill-notes", "mine");
    put(cache, "other/.potstill-x.tmp", "mine");
    let before = files(cache);
    put(cache, "latents/.potstill-a1.tmp", "half");
    put(cache, "teachers/food/.potstill-build.lock", "4194304999\n");
    put(cache, "teachers/food/shard-00099.safetensors", "of another plan");
    put(cache, "teachers/lost/shard-00000.safetensors", "without a plan");
    put(cache, ".potstill-export/animals/.potstill-b2.tmp", "half");
    put(cache, ".potstill-export/animals/file", "whole");
    let wanted = [
        (".potstill-export/animals/.potstill-b2.tmp", GarbageKind::Unfinished),
        (".potstill-export/animals/file", GarbageKind::Unfinished),
        ("latents/.potstill-a1.tmp", GarbageKind::Unfinished),
        ("teachers/food/.potstill-build.lock", GarbageKind::Lock),
        ("teachers/food/shard-00099.safetensors", GarbageKind::BeyondPlan),
        ("teachers/lost/shard-00000.safetensors", GarbageKind::Unplanned),
    ];
    let all = files(cache);
    assert_eq!(found(cache), wanted.map(|(path, kind)| (path.to_owned(), kind)));
    assert_eq!(files(cache), all, "a look changes nothing");
    let removed = remove_garbage(cache, None).unwrap();
    assert_eq!(removed.garbage.len(), wanted.len());
    assert_eq!(removed.garbage[1].bytes, 5);
    assert_eq!(files(cache), before);
    assert!(!cache.join("teachers/lost").exists() && !cache.join(".potstill-export").exists());
    assert!(find_garbage(cache, None).unwrap().garbage.is_empty());
}

#[test]
fn of_a_build_that_was_killed_what_is_whole_stays() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path();
    build_cache(cache, PredictionKind::Epsilon);
    let whole = files(cache);
    fs::remove_file(cache.join("latents/seal.json")).unwrap();
    let shard = cache.join("latents/shard-00001.safetensors");
    fs::write(&shard, &whole["latents/shard-00001.safetensors"][..99]).unwrap();
    fs::write(
        cache.join("latents/shard-00000.safetensors"),
        &whole["latents/shard-00002.safetensors"],
    )
    .unwrap();
    let unusable = |i: u32| (format!("latents/shard-{i:05}.safetensors"), GarbageKind::Unusable);
    assert_eq!(found(cache), [unusable(0), unusable(1)]);
    remove_garbage(cache, None).unwrap();
    let kept: Vec<_> = files(cache).into_keys().filter(|p| p.starts_with("latents/")).collect();
    assert_eq!(
        kept,
        [
            "latents/plan.json",
            "latents/shard-00002.safetensors",
            "latents/shard-00003.safetensors"
        ]
    );
    // A sealed shard that is damaged is what verification is for.
    fs::write(cache.join("text/shard-00000.safetensors"), "cut").unwrap();
    assert!(found(cache).is_empty());
}

#[test]
fn teachers_that_are_not_wanted_go() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path();
    build_cache(cache, PredictionKind::Epsilon);
    put(cache, "teachers/food/notes.txt", "mine");
    let keep = ["animals".to_owned()];
    let removed = remove_garbage(cache, Some(&keep)).unwrap();
    assert!(
        removed
            .garbage
            .iter()
            .all(|g| g.path.starts_with("teachers/food/") && g.kind == GarbageKind::Teacher)
    );
    let left: Vec<_> = files(cache)
        .into_keys()
        .filter(|p| p.starts_with("teachers/food"))
        .collect();
    assert_eq!(left, ["teachers/food/notes.txt"]);
    assert!(cache.join("teachers/animals/seal.json").exists());
}

#[test]
fn what_is_being_built_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path();
    let plan = Plan::Latents(latents_plan(40));
    for begin in [Builder::begin, Builder::begin_part] {
        let builder = begin(cache, &plan).unwrap();
        put(cache, "latents/.potstill-a1.tmp", "being written");
        let found = remove_garbage(cache, None).unwrap();
        assert_eq!((found.garbage.len(), found.busy), (0, vec!["latents".to_owned()]));
        assert!(cache.join("latents/.potstill-a1.tmp").exists());
        builder.end();
        assert_eq!(remove_garbage(cache, None).unwrap().garbage.len(), 1);
    }
}

#[test]
fn without_a_sound_plan_no_shard_is_judged() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path();
    build_cache(cache, PredictionKind::Epsilon);
    put(cache, "latents/plan.json", "{");
    put(cache, "latents/shard-00099.safetensors", "x");
    fs::remove_file(cache.join("text/plan.json")).unwrap();
    let found = find_garbage(cache, None).unwrap();
    assert!(found.garbage.is_empty(), "{found:?}");
    assert_eq!(found.unjudged, ["latents", "text", "teachers/animals", "teachers/food"]);
    assert!(seal(cache, &ComponentId::Latents).is_err());
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(find_garbage(empty.path(), None), Err(CacheError::NoCache)));
}

#[cfg(unix)]
#[test]
fn nothing_outside_of_the_cache_is_touched() {
    use std::os::unix::fs::symlink;
    let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cache = folder.path();
    build_cache(cache, PredictionKind::Epsilon);
    put(outside.path(), "a/.potstill-x.tmp", "precious");
    put(outside.path(), "a/shard-00000.safetensors", "precious");
    put(outside.path(), "file", "precious");
    let before = files(outside.path());
    symlink(outside.path().join("a"), cache.join("teachers/linked")).unwrap();
    symlink(outside.path().join("a"), cache.join(".potstill-export")).unwrap();
    symlink(outside.path().join("file"), cache.join("latents/.potstill-y.tmp")).unwrap();
    symlink(outside.path().join("file"), cache.join("text/.potstill-build.lock")).unwrap();
    assert!(
        remove_garbage(cache, Some(&[]))
            .unwrap()
            .garbage
            .iter()
            .all(|g| g.kind == GarbageKind::Teacher)
    );
    assert_eq!(files(outside.path()), before);
    assert!(cache.join("latents/.potstill-y.tmp").is_symlink());
}
