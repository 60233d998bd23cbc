//! Random damage to any file of a cache: never a panic, never unnoticed.

mod common;

use common::hostile::{give_to_all_readers, mutate, small_cache, verified};
use potstill_cache::{Level, MemorySource, Plan, Source, VerifyOptions, canonical_json, verify};
use potstill_noise::Mt19937;

/// Rounds per file: a fraction of a second for the small cache.
const ROUNDS: usize = 150;

/// What a run of `examples/fuzz_readers` once broke, as it was given: caches with a file changed.
#[test]
fn what_was_found_before_is_withstood() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let clean = small_cache();
    let mut replayed = 0;
    for entry in std::fs::read_dir(&folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // `teachers+only+plan.json.3f2a`: the file that it stands for, and a number.
        let Some((place, _)) = name.rsplit_once('.') else {
            continue;
        };
        let mut damaged: MemorySource = clean.clone();
        damaged
            .files
            .insert(place.replace('+', "/"), std::fs::read(&path).unwrap());
        give_to_all_readers(&damaged);
        replayed += 1;
    }
    println!("{replayed} inputs replayed");
}

#[test]
fn random_damage_is_found() {
    let clean = small_cache();
    assert!(verified(&clean, None).unwrap().ok());
    let mut random = Mt19937::new(2024);
    for path in clean.list().unwrap() {
        for round in 0..ROUNDS {
            let mut damaged = clean.clone();
            let bytes = damaged.files.get_mut(&path).unwrap();
            mutate(bytes, &mut |n| random.next_u32() as usize % n.max(1));
            if *bytes == clean.files[&path] {
                continue;
            }
            let text = String::from_utf8_lossy(bytes).into_owned();
            // Readers may open or refuse it, but not panic.
            let report = give_to_all_readers(&damaged).unwrap();
            assert!(!report.ok(), "round {round} of {path} went unnoticed: {text}");
        }
    }
}

#[test]
fn small_plans_that_ask_for_much() {
    let clean = small_cache();
    let options = VerifyOptions {
        level: Level::Structure,
        progress: None,
        images: None,
    };
    let Plan::Teacher(plan) = Plan::parse(&clean.files["teachers/only/plan.json"]).unwrap() else {
        panic!()
    };
    let with = |change: &dyn Fn(&mut potstill_cache::TeacherPlan)| {
        let (mut source, mut plan) = (clean.clone(), plan.clone());
        change(&mut plan);
        source
            .files
            .insert("teachers/only/plan.json".to_owned(), canonical_json(&plan).unwrap());
        let report = verify(&source, &options).unwrap();
        report.findings.iter().map(|f| f.code).collect::<Vec<_>>()
    };
    let many = with(&|plan| {
        plan.samples.truncate(1);
        plan.draws = u32::MAX;
        plan.shard_records = 1;
    });
    assert!(many.contains(&"plan-invalid"), "{many:?}");
    let beyond = with(&|plan| plan.draws = u32::MAX);
    assert!(beyond.contains(&"plan-invalid"), "{beyond:?}");
    let gap = with(&|plan| plan.samples.push((u32::MAX, 0)));
    assert!(gap.contains(&"plan-invalid"), "{gap:?}");
}
